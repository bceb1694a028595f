//! One shard: a bounded map of buckets, and a hand that goes round it and takes out those that are full.
//!
//! At the bound, a new bucket takes the place of one of the limit that has the most buckets here. So a limit with fewer
//! buckets than the bound divided by the number of limits that have any keeps all of its own, however many
//! buckets clients make under other limits.

mod limits;

use indexmap::IndexMap;

use crate::bucket::State;
use crate::key::Prehashed;
use crate::time::Micros;

use limits::Limits;

/// How many buckets a write looks at for whether they are full again. Four per write keep the
/// full ones below a third of the others, however many new buckets are written.
const SWEEP: usize = 4;

/// Among how many buckets of the largest limit the one that makes room for a new one is chosen.
const SAMPLE: usize = 16;

/// How many buckets are looked at, in each direction, to find one of the largest limit. Those of others may lie
/// together; beyond this, one of theirs goes rather than that the shard stays locked.
const LOOK: usize = 512;

/// Buckets by the hash of their key.
#[derive(Debug)]
pub(super) struct Shard {
    buckets: IndexMap<u128, Kept, Prehashed>,
    limits: Limits,
    /// The place that the sweep goes on from.
    hand: usize,
    bound: usize,
}

/// A bucket as it is kept: a [`State`], and the limit that it counts to where the state has padding.
#[derive(Debug, Clone, Copy)]
struct Kept {
    at: Micros,
    whole: u64,
    part: u64,
    period: Micros,
    refill: u32,
    limit: u32,
}

impl Kept {
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
        self.buckets.get(&hash).map(Kept::state)
    }

    /// Stores a bucket of a limit (0: it is not known which, if the bucket is new), unless it is full, and forgets some
    /// that are. True when another one that was not full had to go to make room.
    pub(super) fn put(&mut self, hash: u128, limit: u32, state: State, now: Micros) -> bool {
        self.sweep(now);
        if state.is_full(now) {
            if let Some(kept) = self.buckets.swap_remove(&hash) {
                self.limits.remove(kept.limit);
            }
            return false;
        }
        if let Some(kept) = self.buckets.get_mut(&hash) {
            let before = kept.limit;
            let limit = if limit == 0 { before } else { limit };
            *kept = Kept::new(state, limit);
            if limit != before {
                // The bucket is charged under another limit since the configuration has changed.
                self.limits.remove(before);
                self.limits.add(limit);
            }
            return false;
        }
        let dropped = self.buckets.len() >= self.bound && self.make_room(now);
        self.limits.add(limit);
        self.buckets.insert(hash, Kept::new(state, limit));
        dropped
    }

    /// Takes out all buckets that are full, and gives back memory that is no longer needed.
    pub(super) fn forget_full(&mut self, now: Micros) {
        let limits = &mut self.limits;
        self.buckets.retain(|_, kept| {
            let is_full = kept.state().is_full(now);
            if is_full {
                limits.remove(kept.limit);
            }
            !is_full
        });
        if self.buckets.capacity() > 4 * self.buckets.len() {
            self.buckets.shrink_to_fit();
        }
        self.hand = 0;
    }

    /// Takes out those of the next few buckets that are full.
    fn sweep(&mut self, now: Micros) {
        for _ in 0..SWEEP {
            let Some((_, kept)) = self.buckets.get_index(self.hand) else {
                self.hand = 0;
                return;
            };
            if kept.state().is_full(now) {
                // The last bucket comes to this place and is looked at next.
                self.limits.remove(kept.limit);
                self.buckets.swap_remove_index(self.hand);
            } else {
                self.hand += 1;
            }
        }
    }

    /// Takes out a bucket of the limit that has the most: of some of them, the one that is full soonest, which
    /// gives away the least. True when it was not full.
    fn make_room(&mut self, now: Micros) -> bool {
        let largest = self.limits.largest();
        let count = self.buckets.len();
        let kept = |i: usize| &self.buckets[i];
        let full_at = |&i: &usize| kept(i).state().full_at();
        let ahead = || (0..LOOK.min(count)).map(|step| (self.hand + step) % count);
        let is_of_largest = |i: &usize| kept(*i).limit == largest;
        let mut sample = ahead().filter(is_of_largest).take(SAMPLE);
        let (mut soonest, mut last) = (sample.next(), None);
        for place in sample {
            last = Some(place);
            if soonest.is_some_and(|found| full_at(&place) < full_at(&found)) {
                soonest = Some(place);
            }
        }
        // A client that makes many buckets made the newest, which come last.
        let newest = || (0..count).rev().take(LOOK).find(is_of_largest);
        let place = soonest
            .or_else(newest)
            .or_else(|| ahead().take(SAMPLE).min_by_key(full_at))
            .expect("a bound is at least 1");
        self.hand = last.map_or(self.hand + SAMPLE, |last| last + 1) % count;
        let Some((_, kept)) = self.buckets.swap_remove_index(place) else {
            return false;
        };
        self.limits.remove(kept.limit);
        !kept.state().is_full(now)
    }
}

#[cfg(test)]
mod tests;
