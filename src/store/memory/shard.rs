//! One shard: a map of buckets and a queue of when they are full again.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use crate::bucket::{Micros, State};

/// How many due buckets a write looks at. Two per write empty the queue faster than one
/// write fills it.
const SWEEP: usize = 2;

/// Buckets by the hash of their key.
#[derive(Debug)]
pub(super) struct Shard {
    buckets: HashMap<u128, State, BuildHasherDefault<Prehashed>>,
    /// When each bucket is full again, soonest first. An entry can be too early (the bucket was
    /// charged since) and is then put back, or superfluous and is then dropped; it is never late.
    due: BinaryHeap<Reverse<(Micros, u128)>>,
    bound: usize,
}

impl Shard {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            buckets: HashMap::default(),
            due: BinaryHeap::new(),
            bound,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Entries in the queue, superfluous ones included.
    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.due.len()
    }

    pub(super) fn get(&self, hash: u128) -> Option<State> {
        self.buckets.get(&hash).copied()
    }

    /// Stores a bucket and forgets some that are full; says how many others that were not full
    /// had to go to make room.
    pub(super) fn put(&mut self, hash: u128, state: State, now: Micros) -> usize {
        for _ in 0..SWEEP {
            if self.due.peek().is_none_or(|Reverse((at, _))| *at > now) {
                break;
            }
            self.forget_next(now);
        }
        let full_at = state.full_at();
        if let Some(stored) = self.buckets.get_mut(&hash) {
            let sooner = full_at < stored.full_at();
            *stored = state;
            if sooner {
                self.push_due(full_at, hash);
            }
            return 0;
        }
        let mut dropped = 0;
        while self.buckets.len() >= self.bound {
            dropped += usize::from(self.make_room(now));
        }
        self.buckets.insert(hash, state);
        self.push_due(full_at, hash);
        dropped
    }

    /// Takes the next entry off the queue; forgets its bucket if that is full by now.
    fn forget_next(&mut self, now: Micros) {
        let Some(Reverse((_, hash))) = self.due.pop() else {
            return;
        };
        match self.buckets.get(&hash).map(State::full_at) {
            Some(full_at) if full_at > now => self.due.push(Reverse((full_at, hash))),
            Some(_) => {
                self.buckets.remove(&hash);
            }
            None => {}
        }
    }

    /// Takes the next entry off the queue and removes its bucket, unless the bucket has been
    /// charged since and others are nearer to full. True when a bucket went that was not full.
    fn make_room(&mut self, now: Micros) -> bool {
        let Some(Reverse((at, hash))) = self.due.pop() else {
            // Every bucket has an entry, so the queue is empty only when the map is.
            self.buckets.clear();
            return false;
        };
        match self.buckets.get(&hash).map(State::full_at) {
            Some(full_at) if full_at > at => {
                self.due.push(Reverse((full_at, hash)));
                false
            }
            Some(full_at) => {
                self.buckets.remove(&hash);
                full_at > now
            }
            None => false,
        }
    }

    fn push_due(&mut self, full_at: Micros, hash: u128) {
        self.due.push(Reverse((full_at, hash)));
        // Hits that are taken and given back in turn leave an entry each time.
        if self.due.len() > 2 * self.buckets.len() + 64 {
            self.due = self
                .buckets
                .iter()
                .map(|(&hash, state)| Reverse((state.full_at(), hash)))
                .collect();
        }
    }
}

/// The keys are hashes already, under a secret of the process.
#[derive(Debug, Default)]
pub(super) struct Prehashed(u64);

impl Hasher for Prehashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = u64::try_from(hash & u128::from(u64::MAX)).expect("masked to 64 bits");
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only u128 keys are hashed here");
    }
}
