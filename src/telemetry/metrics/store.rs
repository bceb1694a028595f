//! What is counted of the store: calls, batches, queues, buckets, and how it fares.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, Opts, PullingGauge, Registry};

use super::pulled::Pulled;
use super::registered;

/// Upper bounds of the time of a round trip, in seconds: from a Redis next door to one that has given up.
const ROUND_TRIPS: [f64; 13] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
];

/// Upper bounds of the size of a batch.
const SIZES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// The metrics of the store.
#[derive(Debug)]
pub struct StoreMetrics {
    /// Of the calls that decide batches.
    pub batches: BatchMetrics,
    registry: Registry,
}

/// The metrics of the calls that decide batches. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct BatchMetrics {
    pub(super) round_trip: Histogram,
    requests: Histogram,
    buckets: Histogram,
    queues: Queues,
}

/// Tells how many wait in a queue, or `None` once the queue is no more.
pub type Waiting = Box<dyn Fn() -> Option<usize> + Send + Sync>;

/// The queues in front of a store.
#[derive(Clone, Default)]
struct Queues(Arc<Mutex<Vec<Waiting>>>);

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues").finish_non_exhaustive()
    }
}

impl Default for BatchMetrics {
    /// Counts for nobody.
    fn default() -> Self {
        Self::new(&Registry::new())
    }
}

impl BatchMetrics {
    fn new(registry: &Registry) -> Self {
        let queues = Queues::default();
        let sum = queues.clone();
        registered(
            registry,
            PullingGauge::new(
                "ratekeeper_store_queued_requests",
                "Requests that wait for a call",
                Box::new(move || sum.waiting()),
            ),
        );
        Self {
            round_trip: histogram(
                registry,
                "ratekeeper_store_round_trip_seconds",
                "How long a call of the script took, connecting included",
                &ROUND_TRIPS,
            ),
            requests: histogram(
                registry,
                "ratekeeper_store_batch_requests",
                "Requests in a call",
                &SIZES,
            ),
            buckets: histogram(
                registry,
                "ratekeeper_store_batch_buckets",
                "Distinct buckets in a call",
                &SIZES,
            ),
            queues,
        }
    }

    /// A call was made for so many requests, of so many buckets, whatever came of it.
    pub fn called(&self, requests: usize, buckets: usize, time: Duration) {
        self.round_trip.observe(time.as_secs_f64());
        self.requests.observe(size(requests));
        self.buckets.observe(size(buckets));
    }

    /// There is a queue, which tells how many wait in it.
    pub fn queue(&self, waiting: Waiting) {
        self.queues.lock().push(waiting);
    }
}

impl Queues {
    fn waiting(&self) -> f64 {
        let mut sum = 0;
        self.lock().retain(|waiting| {
            let count = waiting();
            sum += count.unwrap_or_default();
            count.is_some()
        });
        size(sum)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoreMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            batches: BatchMetrics::new(registry),
            registry: registry.clone(),
        }
    }

    /// Buckets are in memory: so many, at most `max`; `dropped` counts those that had to go.
    pub fn in_memory(
        &self,
        buckets: impl Fn() -> usize + Send + Sync + 'static,
        max: usize,
        dropped: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.told("ratekeeper_buckets", "Buckets in memory", buckets);
        self.told("ratekeeper_buckets_max", "MEMORY_MAX_BUCKETS", move || max);
        let options = Opts::new(
            "ratekeeper_buckets_dropped_total",
            "Buckets that were dropped before they were full to make room for others",
        );
        registered(&self.registry, Pulled::counter(&options, dropped));
    }

    /// Denials are remembered, of so many buckets.
    pub fn remembered_denials(&self, buckets: impl Fn() -> usize + Send + Sync + 'static) {
        let help = "Buckets whose denial is remembered";
        self.told("ratekeeper_remembered_denials", help, buckets);
    }

    /// There are so many buckets of this instance, for when the store fails.
    pub fn fallback_buckets(&self, buckets: impl Fn() -> usize + Send + Sync + 'static) {
        let help = "Buckets of this instance, for when the store fails";
        self.told("ratekeeper_fallback_buckets", help, buckets);
    }

    /// 0 closed: the store is asked; 1 probing; 2 open: the store is left alone.
    pub fn breaker_state(&self, state: impl Fn() -> usize + Send + Sync + 'static) {
        let help = "0 closed: the store is asked; 1 probing; 2 open: the store is left alone";
        self.told("ratekeeper_store_breaker_state", help, state);
    }

    /// 1 while requests are decided without the store.
    pub fn degraded(&self, is_degraded: impl Fn() -> usize + Send + Sync + 'static) {
        let help = "1 while requests are decided without the store";
        self.told("ratekeeper_degraded", help, is_degraded);
    }

    /// How often the breaker opened.
    pub fn breaker_opened(&self, times: impl Fn() -> u64 + Send + Sync + 'static) {
        let options = Opts::new(
            "ratekeeper_store_breaker_opened_total",
            "How often the breaker opened",
        );
        registered(&self.registry, Pulled::counter(&options, times));
    }

    /// Registers the number of calls to the store that failed with an error of this kind.
    pub fn failures(&self, kind: &str, calls: impl Fn() -> u64 + Send + Sync + 'static) {
        let options = Opts::new(
            "ratekeeper_store_errors_total",
            "Calls to Redis that failed; the breaker prevents most of them during an outage",
        );
        registered(
            &self.registry,
            Pulled::counter(&options.const_label("kind", kind), calls),
        );
    }

    /// Hits that were taken in vain in one of several places went back in that way so often.
    pub fn give_backs(&self, outcome: &str, times: impl Fn() -> u64 + Send + Sync + 'static) {
        let options = Opts::new(
            "ratekeeper_give_backs_total",
            "How often a place took hits in vain, and whether it got them back",
        );
        registered(
            &self.registry,
            Pulled::counter(&options.const_label("outcome", outcome), times),
        );
    }

    /// Registers a gauge whose value is asked for when it is told.
    fn told(&self, name: &str, help: &str, value: impl Fn() -> usize + Send + Sync + 'static) {
        let gauge = PullingGauge::new(name, help, Box::new(move || size(value())));
        registered(&self.registry, gauge);
    }
}

fn histogram(registry: &Registry, name: &str, help: &str, bounds: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
    registered(registry, Histogram::with_opts(options))
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn size(count: usize) -> f64 {
    count as f64
}
