//! What is counted of each call: how long it took, and what came of it. A shard of counters for each
//! thread, which no other thread writes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the response times, in microseconds: from what a decision in memory takes to where any
/// caller has given up. The upper ten are those that the reference has.
pub(super) const BOUNDS: [u32; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// The gRPC methods whose calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Of the rate limit service.
    ShouldRateLimit,
    /// Of the health service.
    Check,
}

impl Method {
    pub(super) const ALL: [Self; 2] = [Self::ShouldRateLimit, Self::Check];

    /// The name in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ShouldRateLimit => "ShouldRateLimit",
            Self::Check => "Check",
        }
    }
}

/// What decided a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecidedBy {
    /// The buckets of the store.
    Buckets,
    /// A denial of the store that is remembered.
    RememberedDenial,
    /// Nothing: no limit applies.
    NoLimit,
    /// Buckets of this instance, while the store fails.
    FallbackLocal,
    /// The policy to admit while the store fails.
    FallbackAllow,
    /// The policy to deny while the store fails.
    FallbackDeny,
}

impl DecidedBy {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Buckets,
        Self::RememberedDenial,
        Self::NoLimit,
        Self::FallbackLocal,
        Self::FallbackAllow,
        Self::FallbackDeny,
    ];

    /// The label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Buckets => "buckets",
            Self::RememberedDenial => "remembered_denial",
            Self::NoLimit => "no_limit",
            Self::FallbackLocal => "fallback_local",
            Self::FallbackAllow => "fallback_allow",
            Self::FallbackDeny => "fallback_deny",
        }
    }
}

/// What a request was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It passes.
    Ok,
    /// A limit denies it.
    OverLimit,
}

impl Told {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Ok, Self::OverLimit];

    /// The label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::OverLimit => "over_limit",
        }
    }
}

/// The counters that one thread writes; apart from those of other threads by more than the processor
/// fetches at a time.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Shard {
    decisions: [[AtomicU64; DecidedBy::ALL.len()]; Told::ALL.len()],
    times: [Histogram; Method::ALL.len()],
}

/// A histogram.
#[derive(Debug, Default)]
struct Histogram {
    nanos: AtomicU64,
    /// Not cumulative; the last is beyond all bounds.
    buckets: [AtomicU64; BOUNDS.len() + 1],
}

/// A histogram, summed up over all threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    pub(super) nanos: u64,
    /// Not cumulative; the last is beyond all bounds.
    pub(super) buckets: [u64; BOUNDS.len() + 1],
}

impl Shard {
    pub(super) fn decided(&self, told: Told, by: DecidedBy) {
        self.decisions[told as usize][by as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, method: Method, time: Duration) {
        let times = &self.times[method as usize];
        let micros = time.as_nanos().div_ceil(1_000);
        // Most often the first, so this is faster than a clever search.
        let bucket = BOUNDS.iter().position(|&bound| micros <= u128::from(bound));
        times.buckets[bucket.unwrap_or(BOUNDS.len())].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        times.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// How many requests were told that, for that reason.
pub(super) fn decisions(shards: &[Shard], told: Told, by: DecidedBy) -> u64 {
    let counter =
        |shard: &Shard| shard.decisions[told as usize][by as usize].load(Ordering::Relaxed);
    shards.iter().map(counter).sum()
}

/// How long the calls of a method took.
pub(super) fn times(shards: &[Shard], method: Method) -> Times {
    let mut sum = Times::default();
    for times in shards.iter().map(|shard| &shard.times[method as usize]) {
        sum.nanos = sum.nanos.wrapping_add(times.nanos.load(Ordering::Relaxed));
        for (sum, bucket) in sum.buckets.iter_mut().zip(&times.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
    }
    sum
}

impl Times {
    /// How many calls there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_the_bucket_that_ends_with_them() {
        let shards = [Shard::default(), Shard::default()];
        for (shard, nanos) in [(0, 0), (0, 100_000), (1, 100_001), (1, 11_000_000_000)] {
            shards[shard].answered(Method::Check, Duration::from_nanos(nanos));
        }
        let sum = times(&shards, Method::Check);
        assert_eq!(sum.nanos, 11_000_200_001);
        assert_eq!(sum.buckets[..3], [2, 1, 0]);
        assert_eq!(sum.buckets[BOUNDS.len()], 1);
        assert_eq!(sum.count(), 4);
        assert_eq!(times(&shards, Method::ShouldRateLimit), Times::default());
    }
}
