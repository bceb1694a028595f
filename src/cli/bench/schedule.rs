//! When the calls of an open loop are due. Pure: no clock, and no way to put a call off.

use std::num::NonZeroU64;
use std::time::Duration;

const SECOND: u128 = 1_000_000_000;

/// Calls at equal distances: number n is due n/rate seconds after the beginning, in whole
/// nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    rate: NonZeroU64,
}

impl Schedule {
    /// So many calls per second.
    pub(super) fn new(rate: NonZeroU64) -> Self {
        Self { rate }
    }

    /// When a call is due, after the beginning.
    pub(super) fn at(self, number: u64) -> Duration {
        // Each is worked out from the beginning, so that nothing rounded adds up.
        let nanos = u128::from(number) * SECOND / self.rate();
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many calls are due before so much time has gone by.
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
