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
}

impl Limits {
    /// Counts another bucket of a limit.
    pub(super) fn add(&mut self, limit: u32) {
        let (_, count) = self.counts.entry(spread(limit)).or_insert((limit, 0));
        *count += 1;
        if *count > self.count(self.largest) {
            self.largest = limit;
        }
    }

    /// A bucket of a limit is gone.
    pub(super) fn remove(&mut self, limit: u32) {
        let key = spread(limit);
        if let Some((_, count)) = self.counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.counts.swap_remove(&key);
            }
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
        self.counts
            .get(&spread(limit))
            .map_or(0, |(_, count)| *count)
    }
}

/// A number as maps of [`Prehashed`] keys need it, with all of its bits in use; no two have the same.
fn spread(limit: u32) -> u128 {
    u128::from(u64::from(limit).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}
