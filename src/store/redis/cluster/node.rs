//! A node of a cluster, shared by all threads of a server.

use std::sync::atomic::{AtomicU64, Ordering};

use super::shown;
use super::slots::Address;
use crate::store::breaker::Breaker;

/// A node of a cluster.
#[derive(Debug)]
pub struct Node {
    pub(super) address: Address,
    breaker: Breaker,
    /// Number of requests that it did not decide.
    undecided: AtomicU64,
}

impl Node {
    /// Creates a node.
    pub(super) fn new(address: &Address, breaker: Breaker) -> Self {
        Self {
            address: address.clone(),
            breaker,
            undecided: AtomicU64::new(0),
        }
    }

    /// Returns its breaker.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Returns the number of requests that it did not decide.
    #[must_use]
    pub fn undecided(&self) -> u64 {
        self.undecided.load(Ordering::Relaxed)
    }

    /// Counts a request that it did not decide.
    pub(super) fn count_undecided(&self) {
        self.undecided.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns its address for logs and errors.
    pub(super) fn shown(&self) -> String {
        shown(&self.address)
    }
}
