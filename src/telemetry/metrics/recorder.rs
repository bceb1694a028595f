//! What a thread that serves requests counts with.

use std::sync::Arc;
use std::time::Duration;

use super::calls::{DecidedBy, Method, Told};
use super::series::{Hits, Series, Tried};
use super::{Dots, Metrics};

/// Counts what one thread does, in counters that no other thread writes.
#[derive(Debug, Clone)]
pub struct Recorder {
    metrics: Arc<Metrics>,
    shard: usize,
}

impl Default for Recorder {
    /// Counts for nobody.
    fn default() -> Self {
        Arc::new(Metrics::default()).recorder()
    }
}

impl Recorder {
    pub(super) fn new(metrics: Arc<Metrics>, shard: usize) -> Self {
        Self { metrics, shard }
    }

    /// All metrics of the server.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    // --- For each request ---

    /// A call was answered.
    pub fn answered(&self, method: Method, time: Duration) {
        self.metrics.shards[self.shard].answered(method, time);
    }

    /// A request got a verdict.
    pub fn decided(&self, told: Told, by: DecidedBy) {
        self.metrics.shards[self.shard].decided(told, by);
    }

    /// A rule was charged hits.
    pub fn count(&self, series: &Series, hits: &Hits) {
        series.count(self.shard, hits);
    }

    /// Candidates of a rule were charged hits.
    pub fn count_candidate(&self, series: &Series, tried: &Tried) {
        series.count_candidate(self.shard, tried);
    }

    /// From how many hits on they are near a limit.
    #[must_use]
    pub fn near(&self, limit: u32) -> u64 {
        // In the precision that the reference has, so that the same hits are near.
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the ratio is within 0 and 1, so the product is within 0 and a u32"
        )]
        let near = (limit as f32 * self.metrics.settings.near_limit_ratio) as u64;
        near
    }

    /// What becomes of dots in the names of rules.
    #[must_use]
    pub fn dots(&self) -> Dots {
        self.metrics.dots()
    }

    // --- Once, or seldom ---

    /// The counters of a name: a domain and the parts of a rule, joined by dots.
    #[must_use]
    pub fn series(&self, name: &str) -> Arc<Series> {
        self.metrics.series.get(name)
    }

    /// Counters that are not told as metrics.
    #[must_use]
    pub fn untold_series(&self, name: &str) -> Arc<Series> {
        self.metrics.series.apart(name)
    }

    /// The operator's shadow mode let a request pass.
    pub fn let_pass(&self) {
        self.metrics.rare.global_shadow.inc();
    }

    /// Descriptors came for a domain that is not configured.
    pub fn unknown_domain(&self, descriptors: usize) {
        let descriptors = u64::try_from(descriptors).unwrap_or(u64::MAX);
        self.metrics.rare.domain_not_found.inc_by(descriptors);
    }

    /// A request could not be decided because of what a client of Envoy sent.
    pub fn bad_request(&self) {
        self.metrics.rare.bad_requests.inc();
    }

    /// A call failed because of what was asked, or because nothing is configured.
    pub fn service_failed(&self) {
        let errors = &self.metrics.rare.service_errors;
        errors.with_label_values(&["service_error"]).inc();
    }

    /// A call failed because the store could not decide.
    pub fn store_failed(&self) {
        let rare = &self.metrics.rare;
        rare.service_errors
            .with_label_values(&["redis_error"])
            .inc();
    }
}
