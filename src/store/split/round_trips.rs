//! How long the places take to answer, and which of them failed a moment ago: whether two calls, one after the
//! other, fit into the time that a request has.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The calls that an estimate is made of.
const LATEST: usize = 8;

/// How long a place that failed is expected to fail again.
const SUSPECT_FOR: Duration = Duration::from_secs(5);

/// The most places remembered, as many as a cluster has slots, and those of a second Redis. Beyond it, all are
/// forgotten: they are learned again by asking.
const BOUND: usize = 32_768;

/// The round trips of a thread to all places.
#[derive(Debug, Default)]
pub(super) struct RoundTrips(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    places: HashMap<u32, Place>,
    /// Of calls to any place, for those that were not called yet.
    all: Latest,
}

#[derive(Debug, Default)]
struct Place {
    latest: Latest,
    failed: Option<Instant>,
}

/// How long the latest calls took, in microseconds.
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

    /// What three of four calls do not exceed; `None` when there was no call.
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
    /// Notes how long a place took to answer, or not to.
    pub(super) fn took(&self, place: u32, time: Duration) {
        let mut known = self.lock();
        known.all.add(time);
        known.place(place).latest.add(time);
    }

    /// Notes that a place failed, though it had all the time that the caller gave.
    pub(super) fn failed(&self, place: u32) {
        self.lock().place(place).failed = Some(Instant::now());
    }

    /// How long it takes until all of these places have answered, as far as is known; `None` when one of them
    /// failed a moment ago and may do so again.
    pub(super) fn estimate(&self, places: impl Iterator<Item = u32>) -> Option<Duration> {
        let known = self.lock();
        let of_all = known.all.estimate().unwrap_or_default();
        let mut longest = Duration::ZERO;
        for place in places {
            let place = known.places.get(&place);
            let failed = place.and_then(|place| place.failed);
            if failed.is_some_and(|failed| failed.elapsed() < SUSPECT_FOR) {
                return None;
            }
            let estimate = place.and_then(|place| place.latest.estimate());
            longest = longest.max(estimate.unwrap_or(of_all));
        }
        Some(longest)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn place(&mut self, place: u32) -> &mut Place {
        if self.places.len() >= BOUND && !self.places.contains_key(&place) {
            self.places.clear();
        }
        self.places.entry(place).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn estimate(trips: &RoundTrips, places: &[u32]) -> Option<Duration> {
        trips.estimate(places.iter().copied())
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_place_counts_and_one_slow_call_does_not() {
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
    async fn a_place_that_failed_is_suspect_for_a_while() {
        let trips = RoundTrips::default();
        trips.failed(1);
        assert_eq!(estimate(&trips, &[1, 2]), None);
        assert_eq!(estimate(&trips, &[2]), Some(Duration::ZERO));
        tokio::time::advance(SUSPECT_FOR).await;
        assert_eq!(estimate(&trips, &[1]), Some(Duration::ZERO));
    }
}
