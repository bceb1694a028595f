//! One shard: a bounded map of buckets, and a hand, as of a clock, that advances over it and drops full buckets.
//!
//! When the shard is full, a new bucket replaces one of the limit that has the most buckets in the shard. So a limit with
//! fewer buckets than the bound divided by the number of limits with buckets keeps all of them, however many buckets
//! clients create under other limits.

mod limits;

use indexmap::IndexMap;

use crate::bucket::State;
use crate::key::Prehashed;
use crate::time::Micros;

use limits::Limits;

/// Number of buckets that each write checks for being full. Four per write keep the full buckets below a third of the
/// others, however many new buckets are written.
const SWEEP: usize = 4;

/// Number of buckets of the largest limit among which the bucket to replace is chosen.
const SAMPLE: usize = 16;

/// Maximum number of buckets that are searched, in each direction, for one of the largest limit. If there is none among
/// them, a bucket of another limit is replaced, so that the shard is not locked for long.
const LOOK: usize = 512;

/// Buckets by the hash of their key.
#[derive(Debug)]
pub(super) struct Shard {
    buckets: IndexMap<u128, StoredBucket, Prehashed>,
    limits: Limits,
    /// Index at which the next sweep starts.
    hand: usize,
    bound: usize,
}

/// A stored bucket: the fields of [`State`], with the number of its limit in the place of padding.
#[derive(Debug, Clone, Copy)]
struct StoredBucket {
    at: Micros,
    whole: u64,
    part: u64,
    period: Micros,
    refill: u32,
    limit: u32,
}

impl StoredBucket {
    fn new(state: State, limit: u32) -> Self {
        let State {
            at,
            whole,
            part,
            refill,
            period,
        } = state;
        Self {
            at,
            whole,
            part,
            period,
            refill,
            limit,
        }
    }

    fn state(&self) -> State {
        State {
            at: self.at,
            whole: self.whole,
            part: self.part,
            refill: self.refill,
            period: self.period,
        }
    }
}

impl Shard {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            buckets: IndexMap::default(),
            limits: Limits::default(),
            hand: 0,
            bound,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    pub(super) fn get(&self, hash: u128) -> Option<State> {
        self.buckets.get(&hash).map(StoredBucket::state)
    }

    /// Stores a bucket of a limit (0: unknown; an existing bucket keeps its limit) unless it is full, and drops some full
    /// buckets. Returns whether a bucket that was not full was dropped to make room.
    pub(super) fn put(&mut self, hash: u128, limit: u32, state: State, now: Micros) -> bool {
        self.sweep(now);
        if state.is_full(now) {
            if let Some(stored) = self.buckets.swap_remove(&hash) {
                self.limits.remove(stored.limit);
            }
            return false;
        }
        if let Some(stored) = self.buckets.get_mut(&hash) {
            let before = stored.limit;
            let limit = if limit == 0 { before } else { limit };
            *stored = StoredBucket::new(state, limit);
            if limit != before {
                // A new configuration charges the bucket under another limit.
                self.limits.remove(before);
                self.limits.add(limit);
            }
            return false;
        }
        let dropped = self.buckets.len() >= self.bound && self.make_room(now);
        self.limits.add(limit);
        self.buckets.insert(hash, StoredBucket::new(state, limit));
        dropped
    }

    /// Drops all full buckets and releases unused memory.
    pub(super) fn drop_full(&mut self, now: Micros) {
        let limits = &mut self.limits;
        self.buckets.retain(|_, stored| {
            let is_full = stored.state().is_full(now);
            if is_full {
                limits.remove(stored.limit);
            }
            !is_full
        });
        if self.buckets.capacity() > 4 * self.buckets.len() {
            self.buckets.shrink_to_fit();
        }
        self.hand = 0;
    }

    /// Drops the full ones among the next few buckets.
    fn sweep(&mut self, now: Micros) {
        for _ in 0..SWEEP {
            let Some((_, stored)) = self.buckets.get_index(self.hand) else {
                self.hand = 0;
                return;
            };
            if stored.state().is_full(now) {
                // The last bucket moves to this index and is checked next.
                self.limits.remove(stored.limit);
                self.buckets.swap_remove_index(self.hand);
            } else {
                self.hand += 1;
            }
        }
    }

    /// Drops a bucket of the limit that has the most buckets: among a sample, the one that is full soonest, so that the
    /// fewest taken hits are lost. Returns whether it was not full.
    fn make_room(&mut self, now: Micros) -> bool {
        let largest = self.limits.largest();
        let count = self.buckets.len();
        let stored = |i: usize| &self.buckets[i];
        let full_at = |&i: &usize| stored(i).state().full_at();
        let ahead = || (0..LOOK.min(count)).map(|step| (self.hand + step) % count);
        let is_of_largest = |i: &usize| stored(*i).limit == largest;
        let mut sample = ahead().filter(is_of_largest).take(SAMPLE);
        let (mut soonest, mut last) = (sample.next(), None);
        for index in sample {
            last = Some(index);
            if soonest.is_some_and(|found| full_at(&index) < full_at(&found)) {
                soonest = Some(index);
            }
        }
        // The newest buckets are at the end; a client that creates many buckets created them.
        let newest = || (0..count).rev().take(LOOK).find(is_of_largest);
        let index = soonest
            .or_else(newest)
            .or_else(|| ahead().take(SAMPLE).min_by_key(full_at))
            .expect("a bound is at least 1");
        self.hand = last.map_or(self.hand + SAMPLE, |last| last + 1) % count;
        let Some((_, stored)) = self.buckets.swap_remove_index(index) else {
            return false;
        };
        self.limits.remove(stored.limit);
        !stored.state().is_full(now)
    }
}

#[cfg(test)]
mod tests;
