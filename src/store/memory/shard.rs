//! One shard: a bounded map of buckets, and a hand that goes round it and takes out those that are full.

use indexmap::IndexMap;

use crate::bucket::{Micros, State};
use crate::key::Prehashed;

/// How many buckets a write looks at for whether they are full again. Four per write keep the
/// full ones below a third of the others, however many new buckets are written.
const SWEEP: usize = 4;

/// Among how many buckets the one that makes room for a new one is chosen.
const SAMPLE: usize = 16;

/// Buckets by the hash of their key.
#[derive(Debug)]
pub(super) struct Shard {
    buckets: IndexMap<u128, State, Prehashed>,
    /// The place that the sweep goes on from.
    hand: usize,
    bound: usize,
}

impl Shard {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            buckets: IndexMap::default(),
            hand: 0,
            bound,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    pub(super) fn get(&self, hash: u128) -> Option<State> {
        self.buckets.get(&hash).copied()
    }

    /// Stores a bucket, unless it is full, and forgets some that are. True when another one that
    /// was not full had to go to make room.
    pub(super) fn put(&mut self, hash: u128, state: State, now: Micros) -> bool {
        self.sweep(now);
        if state.is_full(now) {
            self.buckets.swap_remove(&hash);
            return false;
        }
        if let Some(stored) = self.buckets.get_mut(&hash) {
            *stored = state;
            return false;
        }
        let dropped = self.buckets.len() >= self.bound && self.make_room(now);
        self.buckets.insert(hash, state);
        dropped
    }

    /// Takes out all buckets that are full, and gives back memory that is no longer needed.
    pub(super) fn forget_full(&mut self, now: Micros) {
        self.buckets.retain(|_, state| !state.is_full(now));
        if self.buckets.capacity() > 4 * self.buckets.len() {
            self.buckets.shrink_to_fit();
        }
        self.hand = 0;
    }

    /// Takes out those of the next few buckets that are full.
    fn sweep(&mut self, now: Micros) {
        for _ in 0..SWEEP {
            let Some((_, state)) = self.buckets.get_index(self.hand) else {
                self.hand = 0;
                return;
            };
            if state.is_full(now) {
                // The last bucket comes to this place and is looked at next.
                self.buckets.swap_remove_index(self.hand);
            } else {
                self.hand += 1;
            }
        }
    }

    /// Takes out the one of the next few buckets that is full soonest. True when it was not full.
    fn make_room(&mut self, now: Micros) -> bool {
        let count = self.buckets.len();
        let full_at = |&i: &usize| self.buckets.get_index(i).map(|(_, state)| state.full_at());
        let next = (self.hand..self.hand + SAMPLE).map(|i| i % count);
        let soonest = next.min_by_key(full_at).expect("a bound is at least 1");
        self.hand = (self.hand + SAMPLE) % count;
        self.buckets
            .swap_remove_index(soonest)
            .is_some_and(|(_, state)| !state.is_full(now))
    }
}
