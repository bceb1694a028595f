//! The state of a server at a moment, and the rates and latencies between two such samples.

use clap::ValueEnum;
use serde_json::{Value, json};

use super::client::Client;
use ratekeeper_api::admin::{Distribution, Rule, Rules, Status, Top};

/// Rules per query, and maximum number of rules, which is more than a person reads.
const PAGE: usize = 500;
const MAX_RULES: usize = 5_000;

/// Maximum number of buckets in a list.
const KEYS: usize = 50;

/// Time window of the hot buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Window {
    /// The last minute
    Minute,
    /// The last hour
    Hour,
}

impl Window {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }

    /// Path of the hot buckets in the admin API.
    pub(super) fn path(self) -> String {
        format!("/api/v1/top?window={}&limit={KEYS}", self.name())
    }
}

/// The state of a server at a moment.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) status: Status,
    pub(super) rules: Vec<Rule>,
    /// Number of all rules; `rules` can have fewer.
    pub(super) all_rules: u64,
    /// The hot buckets, or the error if the server does not track them.
    pub(super) top: Result<Top, String>,
}

impl Sample {
    /// Queries all documents.
    pub(super) async fn ask(client: &Client, window: Window) -> anyhow::Result<Self> {
        let status = client.get("/api/v1/status").await?;
        let (mut rules, mut all_rules) = (Vec::new(), 0);
        while rules.len() < MAX_RULES {
            let page: Rules = client.get(&rules_path(rules.len())).await?;
            all_rules = page.total;
            if page.rules.is_empty() {
                break;
            }
            rules.extend(page.rules);
            if u64::try_from(rules.len()).is_ok_and(|count| count >= all_rules) {
                break;
            }
        }
        let top = client.get(&window.path()).await;
        Ok(Self {
            status,
            rules,
            all_rules,
            top: top.map_err(|error| format!("{error:#}")),
        })
    }

    /// Seconds since an earlier sample; `None` if the server was restarted in between.
    pub(super) fn seconds_since(&self, before: &Self) -> Option<f64> {
        let (now, then) = (&self.status, &before.status);
        let micros = now.now_us.saturating_sub(then.now_us);
        let is_same = now.uptime_seconds >= then.uptime_seconds && now.instance == then.instance;
        #[expect(clippy::cast_precision_loss, reason = "rates are approximate")]
        let seconds = micros as f64 / 1e6;
        (is_same && micros > 0).then_some(seconds)
    }
}

/// Queries all documents as JSON, including fields that this version does not know.
pub(super) async fn documents(client: &Client) -> anyhow::Result<Value> {
    let status: Value = client.get("/api/v1/status").await?;
    let mut rules = Vec::new();
    while rules.len() < MAX_RULES {
        let mut page: Value = client.get(&rules_path(rules.len())).await?;
        match page["rules"].take() {
            Value::Array(some) if !some.is_empty() => rules.extend(some),
            _ => break,
        }
        if page["total"].as_u64() <= u64::try_from(rules.len()).ok() {
            break;
        }
    }
    let top = async |window: Window| {
        let top = client.get(&window.path()).await;
        top.unwrap_or_else(|error| json!({ "error": format!("{error:#}") }))
    };
    let (minute, hour) = (top(Window::Minute).await, top(Window::Hour).await);
    Ok(json!({
        "status": status,
        "rules": rules,
        "top": {"minute": minute, "hour": hour},
    }))
}

/// Path of a page of rules in the admin API.
fn rules_path(offset: usize) -> String {
    format!("/api/v1/rules?offset={offset}&limit={PAGE}")
}

/// Histogram of durations.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Histogram {
    count: u64,
    /// Upper bounds in seconds, with cumulative counts.
    buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// The histogram of a distribution.
    pub(super) fn of(distribution: &Distribution) -> Self {
        let buckets = distribution.buckets.iter();
        Self {
            count: distribution.count,
            buckets: buckets.map(|bucket| (bucket.le, bucket.count)).collect(),
        }
    }

    /// Returns the observations since an earlier histogram; all of them if the counts were reset.
    pub(super) fn since(&self, before: &Self) -> Self {
        let pairs = self.buckets.iter().zip(&before.buckets);
        let since =
            |(now, then): (&(f64, u64), &(f64, u64))| Some((now.0, now.1.checked_sub(then.1)?));
        let buckets: Option<Vec<_>> = pairs.map(since).collect();
        let is_alike = self.buckets.len() == before.buckets.len();
        match (self.count.checked_sub(before.count), buckets) {
            (Some(count), Some(buckets)) if is_alike => Self { count, buckets },
            _ => self.clone(),
        }
    }

    /// Estimates a percentile by interpolation within a bucket; `None` without observations, infinity above the last
    /// bucket.
    pub(super) fn percentile(&self, percent: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "percentiles are approximate")]
        let (wanted, exact) = (self.count as f64 * percent / 100.0, |count: u64| {
            count as f64
        });
        let (mut lower, mut below) = (0.0, 0.0);
        for &(upper, count) in &self.buckets {
            let count = exact(count);
            if count >= wanted && count > below {
                return Some(lower + (upper - lower) * (wanted - below).max(0.0) / (count - below));
            }
            (lower, below) = (upper, count);
        }
        Some(f64::INFINITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(count: u64, buckets: &[(f64, u64)]) -> Histogram {
        Histogram {
            count,
            buckets: buckets.to_vec(),
        }
    }

    #[test]
    fn percentiles_are_within_their_bucket() {
        let times = histogram(110, &[(0.1, 0), (0.2, 50), (0.4, 100)]);
        for (percent, expected) in [(1.0, 0.1022), (50.0, 0.22), (100.0, f64::INFINITY)] {
            let found = times.percentile(percent).unwrap();
            assert!(
                found == expected || (found - expected).abs() < 1e-9,
                "{percent}: {found}"
            );
        }
        assert_eq!(histogram(0, &[(0.1, 0)]).percentile(50.0), None);
        assert_eq!(histogram(1, &[]).percentile(50.0), Some(f64::INFINITY));
    }

    #[test]
    fn observations_since_a_sample_are_counted() {
        let before = histogram(3, &[(0.1, 1), (0.2, 2)]);
        let now = histogram(7, &[(0.1, 4), (0.2, 5)]);
        assert_eq!(now.since(&before), histogram(4, &[(0.1, 3), (0.2, 3)]));
        // A restarted server.
        assert_eq!(before.since(&now), before);
        assert_eq!(now.since(&histogram(1, &[])), now);
    }
}
