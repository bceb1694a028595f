//! Remembers denials until they could change, in front of any store: while a flood is being denied, the
//! store hears of it about once a second.
//!
//! What was denied is denied again until time has given enough back, and when that is can be worked
//! out from the bucket as the store left it. Only a refund or a reset comes sooner: refunds that come by
//! here are noticed; for what happens at other instances, nothing is remembered longer than [`LONGEST`].
//!
//! A request is answered from memory only when every one of its charges is one that asks (no report of
//! what is done already) and is denied. Then nothing would be taken anywhere.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::settle::{outcome, passes};
use super::{Charge, Decision, Outcome, Store, StoreError};
use crate::bucket::{Micros, State};
use crate::key::BucketKey;

/// The longest that a denial is remembered.
pub const LONGEST: Duration = Duration::from_secs(1);

const SHARDS: usize = 16;

/// The most denials remembered in a shard. Those in excess are asked for again.
const SHARD_BOUND: usize = 4096;

/// A store that is not asked again for what it denied.
#[derive(Debug)]
pub struct RememberedDenials<S> {
    store: S,
    shards: [Mutex<Denials>; SHARDS],
    spread: RandomState,
}

#[derive(Debug, Default)]
struct Denials {
    map: HashMap<BucketKey, Denial>,
    /// When it may be cleared of what is too old again. A flood of new keys must not have it looked
    /// through each time.
    next_sweep: Option<Instant>,
}

/// The shortest time between two sweeps of a full shard.
const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// A bucket that denied something, as the store left it.
#[derive(Debug, Clone, Copy)]
struct Denial {
    state: State,
    /// The store's time when it decided.
    decided: Micros,
    /// Our time when it was asked, which is no later.
    asked: Instant,
}

impl<S: Store> RememberedDenials<S> {
    /// Remembers what `store` denies.
    pub fn new(store: S) -> Self {
        Self {
            store,
            shards: std::array::from_fn(|_| Mutex::default()),
            spread: RandomState::new(),
        }
    }

    /// The decision, if it can be told without the store.
    fn recall(&self, charges: &[Charge], now: Instant) -> Option<Decision> {
        let outcomes: Vec<Outcome> = charges
            .iter()
            .map(|charge| {
                let denial = self.denials(charge).map.get(&charge.key).copied()?;
                denial.outcome(charge, now)
            })
            .collect::<Option<_>>()?;
        Some(Decision {
            admitted: passes(charges, &vec![false; charges.len()]),
            outcomes,
        })
    }

    /// Remembers the buckets that denied something, and what became of those that are remembered.
    fn learn(&self, charges: &[Charge], decision: &Decision, asked: Instant) {
        for (charge, outcome) in charges.iter().zip(&decision.outcomes) {
            let denial = Denial {
                state: outcome.state,
                decided: outcome.decided,
                asked,
            };
            let mut denials = self.denials(charge);
            match denials.map.get_mut(&charge.key) {
                // Answers can overtake one another.
                Some(known) if known.decided > denial.decided => {}
                Some(known) => *known = denial,
                None if outcome.admitted => {}
                None => denials.remember(charge.key.clone(), denial),
            }
        }
    }

    fn denials(&self, charge: &Charge) -> MutexGuard<'_, Denials> {
        let hash = self.spread.hash_one(&charge.key);
        let shard = usize::try_from(hash % SHARDS as u64).expect("there are few shards");
        self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Denials {
    /// Adds a denial, if there is room for it.
    fn remember(&mut self, key: BucketKey, denial: Denial) {
        let now = denial.asked;
        if self.map.len() >= SHARD_BOUND && self.next_sweep.is_none_or(|next| next <= now) {
            self.map.retain(|_, old| old.asked + LONGEST > now);
            self.next_sweep = Some(now + SWEEP_EVERY);
        }
        if self.map.len() < SHARD_BOUND {
            self.map.insert(key, denial);
        }
    }
}

impl Denial {
    /// What a charge gets, if that is a denial.
    ///
    /// The time that has passed here since the store was asked is at least what has passed there since it
    /// decided, so a bucket is never thought emptier than it is.
    fn outcome(&self, charge: &Charge, now: Instant) -> Option<Outcome> {
        let passed = now.saturating_duration_since(self.asked);
        if passed >= LONGEST || charge.is_report() {
            return None;
        }
        let now = self.decided + u64::try_from(passed.as_micros()).ok()?;
        if self.state.needs_healing(&charge.terms, now) {
            return None;
        }
        let state = self.state.at(&charge.terms, now);
        (!state.admits(&charge.terms, charge.hits)).then(|| outcome(charge, false, &state, now))
    }
}

impl<S: Store> Store for RememberedDenials<S> {
    async fn decide(&self, charges: Arc<[Charge]>) -> Result<Decision, StoreError> {
        let now = Instant::now();
        if let Some(decision) = self.recall(&charges, now) {
            return Ok(decision);
        }
        let decision = self.store.decide(Arc::clone(&charges)).await?;
        self.learn(&charges, &decision, now);
        Ok(decision)
    }
}

#[cfg(test)]
mod tests;
