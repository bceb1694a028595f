//! Messages that recur, such as that a store fails, told now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::time::Micros;

/// Lets a recurring message through once per interval, all its clones together.
#[derive(Debug, Clone)]
pub struct Throttle {
    interval: Micros,
    /// When the next one may pass.
    next: Arc<AtomicU64>,
}

impl Throttle {
    /// Lets one through every `interval` microseconds.
    #[must_use]
    pub fn every(interval: Micros) -> Self {
        Self {
            interval,
            next: Arc::default(),
        }
    }

    /// Whether the message may be told at `now`.
    pub fn passes(&self, now: Micros) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        now >= next
            && self
                .next
                .compare_exchange(
                    next,
                    now.saturating_add(self.interval),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
    }
}
