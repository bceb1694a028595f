//! What a server said at a moment, and what two such moments come to: rates, and the latencies in between.

use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::{Value, json};

use super::client::Client;

/// Rules asked for at once, and in all: more of them than anybody reads.
const PAGE: usize = 500;
const MAX_RULES: usize = 5_000;

/// The most keys of a list.
const KEYS: usize = 50;

/// The time that what is hot is counted over.
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

    /// Where the server tells it.
    pub(super) fn path(self) -> String {
        format!("/api/v1/top?window={}&limit={KEYS}", self.name())
    }
}

/// All that was said, as it was.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) status: Value,
    pub(super) rules: Vec<Value>,
    /// How many rules there are, of which not all may be here.
    pub(super) all_rules: u64,
    pub(super) top: Value,
}

impl Sample {
    /// Asks for everything.
    pub(super) async fn ask(client: &Client, window: Window) -> anyhow::Result<Self> {
        let status = client.get("/api/v1/status").await?;
        let (mut rules, mut all_rules) = (Vec::new(), 0);
        while rules.len() < MAX_RULES {
            let path = format!("/api/v1/rules?offset={}&limit={PAGE}", rules.len());
            let mut page = client.get(&path).await?;
            all_rules = number(&page, "/total")?;
            match page["rules"].take() {
                Value::Array(some) if !some.is_empty() => rules.extend(some),
                _ => break,
            }
            if u64::try_from(rules.len()).is_ok_and(|count| count >= all_rules) {
                break;
            }
        }
        // A server that does not tell this tells the rest all the same.
        let top = client.get(&window.path()).await;
        let top = top.unwrap_or_else(|error| json!({ "error": format!("{error:#}") }));
        Ok(Self {
            status,
            rules,
            all_rules,
            top,
        })
    }

    /// Seconds since another sample; `None` when there is nothing to compare: the server was started anew.
    pub(super) fn seconds_since(&self, before: &Self) -> anyhow::Result<Option<f64>> {
        let now = |sample: &Self| number(&sample.status, "/now_us");
        let up = |sample: &Self| float(&sample.status, "/uptime_seconds");
        let micros = now(self)?.saturating_sub(now(before)?);
        let is_same =
            up(self)? >= up(before)? && self.status["instance"] == before.status["instance"];
        #[expect(
            clippy::cast_precision_loss,
            reason = "a rate is about right in any case"
        )]
        let seconds = micros as f64 / 1e6;
        Ok((is_same && micros > 0).then_some(seconds))
    }
}

/// A number that must be there.
pub(super) fn number(value: &Value, pointer: &str) -> anyhow::Result<u64> {
    let number = value.pointer(pointer).and_then(Value::as_u64);
    number.with_context(|| unknown(pointer))
}

/// Likewise, one that need not be whole.
pub(super) fn float(value: &Value, pointer: &str) -> anyhow::Result<f64> {
    let number = value.pointer(pointer).and_then(Value::as_f64);
    number.with_context(|| unknown(pointer))
}

fn unknown(pointer: &str) -> String {
    format!(
        "the server's answer has no number {pointer}; this program and the server are of different versions"
    )
}

/// How often a program answered within which times.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Histogram {
    count: u64,
    /// Seconds, and how many were within them.
    buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// One that the server tells; `None` where it has none.
    pub(super) fn of(value: &Value) -> Option<Self> {
        let buckets = value["buckets"].as_array()?.iter();
        let buckets =
            buckets.filter_map(|bucket| Some((bucket["le"].as_f64()?, bucket["count"].as_u64()?)));
        Some(Self {
            count: value["count"].as_u64()?,
            buckets: buckets.collect(),
        })
    }

    /// What has come since; everything, when that is less.
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

    /// The time within which so many percent were, evenly spread within a bucket; `None` when there were none,
    /// infinity when it is beyond the last.
    pub(super) fn percentile(&self, percent: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a percentile is about right in any case"
        )]
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
    fn what_has_come_since_is_counted() {
        let before = histogram(3, &[(0.1, 1), (0.2, 2)]);
        let now = histogram(7, &[(0.1, 4), (0.2, 5)]);
        assert_eq!(now.since(&before), histogram(4, &[(0.1, 3), (0.2, 3)]));
        // A server that was started anew.
        assert_eq!(before.since(&now), before);
        assert_eq!(now.since(&histogram(1, &[])), now);
    }

    #[test]
    fn histograms_are_read_with_and_without_an_end() {
        let value = json!({"count": 5, "sum_seconds": 1.0, "buckets": [{"le": 0.5, "count": 4}, {"le": "+Inf", "count": 5}]});
        assert_eq!(Histogram::of(&value), Some(histogram(5, &[(0.5, 4)])));
        assert_eq!(Histogram::of(&Value::Null), None);
    }
}
