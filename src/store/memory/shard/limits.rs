//! How many buckets each limit has in a shard, and which has the most.

use indexmap::IndexMap;

use crate::key::Prehashed;

/// How many limits are compared each time the largest is wanted. With no more, it is always right; else it may be one
/// that was the largest a moment ago. A limit that grows beyond it is known at once.
const COMPARED: usize = 8;

/// Limits by their numbers, which are hashes of what the configuration calls them.
#[derive(Debug, Default)]
pub(super) struct Limits {
    counts: IndexMap<u128, (u32, usize), Prehashed>,
    largest: u32,
    hand: usize,
    /// The index of the limit that was counted last, which is often the next one, too.
    latest: usize,
}

impl Limits {
    /// Counts another bucket of a limit.
    pub(super) fn add(&mut self, limit: u32) {
        let index = self.index_of(limit).unwrap_or_else(|| {
            let (index, _) = self.counts.insert_full(spread(limit), (limit, 0));
            index
        });
        self.latest = index;
        let (_, count) = &mut self.counts[index];
        *count += 1;
        let count = *count;
        if limit != self.largest && count > self.count(self.largest) {
            self.largest = limit;
        }
    }

    /// A bucket of a limit is gone.
    pub(super) fn remove(&mut self, limit: u32) {
        let Some(index) = self.index_of(limit) else {
            return;
        };
        self.latest = index;
        let (_, count) = &mut self.counts[index];
        *count -= 1;
        if *count == 0 {
            self.counts.swap_remove_index(index);
        }
    }

    /// The limit that has the most buckets.
    pub(super) fn largest(&mut self) -> u32 {
        let mut most = self.count(self.largest);
        for _ in 0..COMPARED.min(self.counts.len()) {
            self.hand = (self.hand + 1) % self.counts.len();
            let (limit, count) = self.counts[self.hand];
            if count > most {
                (self.largest, most) = (limit, count);
            }
        }
        self.largest
    }

    pub(super) fn count(&self, limit: u32) -> usize {
        self.index_of(limit).map_or(0, |index| self.counts[index].1)
    }

    fn index_of(&self, limit: u32) -> Option<usize> {
        match self.counts.get_index(self.latest) {
            Some((_, (latest, _))) if *latest == limit => Some(self.latest),
            _ => self.counts.get_index_of(&spread(limit)),
        }
    }
}

/// A number as maps of [`Prehashed`] keys need it, with all of its bits in use; no two have the same.
fn spread(limit: u32) -> u128 {
    u128::from(u64::from(limit).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}
