//! The schedule of an open loop. It is pure: no clock, and calls cannot be delayed.

use std::num::NonZeroU64;
use std::time::Duration;

const SECOND: u128 = 1_000_000_000;

/// A schedule with equal distances: call n is due n/rate seconds after the start, in whole nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    rate: NonZeroU64,
}

impl Schedule {
    /// A schedule with `rate` calls per second.
    pub(super) fn new(rate: NonZeroU64) -> Self {
        Self { rate }
    }

    /// Time after the start when a call is due.
    pub(super) fn at(self, number: u64) -> Duration {
        // Computed from the start, so that rounding errors do not accumulate.
        let nanos = u128::from(number) * SECOND / self.rate();
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Number of calls that are due before a time after the start.
    pub(super) fn before(self, elapsed: Duration) -> u64 {
        let due = (elapsed.as_nanos() * self.rate()).div_ceil(SECOND);
        u64::try_from(due).unwrap_or(u64::MAX)
    }

    fn rate(self) -> u128 {
        u128::from(self.rate.get())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_call_is_due_before_exactly_the_times_after_it(
            rate in 1..10_000_000_u64,
            number in 0..1_000_000_000_u64,
        ) {
            let schedule = Schedule::new(NonZeroU64::new(rate).unwrap());
            let at = schedule.at(number);
            prop_assert!(schedule.before(at) <= number);
            prop_assert!(schedule.before(at + Duration::from_nanos(1)) > number);
        }

        #[test]
        fn so_many_calls_in_a_second_as_the_rate_says(rate in 1..10_000_000_u64, seconds in 1..100_000_u64) {
            let schedule = Schedule::new(NonZeroU64::new(rate).unwrap());
            prop_assert_eq!(schedule.before(Duration::from_secs(seconds)), rate * seconds);
            prop_assert_eq!(schedule.at(rate * seconds), Duration::from_secs(seconds));
        }
    }
}
