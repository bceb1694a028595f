//! Buckets in this process's memory: a sharded map, bounded, that forgets buckets once they are full.
//!
//! A request locks the shards of its buckets, in ascending order, decides, and lets go; nothing is
//! awaited in between. Keys are held as 128-bit hashes under a random key of this process, so a
//! bucket's size does not depend on what clients send, and clients cannot aim at a collision.

mod shard;

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use siphasher::sip128::{Hasher128, SipHasher13};

use super::{Charge, Decision, Store, StoreError, settle};
use crate::bucket::{Micros, State};
use crate::clock::Clock;
use crate::key::BucketKey;
use crate::telemetry::Throttle;

use shard::Shard;

/// No more shards than this; beyond it, two threads hardly ever meet in one.
const MAX_SHARDS: usize = 256;

/// A shard holds at least this many buckets, so that a small store is bounded as a whole.
const MIN_SHARD_BOUND: usize = 4096;

/// The shortest time between two warnings that the bound is reached.
const WARN_EVERY: Micros = 60_000_000;

/// Buckets in memory.
pub struct MemoryStore {
    shards: Box<[Mutex<Shard>]>,
    hash_key: (u64, u64),
    clock: Clock,
    max_buckets: usize,
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
        let random = RandomState::new();
        Self {
            shards: (0..shards)
                .map(|_| Mutex::new(Shard::new(max_buckets / shards)))
                .collect(),
            hash_key: (random.hash_one(0), random.hash_one(1)),
            clock,
            max_buckets,
            full_warning: Throttle::every(WARN_EVERY),
        }
    }

    /// How many buckets are held, including those that are full again and not yet forgotten.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn hash(&self, key: &BucketKey) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.hash_key.0, self.hash_key.1);
        key.as_str().hash(&mut hasher);
        hasher.finish128().as_u128()
    }

    fn shard_of(&self, hash: u128) -> usize {
        // The map inside the shard uses the low bits.
        usize::try_from(hash >> 96).expect("32 bits fit") & (self.shards.len() - 1)
    }

    fn decide_now(&self, charges: &[Charge]) -> Decision {
        let hashes: Vec<u128> = charges.iter().map(|c| self.hash(&c.key)).collect();
        let mut shards = LockedShards::new(self, &hashes);
        // Read under the locks: within a shard, time does not run backwards between requests.
        let now = (self.clock)();
        let stored: Vec<Option<State>> = hashes
            .iter()
            .map(|&hash| shards.of(self.shard_of(hash)).get(hash))
            .collect();
        let settled = settle(charges, &stored, now);
        let mut dropped = 0;
        for (i, &hash) in hashes.iter().enumerate() {
            if settled.is_changed[i] {
                let shard = shards.of(self.shard_of(hash));
                dropped += shard.put(hash, settled.states[i], now);
            }
        }
        drop(shards);
        self.warn_if_full(dropped, now);
        settled.decision
    }

    fn warn_if_full(&self, dropped: usize, now: Micros) {
        if dropped > 0 && self.full_warning.passes(now) {
            tracing::warn!(
                max_buckets = self.max_buckets,
                "the memory store is at its bound and drops the buckets that are nearest to full; \
                 raise MEMORY_MAX_BUCKETS, or use Redis"
            );
        }
    }
}

impl Store for MemoryStore {
    async fn decide(&self, charges: Arc<[Charge]>) -> Result<Decision, StoreError> {
        Ok(self.decide_now(&charges))
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // A shard is whole between any two of its statements, so a panic elsewhere taints nothing.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shards of one request, locked once each and in ascending order, so that no two requests
/// wait for each other in a circle.
struct LockedShards<'a>(Vec<(usize, MutexGuard<'a, Shard>)>);

impl<'a> LockedShards<'a> {
    fn new(store: &'a MemoryStore, hashes: &[u128]) -> Self {
        let mut indexes: Vec<usize> = hashes.iter().map(|&hash| store.shard_of(hash)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        Self(
            indexes
                .into_iter()
                .map(|i| (i, lock(&store.shards[i])))
                .collect(),
        )
    }

    fn of(&mut self, index: usize) -> &mut Shard {
        let position = self
            .0
            .binary_search_by_key(&index, |(i, _)| *i)
            .expect("the shards of all charges were locked");
        &mut self.0[position].1
    }
}

#[cfg(test)]
mod tests;
