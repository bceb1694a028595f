//! Rules: all of them with their counts, and which one a descriptor meets.

use serde_json::{Value, json};

use super::Answer;
use super::parameters::{Parameters, typed};
use super::status::ServerView;
use crate::limiter::inspect::Inspector;
use crate::limiter::{CallCounts, Entry, Explanation, Pattern, Snapshot};
use crate::rules::{
    Candidate, Domain, Hits as Payment, Limit, Limits, Match, Rule, Step, composite,
};
use crate::store::Store;
use crate::telemetry::metrics::{Hits, Tried};

/// How many rules are told at once, unless more are asked for, and the most.
const SOME: usize = 500;
const MOST: usize = 1_000;

/// The most rules there could be, for mistakes.
const ANY: usize = 1 << 32;

// --- All rules ---

pub(super) fn list(seen: &ServerView, parameters: &Parameters) -> Answer {
    // A search looks at every rule. One at a time leaves the other processors to requests.
    let _one_at_a_time = seen.searching();
    let search = parameters.get("search").unwrap_or_default().to_lowercase();
    let offset = parameters.number("offset", 0, ANY)?;
    let limit = parameters.number("limit", SOME, MOST)?;
    let snapshot = seen.rules.snapshot();
    let rules = snapshot.as_ref().map(|snapshot| {
        let domains = snapshot.rules.domains();
        let mut found: Vec<(&Domain, Match<'_>)> = domains
            .flat_map(|domain| domain.matches().map(move |found| (domain, found)))
            .filter(|(_, found)| is_about(found.rule, &search))
            .collect();
        found.sort_unstable_by_key(|(_, found)| found.rule.id);
        let page = found.iter().skip(offset).take(limit);
        let page: Vec<Value> = page
            .map(|(domain, found)| rule(seen, snapshot, domain, found))
            .collect();
        (found.len(), page)
    });
    let (total, rules) = rules.unwrap_or_default();
    Ok(json!({ "now_us": seen.now(), "total": total, "rules": rules }))
}

/// Whether a rule is what is searched for, in lower case.
fn is_about(rule: &Rule, search: &str) -> bool {
    let has = |text: &str| match text.is_ascii() {
        // Without a copy.
        true => contains_ignoring_case(text.as_bytes(), search.as_bytes()),
        false => text.to_lowercase().contains(search),
    };
    let names = match &rule.limits {
        Limits::Unlimited { name, .. } => has(name),
        Limits::Limited(limits) => limits.iter().any(|limit| has(&limit.name)),
    };
    search.is_empty() || has(&rule.path) || has(&rule.file) || names
}

/// Whether ASCII text contains what is searched for, in lower case.
fn contains_ignoring_case(text: &[u8], search: &[u8]) -> bool {
    let mut windows = text.windows(search.len().max(1));
    search.is_empty() || windows.any(|window| window.eq_ignore_ascii_case(search))
}

fn rule(seen: &ServerView, snapshot: &Snapshot, domain: &Domain, found: &Match<'_>) -> Value {
    let Match { rule, nodes } = *found;
    let segments: Vec<String> = nodes
        .map(|node| composite(&node.key, node.value.as_deref()))
        .collect();
    let series = snapshot.series(&seen.metrics, domain.name(), found);
    let sum = series.as_ref().map(|series| series.sum());
    let tried = series.as_ref().and_then(|series| series.tried());
    let entries: Vec<Value> = nodes
        .map(|node| json!([&*node.key, node.value.as_deref()]))
        .collect();
    let (limits, is_unlimited) = match &rule.limits {
        Limits::Unlimited { .. } => (Vec::new(), true),
        Limits::Limited(limits) => (limits.iter().map(limit).collect(), false),
    };
    json!({
        "path": rule.path,
        "domain": domain.name(),
        "segments": segments,
        "entries": entries,
        "file": &*rule.file,
        "line": rule.line,
        "limits": limits,
        "unlimited": is_unlimited,
        "shadow_mode": rule.shadow_mode,
        "quota_mode": rule.quota_mode,
        "on_store_failure": rule.on_store_failure.map(|policy| policy.name()),
        "hits": hits(&sum.unwrap_or_default()),
        "use": used(rule, snapshot.call_counts(rule.id)),
        "candidate": candidate(rule, tried.unwrap_or_default()),
    })
}

/// When the hits of a rule are taken, and why, where its limits leave that to how it is used.
fn used(rule: &Rule, counts: CallCounts) -> Option<Value> {
    let is_auto = match &rule.limits {
        Limits::Limited(limits) => limits.iter().any(|limit| limit.hits == Payment::Auto),
        Limits::Unlimited { .. } => false,
    };
    let [asked, reported, given_back] = counts.percents();
    is_auto.then(|| {
        json!({
            "hits": match counts.pattern() {
                Pattern::Prepaid => "prepaid",
                Pattern::Reported | Pattern::Refunded => "postpaid",
            },
            "asked_percent": asked,
            "reported_percent": reported,
            "given_back_percent": given_back,
            "text": format!("hits: auto ({counts})"),
        })
    })
}

/// What is tried beside the limits of a rule, and what it would have said.
fn candidate(rule: &Rule, tried: Tried) -> Option<Value> {
    let limits: Vec<String> = rule.candidates.iter().map(Limit::to_string).collect();
    let Tried {
        would_admit,
        would_deny,
    } = tried;
    (!limits.is_empty()).then(|| {
        json!({
            "text": limits.join("; "),
            "hits": { "would_admit": would_admit, "would_deny": would_deny },
        })
    })
}

fn limit(limit: &Limit) -> Value {
    json!({
        "name": limit.name,
        "requests_per_unit": limit.requests_per_unit,
        "unit": limit.unit.name(),
        "unit_multiplier": limit.unit_multiplier,
        "burst": limit.burst,
        "algorithm": limit.algorithm.name(),
        "hits": limit.hits.name(),
        "max_debt": limit.max_debt,
        "text": limit.to_string(),
    })
}

fn hits(hits: &Hits) -> Value {
    json!({
        "within": hits.within,
        "denied": hits.denied,
        "would_deny": hits.would_deny,
        "near": hits.near,
        "over": hits.over,
        "shadow": hits.shadow,
        "remembered": hits.remembered,
        "given_back": hits.given_back,
    })
}

// --- One descriptor ---

pub(super) fn explained<S: Store>(inspector: &Inspector<S>, parameters: &Parameters) -> Answer {
    let domain = parameters.need("domain")?;
    let entries = typed(parameters.need("descriptor")?)?.0;
    let explanation = inspector.explain(domain, &entries)?;
    Ok(explanation_of(domain, &entries, &explanation))
}

fn explanation_of(domain: &str, entries: &[Entry], explanation: &Explanation) -> Value {
    let Explanation {
        trace,
        rule,
        limits,
        ..
    } = explanation;
    let descriptor: Vec<_> = entries
        .iter()
        .map(|entry| [entry.key.readable(), entry.value.readable()])
        .collect();
    let limits: Vec<Value> = limits
        .iter()
        .map(|(limit, key)| json!({ "text": limit.to_string(), "bucket": key.as_str() }))
        .collect();
    let steps: Vec<Value> = trace.steps.iter().map(step).collect();
    json!({
        "domain": domain,
        "descriptor": descriptor,
        "text": explanation.to_string(),
        "rule": rule.as_ref().map(|rule| &rule.path),
        "limits": limits,
        "steps": steps,
        "hints": trace.hints,
    })
}

fn step(step: &Step) -> Value {
    let taken = step.taken.as_ref();
    let why = taken.map_or_else(|| "nothing matches".to_owned(), Candidate::to_string);
    let passed_over: Vec<String> = step.passed_over.iter().map(Candidate::to_string).collect();
    json!({
        "entry": [step.key, step.value],
        "matched": taken.is_some(),
        "why": why,
        "passed_over": passed_over,
    })
}
