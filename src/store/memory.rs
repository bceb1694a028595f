//! Buckets in this process's memory: a sharded map, bounded, that forgets buckets once they are full.
//!
//! A request locks the shards of its buckets, in ascending order, decides, and lets go; nothing is
//! awaited in between. Buckets are found by the [hash](crate::key::BucketKey::hash) of their key alone, so
//! their size does not depend on what clients send.
//!
//! At the bound, a new bucket takes the place of one of the limit that has the most buckets. A limit keeps all of its
//! buckets as long as they are fewer than the bound divided by the number of limits that have any (up to chance: each
//! shard has an equal part of the bound, and buckets come to shards by their hash).

mod shard;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntCounter;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Charge, Decision, Settled, Store, StoreError, settle};
use crate::bucket::State;
use crate::clock::Clock;
use crate::telemetry::Throttle;
use crate::time::Micros;

use shard::Shard;

/// No more shards than this; beyond it, two threads hardly ever meet in one.
const MAX_SHARDS: usize = 256;

/// A shard holds at least this many buckets, so that a small store is bounded as a whole.
const MIN_SHARD_BOUND: usize = 4096;

/// The shortest time between two warnings that the bound is reached.
const WARN_EVERY: Micros = 60_000_000;

/// How a bucket stands when a request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    /// As what was taken left it.
    AsIs,
    /// As if nothing was taken.
    Full,
    /// As if everything was taken.
    Empty,
}

/// Buckets in memory.
pub struct MemoryStore {
    shards: Box<[Mutex<Shard>]>,
    clock: Clock,
    max_buckets: usize,
    dropped: IntCounter,
    full_warning: Throttle,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore")
            .field("max_buckets", &self.max_buckets)
            .finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// A store of at most `max_buckets` buckets (at least 1) that lives by `clock`.
    #[must_use]
    pub fn new(max_buckets: usize, clock: Clock) -> Self {
        let max_buckets = max_buckets.max(1);
        let wanted = (max_buckets / MIN_SHARD_BOUND).clamp(1, MAX_SHARDS);
        let shards = 1 << wanted.ilog2();
        Self {
            shards: (0..shards)
                .map(|_| Mutex::new(Shard::new(max_buckets / shards)))
                .collect(),
            clock,
            max_buckets,
            dropped: IntCounter::new(
                "ratekeeper_buckets_dropped_total",
                "Buckets that were not full and had to go for others",
            )
            .expect("the name is a right one"),
            full_warning: Throttle::every(WARN_EVERY),
        }
    }

    /// The most buckets held.
    #[must_use]
    pub fn max_buckets(&self) -> usize {
        self.max_buckets
    }

    /// Counts the buckets that were not full and had to go for others.
    #[must_use]
    pub fn dropped(&self) -> &IntCounter {
        &self.dropped
    }

    /// How many buckets are held, including those that are full again and not yet forgotten.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Forgets the buckets that are full again, all at once and with the memory that they took. Writing does
    /// so little by little; this is for a store that is not written to any more.
    pub fn forget_full(&self) {
        let now = (self.clock)();
        for shard in &self.shards {
            lock(shard).forget_full(now);
        }
    }

    fn shard_of(&self, charge: &Charge) -> usize {
        // The map inside the shard uses the low bits.
        let high = u32::try_from(charge.key.hash() >> 96).expect("32 bits are left");
        high as usize & (self.shards.len() - 1)
    }

    /// Decides with some buckets as they are and with others as they are said to be, which stay as they are.
    pub(crate) fn decide_as(
        &self,
        charges: &[Charge],
        stand: impl Fn(&Charge) -> Stand,
    ) -> Decision {
        let mut shards = LockedShards::new(self, charges);
        // Read under the locks: within a shard, time does not run backwards between requests.
        let now = (self.clock)();
        let stored = |i: usize| match stand(&charges[i]) {
            Stand::AsIs => shards.of(&charges[i]).get(charges[i].key.hash()),
            Stand::Full => None,
            Stand::Empty => Some(State::empty(&charges[i].terms, now)),
        };
        let Settled {
            decision,
            is_changed,
        } = settle(charges, stored, now);
        let mut dropped = 0;
        for (i, charge) in charges.iter().enumerate() {
            if is_changed[i] && stand(charge) == Stand::AsIs {
                let outcome = &decision.outcomes[i];
                let shard = shards.of(charge);
                let (hash, limit) = (charge.key.hash(), charge.key.limit());
                dropped += u64::from(shard.put(hash, limit, outcome.state, now));
            }
        }
        drop(shards);
        if dropped > 0 {
            self.dropped.inc_by(dropped);
            self.warn_full(now);
        }
        decision
    }

    fn warn_full(&self, now: Micros) {
        if self.full_warning.passes(now) {
            tracing::warn!(
                max_buckets = self.max_buckets,
                "memory store full, dropping buckets of the limits that have the most; \
                 raise MEMORY_MAX_BUCKETS, or use Redis"
            );
        }
    }
}

impl Store for MemoryStore {
    /// It waits for nothing, so the deadline may be any.
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        _deadline: Instant,
    ) -> Result<Decision, StoreError> {
        Ok(self.decide_as(&charges, |_| Stand::AsIs))
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // A shard is whole between any two of its statements, so a panic elsewhere taints nothing.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shards of one request, locked once each and in ascending order, so that no two requests
/// wait for each other in a circle.
struct LockedShards<'a> {
    store: &'a MemoryStore,
    locked: SmallVec<[(usize, MutexGuard<'a, Shard>); FEW]>,
}

/// Requests with more charges than this need memory of their own to remember their locks.
const FEW: usize = 4;

impl<'a> LockedShards<'a> {
    fn new(store: &'a MemoryStore, charges: &[Charge]) -> Self {
        let mut indexes: SmallVec<[usize; FEW]> =
            charges.iter().map(|c| store.shard_of(c)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let lock = |i: usize| (i, lock(&store.shards[i]));
        Self {
            store,
            locked: indexes.into_iter().map(lock).collect(),
        }
    }

    fn of(&mut self, charge: &Charge) -> &mut Shard {
        let index = self.store.shard_of(charge);
        let position = self
            .locked
            .binary_search_by_key(&index, |(i, _)| *i)
            .expect("the shards of all charges were locked");
        &mut self.locked[position].1
    }
}

#[cfg(test)]
mod tests;
