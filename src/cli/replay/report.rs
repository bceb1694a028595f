//! The contents of the report, and texts that all its formats share.

use std::sync::Arc;

use super::comparison::Comparison;
use super::input::InputStats;
use super::series::Axis;
use super::tally::{RuleTally, Tally};
use crate::rules::{Limits, Rule};
use crate::time::Micros;

/// Number of entries in lists of the most frequent descriptors.
pub(super) const MOST: usize = 10;

/// The results of a replay.
#[derive(Debug)]
pub(super) struct Report {
    /// Number of requests that were replayed.
    pub(super) requests: u64,
    /// Time range of the requests.
    pub(super) span: Span,
    pub(super) input: InputStats,
    pub(super) axis: Axis,
    /// One configuration, or two.
    pub(super) sides: Vec<Side>,
    /// Recorded answers compared with the first configuration.
    pub(super) with_recorded: Option<Comparison>,
    /// The first configuration compared with the second.
    pub(super) with_second: Option<Comparison>,
}

/// Time range of the requests.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Span {
    pub(super) first: Micros,
    pub(super) last: Micros,
}

impl Span {
    /// Extends the range to a time.
    pub(super) fn extended(range: Option<Self>, time: Micros) -> Self {
        let Self { first, last } = range.unwrap_or(Self {
            first: time,
            last: time,
        });
        Self {
            first: first.min(time),
            last: last.max(time),
        }
    }
}

/// A configuration and its results.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) name: String,
    pub(super) rules: Vec<Arc<Rule>>,
    pub(super) tally: Tally,
    pub(super) dropped_buckets: u64,
}

impl Side {
    /// Rules that matched a request, in the order of the files.
    pub(super) fn met(&self) -> impl Iterator<Item = (&Rule, &RuleTally)> {
        let rules = self.rules.iter().zip(&self.tally.rules);
        rules.filter_map(|(rule, tally)| Some((&**rule, tally.as_deref()?)))
    }

    /// Number of rules that matched no request.
    pub(super) fn unmatched(&self) -> usize {
        self.rules.len() - self.met().count()
    }

    pub(super) fn admitted(&self) -> u64 {
        self.tally.requests - self.tally.denied
    }
}

impl Report {
    /// The comparisons, each with a title that names both sides.
    pub(super) fn comparisons(&self) -> impl Iterator<Item = (String, &Comparison)> {
        let first = &self.sides[0].name;
        let answered = self.with_recorded.as_ref();
        let answered = answered.map(|comparison| {
            (
                format!("Recorded answers compared with {first}"),
                comparison,
            )
        });
        let other = self.with_second.as_ref().map(|comparison| {
            let second = self.sides.last().map_or("", |side| &side.name);
            (format!("{first} compared with {second}"), comparison)
        });
        answered.into_iter().chain(other)
    }

    /// Warnings about the input and the results.
    pub(super) fn notes(&self) -> Vec<String> {
        let input = &self.input;
        let mut notes = Vec::new();
        if input.skipped > 0 {
            let first = input.first_skipped.as_deref().unwrap_or_default();
            notes.push(format!(
                "lines that cannot be read and were skipped: {}; the first: {first}",
                grouped(input.skipped)
            ));
        }
        if input.without_request > 0 {
            notes.push(format!(
                "lines without a request, because each descriptor lacks a field in them: {}",
                grouped(input.without_request)
            ));
        }
        if input.late > 0 {
            notes.push(format!(
                "requests that are too far out of order to be sorted, and were replayed late: {}",
                grouped(input.late)
            ));
        }
        for side in self.sides.iter().filter(|side| side.dropped_buckets > 0) {
            notes.push(format!(
                "{}: buckets that were dropped for lack of room and then counted as full: {}; raise --memory-max-buckets",
                side.name,
                grouped(side.dropped_buckets)
            ));
        }
        if let Some(comparison) = self
            .with_recorded
            .as_ref()
            .filter(|comparison| comparison.not_compared > 0)
        {
            notes.push(format!(
                "requests that were decided by the failure policy, and are not compared: {}",
                grouped(comparison.not_compared)
            ));
        }
        notes
    }
}

/// Describes the limits of a rule.
pub(super) fn limits(rule: &Rule) -> String {
    let mut text = match &rule.limits {
        Limits::Unlimited { .. } => "unlimited".to_owned(),
        Limits::Limited(limits) => limits
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; "),
    };
    if rule.shadow_mode {
        text.push_str("; shadow mode");
    }
    if rule.quota_mode {
        text.push_str("; quota mode");
    }
    text
}

/// Formats a number with commas between groups of three digits.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a part of a whole in percent.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if part == 0 {
        return "0 %".to_owned();
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let percent = part as f64 * 100.0 / whole as f64;
    match percent {
        ..0.01 => "< 0.01 %".to_owned(),
        ..10.0 => format!("{percent:.2} %"),
        _ => format!("{percent:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(999), "999");
        assert_eq!(percent(0, 0), "0 %");
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(1, 1_000_000), "< 0.01 %");
        assert_eq!(percent(1, 200), "0.50 %");
    }
}
