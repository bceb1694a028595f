//! Formats the report as JSON.

use serde_json::{Value, json};

use super::comparison::Comparison;
use super::frequent::Frequent;
use super::report::{Report, Side, limits};
use super::series::{Axis, Series};
use super::tally::{Count, Denied, RuleTally};
use super::timestamp;
use crate::rules::Rule;

/// Number of entries in lists of the most frequent descriptors.
const MOST: usize = 100;

/// Formats the report.
pub(super) fn json(report: &Report) -> Value {
    let input = &report.input;
    let of = |comparison: &Option<Comparison>| comparison.as_ref().map(of_comparison);
    json!({
        "requests": report.requests,
        "from_us": report.span.first,
        "to_us": report.span.last,
        "lines": {
            "read": input.lines,
            "left_out": input.skipped,
            "first_left_out": input.first_skipped,
            "without_request": input.without_request,
            "late": input.late,
        },
        "configurations": report.sides.iter().map(|side| of_side(side, &report.axis)).collect::<Vec<_>>(),
        "compared_with_answers": of(&report.with_recorded),
        "compared_with_each_other": of(&report.with_second),
        "notes": report.notes(),
    })
}

fn of_side(side: &Side, axis: &Axis) -> Value {
    let tally = &side.tally;
    let rules = side.met().map(|(rule, tally)| of_rule(rule, tally, axis));
    json!({
        "path": side.name,
        "admitted": side.admitted(),
        "denied": tally.denied,
        "over_time": over_time(&tally.series, axis),
        "rules": rules.collect::<Vec<_>>(),
        "rules_not_met": side.unmatched(),
        "own_limits": (tally.own.asked.requests > 0).then(|| counts(&tally.own, axis)),
        "descriptors_without_limit": tally.free,
        "denied_first": tally.first.iter().map(denied).collect::<Vec<_>>(),
        "denied_most": most(&tally.most),
        "denied_most_too_low_by": tally.most.max_error(),
        "dropped_buckets": side.dropped_buckets,
    })
}

fn of_rule(rule: &Rule, tally: &RuleTally, axis: &Axis) -> Value {
    let mut json = json!({
        "path": rule.path,
        "file": &*rule.file,
        "line": rule.line,
        "limits": limits(rule),
        "shadow_mode": rule.shadow_mode,
        "quota_mode": rule.quota_mode,
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut json, counts(tally, axis)) {
        all.extend(more);
    }
    json
}

fn counts(tally: &RuleTally, axis: &Axis) -> Value {
    json!({
        "asked": count(tally.asked),
        "denied": count(tally.denied),
        "would_deny_without_shadow_mode": count(tally.shadowed),
        "hits_given_back": tally.refunded,
        "first_denied": tally.first_denied.as_ref().map(denied),
        "over_time": over_time(&tally.series, axis),
    })
}

fn of_comparison(comparison: &Comparison) -> Value {
    let rules = comparison.rules.iter().map(|(rule, change)| {
        json!({
            "rule": rule,
            "now_denied": count(change.newly_denied),
            "now_admitted": count(change.newly_admitted),
        })
    });
    let rule_changes = comparison.rule_changes.iter().map(|(change, descriptors)| {
        json!({"from": change.from, "to": change.to, "descriptors": descriptors})
    });
    json!({
        "admitted": comparison.admitted,
        "denied": comparison.denied,
        "now_denied": comparison.newly_denied,
        "now_admitted": comparison.newly_admitted,
        "not_compared": comparison.not_compared,
        "changed_descriptors": comparison.changed_descriptors,
        "rules": rules.collect::<Vec<_>>(),
        "other_rule_met": rule_changes.collect::<Vec<_>>(),
        "now_denied_first": comparison.first.iter().map(denied).collect::<Vec<_>>(),
        "now_denied_most": most(&comparison.most_denied),
        "now_admitted_most": most(&comparison.most_admitted),
    })
}

fn count(count: Count) -> Value {
    json!({"requests": count.requests, "hits": count.hits})
}

fn denied(denied: &Denied) -> Value {
    json!({
        "time": timestamp::rfc3339(denied.time),
        "time_us": denied.time,
        "descriptor": denied.descriptor,
        "rule": denied.rule,
    })
}

fn most(frequent: &Frequent) -> Value {
    let most = frequent.most(MOST).into_iter();
    most.map(|(descriptor, times)| json!({"descriptor": descriptor, "times": times}))
        .collect()
}

fn over_time(series: &Series, axis: &Axis) -> Value {
    let all = series.all(axis);
    json!({
        "span_seconds": axis.seconds(),
        "begins_at": axis.spans().next(),
        "admitted": all.iter().map(|span| span[0]).collect::<Vec<_>>(),
        "denied": all.iter().map(|span| span[1]).collect::<Vec<_>>(),
    })
}
