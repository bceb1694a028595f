//! The search for the highest rate that a server serves well. Pure: told how a rate went, it says
//! which one to try next.

use std::num::NonZeroU64;

/// The search ends when the rate is known to one part in so many.
const PRECISION: u64 = 20;

/// And after so many steps, whatever was found.
const MAX_STEPS: u32 = 40;

/// What is known so far.
#[derive(Debug, Clone)]
pub(super) struct Ramp {
    /// The highest rate that went well; 0 while none did.
    good: u64,
    /// The lowest rate that did not.
    bad: Option<u64>,
    next: Option<NonZeroU64>,
    second_try: bool,
    steps: u32,
}

impl Ramp {
    /// Begins with a rate.
    pub(super) fn new(first: NonZeroU64) -> Self {
        Self {
            good: 0,
            bad: None,
            next: Some(first),
            second_try: false,
            steps: 0,
        }
    }

    /// The rate to try, until nothing is left to try.
    pub(super) fn rate(&self) -> Option<NonZeroU64> {
        self.next
    }

    /// The rate went well.
    pub(super) fn passed(&mut self) {
        self.good = self.next.map_or(self.good, NonZeroU64::get);
        self.advance();
    }

    /// The rate did not go well. It is tried once more: that a short step was disturbed from
    /// outside is more likely than that the search should end there.
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

    /// The rate found for a server that serves so many per second well, and the steps it took.
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
    fn a_server_without_bounds_and_one_that_serves_nothing_come_to_an_end() {
        assert!(find(1000, u64::MAX).1 <= MAX_STEPS);
        assert_eq!(find(1000, 0).0, 0);
    }

    #[test]
    fn one_bad_step_is_not_believed() {
        let mut ramp = Ramp::new(NonZeroU64::MIN);
        ramp.failed();
        assert_eq!(ramp.rate(), Some(NonZeroU64::MIN));
        ramp.passed();
        assert_eq!((ramp.good, ramp.rate()), (1, NonZeroU64::new(2)));
    }
}
