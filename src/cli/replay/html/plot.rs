//! Bar charts of counts over time: denied requests are stacked on admitted ones.

use std::fmt::Write as _;

use super::super::report::grouped;
use super::super::series::{Axis, Series};
use super::super::timestamp;
use super::Escaped;

/// Size of a plot, and the margins for the numbers.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 22.0;
const TOP: f64 = 8.0;

/// A plot with axes.
pub(super) fn plot(axis: &Axis, series: &Series, title: &str) -> String {
    let spans = series.all(axis);
    let most = highest(&spans);
    let begins: Vec<u64> = axis.spans().collect();
    let each = span(axis.seconds());
    let mut svg = format!(
        "<figure>\n<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        Escaped(title)
    );
    let low = HEIGHT - BOTTOM;
    for part in [0.0, 0.5, 1.0] {
        let y = low - part * (low - TOP);
        let count = part * float(most);
        // Half of an odd number is not a count.
        if count.fract() == 0.0 {
            let _ = writeln!(
                svg,
                "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                grouped(whole(count)),
            );
        }
    }
    let tips = Tips { begins: &begins };
    svg += &bars(&spans, (LEFT, WIDTH - LEFT), (TOP, low), Some(&tips));
    for (x, anchor, begin) in [
        (LEFT, "start", begins.first()),
        (WIDTH, "end", begins.last()),
    ] {
        if let Some(&begin) = begin {
            let _ = writeln!(
                svg,
                "<text x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
                HEIGHT - 5.0,
                timestamp::readable(begin.saturating_mul(1_000_000))
            );
        }
    }
    let _ = write!(
        svg,
        "</svg>\n<figcaption>Requests in each {each}<span class=\"is-admitted\">admitted</span>\
         <span class=\"is-denied\">denied</span></figcaption>\n</figure>\n"
    );
    svg
}

/// A small plot for a row of a table, which has the same data as numbers.
pub(super) fn spark(axis: &Axis, series: &Series) -> String {
    let bars = bars(&series.all(axis), (0.0, 100.0), (0.0, 20.0), None);
    format!(
        "<svg class=\"spark\" viewBox=\"0 0 100 20\" preserveAspectRatio=\"none\" aria-hidden=\"true\">{bars}</svg>"
    )
}

/// Tooltips of the bars.
struct Tips<'a> {
    begins: &'a [u64],
}

/// Draws a bar for each span, scaled to the area.
fn bars(
    spans: &[[u64; 2]],
    (left, width): (f64, f64),
    (top, low): (f64, f64),
    tips: Option<&Tips<'_>>,
) -> String {
    let most = float(highest(spans));
    let step = width / float(spans.len().try_into().unwrap_or(u64::MAX)).max(1.0);
    let mut svg = String::new();
    for (index, &[admitted, denied]) in spans.iter().enumerate() {
        if admitted + denied == 0 {
            continue;
        }
        let x = left + step * float(index.try_into().unwrap_or(u64::MAX));
        let high = |count: u64| float(count) / most * (low - top);
        let (one, other) = (high(admitted), high(denied));
        let w = (step * 0.9).min(60.0);
        svg.push_str("<g>");
        if let Some(tips) = tips {
            let begin = tips.begins.get(index).copied().unwrap_or_default();
            let _ = write!(
                svg,
                "<title>{}: {} admitted, {} denied</title>",
                timestamp::readable(begin.saturating_mul(1_000_000)),
                grouped(admitted),
                grouped(denied)
            );
        }
        for (class, y, h) in [
            ("admitted", low - one, one),
            ("denied", low - one - other, other),
        ] {
            if h > 0.0 {
                let _ = write!(
                    svg,
                    "<rect class=\"{class}\" x=\"{x:.2}\" y=\"{y:.2}\" width=\"{w:.2}\" height=\"{h:.2}\"/>"
                );
            }
        }
        svg.push_str("</g>");
    }
    svg
}

/// Name of the length of a span.
fn span(seconds: u64) -> String {
    match seconds {
        1 => "second".to_owned(),
        60 => "minute".to_owned(),
        3_600 => "hour".to_owned(),
        86_400 => "day".to_owned(),
        seconds => humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string(),
    }
}

/// The highest bar, at least 1.
fn highest(spans: &[[u64; 2]]) -> u64 {
    spans
        .iter()
        .map(|[admitted, denied]| admitted + denied)
        .max()
        .unwrap_or_default()
        .max(1)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a fraction of a pixel is invisible"
)]
fn float(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is half of a count"
)]
fn whole(count: f64) -> u64 {
    count as u64
}
