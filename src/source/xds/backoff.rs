//! Waits before attempts to reconnect to the management server.
//!
//! The first wait is short, because most interruptions are restarts; later waits double. Each wait is varied at random, so that
//! instances do not reconnect at the same time.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep_until};

/// Minimum age of a stream whose end does not count as a failure. With the wait before the first attempt, a server that closes
/// streams at this age is called some seven times a minute.
const MIN_AGE: Duration = Duration::from_secs(5);

/// Lengths of the waits.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Wait before the first attempt.
    pub first: Duration,
    /// Wait before the second attempt; it doubles with each further attempt.
    pub second: Duration,
    /// Maximum wait before it is varied.
    pub longest: Duration,
    /// Fraction of a wait by which it is varied in either direction, from 0 to 1.
    pub spread: f64,
}

/// The state of the waits.
#[derive(Debug)]
pub(super) struct Backoff {
    retry: Retry,
    failures: u32,
    /// End of the current wait.
    until: Option<Instant>,
    random: Xoshiro256PlusPlus,
}

impl Backoff {
    pub(super) fn new(retry: Retry) -> Self {
        Self {
            retry,
            failures: 0,
            until: None,
            random: Xoshiro256PlusPlus::seed_from_u64(RandomState::new().hash_one(())),
        }
    }

    /// Returns whether a stream of this age counts as a success, so that the next failure is the first in a row. A stream that
    /// is answered and closed soon counts as a failure.
    pub(super) fn is_success(&self, age: Duration) -> bool {
        age > MIN_AGE.min(self.retry.longest)
    }

    /// Returns whether a stream of this age was stable, so that the next error is logged even if it was logged before.
    pub(super) fn is_stable(&self, age: Duration) -> bool {
        age > self.retry.longest
    }

    /// Records a failure and returns the wait before the next attempt.
    pub(super) fn failed(&mut self) -> Duration {
        let wait = self.retry.wait(self.failures);
        self.failures = self.failures.saturating_add(1);
        let wait = self.varied(wait);
        self.until = Some(Instant::now() + wait);
        wait
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Waits until the next attempt. A cancelled wait continues with the next call.
    pub(super) async fn wait(&mut self) {
        if let Some(until) = self.until {
            sleep_until(until).await;
            self.until = None;
        }
    }

    /// Returns a wait before repeating something that did not fail, so that it is not repeated in a tight loop.
    pub(super) fn pause(&mut self) -> Duration {
        self.varied(self.retry.first)
    }

    fn varied(&mut self, wait: Duration) -> Duration {
        let spread = self.retry.spread;
        let varied = wait.mul_f64(self.random.random_range(1.0 - spread..=1.0 + spread));
        // Whole milliseconds, rounded up, are easier to read in the log.
        let millis = varied.as_micros().div_ceil(1_000);
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

impl Retry {
    /// Returns the wait after `failures` failures in a row before this one.
    fn wait(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else {
            return self.first;
        };
        let factor = 2_u32.saturating_pow(doublings);
        self.second.saturating_mul(factor).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(spread: f64) -> Retry {
        Retry {
            first: Duration::from_secs(3),
            second: Duration::from_secs(10),
            longest: Duration::from_secs(60),
            spread,
        }
    }

    #[test]
    fn waits_grow_up_to_the_maximum_until_a_success() {
        let mut backoff = Backoff::new(retry(0.0));
        for _ in 0..2 {
            for seconds in [3, 10, 20, 40, 60, 60] {
                assert_eq!(backoff.failed(), Duration::from_secs(seconds));
            }
            backoff.failures += u32::MAX / 2;
            assert_eq!(backoff.failed(), Duration::from_secs(60));
            backoff.succeeded();
        }
    }

    #[test]
    fn streams_that_end_soon_are_failures() {
        let backoff = Backoff::new(retry(0.0));
        assert!(!backoff.is_success(Duration::from_secs(5)));
        assert!(backoff.is_success(Duration::from_secs(6)));
        assert!(!backoff.is_stable(Duration::from_secs(60)));
        assert!(backoff.is_stable(Duration::from_secs(61)));
    }

    #[test]
    fn waits_are_varied_within_the_spread() {
        let mut backoff = Backoff::new(retry(0.5));
        let waits: Vec<_> = (0..100).map(|_| backoff.pause().as_secs_f64()).collect();
        assert!(waits.iter().all(|wait| (1.5..=4.5).contains(wait)));
        assert!(waits.iter().any(|&wait| wait < 2.5) && waits.iter().any(|&wait| wait > 3.5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_wait_continues() {
        let mut backoff = Backoff::new(retry(0.0));
        let start = Instant::now();
        backoff.failed();
        for _ in 0..2 {
            let cancelled = tokio::time::timeout(Duration::from_secs(1), backoff.wait()).await;
            assert!(cancelled.is_err());
        }
        backoff.wait().await;
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        backoff.wait().await;
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }
}
