//! A budget for what a connection can do: at once, per second, and for each of its requests.

use crate::clock::Clock;
use crate::time::Micros;

/// A budget that grows with time and requests, up to its capacity.
///
/// The clock is read only when the budget is exhausted, which it never is on an ordinary connection.
#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
    capacity: u32,
    per_second: u32,
    /// Time up to this moment has been credited.
    credited: Micros,
}

impl Budget {
    /// Creates a full budget.
    pub(super) fn new(capacity: u32, per_second: u32, now: Micros) -> Self {
        Self {
            left: capacity,
            capacity,
            per_second,
            credited: now,
        }
    }

    /// Adds the credit of a request.
    pub(super) fn earn(&mut self, credit: u32) {
        self.left = self.left.saturating_add(credit).min(self.capacity);
    }

    /// Spends `cost`. Returns whether there was enough.
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
            // The fraction of a unit is credited later.
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
    fn a_budget_is_spent_and_grows_with_time_and_requests() {
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
        // Setting back the clock takes nothing away.
        now.store(0, Ordering::Relaxed);
        budget.earn(3);
        assert_eq!(spent(&mut budget, &clock), 3);
    }
}
