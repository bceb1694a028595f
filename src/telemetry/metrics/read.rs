//! What was counted so far, for who looks into the server: numbers, whatever unit metrics are told in.

use prometheus::core::Metric as _;

use std::sync::Arc;

use super::calls::{self, BOUNDS, DecidedBy, Method, Told};
use super::{BatchMetrics, Metrics, Series};

/// How long something took, how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// How often it happened.
    pub count: u64,
    /// How long it took together, in seconds.
    pub sum_seconds: f64,
    /// How often it took at most so many seconds.
    pub buckets: Vec<(f64, u64)>,
}

impl Metrics {
    /// How many requests were told that, for that reason.
    #[must_use]
    pub fn decisions(&self, told: Told, by: DecidedBy) -> u64 {
        calls::decisions(&self.shards, told, by)
    }

    /// How long it took to answer who asked for a verdict.
    #[must_use]
    pub fn answers(&self) -> Distribution {
        let times = calls::times(&self.shards, Method::ShouldRateLimit);
        let mut cumulative = 0;
        let buckets = BOUNDS.iter().zip(&times.buckets).map(|(&bound, &count)| {
            cumulative += count;
            (f64::from(bound) / 1e6, cumulative)
        });
        #[expect(clippy::cast_precision_loss, reason = "a sum to read")]
        let sum_seconds = times.nanos as f64 / 1e9;
        Distribution {
            count: times.count(),
            sum_seconds,
            buckets: buckets.collect(),
        }
    }

    /// Requests that Redis did not decide, by the failure policy that was applied instead.
    ///
    /// With `error` they are answered with UNAVAILABLE and are not among the [`decisions`](Self::decisions).
    #[must_use]
    pub fn fallback_decisions(&self) -> [(&'static str, u64); 4] {
        let decided = |by| {
            let all = Told::ALL.into_iter();
            all.map(|told| self.decisions(told, by)).sum()
        };
        [
            ("local", decided(DecidedBy::FallbackLocal)),
            ("allow", decided(DecidedBy::FallbackAllow)),
            ("deny", decided(DecidedBy::FallbackDeny)),
            ("error", self.store_errors()),
        ]
    }

    /// Calls that were answered with an error: because of what was asked, or because nothing is configured.
    #[must_use]
    pub fn service_errors(&self) -> u64 {
        self.errors("service_error")
    }

    /// Calls that were answered with an error: because the store could not decide.
    #[must_use]
    pub fn store_errors(&self) -> u64 {
        self.errors("redis_error")
    }

    fn errors(&self, kind: &str) -> u64 {
        let errors = &self.rare.service_errors;
        errors.with_label_values(&[kind]).get()
    }

    /// What counts under a name, if anything was counted.
    #[must_use]
    pub fn series(&self, name: &str) -> Option<Arc<Series>> {
        self.series.find(name)
    }
}

impl BatchMetrics {
    /// How long the calls took.
    #[must_use]
    pub fn round_trips(&self) -> Distribution {
        let metric = self.round_trip.metric();
        let histogram = metric.get_histogram();
        let buckets = histogram.get_bucket().iter();
        Distribution {
            count: histogram.get_sample_count(),
            sum_seconds: histogram.get_sample_sum(),
            buckets: buckets
                .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
                .collect(),
        }
    }
}
