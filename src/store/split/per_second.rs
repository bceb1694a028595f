//! Two stores: one for limits per second, one for all others.

use std::sync::Arc;
use std::time::Instant;

use super::PartitionedStore;
use crate::key::Placement;
use crate::store::{Charge, Decision, Store, StoreError};

/// The bit that is set in the partitions of the store for limits per second.
const PER_SECOND: u32 = 1 << 31;

/// Stores the buckets of limits per second apart from all others. Each of the two stores can have several partitions.
#[derive(Debug)]
pub struct PerSecond<S> {
    /// Store for limits whose unit is the second, whatever their multiplier.
    pub seconds: S,
    /// Store for all other limits.
    pub others: S,
}

impl<S> PerSecond<S> {
    fn store(&self, charge: &Charge) -> &S {
        match charge.key.placement() {
            Placement::PerSecond => &self.seconds,
            Placement::Common => &self.others,
        }
    }
}

impl<S: PartitionedStore> Store for PerSecond<S> {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: Instant,
    ) -> Result<Decision, StoreError> {
        let store = match charges.first() {
            Some(charge) => self.store(charge),
            None => &self.others,
        };
        store.decide(charges, deadline).await
    }
}

impl<S: PartitionedStore> PartitionedStore for PerSecond<S> {
    fn partition(&self, charge: &Charge) -> u32 {
        let partition = self.store(charge).partition(charge);
        match charge.key.placement() {
            Placement::PerSecond => partition | PER_SECOND,
            Placement::Common => partition,
        }
    }

    fn unavailable(&self, charge: &Charge) -> Option<StoreError> {
        self.store(charge).unavailable(charge)
    }
}
