//! Two stores: one for the buckets of limits whose unit is the second, one for all others.

use std::sync::Arc;
use std::time::Instant;

use super::Places;
use crate::key::Placement;
use crate::store::{Charge, Decision, Store, StoreError};

/// Marks the places of the store for limits of a second.
const OF_SECONDS: u32 = 1 << 31;

/// Limits of a second in one store, all others in another; each may have places of its own.
#[derive(Debug)]
pub struct PerSecond<S> {
    /// For limits whose unit is the second, whatever their multiplier.
    pub seconds: S,
    /// For all others.
    pub others: S,
}

impl<S> PerSecond<S> {
    fn of(&self, charge: &Charge) -> &S {
        match charge.key.placement() {
            Placement::PerSecond => &self.seconds,
            Placement::Common => &self.others,
        }
    }
}

impl<S: Places> Store for PerSecond<S> {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: Instant,
    ) -> Result<Decision, StoreError> {
        let store = charges
            .first()
            .map_or(&self.others, |charge| self.of(charge));
        store.decide(charges, deadline).await
    }
}

impl<S: Places> Places for PerSecond<S> {
    fn place(&self, charge: &Charge) -> u32 {
        let place = self.of(charge).place(charge);
        match charge.key.placement() {
            Placement::PerSecond => place | OF_SECONDS,
            Placement::Common => place,
        }
    }

    fn turns_away(&self, charge: &Charge) -> Option<StoreError> {
        self.of(charge).turns_away(charge)
    }
}
