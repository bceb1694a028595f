//! Formats the report as one self-contained HTML page without scripts, fonts or images. It follows the reader's light or
//! dark mode and can be printed.
//!
//! All texts from files and clients are escaped, and the page's Content-Security-Policy allows styles alone.

mod plot;

use std::fmt::{self, Write as _};

use super::comparison::Comparison;
use super::frequent::Frequent;
use super::report::{MOST, Report, Side, Span, grouped, limits, percent};
use super::tally::{Denied, RuleTally};
use super::text::duration;
use super::timestamp;
use plot::{plot, spark};

const STYLE: &str = include_str!("html/style.css");

/// Displays a text with HTML escapes.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() => write!(f, "{}", c.escape_default())?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Formats the page.
pub(super) fn html(report: &Report) -> String {
    let Span { first, last } = report.span;
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Rehearsal of {requests} requests</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>Rehearsal</h1>\n<p class=\"lead\">{requests} requests from {from} to {to} <abbr title=\"Coordinated \
         Universal Time\">UTC</abbr> ({long}), replayed.</p>\n",
        requests = grouped(report.requests),
        from = timestamp::readable(first),
        to = timestamp::readable(last),
        long = duration(last - first),
    );
    let notes = report.notes();
    if !notes.is_empty() {
        page.push_str("<ul class=\"notes\">\n");
        for note in notes {
            let _ = writeln!(page, "<li>{}</li>", Escaped(&note));
        }
        page.push_str("</ul>\n");
    }
    for (title, comparison) in report.comparisons() {
        page += &of_comparison(&title, comparison);
    }
    for side in &report.sides {
        page += &of_side(report, side);
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn of_side(report: &Report, side: &Side) -> String {
    let tally = &side.tally;
    let mut page = format!("<section>\n<h2>{}</h2>\n", Escaped(&side.name));
    page += &figures(&[
        ("admitted", grouped(side.admitted()), "ok"),
        ("denied", grouped(tally.denied), "over"),
        (
            "of all denied",
            percent(tally.denied, tally.requests),
            "over",
        ),
    ]);
    page += &plot(
        &report.axis,
        &tally.series,
        &format!("Requests over time, {}", side.name),
    );
    page.push_str(
        "<h3>Rules</h3>\n<div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">Rule</th>\
         <th scope=\"col\" class=\"number\">Requests</th><th scope=\"col\" class=\"number\">Denied</th>\
         <th scope=\"col\" class=\"number\">Part</th><th scope=\"col\" class=\"number\">Hits</th>\
         <th scope=\"col\" class=\"number\">Denied hits</th><th scope=\"col\">First denied</th>\
         <th scope=\"col\">Over time</th></tr></thead>\n<tbody>\n",
    );
    for (rule, tally) in side.met() {
        page += &rule_row(report, &rule.path, &limits(rule), tally);
    }
    if tally.own.asked.requests > 0 {
        page += &rule_row(report, "limits in requests", "", &tally.own);
    }
    page.push_str("</tbody>\n</table></div>\n");
    if side.unmatched() > 0 {
        let _ = writeln!(
            page,
            "<p>Rules that matched nothing: {}.</p>",
            grouped(side.unmatched() as u64)
        );
    }
    if tally.free > 0 {
        let _ = writeln!(
            page,
            "<p>Descriptors that no limit applied to: {}.</p>",
            grouped(tally.free)
        );
    }
    page += &denied_first("Denied first", &tally.first);
    page += &most("Denied most", &tally.most, "denied");
    page.push_str("</section>\n");
    page
}

fn rule_row(report: &Report, path: &str, limits: &str, tally: &RuleTally) -> String {
    let mut name = format!("<code>{}</code>", Escaped(path));
    if !limits.is_empty() {
        let _ = write!(name, "<br><small>{}</small>", Escaped(limits));
    }
    if tally.shadowed.requests > 0 {
        let count = grouped(tally.shadowed.requests);
        let _ = write!(
            name,
            "<br><small>denied without shadow mode: {count}</small>"
        );
    }
    if tally.refunded > 0 {
        let _ = write!(
            name,
            "<br><small>hits refunded: {}</small>",
            grouped(tally.refunded)
        );
    }
    let first = tally.first_denied.as_ref();
    let first = first.map_or_else(
        || "never".to_owned(),
        |first| timestamp::readable(first.time),
    );
    let class = if tally.denied.requests > 0 {
        " over"
    } else {
        ""
    };
    format!(
        "<tr><th scope=\"row\">{name}</th><td class=\"number\">{}</td><td class=\"number{class}\">{}</td>\
         <td class=\"number{class}\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td>{first}</td>\
         <td>{}</td></tr>\n",
        grouped(tally.asked.requests),
        grouped(tally.denied.requests),
        percent(tally.denied.requests, tally.asked.requests),
        grouped(tally.asked.hits),
        grouped(tally.denied.hits),
        spark(&report.axis, &tally.series),
    )
}

fn of_comparison(title: &str, comparison: &Comparison) -> String {
    let mut page = format!("<section>\n<h2>{}</h2>\n", Escaped(title));
    page += &figures(&[
        ("newly denied", grouped(comparison.newly_denied), "over"),
        ("newly admitted", grouped(comparison.newly_admitted), "ok"),
        (
            "unchanged",
            grouped(comparison.admitted + comparison.denied),
            "",
        ),
    ]);
    page += &by_rule(comparison);
    page += &rule_changes(comparison);
    page += &denied_first("First newly denied", &comparison.first);
    page += &most("Most often newly denied", &comparison.most_denied, "denied");
    page += &most(
        "Most often newly admitted",
        &comparison.most_admitted,
        "admitted",
    );
    page.push_str("</section>\n");
    page
}

fn by_rule(comparison: &Comparison) -> String {
    let mut page = String::new();
    if !comparison.rules.is_empty() {
        page.push_str(
            "<h3>By rule</h3>\n<div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">Rule</th>\
             <th scope=\"col\" class=\"number\">Now denied</th><th scope=\"col\" class=\"number\">Hits</th>\
             <th scope=\"col\" class=\"number\">Now admitted</th><th scope=\"col\" class=\"number\">Hits</th></tr></thead>\n<tbody>\n",
        );
        for (rule, change) in &comparison.rules {
            let (denied, admitted) = (change.newly_denied, change.newly_admitted);
            let _ = writeln!(
                page,
                "<tr><th scope=\"row\"><code>{}</code></th><td class=\"number over\">{}</td><td class=\"number\">{}</td>\
                 <td class=\"number ok\">{}</td><td class=\"number\">{}</td></tr>",
                Escaped(rule),
                grouped(denied.requests),
                grouped(denied.hits),
                grouped(admitted.requests),
                grouped(admitted.hits),
            );
        }
        page.push_str("</tbody>\n</table></div>\n");
    }
    page
}

fn rule_changes(comparison: &Comparison) -> String {
    let mut page = String::new();
    if !comparison.rule_changes.is_empty() {
        page.push_str("<h3>Descriptors that match another rule</h3>\n<ul>\n");
        for (change, count) in &comparison.rule_changes {
            let name = |rule: &Option<String>| match rule {
                Some(rule) => format!("<code>{}</code>", Escaped(rule)),
                None => "no rule".to_owned(),
            };
            let _ = writeln!(
                page,
                "<li>matched {1} before and {2} now: {0} descriptors</li>",
                grouped(*count),
                name(&change.from),
                name(&change.to)
            );
        }
        page.push_str("</ul>\n");
    }
    page
}

/// Large numbers, each with a label and a class.
fn figures(figures: &[(&str, String, &str)]) -> String {
    let mut page = "<dl class=\"figures\">\n".to_owned();
    for (label, number, class) in figures {
        let _ = writeln!(
            page,
            "<div><dt>{label}</dt><dd class=\"{class}\">{}</dd></div>",
            Escaped(number)
        );
    }
    page.push_str("</dl>\n");
    page
}

fn denied_first(title: &str, first: &[Denied]) -> String {
    if first.is_empty() {
        return String::new();
    }
    let mut page = format!(
        "<h3>{title}</h3>\n<div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">Time (UTC)</th><th scope=\"col\">Descriptor</th>\
         <th scope=\"col\">By</th></tr></thead>\n<tbody>\n"
    );
    for denied in first {
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"text\"><code>{}</code></td><td class=\"text\"><code>{}</code></td></tr>",
            timestamp::readable(denied.time),
            Escaped(&denied.descriptor),
            Escaped(denied.rule.as_deref().unwrap_or("a limit in the request")),
        );
    }
    page.push_str("</tbody>\n</table></div>\n");
    page
}

fn most(title: &str, frequent: &Frequent, class: &str) -> String {
    let most = frequent.most(MOST);
    let Some(&(_, highest)) = most.first() else {
        return String::new();
    };
    let mut page = format!("<h3>{title}</h3>\n");
    if frequent.max_error() > 0 {
        let _ = writeln!(
            page,
            "<p>Counts may be too low by up to {}.</p>",
            grouped(frequent.max_error())
        );
    }
    page.push_str(
        "<div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">Descriptor</th>\
         <th scope=\"col\" class=\"number\">Times</th><th scope=\"col\" aria-hidden=\"true\"></th></tr></thead>\n<tbody>\n",
    );
    for (descriptor, count) in most {
        let width = count * 100 / highest.max(1);
        let _ = writeln!(
            page,
            "<tr><td class=\"text\"><code>{}</code></td><td class=\"number\">{}</td><td aria-hidden=\"true\">\
             <svg class=\"bar\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\"><rect class=\"{class}\" width=\"{width}\" \
             height=\"10\"/></svg></td></tr>",
            Escaped(descriptor),
            grouped(count),
        );
    }
    page.push_str("</tbody>\n</table></div>\n");
    page
}
