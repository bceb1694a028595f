//! Round-trip times of partitions and recent failures, to estimate whether two successive calls fit into the deadline of a
//! request.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Number of latest calls that an estimate is based on.
const LATEST: usize = 8;

/// Time for which a partition that failed is expected to fail again.
const SUSPECT_FOR: Duration = Duration::from_secs(5);

/// Maximum number of partitions: the slots of a cluster and of a second one. Beyond it, all are removed and measured again.
const BOUND: usize = 32_768;

/// Round-trip times of one thread to all partitions.
#[derive(Debug, Default)]
pub(super) struct RoundTrips(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    partitions: HashMap<u32, Partition>,
    /// Calls to all partitions, as an estimate for those that were not called yet.
    all: Latest,
}

#[derive(Debug, Default)]
struct Partition {
    latest: Latest,
    failed: Option<Instant>,
}

/// Durations of the latest calls.
#[derive(Debug, Default)]
struct Latest {
    micros: [u32; LATEST],
    count: usize,
}

impl Latest {
    fn add(&mut self, took: Duration) {
        self.micros[self.count % LATEST] = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.count += 1;
    }

    /// Returns the 75th percentile, or `None` without calls.
    fn estimate(&self) -> Option<Duration> {
        let known = self.count.min(LATEST);
        let mut sorted = self.micros;
        let sorted = &mut sorted[..known];
        sorted.sort_unstable();
        let micros = sorted.get((3 * known).div_ceil(4).checked_sub(1)?)?;
        Some(Duration::from_micros((*micros).into()))
    }
}

impl RoundTrips {
    /// Records the duration of a call, successful or not.
    pub(super) fn took(&self, partition: u32, time: Duration) {
        let mut known = self.lock();
        known.all.add(time);
        known.partition(partition).latest.add(time);
    }

    /// Records that a partition failed a call that had the caller's whole time.
    pub(super) fn failed(&self, partition: u32) {
        self.lock().partition(partition).failed = Some(Instant::now());
    }

    /// Returns the estimated time until all of `partitions` have answered, or `None` if one of them failed recently.
    pub(super) fn estimate(&self, partitions: impl Iterator<Item = u32>) -> Option<Duration> {
        let known = self.lock();
        let of_all = known.all.estimate().unwrap_or_default();
        let mut longest = Duration::ZERO;
        for partition in partitions {
            let partition = known.partitions.get(&partition);
            let failed = partition.and_then(|partition| partition.failed);
            if failed.is_some_and(|failed| failed.elapsed() < SUSPECT_FOR) {
                return None;
            }
            let estimate = partition.and_then(|partition| partition.latest.estimate());
            longest = longest.max(estimate.unwrap_or(of_all));
        }
        Some(longest)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn partition(&mut self, partition: u32) -> &mut Partition {
        if self.partitions.len() >= BOUND && !self.partitions.contains_key(&partition) {
            self.partitions.clear();
        }
        self.partitions.entry(partition).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn estimate(trips: &RoundTrips, partitions: &[u32]) -> Option<Duration> {
        trips.estimate(partitions.iter().copied())
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_partition_counts_and_one_slow_call_does_not() {
        let trips = RoundTrips::default();
        assert_eq!(estimate(&trips, &[1, 2]), Some(Duration::ZERO));
        trips.took(1, 50 * MS);
        for _ in 0..7 {
            trips.took(1, 3 * MS);
            trips.took(2, 5 * MS);
        }
        assert_eq!(estimate(&trips, &[1]), Some(3 * MS));
        assert_eq!(estimate(&trips, &[1, 2]), Some(5 * MS));
        assert_eq!(estimate(&trips, &[9]), Some(5 * MS), "as others");
        for _ in 0..3 {
            trips.took(1, 9 * MS);
        }
        assert_eq!(estimate(&trips, &[1, 2]), Some(9 * MS));
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_that_failed_is_suspect_for_a_while() {
        let trips = RoundTrips::default();
        trips.failed(1);
        assert_eq!(estimate(&trips, &[1, 2]), None);
        assert_eq!(estimate(&trips, &[2]), Some(Duration::ZERO));
        tokio::time::advance(SUSPECT_FOR).await;
        assert_eq!(estimate(&trips, &[1]), Some(Duration::ZERO));
    }
}
