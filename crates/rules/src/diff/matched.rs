//! Rules that are added or removed, and descriptors that another rule matches.

use super::super::Match;
use super::super::rule::{Limits, Rule};
use super::super::spelling::shown;
use super::change::{Buckets, Change, Kind};
use super::example::Example;
use super::measure::all;
use super::shared;

pub(super) fn removed(old: Match<'_>, new: Option<Match<'_>>) -> Change {
    let what = match new {
        None => "its descriptors are no longer limited".to_owned(),
        Some(new) => format!("its descriptors match {}", named(new.rule)),
    };
    Change {
        before: Some(all(old.rule)),
        after: new.map(|new| all(new.rule)),
        buckets: Some(fate(Some(old), new)),
        text: format!(
            "rule {} is removed ({}); {what}",
            named(old.rule),
            all(old.rule)
        ),
        ..Change::of(Kind::RuleRemoved, old.rule)
    }
}

pub(super) fn added(old: Option<Match<'_>>, new: Match<'_>) -> Change {
    let what = match old {
        None => "its descriptors were not limited".to_owned(),
        Some(old) => format!("its descriptors matched {}", named(old.rule)),
    };
    Change {
        before: old.map(|old| all(old.rule)),
        after: Some(all(new.rule)),
        buckets: Some(fate(old, Some(new))),
        text: format!(
            "rule {} is new ({}); {what}",
            named(new.rule),
            all(new.rule)
        ),
        ..Change::of(Kind::RuleAdded, new.rule)
    }
}

pub(super) fn matching(
    example: &Example,
    old: Option<Match<'_>>,
    new: Option<Match<'_>>,
) -> Change {
    let such = format!("descriptors such as {}", example.text());
    let text = match (old, new) {
        (Some(old), Some(new)) => format!(
            "{such} matched rule {} and match {} ({})",
            named(old.rule),
            named(new.rule),
            all(new.rule)
        ),
        (Some(old), None) => format!(
            "{such} matched rule {} and are no longer limited",
            named(old.rule)
        ),
        (None, Some(new)) => format!(
            "{such} were not limited and match rule {} ({})",
            named(new.rule),
            all(new.rule)
        ),
        (None, None) => unreachable!("they differ"),
    };
    let rule = new
        .or(old)
        .map(|found| found.rule)
        .expect("one of both is a rule");
    Change {
        before: old.map(|old| all(old.rule)),
        after: new.map(|new| all(new.rule)),
        buckets: Some(fate(old, new)),
        text,
        moved: Some([old, new].map(|found| found.map(|found| found.rule.id))),
        ..Change::of(Kind::Matching, rule)
    }
}

/// Formats a rule with its position.
pub(super) fn named(rule: &Rule) -> String {
    format!(
        "{} ({}:{})",
        shown(&rule.path),
        shown(&rule.file),
        rule.line
    )
}

/// Returns the consequence for buckets of descriptors that another rule matches.
///
/// The name of a bucket contains the descriptor, so buckets are kept unless other values share them or the algorithm changes.
fn fate(old: Option<Match<'_>>, new: Option<Match<'_>>) -> Buckets {
    let Some(new) = new else {
        return Buckets::Left;
    };
    let limits = |found: Match<'_>| match &found.rule.limits {
        Limits::Unlimited { .. } => Vec::new(),
        Limits::Limited(limits) => limits.iter().map(|limit| limit.algorithm).collect(),
    };
    let is_kept = old.is_some_and(|old| {
        let (old_limits, new_limits) = (limits(old), limits(new));
        shared(old.nodes) == shared(new.nodes)
            && !new_limits.is_empty()
            && old_limits
                .iter()
                .zip(&new_limits)
                .any(|(old, new)| old == new)
    });
    match (is_kept, limits(new).is_empty()) {
        (true, _) => Buckets::Kept,
        (false, true) => Buckets::Left,
        (false, false) => Buckets::Reset,
    }
}
