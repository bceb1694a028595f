//! Counts the heavy ones of a stream of weighted items in a fixed number of counters: Space-Saving (Metwally,
//! Agrawal, El Abbadi, 2005).
//!
//! An item that has no counter takes over the one with the least count, and goes on from there. So the counts add up
//! to the weight of all items; no item without a counter weighs more than the least count, which is at most the
//! weight of all divided by the number of counters; and no count is too high by more than that, or too low at all.

use std::collections::HashMap;
use std::sync::Arc;

use crate::key::Prehashed;

/// The counters. Items are told apart by hashes that nobody can aim at; `T` is what else is known of them.
#[derive(Debug)]
pub(super) struct Summary<T> {
    size: usize,
    places: HashMap<u128, usize, Prehashed>,
    /// By place, apart from the rest: they are searched for the least.
    counts: Vec<u64>,
    items: Vec<(u128, T)>,
    total: u64,
    /// By how much what was [absorbed](Self::absorb) may have been wrong, either way.
    slack: u64,
    /// No count is less.
    least: u64,
    /// Where the search for the least goes on.
    hand: usize,
}

/// Counters that change no more.
#[derive(Debug, Default)]
pub(super) struct Frozen<T> {
    places: HashMap<u128, usize, Prehashed>,
    counts: Vec<u64>,
    items: Vec<(u128, T)>,
    /// The weight of all items.
    pub(super) total: u64,
    /// What an item without a counter weighs at most, what was absorbed aside.
    pub(super) floor: u64,
    slack: u64,
}

impl<T: Default> Summary<T> {
    /// So many counters, at least 1.
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            places: HashMap::default(),
            counts: Vec::new(),
            items: Vec::new(),
            total: 0,
            slack: 0,
            least: 0,
            hand: 0,
        }
    }

    /// Counts an item. It is named when it gets a counter, which may have been another's.
    pub(super) fn add(&mut self, hash: u128, weight: u64, name: impl FnOnce(&mut T)) -> &mut T {
        self.total = self.total.saturating_add(weight);
        let place = match self.places.get(&hash) {
            Some(&place) => place,
            None => {
                let place = self.free();
                self.items[place].0 = hash;
                name(&mut self.items[place].1);
                self.places.insert(hash, place);
                place
            }
        };
        self.counts[place] = self.counts[place].saturating_add(weight);
        &mut self.items[place].1
    }

    /// A counter for an item that has none.
    fn free(&mut self) -> usize {
        if self.counts.len() < self.size {
            self.counts.push(0);
            self.items.push((0, T::default()));
            return self.counts.len() - 1;
        }
        let place = self.find_least();
        self.places.remove(&self.items[place].0);
        place
    }

    /// Most often, several have the least count. Then the next of them is near, and the least need not be looked for.
    fn find_least(&mut self) -> usize {
        let is_least = |count: &u64| *count <= self.least;
        let ahead = self.counts[self.hand..].iter().position(is_least);
        let found = ahead.map(|ahead| self.hand + ahead);
        let found = found.or_else(|| self.counts[..self.hand].iter().position(is_least));
        let place = found.unwrap_or_else(|| {
            self.least = self.minimum();
            let least = |count: &u64| *count == self.least;
            self.counts.iter().position(least).unwrap_or_default()
        });
        self.hand = place;
        place
    }

    fn minimum(&self) -> u64 {
        self.counts.iter().copied().min().unwrap_or_default()
    }

    /// What an item without a counter weighs at most.
    fn floor(&self) -> u64 {
        match self.counts.len() < self.size {
            true => 0,
            false => self.minimum(),
        }
    }

    /// Takes in what was counted elsewhere, as items with their counts for weights.
    pub(super) fn absorb(&mut self, other: &Frozen<T>)
    where
        T: Clone,
    {
        for (hash, count, known) in other.counts() {
            self.add(hash, count, |_| {}).clone_from(known);
        }
        self.slack = self.slack.saturating_add(other.lack());
    }

    /// What is counted so far, and begins anew.
    pub(super) fn take(&mut self) -> Frozen<T> {
        let begun = Self::new(self.size);
        std::mem::replace(self, begun).frozen()
    }

    /// A copy of what is counted so far.
    pub(super) fn copy(&self) -> Arc<Frozen<T>>
    where
        T: Clone,
    {
        Arc::new(Frozen {
            places: self.places.clone(),
            counts: self.counts.clone(),
            items: self.items.clone(),
            total: self.total,
            floor: self.floor(),
            slack: self.slack,
        })
    }

    fn frozen(self) -> Frozen<T> {
        Frozen {
            floor: self.floor(),
            places: self.places,
            counts: self.counts,
            items: self.items,
            total: self.total,
            slack: self.slack,
        }
    }
}

impl<T> Frozen<T> {
    /// What an item without a counter weighs at most. One with a counter weighs at most its count and this, less the
    /// [floor](Self::floor).
    pub(super) fn lack(&self) -> u64 {
        self.floor.saturating_add(self.slack)
    }

    /// How far that is above what it weighs at most.
    pub(super) fn error(&self) -> u64 {
        self.lack().saturating_add(self.slack)
    }

    /// Hashes and counts, and what is known of the items.
    pub(super) fn counts(&self) -> impl Iterator<Item = (u128, u64, &T)> {
        let items = self.items.iter().zip(&self.counts);
        items.map(|((hash, known), &count)| (*hash, count, known))
    }

    /// What is known of an item that has a counter.
    pub(super) fn find(&self, hash: u128) -> Option<&T> {
        self.places.get(&hash).map(|&place| &self.items[place].1)
    }
}
