//! `/rules` and `/explain`: rules with their counters, and the rule that applies to a descriptor.

use super::ApiError;
use super::parameters::{Parameters, typed};
use super::server_view::{ServerView, count};
use super::types::{self, Candidate, CandidateHits, ExplainedLimit, Hits, Rules, Step, Usage};
use crate::limiter::inspect::Inspector;
use crate::limiter::{self, CallCounts, Entry, Pattern, Snapshot};
use crate::rules::{self, Domain, Hits as Payment, Limit, Limits, Match, Rule, composite};
use crate::store::Store;
use crate::telemetry::metrics::{self, Tried};

/// Default and maximum number of rules on a page.
const DEFAULT_RULES: usize = 500;
const MAX_RULES: usize = 1_000;

/// Maximum offset, which is larger than any number of rules.
const MAX_OFFSET: usize = 1 << 32;

// --- GET /rules ---

pub(super) fn list(view: &ServerView, parameters: &Parameters) -> Result<Rules, ApiError> {
    // A search looks at every rule. One at a time leaves the other processors to requests.
    let _one_at_a_time = view.lock_search();
    let search = parameters.get("search").unwrap_or_default().to_lowercase();
    let offset = parameters.number("offset", 0, MAX_OFFSET)?;
    let limit = parameters.number("limit", DEFAULT_RULES, MAX_RULES)?;
    let snapshot = view.rules.snapshot();
    let (total, rules) = snapshot.as_ref().map_or((0, Vec::new()), |snapshot| {
        let found = search_rules(snapshot, &search);
        let page = found.iter().skip(offset).take(limit);
        let page = page.map(|(domain, found)| rule(view, snapshot, domain, found));
        (found.len(), page.collect())
    });
    Ok(Rules {
        now_us: view.now(),
        total: count(total),
        rules,
    })
}

/// Returns the rules that match a search in lower case, in the order of the files.
fn search_rules<'s>(snapshot: &'s Snapshot, search: &str) -> Vec<(&'s Domain, Match<'s>)> {
    let domains = snapshot.rules.domains();
    let mut found: Vec<_> = domains
        .flat_map(|domain| domain.matches().map(move |found| (domain, found)))
        .filter(|(_, found)| matches(found.rule, search))
        .collect();
    found.sort_unstable_by_key(|(_, found)| found.rule.id);
    found
}

fn matches(rule: &Rule, search: &str) -> bool {
    let has = |text: &str| match text.is_ascii() {
        // Avoids a copy.
        true => contains_ignoring_case(text.as_bytes(), search.as_bytes()),
        false => text.to_lowercase().contains(search),
    };
    let has_name = match &rule.limits {
        Limits::Unlimited { name, .. } => has(name),
        Limits::Limited(limits) => limits.iter().any(|limit| has(&limit.name)),
    };
    search.is_empty() || has(&rule.path) || has(&rule.file) || has_name
}

/// Returns whether ASCII text contains a search in lower case.
fn contains_ignoring_case(text: &[u8], search: &[u8]) -> bool {
    let mut windows = text.windows(search.len().max(1));
    search.is_empty() || windows.any(|window| window.eq_ignore_ascii_case(search))
}

fn rule(view: &ServerView, snapshot: &Snapshot, domain: &Domain, found: &Match<'_>) -> types::Rule {
    let Match { rule, nodes } = *found;
    let series = snapshot.series(&view.metrics, domain.name(), found);
    let sum = series.as_ref().map(|series| series.sum());
    let tried = series.as_ref().and_then(|series| series.tried());
    let (limits, unlimited) = match &rule.limits {
        Limits::Unlimited { .. } => (Vec::new(), true),
        Limits::Limited(limits) => (limits.iter().map(limit).collect(), false),
    };
    types::Rule {
        path: rule.path.clone(),
        domain: domain.name().to_owned(),
        segments: nodes
            .map(|node| composite(&node.key, node.value.as_deref()))
            .collect(),
        entries: nodes
            .map(|node| {
                (
                    node.key.to_string(),
                    node.value.as_deref().map(str::to_owned),
                )
            })
            .collect(),
        file: rule.file.to_string(),
        line: count(rule.line),
        limits,
        unlimited,
        shadow_mode: rule.shadow_mode,
        quota_mode: rule.quota_mode,
        on_store_failure: rule.on_store_failure.map(|policy| policy.name().into()),
        hits: hits(&sum.unwrap_or_default()),
        usage: usage(rule, snapshot.call_counts(rule.id)),
        candidate: candidate(rule, tried.unwrap_or_default()),
    }
}

fn limit(limit: &Limit) -> types::Limit {
    types::Limit {
        name: limit.name.clone(),
        requests_per_unit: limit.requests_per_unit,
        unit: limit.unit.name().into(),
        unit_multiplier: limit.unit_multiplier,
        burst: limit.burst,
        algorithm: limit.algorithm.name().into(),
        hits: limit.hits.name().into(),
        max_debt: limit.max_debt,
        text: limit.to_string(),
    }
}

fn hits(hits: &metrics::Hits) -> Hits {
    Hits {
        within: hits.within,
        denied: hits.denied,
        would_deny: Some(hits.would_deny),
        near: hits.near,
        over: hits.over,
        shadow: hits.shadow,
        remembered: hits.remembered,
        given_back: hits.given_back,
    }
}

/// Describes when hits are charged, for a rule that has a limit with `hits: auto`.
fn usage(rule: &Rule, counts: CallCounts) -> Option<Usage> {
    let is_auto = match &rule.limits {
        Limits::Limited(limits) => limits.iter().any(|limit| limit.hits == Payment::Auto),
        Limits::Unlimited { .. } => false,
    };
    let [asked_percent, reported_percent, given_back_percent] = counts.percents();
    let hits = match counts.pattern() {
        Pattern::Prepaid => "prepaid",
        Pattern::Reported | Pattern::Refunded => "postpaid",
    };
    is_auto.then(|| Usage {
        hits: hits.into(),
        asked_percent,
        reported_percent,
        given_back_percent,
        text: format!("hits: auto ({counts})"),
    })
}

fn candidate(rule: &Rule, tried: Tried) -> Option<Candidate> {
    let limits: Vec<String> = rule.candidates.iter().map(Limit::to_string).collect();
    (!limits.is_empty()).then(|| Candidate {
        text: limits.join("; "),
        hits: CandidateHits {
            would_admit: tried.would_admit,
            would_deny: tried.would_deny,
        },
    })
}

// --- GET /explain ---

pub(super) fn explain<S: Store>(
    inspector: &Inspector<S>,
    parameters: &Parameters,
) -> Result<types::Explanation, ApiError> {
    let domain = parameters.required("domain")?;
    let entries = typed(parameters.required("descriptor")?)?.0;
    let explanation = inspector.explain(domain, &entries)?;
    Ok(described(domain, &entries, &explanation))
}

fn described(
    domain: &str,
    entries: &[Entry],
    explanation: &limiter::Explanation,
) -> types::Explanation {
    let entries = entries.iter();
    let limits = explanation.limits.iter();
    types::Explanation {
        domain: domain.to_owned(),
        descriptor: entries
            .map(|entry| {
                let (key, value) = (entry.key.readable(), entry.value.readable());
                (key.into_owned(), value.into_owned())
            })
            .collect(),
        text: explanation.to_string(),
        rule: explanation.rule.as_ref().map(|rule| rule.path.clone()),
        limits: limits
            .map(|(limit, key)| ExplainedLimit {
                text: limit.to_string(),
                bucket: key.as_str().to_owned(),
            })
            .collect(),
        steps: explanation.trace.steps.iter().map(step).collect(),
        hints: explanation.trace.hints.clone(),
    }
}

fn step(step: &rules::Step) -> Step {
    let taken = step.taken.as_ref();
    Step {
        entry: (step.key.clone(), step.value.clone()),
        matched: taken.is_some(),
        why: taken.map_or_else(|| "nothing matches".to_owned(), ToString::to_string),
        passed_over: step.passed_over.iter().map(ToString::to_string).collect(),
    }
}
