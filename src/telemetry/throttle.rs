//! Rate limit for log messages that recur, such as that a store is unavailable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::time::Micros;

/// Allows a recurring log message once per interval. Clones share the interval.
#[derive(Debug, Clone)]
pub struct Throttle {
    interval: Micros,
    /// The time from which on the next message is allowed.
    next: Arc<AtomicU64>,
}

impl Throttle {
    /// Creates a throttle that allows one message every `interval` microseconds.
    #[must_use]
    pub fn every(interval: Micros) -> Self {
        Self {
            interval,
            next: Arc::default(),
        }
    }

    /// Returns whether a message may be logged at `now`; if so, starts the next interval.
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
