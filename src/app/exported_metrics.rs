//! What of stores and certificates is told as metrics, asked for when it is told.

use std::path::PathBuf;
use std::sync::Arc;

use super::ports::View;
use crate::source::Origin;
use crate::store::FailureKind;
use crate::store::breaker::{Breaker, BreakerState};
use crate::store::denied::Denials;
use crate::store::fallback::Standby;
use crate::store::memory::MemoryStore;
use crate::store::redis::BucketsSettings;
use crate::store::split::GiveBacks;
use crate::telemetry::metrics::{ConnectionCounts, Metrics};
use crate::telemetry::recording::Recording;
use crate::tls::{Certificates, Validity, validity_in};

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
    let state = |breaker: &Breaker| match breaker.condition().state {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    };
    let of_all = breakers.clone();
    store.breaker_state(move || of_all.iter().map(state).max().unwrap_or_default());
    let of_all = standby.clone();
    store.degraded(move || usize::from(of_all.is_degraded()));
    let of_all = breakers.clone();
    store.breaker_opened(move || of_all.iter().map(Breaker::times_opened).sum());
    for kind in FailureKind::ALL {
        let of_all = breakers.clone();
        let failures = move || of_all.iter().map(|breaker| breaker.failures(kind)).sum();
        store.failures(kind.name(), failures);
    }
}

/// Requests that are recorded.
pub(super) fn recording(metrics: &Metrics, recording: &Recording) {
    let (written, dropped) = (recording.counts(), recording.counts());
    metrics.recorded(move || written.written(), move || dropped.dropped());
}

/// What becomes of hits that were taken in vain.
pub(super) fn give_backs(metrics: &Metrics, give_backs: &GiveBacks) {
    let counts = give_backs.clone();
    metrics
        .store
        .give_backs("given_back", move || counts.given());
    let counts = give_backs.clone();
    metrics.store.give_backs("lost", move || counts.lost());
}

/// The certificates of the gRPC server, and the one that management servers are shown, where there are any.
pub(super) fn certificates(
    metrics: &Metrics,
    grpc: Option<&Arc<Certificates>>,
    rules_come_from: &Origin,
) {
    if let Some(certificates) = grpc {
        certificates_of_grpc(metrics, certificates);
    }
    if let Origin::Xds(settings) = rules_come_from {
        let identity = settings.tls.as_ref().and_then(|tls| tls.identity.as_ref());
        let path = identity.map(|(certificate, _)| certificate.clone());
        files_expire(metrics, "xds", path.into_iter().collect());
    }
}

fn certificates_of_grpc(metrics: &Metrics, certificates: &Arc<Certificates>) {
    let of = Arc::clone(certificates);
    metrics.certificate_valid("grpc", move || of.validity().map(bounds));
    let (used, unusable) = (Arc::clone(certificates), Arc::clone(certificates));
    metrics.certificate_rotations(move || used.rotations(), move || unusable.failures());
}

/// The certificates that servers of Redis are shown, if there are any.
pub(super) fn certificates_for_redis(metrics: &Metrics, redis: &BucketsSettings) {
    let all = [&redis.others].into_iter().chain(&redis.seconds);
    let client = all.filter_map(|redis| redis.tls.as_ref()?.client.as_ref());
    let paths = client.map(|client| client.certificate.clone()).collect();
    files_expire(metrics, "redis", paths);
}

/// Exports the validity of the certificate in `files` that expires first. The files are read at each scrape, as their users
/// read them for each connection.
fn files_expire(metrics: &Metrics, used_for: &str, files: Vec<PathBuf>) {
    if !files.is_empty() {
        let validity = move || {
            let all = files.iter().filter_map(|file| validity_in(file));
            all.min_by_key(|validity| validity.end).map(bounds)
        };
        metrics.certificate_valid(used_for, validity);
    }
}

fn bounds(validity: Validity) -> [u64; 2] {
    [validity.start, validity.end]
}

/// Exports the connections of the gRPC port.
pub(super) fn connections(metrics: &Metrics, view: &View) {
    let (places, failures, floods, buffers) = (
        view.places.clone(),
        view.failures.clone(),
        view.floods.clone(),
        view.buffers.clone(),
    );
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    metrics.grpc_connections(
        &(Arc::new(move || ConnectionCounts {
            open: count(places.taken()),
            max: count(places.count()),
            accepted: places.accepted(),
            rejected: places.refused(),
            failed: failures.count(),
            flooded: floods.count(),
            unread: buffers.unread(),
            evicted: buffers.evicted(),
            late: buffers.late(),
        }) as _),
    );
}
