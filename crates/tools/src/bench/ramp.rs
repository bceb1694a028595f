//! The search for the highest rate that a server can serve. It is pure: from the results so far it computes the next rate
//! to try.

use std::num::NonZeroU64;

/// The search ends when the relative error of the rate is below 1 / `PRECISION`.
const PRECISION: u64 = 20;

/// Maximum number of steps.
const MAX_STEPS: u32 = 40;

/// State of the search.
#[derive(Debug, Clone)]
pub(super) struct Ramp {
    /// The highest rate that passed; 0 if none has.
    good: u64,
    /// The lowest rate that failed.
    bad: Option<u64>,
    next: Option<NonZeroU64>,
    second_try: bool,
    steps: u32,
}

impl Ramp {
    /// Starts with a rate.
    pub(super) fn new(first: NonZeroU64) -> Self {
        Self {
            good: 0,
            bad: None,
            next: Some(first),
            second_try: false,
            steps: 0,
        }
    }

    /// The next rate to try; `None` at the end of the search.
    pub(super) fn rate(&self) -> Option<NonZeroU64> {
        self.next
    }

    /// Records that the rate passed.
    pub(super) fn passed(&mut self) {
        self.good = self.next.map_or(self.good, NonZeroU64::get);
        self.advance();
    }

    /// Records that the rate failed. It is tried once more, because a short step is easily disturbed by other load on the
    /// machine.
    pub(super) fn failed(&mut self) {
        if !self.second_try {
            self.second_try = true;
            self.count_step();
            return;
        }
        self.bad = self.next.map(NonZeroU64::get);
        self.advance();
    }

    fn advance(&mut self) {
        let good = self.good;
        self.next = match self.bad {
            None => NonZeroU64::new(good.saturating_mul(2)),
            Some(bad) if bad - good > (bad / PRECISION).max(1) => {
                NonZeroU64::new(good + (bad - good) / 2)
            }
            Some(_) => None,
        };
        self.second_try = false;
        self.count_step();
    }

    fn count_step(&mut self) {
        self.steps += 1;
        if self.steps >= MAX_STEPS {
            self.next = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rate found for a server with this capacity per second, and the number of steps.
    fn find(first: u64, capacity: u64) -> (u64, u32) {
        let mut ramp = Ramp::new(NonZeroU64::new(first).unwrap());
        let mut steps = 0;
        while let Some(rate) = ramp.rate() {
            steps += 1;
            if rate.get() <= capacity {
                ramp.passed();
            } else {
                ramp.failed();
            }
        }
        (ramp.good, steps)
    }

    proptest! {
        #[test]
        fn the_rate_found_is_just_below_the_capacity(first in 1..10_000_u64, capacity in 100..1_000_000_u64) {
            let (found, steps) = find(first, capacity);
            prop_assert!(found <= capacity);
            prop_assert!(capacity - found <= capacity / 10, "found {found}");
            prop_assert!(steps <= MAX_STEPS, "{steps}");
        }
    }

    #[test]
    fn the_search_ends_for_any_server() {
        assert!(find(1000, u64::MAX).1 <= MAX_STEPS);
        assert_eq!(find(1000, 0).0, 0);
    }

    #[test]
    fn a_failed_rate_is_tried_again() {
        let mut ramp = Ramp::new(NonZeroU64::MIN);
        ramp.failed();
        assert_eq!(ramp.rate(), Some(NonZeroU64::MIN));
        ramp.passed();
        assert_eq!((ramp.good, ramp.rate()), (1, NonZeroU64::new(2)));
    }
}
