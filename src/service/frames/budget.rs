//! How much of something a connection may do: at once, per second, and for each of its requests.

use crate::clock::Clock;
use crate::time::Micros;

/// An allowance that grows with time and requests, up to its capacity.
///
/// The clock is read only when there is nothing left, so an ordinary connection never reads it.
#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
    capacity: u32,
    per_second: u32,
    /// Time up to this has been credited.
    credited: Micros,
}

impl Budget {
    /// A full one.
    pub(super) fn new(capacity: u32, per_second: u32, now: Micros) -> Self {
        Self {
            left: capacity,
            capacity,
            per_second,
            credited: now,
        }
    }

    /// Adds what a request brings.
    pub(super) fn earn(&mut self, credit: u32) {
        self.left = self.left.saturating_add(credit).min(self.capacity);
    }

    /// Spends; whether there was enough.
    pub(super) fn spend(&mut self, cost: u32, clock: &Clock) -> bool {
        if self.left < cost {
            self.credit_time(clock());
        }
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    fn credit_time(&mut self, now: Micros) {
        let rate = u64::from(self.per_second);
        let elapsed = now.saturating_sub(self.credited);
        let credit = elapsed.saturating_mul(rate) / 1_000_000;
        if credit >= u64::from(self.capacity) {
            self.left = self.capacity;
            self.credited = now;
        } else if credit > 0 {
            self.earn(u32::try_from(credit).unwrap_or(self.capacity));
            // What was no whole unit is credited later.
            self.credited += credit * 1_000_000 / rate;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn clock() -> (Arc<AtomicU64>, Clock) {
        let now = Arc::new(AtomicU64::new(5_000_000));
        let shown = Arc::clone(&now);
        (now, Arc::new(move || shown.load(Ordering::Relaxed)))
    }

    fn spent(budget: &mut Budget, clock: &Clock) -> u32 {
        (0..)
            .take_while(|_| budget.spend(1, clock))
            .count()
            .try_into()
            .unwrap()
    }

    #[test]
    fn it_is_spent_and_grows_with_time_and_requests() {
        let (now, clock) = clock();
        let mut budget = Budget::new(100, 10, clock());
        assert_eq!(spent(&mut budget, &clock), 100);
        for (later, more) in [
            (99_999, 0),
            (1, 1),
            (150_000, 1),
            (50_000, 1),
            (2_000_000, 20),
            (60_000_000, 100),
        ] {
            now.fetch_add(later, Ordering::Relaxed);
            assert_eq!(spent(&mut budget, &clock), more, "after {later} us");
        }
        budget.earn(7);
        assert_eq!(spent(&mut budget, &clock), 7);
        budget.earn(1_000);
        assert_eq!(spent(&mut budget, &clock), 100);
        assert!(!budget.spend(1, &clock));
        // A clock that is set back takes nothing.
        now.store(0, Ordering::Relaxed);
        budget.earn(3);
        assert_eq!(spent(&mut budget, &clock), 3);
    }
}
