//! What there is to report, and words that all kinds of report have in common.

use std::sync::Arc;

use super::comparison::Comparison;
use super::input::Told;
use super::series::Axis;
use super::tally::{RuleTally, Tally};
use crate::rules::{Limits, Rule};
use crate::time::Micros;

/// How many of the most are told.
pub(super) const MOST: usize = 10;

/// All that was found.
#[derive(Debug)]
pub(super) struct Report {
    /// Requests that were played.
    pub(super) requests: u64,
    /// The first and the last time.
    pub(super) span: (Micros, Micros),
    pub(super) told: Told,
    pub(super) axis: Axis,
    /// One or two.
    pub(super) sides: Vec<Side>,
    /// From what was answered to the first configuration.
    pub(super) with_answered: Option<Comparison>,
    /// From the first configuration to the second.
    pub(super) with_other: Option<Comparison>,
}

/// A configuration and what it did.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) name: String,
    pub(super) rules: Vec<Arc<Rule>>,
    pub(super) tally: Tally,
    pub(super) dropped_buckets: u64,
}

impl Side {
    /// The rules that were met, in the order of the files.
    pub(super) fn met(&self) -> impl Iterator<Item = (&Rule, &RuleTally)> {
        let rules = self.rules.iter().zip(&self.tally.rules);
        rules.filter_map(|(rule, tally)| Some((&**rule, tally.as_deref()?)))
    }

    /// How many rules nothing met.
    pub(super) fn unmet(&self) -> usize {
        self.rules.len() - self.met().count()
    }

    pub(super) fn admitted(&self) -> u64 {
        self.tally.requests - self.tally.denied
    }
}

impl Report {
    /// The comparisons that there are, each with what it is from and to.
    pub(super) fn comparisons(&self) -> impl Iterator<Item = (String, &Comparison)> {
        let first = &self.sides[0].name;
        let answered = self.with_answered.as_ref();
        let answered =
            answered.map(|comparison| (format!("From what was answered to {first}"), comparison));
        let other = self.with_other.as_ref().map(|comparison| {
            let second = self.sides.last().map_or("", |side| &side.name);
            (format!("From {first} to {second}"), comparison)
        });
        answered.into_iter().chain(other)
    }

    /// Sentences that one should have read.
    pub(super) fn notes(&self) -> Vec<String> {
        let told = &self.told;
        let mut notes = Vec::new();
        if told.skipped > 0 {
            let first = told.first_skipped.as_deref().unwrap_or_default();
            notes.push(format!(
                "lines that cannot be read, and were left out: {}; the first: {first}",
                grouped(told.skipped)
            ));
        }
        if told.without_request > 0 {
            notes.push(format!(
                "lines that make no request, since a field of each descriptor is missing in them: {}",
                grouped(told.without_request)
            ));
        }
        if told.late > 0 {
            notes.push(format!(
                "requests that stand too far behind later ones to be put in order, and were played late: {}",
                grouped(told.late)
            ));
        }
        for side in self.sides.iter().filter(|side| side.dropped_buckets > 0) {
            notes.push(format!(
                "{}: buckets that had to go for others and counted as full from then on: {}; raise --memory-max-buckets",
                side.name,
                grouped(side.dropped_buckets)
            ));
        }
        if let Some(comparison) = self
            .with_answered
            .as_ref()
            .filter(|comparison| comparison.not_compared > 0)
        {
            notes.push(format!(
                "requests that were answered while the store failed, and are not compared: {}",
                grouped(comparison.not_compared)
            ));
        }
        notes
    }
}

/// The limits of a rule in words.
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

/// A number with commas.
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

/// A part of a whole in percent.
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
    fn numbers_are_told_as_people_read_them() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(999), "999");
        assert_eq!(percent(0, 0), "0 %");
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(1, 1_000_000), "< 0.01 %");
        assert_eq!(percent(1, 200), "0.50 %");
    }
}
