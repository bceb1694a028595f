//! Detects that Redis answers too late: policies decide requests although no breaker is open.
//!
//! A single late reply is no reason for an alert. A second falls short if policies made 1 % or more of its decisions.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Standby;

/// Length of a slice of time.
const SLICE: Duration = Duration::from_secs(1);

/// A slice falls short if policies made at least one of so many decisions.
const ONE_OF: u64 = 100;

/// A shortfall begins when `MIN_SHORT` of the latest `WINDOW` slices fall short, and ends when none of them does.
const MIN_SHORT: u32 = 2;
const WINDOW: u32 = 10;

/// A change of the shortfall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Begins,
    Ends,
}

/// The latest slices of time.
#[derive(Debug, Default)]
struct Slices {
    /// One bit per slice: whether it fell short. The lowest bit is the latest slice.
    latest: u32,
    is_short: bool,
}

impl Slices {
    /// Adds a slice by its number of decisions. Returns whether a shortfall begins or ends.
    fn add(&mut self, by_store: u64, by_policy: u64) -> Option<Change> {
        let fell_short = by_policy > 0 && by_policy * ONE_OF >= by_store + by_policy;
        self.latest = (self.latest << 1 | u32::from(fell_short)) & ((1 << WINDOW) - 1);
        let was_short = self.is_short;
        self.is_short = match was_short {
            true => self.latest != 0,
            false => self.latest.count_ones() >= MIN_SHORT,
        };
        match (was_short, self.is_short) {
            (false, true) => Some(Change::Begins),
            (true, false) => Some(Change::Ends),
            _ => None,
        }
    }
}

/// Number of decisions so far.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    by_store: u64,
    by_policy: u64,
}

impl Standby {
    /// Returns whether policies decide requests: a breaker is open, a part of the store is missing, or 1 % or more of the
    /// requests were decided by policies in two of the latest ten seconds.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.has_open_breaker() || self.0.is_short.load(Ordering::Relaxed)
    }

    pub(super) fn has_open_breaker(&self) -> bool {
        let mut breakers = self.0.breakers.iter();
        breakers.any(|breaker| breaker.condition().is_degraded)
    }

    /// Watches for shortfalls and logs their begin and end. Never completes. While a breaker is open, no shortfall is detected,
    /// because the outage has been logged.
    pub async fn watch_shortfall(self) -> Infallible {
        let mut ticks = interval(SLICE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut slices, mut before) = (Slices::default(), self.counts());
        let (mut since, mut at_begin) = (Instant::now(), before);
        loop {
            ticks.tick().await;
            let now = self.counts();
            let by_store = now.by_store - before.by_store;
            let by_policy = now.by_policy - before.by_policy;
            if self.has_open_breaker() {
                slices = Slices::default();
            } else {
                match slices.add(by_store, by_policy) {
                    Some(Change::Begins) => {
                        (since, at_begin) = (Instant::now(), before);
                        self.log_shortfall(by_store, by_policy);
                    }
                    Some(Change::Ends) => {
                        let fallback_decisions = now.by_policy - at_begin.by_policy;
                        let outage = since.elapsed();
                        tracing::warn!(?outage, fallback_decisions, "redis answers in time again");
                    }
                    None => {}
                }
            }
            self.0.is_short.store(slices.is_short, Ordering::Relaxed);
            before = now;
        }
    }

    fn log_shortfall(&self, by_store: u64, by_policy: u64) {
        let policy = self.0.settings.mode.name();
        let error = self.last_miss();
        tracing::warn!(
            error,
            policy,
            fallback_decisions = by_policy,
            redis_decisions = by_store,
            "redis does not answer in time, the failure policy decides the requests that it misses"
        );
    }

    fn counts(&self) -> Counts {
        let by_store = self.by_store();
        let each = by_store.iter().map(|count| count.load(Ordering::Relaxed));
        Counts {
            by_store: each.sum(),
            by_policy: self.decided(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the changes after a series of seconds: `.` has no decisions by policies, `x` many, `1` one of 100, `0` one of
    /// 101, and ` ` no decisions at all.
    fn changes(seconds: &str) -> Vec<(usize, Change)> {
        let mut slices = Slices::default();
        let of_second = |second| match second {
            '.' => (1_000, 0),
            'x' => (0, 50),
            '1' => (99, 1),
            '0' => (100, 1),
            _ => (0, 0),
        };
        let seconds = seconds.chars().map(of_second).enumerate();
        let changes = seconds.filter_map(|(second, (by_store, by_policy))| {
            Some((second, slices.add(by_store, by_policy)?))
        });
        changes.collect()
    }

    #[test]
    fn a_shortfall_is_two_seconds_of_ten() {
        use Change::{Begins, Ends};
        assert_eq!(changes("x.........."), []);
        assert_eq!(changes("0000000000"), [], "less than 1 %");
        assert_eq!(changes("11"), [(1, Begins)]);
        assert_eq!(changes("x        x"), [(9, Begins)]);
        assert_eq!(changes("x         x"), []);
        assert_eq!(changes("xx........."), [(1, Begins)]);
        assert_eq!(changes("xx..........."), [(1, Begins), (11, Ends)]);
        assert_eq!(changes("xx.........x....."), [(1, Begins)]);
        assert_eq!(changes("xx           "), [(1, Begins), (11, Ends)]);
    }
}
