//! Remembers denials until they could change, in front of any store: while a flood is being denied, the
//! store hears of it about once a second.
//!
//! What was denied is denied again until time has given enough back, and when that is can be worked
//! out from the bucket as the store left it. Only a refund or a reset comes sooner: refunds that come by
//! here are noticed; for what happens at other instances, nothing is remembered longer than [`LONGEST`].
//!
//! A request is answered from memory only when all of its buckets are remembered and those that denied
//! decide it, and none is a candidate's that would be taken. Then nothing would be taken anywhere. (So of a denied request, the buckets that did not deny
//! are remembered as well: the answer tells of them, too.)

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::settle::{is_allowed, is_allowed_with};
use super::{Basis, Cause, Charge, Decision, Outcome, Payment, Store, StoreError};
use crate::bucket::State;
use crate::key::Prehashed;
use crate::time::Micros;

/// The longest that a denial is remembered.
pub const LONGEST: Duration = Duration::from_secs(1);

const SHARDS: usize = 16;

/// The most buckets remembered in a shard. Those in excess are asked for again.
const SHARD_BOUND: usize = 4096;

/// The shortest time between two sweeps of a full shard.
const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// A store that is not asked again for what it denied.
#[derive(Debug)]
pub struct RememberedDenials<S> {
    store: S,
    denials: Arc<Denials>,
}

/// What stores remember together.
#[derive(Debug, Default)]
pub struct Denials {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    /// By the hashes of their keys.
    buckets: HashMap<u128, Remembered, Prehashed>,
    /// When it may be cleared of what is too old again. A flood of new keys must not have it looked
    /// through each time.
    next_sweep: Option<Instant>,
}

/// A bucket as the store left it.
#[derive(Debug, Clone, Copy)]
struct Remembered {
    state: State,
    /// The store's time when it decided.
    decided: Micros,
    /// Our time when it was asked, which is no later.
    asked: Instant,
}

impl<S: Store> RememberedDenials<S> {
    /// Remembers in `denials` what `store` denies.
    pub fn new(store: S, denials: Arc<Denials>) -> Self {
        Self { store, denials }
    }
}

impl<S: Store> Store for RememberedDenials<S> {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        let now = Instant::now();
        if let Some(decision) = self.denials.recall(&charges, now) {
            return Ok(decision);
        }
        let decision = self.store.decide(Arc::clone(&charges), deadline).await?;
        self.denials.learn(&charges, &decision, now);
        Ok(decision)
    }
}

impl Denials {
    /// How many buckets are remembered, including those that are too old by now.
    #[must_use]
    pub fn buckets(&self) -> usize {
        let lock = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.buckets.len()
        };
        self.shards.iter().map(lock).sum()
    }

    /// What a charge gets if no other request has asked its bucket since the store last did: a denial is certain,
    /// an admission is not. `None` when the bucket is not remembered.
    pub(super) fn known(&self, charge: &Charge, now: Instant) -> Option<Outcome> {
        let remembered = *self.shard(charge).buckets.get(&charge.key.hash())?;
        remembered.outcome(charge, now)
    }

    /// The decision, if it can be told without the store.
    fn recall(&self, charges: &[Charge], now: Instant) -> Option<Decision> {
        // Most often, the first one is not known, and that is all.
        let recalled = charges.iter().map(|charge| self.known(charge, now));
        let outcomes: Vec<Outcome> = recalled.collect::<Option<_>>()?;
        let fares = charges.iter().zip(&outcomes);
        let admitted = is_allowed(fares.map(|(charge, outcome)| (charge.part, outcome.admitted)));
        // What did not deny then might by now; a denial that rests on those that did is sure.
        let is_sure = !admitted || outcomes.iter().all(|outcome| !outcome.admitted);
        let is_taken = |(charge, outcome): (&Charge, &Outcome)| {
            charge.part.is_candidate()
                && outcome.admitted
                && is_allowed_with(charges, &outcomes, charge.part)
        };
        let is_sure = is_sure && !charges.iter().zip(&outcomes).any(is_taken);
        is_sure.then_some(Decision {
            admitted,
            outcomes,
            cause: Cause::RememberedDenial,
        })
    }

    /// Remembers the buckets of a denial, and what became of those that are remembered.
    pub(super) fn learn(&self, charges: &[Charge], decision: &Decision, asked: Instant) {
        for (charge, outcome) in charges.iter().zip(&decision.outcomes) {
            if outcome.basis != Basis::Bucket {
                // What was not read just now is no news of the bucket, and must not be remembered for longer.
                continue;
            }
            let remembered = Remembered {
                state: outcome.state,
                decided: outcome.decided,
                asked,
            };
            let mut shard = self.shard(charge);
            match shard.buckets.get_mut(&charge.key.hash()) {
                // Answers can overtake one another. But what is too old to be told is no answer any more: the store's
                // clock may have stepped back since.
                Some(known) if known.decided > remembered.decided && !known.is_old(asked) => {}
                Some(known) => *known = remembered,
                None if decision.admitted && outcome.admitted => {}
                None => shard.remember(charge.key.hash(), remembered),
            }
        }
    }

    fn shard(&self, charge: &Charge) -> MutexGuard<'_, Shard> {
        // The map inside the shard uses the low bits.
        let high = usize::try_from(charge.key.hash() >> 96).expect("32 bits are left");
        self.shards[high % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// Adds a bucket, if there is room for it.
    fn remember(&mut self, hash: u128, bucket: Remembered) {
        let now = bucket.asked;
        if self.buckets.len() >= SHARD_BOUND && self.next_sweep.is_none_or(|next| next <= now) {
            self.buckets.retain(|_, bucket| !bucket.is_old(now));
            self.next_sweep = Some(now + SWEEP_EVERY);
        }
        if self.buckets.len() < SHARD_BOUND {
            self.buckets.insert(hash, bucket);
        }
    }
}

impl Remembered {
    /// Whether it has been remembered for as long as may be.
    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.asked) >= LONGEST
    }

    /// What a charge gets, if it asks, and for what is remembered.
    ///
    /// The time that has passed here since the store was asked is at least what has passed there since it
    /// decided, so a bucket is never thought emptier than it is.
    fn outcome(&self, charge: &Charge, now: Instant) -> Option<Outcome> {
        let passed = now.saturating_duration_since(self.asked);
        // Who takes nothing either way wants to see the bucket itself.
        let is_look = charge.payment == Payment::Question;
        if self.is_old(now) || charge.is_report() || is_look {
            return None;
        }
        let now = self.decided + u64::try_from(passed.as_micros()).ok()?;
        if self.state.needs_rewrite(&charge.terms, now) {
            return None;
        }
        let state = self.state.at(&charge.terms, now);
        let mut outcome = Outcome {
            basis: Basis::Remembered,
            ..Outcome::alone(charge, state, now)
        };
        outcome.update(charge, now);
        Some(outcome)
    }
}

#[cfg(test)]
mod tests;
