//! What of the stores is told as metrics, asked for when it is told.

use std::sync::Arc;

use crate::store::FailureKind;
use crate::store::breaker::{Breaker, BreakerState};
use crate::store::denied::Denials;
use crate::store::fallback::Standby;
use crate::store::memory::MemoryStore;
use crate::telemetry::metrics::Metrics;

/// Buckets in memory.
pub(super) fn memory(metrics: &Metrics, store: &Arc<MemoryStore>) {
    let counted = Arc::clone(store);
    let dropped = store.dropped().clone();
    let buckets = move || counted.buckets();
    metrics
        .store
        .in_memory(buckets, store.max_buckets(), dropped);
}

/// Redis, and what stands by for it.
pub(super) fn redis(metrics: &Metrics, standby: &Standby, denials: &Arc<Denials>) {
    let remembered = Arc::clone(denials);
    let store = &metrics.store;
    store.remembered_denials(move || remembered.buckets());
    let local = standby.clone();
    store.fallback_buckets(move || local.buckets());
    let breakers = standby.breakers().to_vec();
    let state = |breaker: &Breaker| match breaker.state() {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    };
    let of_all = breakers.clone();
    store.breaker_state(move || of_all.iter().map(state).max().unwrap_or_default());
    let of_all = breakers.clone();
    store.degraded(move || usize::from(of_all.iter().any(Breaker::is_open)));
    let of_all = breakers.clone();
    store.breaker_opened(move || of_all.iter().map(Breaker::times_opened).sum());
    for kind in FailureKind::ALL {
        let of_all = breakers.clone();
        let failures = move || of_all.iter().map(|breaker| breaker.failures(kind)).sum();
        store.failures(kind.name(), failures);
    }
}
