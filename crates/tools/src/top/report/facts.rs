//! The lines above the tables: alarms, and facts about decisions, latencies, store and configuration.

use super::super::sample::{Histogram, Sample};
use super::numbers::{grouped, milliseconds, period, rate};
use super::{Span, View};
use crate::harmless::plain;
use ratekeeper_api::admin::{Causes, Distribution, Status};

pub(super) fn alarms(status: &Status) -> Vec<String> {
    let mut alarms = Vec::new();
    if !status.healthy {
        alarms.push("the server reports NOT_SERVING".to_owned());
    }
    if status.store.degraded {
        let mode = plain(status.store.failure_mode.as_deref().unwrap_or_default());
        alarms.push(format!(
            "degraded: Redis is unavailable or too slow; the failure policy decides (STORE_FAILURE_MODE={mode}, or on_store_failure)"
        ));
    }
    if let Some(rejected) = &status.configuration.rejected {
        let first = rejected.mistakes.first();
        let first = first.map(|first| plain(first)).unwrap_or_default();
        let all = rejected.mistakes.len() as u64 + rejected.more;
        let rest = if all > 1 {
            format!(" (and {} more)", all - 1)
        } else {
            String::new()
        };
        alarms.push(format!(
            "the latest configuration was rejected: {first}{rest}"
        ));
    }
    if status.source.connected == Some(false) {
        let origin = plain(&status.source.origin);
        alarms.push(format!("the management server {origin} is not connected"));
    }
    alarms
}

pub(super) fn headline(view: &View, status: &Status) -> String {
    let up = period(status.uptime_seconds);
    let (version, instance) = (plain(&status.version), plain(&status.instance));
    let address = plain(&view.address);
    format!("ratekeeper {version} on {instance}, up {up}, queried at {address}")
}

/// Number of all decisions by cause, and of those that a failure policy made.
fn decided(causes: &Causes) -> [u64; 2] {
    let fallback = causes.fallback_local + causes.fallback_allow + causes.fallback_deny;
    let store = causes.buckets + causes.remembered_denial + causes.no_limit;
    [store + fallback, fallback]
}

/// Number of requests that a failure policy decided, including those that failed with an error.
fn by_fallback(status: &Status) -> u64 {
    match &status.fallback_decisions {
        Some(counts) => counts.local + counts.allow + counts.deny + counts.error,
        // Servers of version 0.1.0 do not report the policy `error` here.
        None => decided(&status.decisions.ok)[1] + decided(&status.decisions.over_limit)[1],
    }
}

pub(super) fn decisions(span: Span<'_>, now: &Sample) -> String {
    let counts = |Sample { status, .. }: &Sample| {
        let [admitted, _] = decided(&status.decisions.ok);
        let [denied, _] = decided(&status.decisions.over_limit);
        let errors = status.errors.service + status.errors.store;
        [admitted, denied, by_fallback(status), errors]
    };
    let counts_now = counts(now);
    let then = span.map(|(before, _)| counts(before));
    let texts: Vec<String> = ["admitted", "denied", "by fallback", "errors"]
        .into_iter()
        .enumerate()
        .map(|(i, name)| {
            let rate = rate(counts_now[i], then.map(|then| then[i]), span);
            format!("{name} {rate}/s ({})", grouped(counts_now[i]))
        })
        .collect();
    format!("requests: {}", texts.join(", "))
}

pub(super) fn latencies(span: Span<'_>, now: &Sample) -> String {
    let answers = |status: &Status| Histogram::of(&status.answers);
    let answers = percentiles(span, now, |status| Some(answers(status)));
    let answers = answers.unwrap_or_else(|| "none yet".to_owned());
    let round_trips = |latency: &Distribution| Histogram::of(latency);
    match percentiles(span, now, |status| {
        status.store.latency.as_ref().map(round_trips)
    }) {
        Some(store) => format!("latency: responses {answers}; round trips to Redis {store}"),
        None => format!("latency: responses {answers}"),
    }
}

/// Percentiles of a distribution since the sample before; `None` without an observation.
fn percentiles(
    span: Span<'_>,
    now: &Sample,
    of: impl Fn(&Status) -> Option<Histogram>,
) -> Option<String> {
    let now = of(&now.status)?;
    let before = span.and_then(|(before, _)| of(&before.status));
    let since = before.map_or(now.clone(), |before| now.since(&before));
    // Without recent observations, all of them.
    let times = match since.percentile(50.0) {
        Some(_) => since,
        None => now,
    };
    let [p50, p99] = [50.0, 99.0].map(|percent| times.percentile(percent));
    Some(format!(
        "p50 {}, p99 {}",
        milliseconds(p50?),
        milliseconds(p99?)
    ))
}

pub(super) fn store(status: &Status) -> String {
    let store = &status.store;
    let mut text = format!("store: {}", plain(&store.kind));
    if let Some(buckets) = store.buckets {
        let most = store.max_buckets.map(grouped).unwrap_or_default();
        text += &format!(", {} buckets of at most {most}", grouped(buckets));
    }
    for breaker in &store.breakers {
        let (name, state) = (plain(&breaker.name), plain(&breaker.state));
        text += &format!(", breaker of {name} {state}");
        if breaker.times_opened > 0 {
            text += &format!(" (opened {} times)", breaker.times_opened);
        }
    }
    if store.remembered_denials > 0 {
        text += &format!(", {} denials remembered", grouped(store.remembered_denials));
    }
    text
}

pub(super) fn configuration(status: &Status) -> String {
    let configuration = &status.configuration;
    format!(
        "configuration: {} rules in {} domains, version {}, from {}",
        configuration.rules,
        configuration.domains,
        plain(configuration.version.as_deref().unwrap_or_default()),
        plain(&status.source.origin),
    )
}
