//! Buckets in the memory of this process: a bounded, sharded map that drops buckets once they are full.
//!
//! A request locks the shards of its buckets in ascending order, decides, and unlocks them; nothing is awaited while the
//! locks are held. Buckets are identified by the [hash](crate::key::BucketKey::hash) of their key alone, so their size
//! does not depend on client input.
//!
//! When the store is full, a new bucket replaces one of the limit that has the most buckets. A limit keeps all of its
//! buckets as long as it has fewer than the bound divided by the number of limits with buckets. (This is approximate:
//! each shard has an equal part of the bound, and buckets are assigned to shards by their hash.)

mod shard;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use smallvec::SmallVec;

use super::{Charge, Decision, Settled, Store, StoreError, settle};
use crate::bucket::State;
use crate::clock::Clock;

use shard::Shard;

/// The maximum number of shards. With so many, two threads hardly ever contend for one.
const MAX_SHARDS: usize = 256;

/// The minimum number of buckets per shard, so that the bound of a small store is precise.
const MIN_SHARD_BOUND: usize = 4096;

/// The state of a bucket that a decision is based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketBasis {
    /// The stored state, which the decision updates.
    Stored,
    /// A full bucket. The stored state is neither read nor changed.
    Full,
    /// An empty bucket. The stored state is neither read nor changed.
    Empty,
}

/// Receives the number of buckets that one request displaced.
type OnDropped = Box<dyn Fn(u64) + Send + Sync>;

/// Buckets in memory.
pub struct MemoryStore {
    shards: Box<[Mutex<Shard>]>,
    clock: Clock,
    max_buckets: usize,
    dropped: AtomicU64,
    on_dropped: Option<OnDropped>,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore")
            .field("max_buckets", &self.max_buckets)
            .finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// Creates a store of at most `max_buckets` buckets (at least 1) that reads the time from `clock`.
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
            dropped: AtomicU64::new(0),
            on_dropped: None,
        }
    }

    /// Sets a function that is called with the number of buckets that a request displaced, if any. No lock is held
    /// during the call.
    #[must_use]
    pub fn on_dropped(self, callback: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self {
            on_dropped: Some(Box::new(callback)),
            ..self
        }
    }

    /// Returns the maximum number of buckets.
    #[must_use]
    pub fn max_buckets(&self) -> usize {
        self.max_buckets
    }

    /// Returns the number of buckets that were dropped to make room for others before they were full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Returns the number of buckets, including full ones that have not been dropped yet.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Drops all buckets that are full and releases their memory. Each write drops a few of them; this is for a store that is no
    /// longer written to.
    pub fn drop_full(&self) {
        let now = (self.clock)();
        for shard in &self.shards {
            lock(shard).drop_full(now);
        }
    }

    fn shard_of(&self, charge: &Charge) -> usize {
        // The low bits are used by the map inside the shard.
        let high = u32::try_from(charge.key.hash() >> 96).expect("32 bits are left");
        high as usize & (self.shards.len() - 1)
    }

    /// Decides charges on their stored buckets, or on full or empty ones where `basis` returns so.
    pub fn decide_on(
        &self,
        charges: &[Charge],
        basis: impl Fn(&Charge) -> BucketBasis,
    ) -> Decision {
        let mut shards = LockedShards::new(self, charges);
        // Read under the locks, so that within a shard, time never runs backwards from one request to the next.
        let now = (self.clock)();
        let stored = |i: usize| match basis(&charges[i]) {
            BucketBasis::Stored => shards.of(&charges[i]).get(charges[i].key.hash()),
            BucketBasis::Full => None,
            BucketBasis::Empty => Some(State::empty(&charges[i].terms, now)),
        };
        let Settled {
            decision,
            is_changed,
        } = settle(charges, stored, now);
        let mut dropped = 0;
        for (i, charge) in charges.iter().enumerate() {
            if is_changed[i] && basis(charge) == BucketBasis::Stored {
                let outcome = &decision.outcomes[i];
                let shard = shards.of(charge);
                let (hash, limit) = (charge.key.hash(), charge.key.limit());
                dropped += u64::from(shard.put(hash, limit, outcome.state, now));
            }
        }
        drop(shards);
        if dropped > 0 {
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
            if let Some(on_dropped) = &self.on_dropped {
                on_dropped(dropped);
            }
        }
        decision
    }
}

impl Store for MemoryStore {
    /// Decides immediately, whatever the deadline.
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        _deadline: Instant,
    ) -> Result<Decision, StoreError> {
        Ok(self.decide_on(&charges, |_| BucketBasis::Stored))
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // A panic leaves a shard consistent, so a poisoned lock can be used.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shards of one request, locked once each and in ascending order, so that requests cannot deadlock.
struct LockedShards<'a> {
    store: &'a MemoryStore,
    locked: SmallVec<[(usize, MutexGuard<'a, Shard>); INLINE_LOCKS]>,
}

/// The number of locks that are kept without an allocation.
const INLINE_LOCKS: usize = 4;

impl<'a> LockedShards<'a> {
    fn new(store: &'a MemoryStore, charges: &[Charge]) -> Self {
        let mut indexes: SmallVec<[usize; INLINE_LOCKS]> =
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
