//! Number of buckets of each limit in a shard, and the limit that has the most.

use indexmap::IndexMap;

use crate::key::Prehashed;

/// Number of limits that each call of [`Limits::largest`] compares. With at most so many limits, the result is exact;
/// with more, it can be a limit that was the largest a short time ago. A limit that outgrows it is noticed immediately.
const COMPARED: usize = 8;

/// Counts by limit number, which is a hash of the limit's name in the configuration.
#[derive(Debug, Default)]
pub(super) struct Limits {
    counts: IndexMap<u128, (u32, usize), Prehashed>,
    largest: u32,
    hand: usize,
    /// The index of the limit that was counted last, which is often the next one, too.
    latest: usize,
}

impl Limits {
    /// Adds a bucket to the count of a limit.
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

    /// Removes a bucket from the count of a limit.
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

    /// Returns the limit that has the most buckets.
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

/// Spreads a limit number over all bits, as maps with [`Prehashed`] keys require. The mapping is one to one.
fn spread(limit: u32) -> u128 {
    u128::from(u64::from(limit).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}
