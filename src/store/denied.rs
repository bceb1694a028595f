//! Remembers denials in front of any store, so that a flood of denied requests costs the store about one call per second.
//!
//! A denied request is denied again until enough tokens are refilled, which is computed from the state of the bucket that the
//! store returned. Only a refund or a reset can end a denial sooner: refunds through this server are noticed, and because of
//! those through other servers, nothing is remembered longer than [`LONGEST`].
//!
//! A request is answered from memory only if all of its buckets are remembered, those that denied are enough to deny it, and
//! no candidate would be taken. Then the store would take nothing either. The buckets of a denied request that did not deny
//! are remembered as well, because the response contains their state.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::settle::{is_allowed, is_allowed_with};
use super::{Basis, Cause, Charge, Decision, Outcome, Payment, Store, StoreError};
use crate::bucket::State;
use crate::key::Prehashed;
use crate::time::Micros;

/// Maximum time for which a denial is remembered.
pub const LONGEST: Duration = Duration::from_secs(1);

const SHARDS: usize = 16;

/// Maximum number of buckets in a shard. Denials beyond it are not remembered.
const SHARD_BOUND: usize = 4096;

/// Minimum time between two sweeps of a full shard.
const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// A store that answers repeated denials from memory.
#[derive(Debug)]
pub struct RememberedDenials<S> {
    store: S,
    denials: Arc<Denials>,
}

/// Buckets that denied a request within the last second, shared by the threads of a server.
#[derive(Debug, Default)]
pub struct Denials {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    /// By the hashes of their keys.
    buckets: HashMap<u128, Remembered, Prehashed>,
    /// When the shard may be swept again. Without this, a flood of new keys would sweep it on every insertion.
    next_sweep: Option<Instant>,
}

/// The state of a bucket that the store returned.
#[derive(Debug, Clone, Copy)]
struct Remembered {
    state: State,
    /// When the store decided, by the store's clock.
    decided: Micros,
    /// When the call was sent, by the local clock, which is no later.
    sent: Instant,
}

impl<S: Store> RememberedDenials<S> {
    /// Creates a store that remembers the denials of `store` in `denials`.
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
    /// Returns the number of remembered buckets, including expired ones.
    #[must_use]
    pub fn buckets(&self) -> usize {
        let lock = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.buckets.len()
        };
        self.shards.iter().map(lock).sum()
    }

    /// Returns the outcome of a charge if no other server has charged its bucket since, or `None` if the bucket is not
    /// remembered. A denial is certain; an admission is not.
    pub(super) fn known(&self, charge: &Charge, now: Instant) -> Option<Outcome> {
        let remembered = *self.shard(charge).buckets.get(&charge.key.hash())?;
        remembered.outcome(charge, now)
    }

    /// Returns the decision if it is certain without the store.
    fn recall(&self, charges: &[Charge], now: Instant) -> Option<Decision> {
        // In most cases, the first bucket is unknown, which ends the iteration.
        let recalled = charges.iter().map(|charge| self.known(charge, now));
        let outcomes: Vec<Outcome> = recalled.collect::<Option<_>>()?;
        let votes = charges.iter().zip(&outcomes);
        let admitted = is_allowed(votes.map(|(charge, outcome)| (charge.part, outcome.admitted)));
        // A remembered admission may be a denial by now, so only denials that rest on remembered denials are certain.
        let is_certain = !admitted || outcomes.iter().all(|outcome| !outcome.admitted);
        let is_taken = |(charge, outcome): (&Charge, &Outcome)| {
            charge.part.is_candidate()
                && outcome.admitted
                && is_allowed_with(charges, &outcomes, charge.part)
        };
        let is_certain = is_certain && !charges.iter().zip(&outcomes).any(is_taken);
        is_certain.then_some(Decision {
            admitted,
            outcomes,
            cause: Cause::RememberedDenial,
        })
    }

    /// Remembers the buckets of a denied request, and updates the buckets that are remembered.
    pub(super) fn learn(&self, charges: &[Charge], decision: &Decision, sent: Instant) {
        for (charge, outcome) in charges.iter().zip(&decision.outcomes) {
            if outcome.basis != Basis::Bucket {
                // The state was not read from the bucket just now, so it must not be remembered for longer.
                continue;
            }
            let remembered = Remembered {
                state: outcome.state,
                decided: outcome.decided,
                sent,
            };
            let mut shard = self.shard(charge);
            match shard.buckets.get_mut(&charge.key.hash()) {
                // Replies can arrive out of order. An expired entry is replaced anyway, because the store's clock may have
                // been set back.
                Some(known) if known.decided > remembered.decided && !known.is_expired(sent) => {}
                Some(known) => *known = remembered,
                None if decision.admitted && outcome.admitted => {}
                None => shard.remember(charge.key.hash(), remembered),
            }
        }
    }

    fn shard(&self, charge: &Charge) -> MutexGuard<'_, Shard> {
        // The low bits are used by the map inside the shard.
        let high = usize::try_from(charge.key.hash() >> 96).expect("32 bits are left");
        self.shards[high % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// Adds a bucket unless the shard is full.
    fn remember(&mut self, hash: u128, bucket: Remembered) {
        let now = bucket.sent;
        if self.buckets.len() >= SHARD_BOUND && self.next_sweep.is_none_or(|next| next <= now) {
            self.buckets.retain(|_, bucket| !bucket.is_expired(now));
            self.next_sweep = Some(now + SWEEP_EVERY);
        }
        if self.buckets.len() < SHARD_BOUND {
            self.buckets.insert(hash, bucket);
        }
    }
}

impl Remembered {
    /// Returns whether the entry is older than [`LONGEST`].
    fn is_expired(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.sent) >= LONGEST
    }

    /// Returns the outcome of a charge that takes hits, if the bucket's terms are unchanged.
    ///
    /// The time since the call was sent, by the local clock, is at least the time since the store decided, so the computed
    /// bucket never has fewer tokens than the real one.
    fn outcome(&self, charge: &Charge, now: Instant) -> Option<Outcome> {
        let passed = now.saturating_duration_since(self.sent);
        // A query must return the state in the store.
        let is_query = charge.payment == Payment::Question;
        if self.is_expired(now) || charge.is_report() || is_query {
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
