//! Compares the rates and bursts of limits, and formats limits in words.

use std::cmp::Ordering;

use super::super::limit::{Algorithm, Limit};
use super::super::rule::{Limits, Rule};
use super::change::Kind;

/// Describes how the rate and the burst of a limit change whose algorithm stays.
pub(super) fn measure(old: &Limit, new: &Limit) -> Option<(Kind, String)> {
    let per = |limit: &Limit, other: &Limit| {
        u128::from(limit.requests_per_unit) * u128::from(other.period())
    };
    let (before, after) = (per(old, new), per(new, old));
    let (rate, burst) = (after.cmp(&before), new.capacity().cmp(&old.capacity()));
    let paces = format!("from {} to {}", pace(old), pace(new));
    let rates = format!("{paces}{}", by(before, after));
    if (rate, burst) == (Ordering::Equal, Ordering::Equal) {
        let is_said_alike = (old.period(), old.unit) == (new.period(), new.unit);
        return (!is_said_alike).then(|| {
            (
                Kind::Mixed,
                format!("has the same rate in other units ({paces})"),
            )
        });
    }
    Some(match new.algorithm {
        // The limit of a window is its rate, unless the period changes.
        Algorithm::FixedWindow if rate == burst => {
            (kind(rate), format!("is {} {rates}", word(rate)))
        }
        Algorithm::FixedWindow => (Kind::Mixed, format!("has another window ({paces})")),
        Algorithm::TokenBucket => bucket((rate, &rates), burst, (old, new)),
    })
}

fn bucket(
    (rate, rates): (Ordering, &str),
    burst: Ordering,
    (old, new): (&Limit, &Limit),
) -> (Kind, String) {
    let (before, after) = (old.capacity(), new.capacity());
    let bursts = format!(
        "from {before} to {after}{}",
        by(before.into(), after.into())
    );
    match (word(rate), word(burst)) {
        (_, is) if rate == Ordering::Equal => (
            kind(burst),
            format!("has its burst {is} {bursts}, at {} as before", pace(new)),
        ),
        (is, _) if burst == Ordering::Equal => (
            kind(rate),
            format!("is {is} {rates}, with the same burst of {after}"),
        ),
        (is, _) if rate == burst => (kind(rate), format!("is {is} {rates}, its burst {bursts}")),
        (is, other) => (
            Kind::Mixed,
            format!("is {is} {rates}, but its burst {other} {bursts}"),
        ),
    }
}

fn kind(order: Ordering) -> Kind {
    match order {
        Ordering::Greater => Kind::Raised,
        Ordering::Less => Kind::Lowered,
        Ordering::Equal => Kind::Mixed,
    }
}

fn word(order: Ordering) -> &'static str {
    match order {
        Ordering::Greater => "raised",
        Ordering::Less => "lowered",
        Ordering::Equal => "left",
    }
}

/// Formats a change in percent.
fn by(before: u128, after: u128) -> String {
    if before == 0 || after == 0 {
        return String::new();
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let percent = (after as f64 / before as f64 - 1.0) * 100.0;
    match percent.abs() {
        0.0..0.1 => String::new(),
        0.1..10.0 => format!(" ({percent:+.1} %)"),
        _ => format!(" ({percent:+.0} %)"),
    }
}

/// Formats the rate of a limit.
fn pace(limit: &Limit) -> String {
    let multiplier = match limit.unit_multiplier {
        1 => String::new(),
        n => format!("{n} "),
    };
    format!(
        "{} per {multiplier}{}",
        limit.requests_per_unit,
        limit.unit.name()
    )
}

/// Formats a limit.
pub(super) fn one(limit: &Limit) -> String {
    match limit.algorithm {
        Algorithm::FixedWindow => format!("{}, fixed window", pace(limit)),
        Algorithm::TokenBucket => format!("{}, token bucket of {}", pace(limit), limit.burst),
    }
}

/// Formats all limits of a rule.
pub(super) fn all(rule: &Rule) -> String {
    let limits = match &rule.limits {
        Limits::Unlimited { .. } => "unlimited".to_owned(),
        Limits::Limited(limits) => limits.iter().map(one).collect::<Vec<_>>().join(" and "),
    };
    match rule.shadow_mode {
        true => limits + ", in shadow mode",
        false => limits,
    }
}
