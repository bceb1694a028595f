//! Formats numbers and durations for people.

use super::Span;

/// Placeholder of an unknown number.
pub(super) const UNKNOWN: &str = "-";

pub(super) fn rate(now: u64, then: Option<u64>, span: Span<'_>) -> String {
    match (then, span) {
        (Some(then), Some((_, seconds))) => decimal(per_second(now, then, seconds)),
        _ => UNKNOWN.to_owned(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates are approximate")]
pub(super) fn per_second(now: u64, then: u64, seconds: f64) -> f64 {
    // A counter that was reset counts from 0.
    now.checked_sub(then).unwrap_or(now) as f64 / seconds
}

pub(super) fn decimal(number: f64) -> String {
    if number == 0.0 {
        "0".to_owned()
    } else if number < 10.0 {
        format!("{number:.1}")
    } else if number < 1e5 {
        format!("{number:.0}")
    } else {
        format!("{:.0}k", number / 1e3)
    }
}

/// Formats a count in groups of three digits.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(super) fn milliseconds(seconds: f64) -> String {
    if seconds.is_infinite() {
        return "above the largest bucket".to_owned();
    }
    let millis = seconds * 1e3;
    if millis < 10.0 {
        format!("{millis:.2} ms")
    } else {
        format!("{millis:.0} ms")
    }
}

/// Formats seconds in the largest useful units.
pub(super) fn period(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}
