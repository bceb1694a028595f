//! A node of a cluster, as all threads of a server know it: whether it is worth asking.

use std::sync::atomic::{AtomicU64, Ordering};

use super::shown;
use super::slots::Address;
use crate::store::breaker::Breaker;

/// A node of a cluster.
#[derive(Debug)]
pub struct Node {
    pub(super) address: Address,
    breaker: Breaker,
    /// Requests for it that it did not decide.
    undecided: AtomicU64,
}

impl Node {
    /// One that nothing is known of.
    pub(super) fn new(address: &Address, breaker: Breaker) -> Self {
        Self {
            address: address.clone(),
            breaker,
            undecided: AtomicU64::new(0),
        }
    }

    /// Whether requests for it wait.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// How many requests for it were not decided by it.
    #[must_use]
    pub fn undecided(&self) -> u64 {
        self.undecided.load(Ordering::Relaxed)
    }

    /// A request was not decided.
    pub(super) fn count_undecided(&self) {
        self.undecided.fetch_add(1, Ordering::Relaxed);
    }

    /// Where it is, for people.
    pub(super) fn shown(&self) -> String {
        shown(&self.address)
    }
}
