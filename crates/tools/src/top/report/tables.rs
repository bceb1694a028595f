//! The tables: rules, hottest buckets, most denied buckets, and buckets that shadow mode allows.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::super::sample::Sample;
use super::numbers::{UNKNOWN, decimal, grouped, per_second, period};
use super::{Sort, Span, Table, left, right};
use crate::harmless::plain;
use ratekeeper_api::admin::{DeniedBucket, Hits, HotBucket, Rule, Top};

/// The activity of a rule.
struct RuleActivity<'s> {
    rule: &'s Rule,
    /// Hits that were admitted, denied, and over the limit but allowed by shadow mode.
    hits: [u64; 3],
    /// The hits per second; `None` without an earlier sample.
    rates: Option<[f64; 3]>,
}

pub(super) fn rules(sort: Sort, span: Span<'_>, now: &Sample) -> Table {
    let before: HashMap<&str, [u64; 3]> = span
        .iter()
        .flat_map(|(before, _)| &before.rules)
        .map(|rule| (rule.path.as_str(), hits(rule)))
        .collect();
    let activity = |rule| {
        let hits = hits(rule);
        let then = before.get(rule.path.as_str());
        let rates = span.map(|(_, seconds)| {
            let then = then.copied().unwrap_or_default();
            std::array::from_fn(|i| per_second(hits[i], then[i], seconds))
        });
        RuleActivity { rule, hits, rates }
    };
    let mut all: Vec<RuleActivity<'_>> = now.rules.iter().map(activity).collect();
    // The sort is stable, so equal rules stay in the order of the files.
    let rates = |activity: &RuleActivity<'_>| activity.rates.unwrap_or_default();
    match sort {
        Sort::Rate => {
            all.sort_by(|a, b| f64::total_cmp(&rates(b).iter().sum(), &rates(a).iter().sum()))
        }
        Sort::Denied => all.sort_by(|a, b| f64::total_cmp(&rates(b)[1], &rates(a)[1])),
        Sort::Total => all.sort_by_key(|activity| Reverse(activity.hits.iter().sum::<u64>())),
        Sort::Name => all.sort_by_key(|activity| &activity.rule.path),
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
    let has_shadow = all.iter().any(|activity| activity.hits[2] > 0);
    if has_shadow {
        columns.push(right(WOULD_DENY, 10));
    }
    let count = columns.len();
    let row = |activity: &RuleActivity<'_>| rule_row(activity).into_iter().take(count).collect();
    Table {
        title: format!("rules: {of}, by {}", sort.name()),
        columns,
        rows: all.iter().map(row).collect(),
    }
}

/// Name of the column with hits that shadow mode allowed.
const WOULD_DENY: &str = "would deny";

/// Hits that were admitted, denied, and over the limit but allowed by shadow mode.
fn hits(rule: &Rule) -> [u64; 3] {
    let Hits { within, denied, .. } = rule.hits;
    match rule.hits.would_deny {
        Some(would_deny) => [within, denied, would_deny],
        // Servers of version 0.1.0 count both as denied.
        None if rule.shadow_mode => [within, 0, denied],
        None => [within, denied, 0],
    }
}

fn rule_row(activity: &RuleActivity<'_>) -> Vec<String> {
    let limits = activity.rule.limits.iter();
    let limits: Vec<String> = limits.map(|limit| plain(&limit.text)).collect();
    let limits = if limits.is_empty() {
        "unlimited".to_owned()
    } else {
        limits.join(" and ")
    };
    let [admitting, denying, _] = match activity.rates {
        Some(rates) => rates.map(decimal),
        None => [UNKNOWN; 3].map(str::to_owned),
    };
    let [admitted, denied, would_deny] = activity.hits.map(grouped);
    vec![
        plain(&activity.rule.path),
        limits,
        admitting,
        denying,
        admitted,
        denied,
        would_deny,
    ]
}

/// A table without rows, with the error in its title.
fn failed_table(name: &str, error: &str) -> Table {
    Table {
        title: format!("{name}: {}", plain(error)),
        ..Table::default()
    }
}

pub(super) fn hottest(now: &Sample) -> Table {
    let top = match &now.top {
        Ok(top) => top,
        Err(error) => return failed_table("hottest", error),
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
            "hottest of the last {}: {hits} hits in total, plus or minus {error}",
            plain(&top.window)
        ),
        columns,
        rows: top.hottest.iter().map(row).collect(),
    }
}

pub(super) fn most_denied(now: &Sample) -> Table {
    let top = match &now.top {
        Ok(top) => top,
        Err(error) => return failed_table("most denied", error),
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

/// Buckets that shadow mode allowed; `None` without any, or if the server does not report them.
pub(super) fn would_deny(now: &Sample) -> Option<Table> {
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

/// A list of buckets with one of their counts.
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
            title: format!("{title} of the last {window}: {total} hits in total"),
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
