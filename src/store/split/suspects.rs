//! Buckets that denied a request over several places a while ago, and places that failed one: they may do
//! it again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::key::Prehashed;
use crate::store::Charge;

/// How long these are suspect. Asking first costs a round trip; not having asked costs hits taken in vain.
const SUSPECT_FOR: Duration = Duration::from_secs(10);

/// The most suspects. Beyond it, all are forgotten: they come again by themselves.
const BOUND: usize = 16_384;

/// The suspects, and until when.
#[derive(Debug, Default)]
pub(super) struct Suspects(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By the hashes of their keys.
    buckets: HashMap<u128, Instant, Prehashed>,
    /// As many as there are, at most.
    places: HashMap<u32, Instant>,
}

impl Suspects {
    /// Whether one of these charges is likely to be denied.
    pub(super) fn has_any(&self, charges: &[Charge]) -> bool {
        let now = Instant::now();
        let suspects = &self.lock().buckets;
        charges.iter().any(|charge| {
            // More than it can ever hold is asked of it.
            let never = charge.hits.max(1) > i64::from(charge.terms.capacity());
            never
                || suspects
                    .get(&charge.key.hash())
                    .is_some_and(|until| *until > now)
        })
    }

    /// Whether one of these places is likely to fail.
    pub(super) fn has_place(&self, mut places: impl Iterator<Item = u32>) -> bool {
        let now = Instant::now();
        let suspects = &self.lock().places;
        places.any(|place| suspects.get(&place).is_some_and(|until| *until > now))
    }

    /// Remembers a place that failed.
    pub(super) fn remember_place(&self, place: u32) {
        self.lock()
            .places
            .insert(place, Instant::now() + SUSPECT_FOR);
    }

    /// Remembers a bucket that denied.
    pub(super) fn remember(&self, charge: &Charge) {
        let suspects = &mut self.lock().buckets;
        if suspects.len() >= BOUND {
            suspects.clear();
        }
        suspects.insert(charge.key.hash(), Instant::now() + SUSPECT_FOR);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
