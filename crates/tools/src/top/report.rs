//! What is shown, whichever way: lines of facts, alarms and three tables, all of it text that does a terminal no harm.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::sample::{Histogram, Sample, Window};
use crate::harmless::plain;
use clap::ValueEnum;
use ratekeeper_api::admin::{
    Causes, DeniedBucket, Distribution, Hits, HotBucket, Rule, Status, Top,
};

/// What somebody wants to see.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) address: String,
    pub(super) window: Window,
    pub(super) sort: Sort,
}

/// By what rules are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    /// Hits per second
    Rate,
    /// Denied hits per second
    Denied,
    /// Hits since the server started
    Total,
    /// Path of the rule
    Name,
}

impl Sort {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Rate => Self::Denied,
            Self::Denied => Self::Total,
            Self::Total => Self::Name,
            Self::Name => Self::Rate,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Denied => "denied",
            Self::Total => "total",
            Self::Name => "name",
        }
    }
}

/// All that is shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    /// What somebody should see to.
    pub(super) alarms: Vec<String>,
    pub(super) facts: Vec<String>,
    pub(super) rules: Table,
    pub(super) hottest: Table,
    pub(super) denied: Table,
    /// What shadow mode let pass, if there is any.
    pub(super) would_deny: Option<Table>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<String>>,
}

#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) align: Align,
    /// On a screen: this wide, or what is left.
    pub(super) width: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

const fn left(name: &'static str, width: Option<u16>) -> Column {
    Column {
        name,
        align: Align::Left,
        width,
    }
}

const fn right(name: &'static str, width: u16) -> Column {
    Column {
        name,
        align: Align::Right,
        width: Some(width),
    }
}

impl Report {
    /// What a server does, with rates where there is a sample before.
    pub(super) fn new(view: &View, before: Option<&Sample>, now: &Sample) -> Self {
        let seconds = before.and_then(|before| now.seconds_since(before));
        let span = before.zip(seconds);
        Self {
            alarms: alarms(&now.status),
            facts: vec![
                headline(view, &now.status),
                decisions(span, now),
                latencies(span, now),
                store(&now.status),
                configuration(&now.status),
            ],
            rules: rules(view.sort, span, now),
            hottest: hottest(now),
            denied: most_denied(now),
            would_deny: would_deny(now),
        }
    }
}

/// The sample before, and the seconds since.
type Span<'s> = Option<(&'s Sample, f64)>;

// --- Facts ---

fn alarms(status: &Status) -> Vec<String> {
    let mut alarms = Vec::new();
    if !status.healthy {
        alarms.push("the server is not healthy: it should be sent no requests".to_owned());
    }
    if status.store.degraded {
        let mode = plain(status.store.failure_mode.as_deref().unwrap_or_default());
        alarms.push(format!(
            "degraded: Redis does not decide, or not in time; STORE_FAILURE_MODE={mode} does, or on_store_failure"
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
            "the latest configuration was refused: {first}{rest}"
        ));
    }
    if status.source.connected == Some(false) {
        let origin = plain(&status.source.origin);
        alarms.push(format!("the management server {origin} is not connected"));
    }
    alarms
}

fn headline(view: &View, status: &Status) -> String {
    let up = period(status.uptime_seconds);
    let (version, instance) = (plain(&status.version), plain(&status.instance));
    let address = plain(&view.address);
    format!("ratekeeper {version} on {instance}, up {up}, asked at {address}")
}

/// All decisions of these causes, and those that a failure policy made instead of Redis.
fn decided(causes: &Causes) -> [u64; 2] {
    let fallback = causes.fallback_local + causes.fallback_allow + causes.fallback_deny;
    let store = causes.buckets + causes.remembered_denial + causes.no_limit;
    [store + fallback, fallback]
}

/// Requests that a failure policy decided, including those that it answered with an error.
fn by_fallback(status: &Status) -> u64 {
    match &status.fallback_decisions {
        Some(counts) => counts.local + counts.allow + counts.deny + counts.error,
        // Servers of version 0.1.0 do not report the policy `error` here.
        None => decided(&status.decisions.ok)[1] + decided(&status.decisions.over_limit)[1],
    }
}

fn decisions(span: Span<'_>, now: &Sample) -> String {
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

fn latencies(span: Span<'_>, now: &Sample) -> String {
    let answers = |status: &Status| Histogram::of(&status.answers);
    let answers = percentiles(span, now, |status| Some(answers(status)));
    let answers = answers.unwrap_or_else(|| "none yet".to_owned());
    let round_trips = |latency: &Distribution| Histogram::of(latency);
    match percentiles(span, now, |status| {
        status.store.latency.as_ref().map(round_trips)
    }) {
        Some(store) => format!("latency: answers {answers}; round trips to Redis {store}"),
        None => format!("latency: answers {answers}"),
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

fn store(status: &Status) -> String {
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

fn configuration(status: &Status) -> String {
    let configuration = &status.configuration;
    format!(
        "configuration: {} rules in {} domains, version {}, from {}",
        configuration.rules,
        configuration.domains,
        plain(configuration.version.as_deref().unwrap_or_default()),
        plain(&status.source.origin),
    )
}

// --- Tables ---

/// What a rule did.
struct Did<'s> {
    rule: &'s Rule,
    /// Hits that were admitted, that were denied, and that shadow mode let pass.
    hits: [u64; 3],
    /// The same per second, as far as known.
    rates: Option<[f64; 3]>,
}

fn rules(sort: Sort, span: Span<'_>, now: &Sample) -> Table {
    let before: HashMap<&str, [u64; 3]> = span
        .iter()
        .flat_map(|(before, _)| &before.rules)
        .map(|rule| (rule.path.as_str(), hits(rule)))
        .collect();
    let did = |rule| {
        let hits = hits(rule);
        let then = before.get(rule.path.as_str());
        let rates = span.map(|(_, seconds)| {
            let then = then.copied().unwrap_or_default();
            std::array::from_fn(|i| per_second(hits[i], then[i], seconds))
        });
        Did { rule, hits, rates }
    };
    let mut all: Vec<Did<'_>> = now.rules.iter().map(did).collect();
    // Stable: what is equal stays in the order of the files.
    let rates = |did: &Did<'_>| did.rates.unwrap_or_default();
    match sort {
        Sort::Rate => {
            all.sort_by(|a, b| f64::total_cmp(&rates(b).iter().sum(), &rates(a).iter().sum()))
        }
        Sort::Denied => all.sort_by(|a, b| f64::total_cmp(&rates(b)[1], &rates(a)[1])),
        Sort::Total => all.sort_by_key(|did| Reverse(did.hits.iter().sum::<u64>())),
        Sort::Name => all.sort_by_key(|did| &did.rule.path),
    }
    let (some, most) = (all.len() as u64, now.all_rules);
    let of = if some < most {
        format!("the first {some} of {most}")
    } else {
        format!("{most}")
    };
    let mut columns = vec![
        left("rule", None),
        left("limit", Some(34)),
        right("adm/s", 7),
        right("den/s", 7),
        right("admitted", 9),
        right("denied", 9),
    ];
    let has_shadow = all.iter().any(|did| did.hits[2] > 0);
    if has_shadow {
        columns.push(right(WOULD_DENY, 10));
    }
    let count = columns.len();
    let row = |did: &Did<'_>| of_rule(did).into_iter().take(count).collect();
    Table {
        title: format!("rules: {of}, by {}", sort.name()),
        columns,
        rows: all.iter().map(row).collect(),
    }
}

/// What a column is called that has what shadow mode let pass.
const WOULD_DENY: &str = "would deny";

/// Hits that were admitted, that were denied, and that shadow mode let pass.
fn hits(rule: &Rule) -> [u64; 3] {
    let Hits { within, denied, .. } = rule.hits;
    match rule.hits.would_deny {
        Some(would_deny) => [within, denied, would_deny],
        // A server that does not have it counts both as denied.
        None if rule.shadow_mode => [within, 0, denied],
        None => [within, denied, 0],
    }
}

fn of_rule(did: &Did<'_>) -> Vec<String> {
    let limits = did.rule.limits.iter();
    let limits: Vec<String> = limits.map(|limit| plain(&limit.text)).collect();
    let limits = if limits.is_empty() {
        "unlimited".to_owned()
    } else {
        limits.join(" and ")
    };
    let [admitting, denying, _] = match did.rates {
        Some(rates) => rates.map(decimal),
        None => [UNKNOWN; 3].map(str::to_owned),
    };
    let [admitted, denied, would_deny] = did.hits.map(grouped);
    vec![
        plain(&did.rule.path),
        limits,
        admitting,
        denying,
        admitted,
        denied,
        would_deny,
    ]
}

/// A table of nothing but why.
fn untold(name: &str, error: &str) -> Table {
    Table {
        title: format!("{name}: {}", plain(error)),
        ..Table::default()
    }
}

fn hottest(now: &Sample) -> Table {
    let top = match &now.top {
        Ok(top) => top,
        Err(error) => return untold("hottest", error),
    };
    let has_shadow = top.total_would_deny > 0;
    let row = |bucket: &HotBucket| {
        let would_deny = has_shadow.then(|| grouped(bucket.would_deny));
        let cells = [
            plain(&bucket.key),
            plain(&bucket.rule),
            bucket.hits.map_or_else(|| UNKNOWN.to_owned(), grouped),
            grouped(bucket.denied),
        ];
        cells.into_iter().chain(would_deny).collect()
    };
    let mut columns = vec![
        left("bucket", None),
        left("rule", Some(20)),
        right("hits", 10),
        right("denied", 10),
    ];
    if has_shadow {
        columns.push(right(WOULD_DENY, 10));
    }
    let [hits, error] = [top.total_hits, top.error].map(grouped);
    Table {
        title: format!(
            "hottest of the last {}: {hits} hits in all, give or take {error}",
            plain(&top.window)
        ),
        columns,
        rows: top.hottest.iter().map(row).collect(),
    }
}

fn most_denied(now: &Sample) -> Table {
    let top = match &now.top {
        Ok(top) => top,
        Err(error) => return untold("most denied", error),
    };
    let denials = Denials {
        title: "most denied",
        total: top.total_denied,
        column: "denied",
        list: &top.denied,
        count: |bucket| bucket.denied,
    };
    denials.table(now, top)
}

/// What shadow mode let pass; `None` when there is none, or the server does not have it.
fn would_deny(now: &Sample) -> Option<Table> {
    let top = now.top.as_ref().ok()?;
    let denials = Denials {
        title: "would deny most (shadow mode)",
        total: top.total_would_deny,
        column: WOULD_DENY,
        list: &top.would_deny,
        count: |bucket| bucket.would_deny,
    };
    (!top.would_deny.is_empty()).then(|| denials.table(now, top))
}

/// A list of buckets and what it counts.
struct Denials<'s> {
    title: &'static str,
    total: u64,
    column: &'static str,
    list: &'s [DeniedBucket],
    /// Selects the count of the column.
    count: fn(&HotBucket) -> u64,
}

impl Denials<'_> {
    fn table(&self, now: &Sample, top: &Top) -> Table {
        let row = |denied: &DeniedBucket| {
            let last = denied.last_denied_us;
            let ago = last.map(|last| period(now.status.now_us.saturating_sub(last) / 1_000_000));
            let bucket = &denied.bucket;
            vec![
                plain(&bucket.key),
                plain(&bucket.rule),
                grouped((self.count)(bucket)),
                ago.unwrap_or_default(),
            ]
        };
        let (title, total) = (self.title, grouped(self.total));
        let window = plain(&top.window);
        Table {
            title: format!("{title} of the last {window}: {total} hits in all"),
            columns: vec![
                left("bucket", None),
                left("rule", Some(20)),
                right(self.column, 10),
                right("last, ago", 10),
            ],
            rows: self.list.iter().map(row).collect(),
        }
    }
}

// --- Numbers ---

/// What stands for a number that is not known.
const UNKNOWN: &str = "-";

fn rate(now: u64, then: Option<u64>, span: Span<'_>) -> String {
    match (then, span) {
        (Some(then), Some((_, seconds))) => decimal(per_second(now, then, seconds)),
        _ => UNKNOWN.to_owned(),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate is about right in any case"
)]
fn per_second(now: u64, then: u64, seconds: f64) -> f64 {
    // A counter that began anew counts as a whole.
    now.checked_sub(then).unwrap_or(now) as f64 / seconds
}

fn decimal(number: f64) -> String {
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

/// A count in groups of three digits.
fn grouped(count: u64) -> String {
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

fn milliseconds(seconds: f64) -> String {
    if seconds.is_infinite() {
        return "beyond all bounds".to_owned();
    }
    let millis = seconds * 1e3;
    if millis < 10.0 {
        format!("{millis:.2} ms")
    } else {
        format!("{millis:.0} ms")
    }
}

/// Seconds as somebody would say them.
fn period(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
pub(super) mod tests;
