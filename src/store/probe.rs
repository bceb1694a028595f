//! Probes, which check whether a server decides requests.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use super::{Charge, Part, Payment, Store, StoreError};
use crate::bucket::Terms;
use crate::key::{BucketKey, KeyFormat, LimitTag, Segment};

/// A check of whether a server decides requests.
pub trait Probe: Send + Sync + 'static {
    /// Checks the server once. Completes by the deadline.
    ///
    /// # Errors
    /// If the server does not decide.
    fn probe(&self, deadline: Instant) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A probe that charges a bucket which no request can name.
///
/// The charge takes a hit, so that the server must write: a server that only serves reads, or rights that only cover
/// reads, fail the probe.
#[derive(Debug)]
pub struct ChargingProbe<S> {
    store: S,
    charges: Arc<[Charge]>,
}

impl<S: Store> ChargingProbe<S> {
    /// Creates a probe of `store` whose bucket is named by `keys`.
    #[must_use]
    pub fn new(store: S, keys: &KeyFormat) -> Self {
        Self {
            store,
            charges: [probe_charge(probe_key(keys, 1))].into(),
        }
    }
}

impl<S: Store> Probe for ChargingProbe<S> {
    async fn probe(&self, deadline: Instant) -> Result<(), StoreError> {
        let charges = Arc::clone(&self.charges);
        self.store.decide(charges, deadline).await.map(drop)
    }
}

/// Returns the key of a probed bucket by its number, from 1 on. No request can name it, because it is in the domain with the
/// empty name.
pub(crate) fn probe_key(keys: &KeyFormat, number: u32) -> BucketKey {
    let tag = LimitTag {
        index: 0,
        is_window: false,
        override_period: None,
    };
    let number = number.to_string();
    let entries = [(&b"probe"[..], Segment::Value(number.as_bytes()))];
    keys.key(&keys.stem("", entries), tag)
}

/// Returns a charge of one hit on a bucket that is full again after a microsecond.
pub(crate) fn probe_charge(key: BucketKey) -> Charge {
    Charge {
        key,
        terms: Terms::token_bucket(1_000_000, 1_000_000, 1_000_000, 0),
        hits: 1,
        payment: Payment::Prepaid,
        part: Part::Must,
        on_failure: None,
    }
}
