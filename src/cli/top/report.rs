//! What is shown, whichever way: lines of facts, alarms and three tables, all of it text that does a terminal no harm.

use std::cmp::Reverse;
use std::collections::HashMap;

use clap::ValueEnum;
use serde_json::Value;

use super::super::harmless::plain;
use super::sample::{Histogram, Sample, Window, float, number};

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
    pub(super) fn new(view: &View, before: Option<&Sample>, now: &Sample) -> anyhow::Result<Self> {
        let seconds = before.map_or(Ok(None), |before| now.seconds_since(before))?;
        let span = before.zip(seconds);
        Ok(Self {
            alarms: alarms(&now.status),
            facts: vec![
                headline(view, &now.status)?,
                decisions(span, now)?,
                latencies(span, now),
                store(&now.status),
                configuration(&now.status),
            ],
            rules: rules(view.sort, span, now)?,
            hottest: hottest(now)?,
            denied: most_denied(now)?,
            would_deny: would_deny(now)?,
        })
    }
}

/// The sample before, and the seconds since.
type Span<'s> = Option<(&'s Sample, f64)>;

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        Value::Null => String::new(),
        other => plain(&other.to_string()),
    }
}

// --- Facts ---

fn alarms(status: &Value) -> Vec<String> {
    let mut alarms = Vec::new();
    if status["healthy"] == false {
        alarms.push("the server is not healthy: it should be sent no requests".to_owned());
    }
    let store = &status["store"];
    if store["degraded"] == true {
        let mode = shown(&store["failure_mode"]);
        alarms.push(format!(
            "degraded: Redis does not decide, or not in time; STORE_FAILURE_MODE={mode} does, or on_store_failure"
        ));
    }
    let rejected = &status["configuration"]["rejected"];
    if let Some(mistakes) = rejected["mistakes"].as_array() {
        let first = mistakes.first().map(shown).unwrap_or_default();
        let all = mistakes.len() as u64 + rejected["more"].as_u64().unwrap_or_default();
        let rest = if all > 1 {
            format!(" (and {} more)", all - 1)
        } else {
            String::new()
        };
        alarms.push(format!(
            "the latest configuration was refused: {first}{rest}"
        ));
    }
    if status["source"]["connected"] == false {
        let origin = shown(&status["source"]["origin"]);
        alarms.push(format!("the management server {origin} is not connected"));
    }
    alarms
}

fn headline(view: &View, status: &Value) -> anyhow::Result<String> {
    let up = period(float(status, "/uptime_seconds")?);
    let (version, instance) = (shown(&status["version"]), shown(&status["instance"]));
    Ok(format!(
        "ratekeeper {version} on {instance}, up {up}, asked at {}",
        plain(&view.address)
    ))
}

/// Decisions with this verdict: all of them, and those that a failure policy made instead of Redis.
fn decided(status: &Value, verdict: &str) -> [u64; 2] {
    let by_cause = status["decisions"][verdict]
        .as_object()
        .into_iter()
        .flatten();
    by_cause.fold([0, 0], |[all, fallback], (cause, count)| {
        let count = count.as_u64().unwrap_or_default();
        let stood_in = if cause.starts_with("fallback") {
            count
        } else {
            0
        };
        [all + count, fallback + stood_in]
    })
}

/// Requests that a failure policy decided, including those that it answered with an error.
fn by_fallback(status: &Value) -> u64 {
    match status["fallback_decisions"].as_object() {
        Some(counts) => counts.values().filter_map(Value::as_u64).sum(),
        // Servers of version 0.1.0 do not report the policy `error` here.
        None => decided(status, "ok")[1] + decided(status, "over_limit")[1],
    }
}

fn decisions(span: Span<'_>, now: &Sample) -> anyhow::Result<String> {
    let counts = |sample: &Sample| -> anyhow::Result<[u64; 4]> {
        let [admitted, _] = decided(&sample.status, "ok");
        let [denied, _] = decided(&sample.status, "over_limit");
        let errors =
            number(&sample.status, "/errors/service")? + number(&sample.status, "/errors/store")?;
        Ok([admitted, denied, by_fallback(&sample.status), errors])
    };
    let counts_now = counts(now)?;
    let then = span.map(|(before, _)| counts(before)).transpose()?;
    let texts: Vec<String> = ["admitted", "denied", "by fallback", "errors"]
        .into_iter()
        .enumerate()
        .map(|(i, name)| {
            let rate = rate(counts_now[i], then.map(|then| then[i]), span);
            format!("{name} {rate}/s ({})", grouped(counts_now[i]))
        })
        .collect();
    Ok(format!("requests: {}", texts.join(", ")))
}

fn latencies(span: Span<'_>, now: &Sample) -> String {
    let of = |pointer: &str| {
        let histogram = |sample: &Sample| Histogram::of(sample.status.pointer(pointer)?);
        let now = histogram(now)?;
        let before = span.and_then(|(before, _)| histogram(before));
        let since = before.map_or(now.clone(), |before| now.since(&before));
        // Nothing lately: what there was in all.
        let times = if since.percentile(50.0).is_some() {
            since
        } else {
            now
        };
        let [p50, p99] = [50.0, 99.0].map(|percent| times.percentile(percent));
        Some(format!(
            "p50 {}, p99 {}",
            milliseconds(p50?),
            milliseconds(p99?)
        ))
    };
    let answers = of("/answers").unwrap_or_else(|| "none yet".to_owned());
    match of("/store/latency") {
        Some(store) => format!("latency: answers {answers}; round trips to Redis {store}"),
        None => format!("latency: answers {answers}"),
    }
}

fn store(status: &Value) -> String {
    let store = &status["store"];
    let mut text = format!("store: {}", shown(&store["kind"]));
    if let Some(buckets) = store["buckets"].as_u64() {
        let most = store["max_buckets"]
            .as_u64()
            .map(grouped)
            .unwrap_or_default();
        text += &format!(", {} buckets of at most {most}", grouped(buckets));
    }
    for breaker in store["breakers"].as_array().into_iter().flatten() {
        let (name, state) = (shown(&breaker["name"]), shown(&breaker["state"]));
        let opened = breaker["times_opened"].as_u64().unwrap_or_default();
        text += &format!(", breaker of {name} {state}");
        if opened > 0 {
            text += &format!(" (opened {opened} times)");
        }
    }
    let remembered = store["remembered_denials"].as_u64().unwrap_or_default();
    if remembered > 0 {
        text += &format!(", {} denials remembered", grouped(remembered));
    }
    text
}

fn configuration(status: &Value) -> String {
    let (configuration, source) = (&status["configuration"], &status["source"]);
    format!(
        "configuration: {} rules in {} domains, version {}, from {}",
        shown(&configuration["rules"]),
        shown(&configuration["domains"]),
        shown(&configuration["version"]),
        shown(&source["origin"]),
    )
}

// --- Tables ---

/// What a rule did.
struct Did<'s> {
    rule: &'s Value,
    /// Hits that were admitted, that were denied, and that shadow mode let pass.
    hits: [u64; 3],
    /// The same per second, as far as known.
    rates: Option<[f64; 3]>,
}

fn rules(sort: Sort, span: Span<'_>, now: &Sample) -> anyhow::Result<Table> {
    let before: HashMap<&str, [u64; 3]> = span
        .iter()
        .flat_map(|(before, _)| &before.rules)
        .filter_map(|rule| Some((rule["path"].as_str()?, hits(rule).ok()?)))
        .collect();
    let did = |rule| -> anyhow::Result<Did<'_>> {
        let hits = hits(rule)?;
        let then = rule["path"].as_str().and_then(|path| before.get(path));
        let rates = span.map(|(_, seconds)| {
            let then = then.copied().unwrap_or_default();
            std::array::from_fn(|i| per_second(hits[i], then[i], seconds))
        });
        Ok(Did { rule, hits, rates })
    };
    let mut all = now
        .rules
        .iter()
        .map(did)
        .collect::<anyhow::Result<Vec<_>>>()?;
    // Stable: what is equal stays in the order of the files.
    let rates = |did: &Did<'_>| did.rates.unwrap_or_default();
    match sort {
        Sort::Rate => {
            all.sort_by(|a, b| f64::total_cmp(&rates(b).iter().sum(), &rates(a).iter().sum()))
        }
        Sort::Denied => all.sort_by(|a, b| f64::total_cmp(&rates(b)[1], &rates(a)[1])),
        Sort::Total => all.sort_by_key(|did| Reverse(did.hits.iter().sum::<u64>())),
        Sort::Name => all.sort_by_key(|did| did.rule["path"].as_str()),
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
    Ok(Table {
        title: format!("rules: {of}, by {}", sort.name()),
        columns,
        rows: all.iter().map(row).collect(),
    })
}

/// What a column is called that has what shadow mode let pass.
const WOULD_DENY: &str = "would deny";

/// Hits that were admitted, that were denied, and that shadow mode let pass.
fn hits(rule: &Value) -> anyhow::Result<[u64; 3]> {
    let [within, denied] = [number(rule, "/hits/within")?, number(rule, "/hits/denied")?];
    Ok(match rule["hits"]["would_deny"].as_u64() {
        Some(would_deny) => [within, denied, would_deny],
        // A server that does not have it counts both as denied.
        None if rule["shadow_mode"] == true => [within, 0, denied],
        None => [within, denied, 0],
    })
}

fn of_rule(did: &Did<'_>) -> Vec<String> {
    let limits = did.rule["limits"].as_array().into_iter().flatten();
    let limits: Vec<String> = limits.map(|limit| shown(&limit["text"])).collect();
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
        shown(&did.rule["path"]),
        limits,
        admitting,
        denying,
        admitted,
        denied,
        would_deny,
    ]
}

/// A table of nothing but why.
fn untold(name: &str, top: &Value) -> Option<Table> {
    let error = top["error"].as_str()?;
    Some(Table {
        title: format!("{name}: {}", plain(error)),
        ..Table::default()
    })
}

fn hottest(now: &Sample) -> anyhow::Result<Table> {
    if let Some(untold) = untold("hottest", &now.top) {
        return Ok(untold);
    }
    let all = now.top["hottest"].as_array();
    let has_shadow = number(&now.top, "/total_would_deny").is_ok_and(|hits| hits > 0);
    let row = |key: &Value| {
        let would_deny = has_shadow.then(|| count(&key["would_deny"]));
        let cells = [
            shown(&key["key"]),
            shown(&key["rule"]),
            count(&key["hits"]),
            count(&key["denied"]),
        ];
        cells.into_iter().chain(would_deny).collect()
    };
    let rows = all.into_iter().flatten();
    let mut columns = vec![
        left("bucket", None),
        left("rule", Some(20)),
        right("hits", 10),
        right("denied", 10),
    ];
    if has_shadow {
        columns.push(right(WOULD_DENY, 10));
    }
    let [hits, error] = [
        number(&now.top, "/total_hits")?,
        number(&now.top, "/error")?,
    ]
    .map(grouped);
    Ok(Table {
        title: format!(
            "hottest of the last {}: {hits} hits in all, give or take {error}",
            shown(&now.top["window"])
        ),
        columns,
        rows: rows.map(row).collect(),
    })
}

fn most_denied(now: &Sample) -> anyhow::Result<Table> {
    if let Some(untold) = untold("most denied", &now.top) {
        return Ok(untold);
    }
    denials(now, ("denied", "denied"), "most denied")
}

/// What shadow mode let pass; `None` when there is none, or the server does not have it.
fn would_deny(now: &Sample) -> anyhow::Result<Option<Table>> {
    let is_any = now.top["would_deny"]
        .as_array()
        .is_some_and(|list| !list.is_empty());
    let denied = is_any.then(|| {
        denials(
            now,
            ("would_deny", WOULD_DENY),
            "would deny most (shadow mode)",
        )
    });
    denied.transpose()
}

/// The buckets of a list, which is called as what it counts.
fn denials(
    now: &Sample,
    (list, column): (&'static str, &'static str),
    title: &str,
) -> anyhow::Result<Table> {
    let time = number(&now.status, "/now_us")?;
    let row = |key: &Value| {
        let last = key["last_denied_us"].as_u64();
        let ago = last.map_or_else(String::new, |last| {
            #[expect(clippy::cast_precision_loss, reason = "whole seconds are shown")]
            let seconds = time.saturating_sub(last) as f64 / 1e6;
            period(seconds)
        });
        vec![
            shown(&key["key"]),
            shown(&key["rule"]),
            count(&key[list]),
            ago,
        ]
    };
    let rows = now.top[list].as_array().into_iter().flatten();
    let hits = grouped(number(&now.top, &format!("/total_{list}"))?);
    Ok(Table {
        title: format!(
            "{title} of the last {}: {hits} hits in all",
            shown(&now.top["window"])
        ),
        columns: vec![
            left("bucket", None),
            left("rule", Some(20)),
            right(column, 10),
            right("last, ago", 10),
        ],
        rows: rows.map(row).collect(),
    })
}

// --- Numbers ---

/// What stands for a number that is not known.
const UNKNOWN: &str = "-";

fn count(value: &Value) -> String {
    value.as_u64().map_or_else(|| UNKNOWN.to_owned(), grouped)
}

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
fn period(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time that a person reads"
    )]
    let seconds = seconds.max(0.0) as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A server that has decided so much by then, and was asked something odd.
    pub(in crate::cli::top) fn sample(second: u64, admitted: u64, denied: u64) -> Sample {
        let buckets =
            json!([{"le": 0.001, "count": admitted}, {"le": 0.01, "count": admitted + denied}]);
        let times = json!({"count": admitted + denied, "sum_seconds": 1.0, "buckets": buckets});
        let rule = |path: &str, within: u64, denied: u64| {
            json!({
                "path": path, "limits": [{"text": "10 per minute, token bucket of 10"}],
                "hits": {"within": within, "denied": denied},
            })
        };
        Sample {
            status: json!({
                "version": "0.1.0", "instance": "host", "healthy": true, "now_us": second * 1_000_000,
                "uptime_seconds": second,
                "store": {
                    "kind": "redis", "degraded": true, "buckets": null, "failure_mode": "local", "latency": times,
                    "breakers": [{"name": "redis", "state": "open", "times_opened": 2}], "remembered_denials": 7,
                },
                "answers": times,
                "decisions": {
                    "ok": {"buckets": admitted, "fallback_local": 0}, "over_limit": {"buckets": denied, "fallback_deny": 4},
                },
                "errors": {"service": 0, "store": 1},
                "source": {"kind": "files", "origin": "/etc/ratelimit", "connected": null},
                "configuration": {
                    "version": "a3f9", "domains": 1, "rules": 2,
                    "rejected": {"at_us": 1, "mistakes": ["a.yaml:3:5: odd \u{1b}[31m"], "more": 2},
                },
            }),
            rules: vec![
                rule("shop.calm", 5, 0),
                rule("shop.client", admitted, denied),
            ],
            all_rules: 2,
            top: json!({
                "window": "minute", "total_hits": 1_234_567, "total_denied": 89, "error": 3,
                "hottest": [{"key": "rk:shop|client=\u{9b}2J", "rule": "shop.client", "hits": 1_000, "denied": 80}],
                "denied": [{"key": "rk:shop|client=x", "rule": "shop.client", "hits": null, "denied": 80,
                            "last_denied_us": (second - 3) * 1_000_000, "request": "?"}],
            }),
        }
    }

    pub(in crate::cli::top) fn view() -> View {
        View {
            address: "localhost:6070".to_owned(),
            window: Window::Minute,
            sort: Sort::Rate,
        }
    }

    #[test]
    fn rates_are_what_came_between_two_samples() {
        let report = Report::new(
            &view(),
            Some(&sample(100, 1_000, 10)),
            &sample(104, 3_000, 30),
        )
        .unwrap();
        assert_eq!(
            report.facts[0],
            "ratekeeper 0.1.0 on host, up 1 min, asked at localhost:6070"
        );
        assert_eq!(
            report.facts[1],
            "requests: admitted 500/s (3,000), denied 5.0/s (34), by fallback 0/s (4), errors 0/s (1)"
        );
        assert_eq!(
            report.facts[2],
            "latency: answers p50 0.51 ms, p99 1.00 ms; round trips to Redis p50 0.51 ms, p99 1.00 ms"
        );
        assert_eq!(
            report.rules.rows[0],
            [
                "shop.client",
                "10 per minute, token bucket of 10",
                "500",
                "5.0",
                "3,000",
                "30"
            ]
        );
        assert_eq!(
            report.denied.rows[0],
            ["rk:shop|client=x", "shop.client", "80", "3 s"]
        );
    }

    #[test]
    fn what_shadow_mode_lets_pass_is_apart_from_what_is_denied() {
        let mut now = sample(100, 5, 9);
        for (name, value) in [("denied", 2), ("would_deny", 7)] {
            now.rules[1]["hits"][name] = json!(value);
        }
        now.top["total_would_deny"] = json!(7);
        now.top["hottest"][0]["would_deny"] = json!(7);
        now.top["would_deny"] = json!([{"key": "rk:shop|client=y", "rule": "shop.client", "hits": 9, "denied": 0,
            "would_deny": 7, "last_would_deny_us": 1, "last_denied_us": 95_000_000, "request": "?"}]);
        let report = Report::new(&view(), None, &now).unwrap();
        let last = |table: &Table| {
            let cell = table.rows.last()?.last()?.clone();
            Some((table.columns.last()?.name, cell))
        };
        assert_eq!(last(&report.rules), Some(("would deny", "7".to_owned())));
        assert_eq!(report.rules.rows[1][4..6], ["5", "2"]);
        assert_eq!(last(&report.hottest), Some(("would deny", "7".to_owned())));
        let table = report.would_deny.unwrap();
        assert_eq!(
            table.title,
            "would deny most (shadow mode) of the last minute: 7 hits in all"
        );
        assert_eq!(
            table.rows,
            [["rk:shop|client=y", "shop.client", "7", "5 s"]]
        );
        assert_eq!(report.denied.rows[0][0], "rk:shop|client=x");
    }

    /// A server of the version before says which rules are in shadow mode, and counts what they let pass as denied.
    #[test]
    fn an_older_server_is_read() {
        let mut now = sample(100, 5, 9);
        now.rules[1]["shadow_mode"] = json!(true);
        let report = Report::new(&view(), None, &now).unwrap();
        assert_eq!(report.rules.rows[1][4..], ["5", "0", "9"]);
        assert_eq!(report.hottest.columns.len(), 4);
        assert!(report.would_deny.is_none());
    }

    #[test]
    fn what_clients_and_files_say_is_harmless() {
        let report = Report::new(&view(), None, &sample(100, 1, 1)).unwrap();
        assert_eq!(report.hottest.rows[0][0], "rk:shop|client=\\u{9b}2J");
        let told = "the latest configuration was refused: a.yaml:3:5: odd \\u{1b}[31m (and 2 more)";
        assert!(
            report.alarms.iter().any(|alarm| alarm == told),
            "{:?}",
            report.alarms
        );
        assert!(report.alarms[0].starts_with("degraded: "));
    }

    #[test]
    fn without_a_sample_before_or_after_a_restart_there_are_no_rates() {
        let restarted = sample(50, 5, 0);
        for before in [None, Some(&sample(100, 1_000, 10))] {
            let report = Report::new(&view(), before, &restarted).unwrap();
            assert!(
                report.facts[1].starts_with("requests: admitted -/s (5)"),
                "{}",
                report.facts[1]
            );
            assert_eq!(report.rules.rows[0][2], "-");
        }
    }

    #[test]
    fn what_is_hot_may_be_untold() {
        let mut other = sample(100, 1, 1);
        other.top = json!({"error": "not \u{1b}here"});
        let report = Report::new(&view(), None, &other).unwrap();
        assert_eq!(report.hottest.title, "hottest: not \\u{1b}here");
        assert_eq!(report.denied.title, "most denied: not \\u{1b}here");
    }

    #[test]
    fn another_version_is_told_of() {
        let mut other = sample(100, 1, 1);
        other.status["now_us"] = Value::Null;
        let error = Report::new(&view(), None, &other).unwrap_err().to_string();
        assert!(
            error.contains("no number /now_us; this program and the server are of different"),
            "{error}"
        );
    }

    #[test]
    fn rules_are_sorted_as_asked() {
        let names = |sort| {
            let view = View { sort, ..view() };
            let report = Report::new(&view, Some(&sample(100, 0, 0)), &sample(101, 3, 0)).unwrap();
            report
                .rules
                .rows
                .into_iter()
                .map(|row| row[0].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(Sort::Rate), ["shop.client", "shop.calm"]);
        assert_eq!(names(Sort::Denied), ["shop.calm", "shop.client"]);
        assert_eq!(names(Sort::Total), ["shop.calm", "shop.client"]);
        assert_eq!(names(Sort::Name), ["shop.calm", "shop.client"]);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0.0, 0.25, 9.94, 1_234.0, 123_456.0].map(decimal),
            ["0", "0.2", "9.9", "1234", "123k"]
        );
        let periods = [5.9, 61.0, 7_300.0, 180_000.0].map(period);
        assert_eq!(periods, ["5 s", "1 min", "2 h 1 min", "2 d 2 h"]);
    }
}
