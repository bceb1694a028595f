//! How long to wait before the management server is tried again.
//!
//! The first retry comes soon, because most interruptions are a restart; after that the waits double.
//! Each is varied at random, so that all instances do not come back in the same instant.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep_until};

/// A stream that lived for so long was no failure. With the wait before the first retry, a server that closes its
/// streams then is asked some seven times a minute.
const WORKED: Duration = Duration::from_secs(5);

/// The lengths of the waits.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Before the first retry after something worked.
    pub first: Duration,
    /// Before the second; each one after that is twice the one before.
    pub second: Duration,
    /// The longest, before it is varied.
    pub longest: Duration,
    /// The part of itself by which a wait is varied in either direction, from 0 to 1.
    pub spread: f64,
}

/// Where in the sequence of waits it is.
#[derive(Debug)]
pub(super) struct Backoff {
    retry: Retry,
    failures: u32,
    /// When the wait that was told last is over.
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

    /// Whether what lived for so long worked, so that the next failure is the first in a row. A server that takes a
    /// stream, answers and closes it works no better than one that does not take it.
    pub(super) fn worked(&self, lived: Duration) -> bool {
        lived > WORKED.min(self.retry.longest)
    }

    /// Whether what lived for so long was so well that the next failure is news.
    pub(super) fn is_well(&self, lived: Duration) -> bool {
        lived > self.retry.longest
    }

    /// Notes a failure, and tells how long to wait because of it.
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

    /// Waits as long as the last failure demands. After cancelling, it waits for what is left.
    pub(super) async fn wait(&mut self) {
        if let Some(until) = self.until {
            sleep_until(until).await;
            self.until = None;
        }
    }

    /// A wait between things that are no failures of the connection, but must not be hurried.
    pub(super) fn pause(&mut self) -> Duration {
        self.varied(self.retry.first)
    }

    fn varied(&mut self, wait: Duration) -> Duration {
        let spread = self.retry.spread;
        let varied = wait.mul_f64(self.random.random_range(1.0 - spread..=1.0 + spread));
        // Whole milliseconds, rounded up, for those who read them in the log.
        let millis = varied.as_micros().div_ceil(1_000);
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

impl Retry {
    /// The wait after so many failures in a row before this one.
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
    fn waits_grow_up_to_the_longest_until_something_works() {
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
    fn what_ends_soon_has_not_worked() {
        let backoff = Backoff::new(retry(0.0));
        assert!(!backoff.worked(Duration::from_secs(5)));
        assert!(backoff.worked(Duration::from_secs(6)));
        assert!(!backoff.is_well(Duration::from_secs(60)));
        assert!(backoff.is_well(Duration::from_secs(61)));
    }

    #[test]
    fn waits_are_varied_but_not_too_much() {
        let mut backoff = Backoff::new(retry(0.5));
        let waits: Vec<_> = (0..100).map(|_| backoff.pause().as_secs_f64()).collect();
        assert!(waits.iter().all(|wait| (1.5..=4.5).contains(wait)));
        assert!(waits.iter().any(|&wait| wait < 2.5) && waits.iter().any(|&wait| wait > 3.5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_cancelled_goes_on_where_it_was() {
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
