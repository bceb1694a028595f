//! Buckets that denied a request over several places a while ago, and so may do it again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::key::Prehashed;
use crate::store::Charge;

/// How long a bucket is suspect. Asking first costs a round trip; not having asked costs hits taken in vain.
const SUSPECT_FOR: Duration = Duration::from_secs(10);

/// The most suspects. Beyond it, all are forgotten: they come again by themselves.
const BOUND: usize = 16_384;

/// The suspects, by the hashes of their keys, and until when.
#[derive(Debug, Default)]
pub(super) struct Suspects(Mutex<HashMap<u128, Instant, Prehashed>>);

impl Suspects {
    /// Whether one of these charges is likely to be denied.
    pub(super) fn has_any(&self, charges: &[Charge]) -> bool {
        let now = Instant::now();
        let suspects = self.lock();
        charges.iter().any(|charge| {
            // More than it can ever hold is asked of it.
            let never = charge.hits.max(1) > i64::from(charge.terms.capacity());
            never
                || suspects
                    .get(&charge.key.hash())
                    .is_some_and(|until| *until > now)
        })
    }

    /// Remembers a bucket that denied.
    pub(super) fn remember(&self, charge: &Charge) {
        let mut suspects = self.lock();
        if suspects.len() >= BOUND {
            suspects.clear();
        }
        suspects.insert(charge.key.hash(), Instant::now() + SUSPECT_FOR);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u128, Instant, Prehashed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
