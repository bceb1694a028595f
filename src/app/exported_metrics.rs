//! Metrics of stores, connections and certificates, whose values are read when metrics are exported.

use std::path::PathBuf;
use std::sync::Arc;

use crate::service::SharedConnections;
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

/// Exports the buckets in memory.
pub(super) fn memory(metrics: &Metrics, store: &Arc<MemoryStore>) {
    let (counted, dropping) = (Arc::clone(store), Arc::clone(store));
    metrics.store.in_memory(
        move || counted.buckets(),
        store.max_buckets(),
        move || dropping.dropped(),
    );
}

/// Exports the state of Redis and of the failure policies.
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
    let all = breakers.clone();
    store.breaker_state(move || all.iter().map(state).max().unwrap_or_default());
    let policies = standby.clone();
    store.degraded(move || usize::from(policies.is_degraded()));
    let all = breakers.clone();
    store.breaker_opened(move || all.iter().map(Breaker::times_opened).sum());
    for kind in FailureKind::ALL {
        let all = breakers.clone();
        let failures = move || all.iter().map(|breaker| breaker.failures(kind)).sum();
        store.failures(kind.name(), failures);
    }
}

/// Exports the number of recorded requests.
pub(super) fn recording(metrics: &Metrics, recording: &Recording) {
    let (written, dropped) = (recording.counts(), recording.counts());
    metrics.recorded(move || written.written(), move || dropped.dropped());
}

/// Exports the number of hits that were charged for denied requests and then given back.
pub(super) fn give_backs(metrics: &Metrics, give_backs: &GiveBacks) {
    let counts = give_backs.clone();
    metrics
        .store
        .give_backs("given_back", move || counts.given());
    let counts = give_backs.clone();
    metrics.store.give_backs("lost", move || counts.lost());
}

/// Exports the validity of the certificates of the gRPC port and of the xDS client.
pub(super) fn certificates(metrics: &Metrics, grpc: Option<&Arc<Certificates>>, origin: &Origin) {
    if let Some(certificates) = grpc {
        certificates_of_grpc(metrics, certificates);
    }
    if let Origin::Xds(settings) = origin {
        let identity = settings.tls.as_ref().and_then(|tls| tls.identity.as_ref());
        let path = identity.map(|(certificate, _)| certificate.clone());
        files_expire(metrics, "xds", path.into_iter().collect());
    }
}

fn certificates_of_grpc(metrics: &Metrics, certificates: &Arc<Certificates>) {
    let current = Arc::clone(certificates);
    metrics.certificate_valid("grpc", move || current.validity().map(bounds));
    let (used, unusable) = (Arc::clone(certificates), Arc::clone(certificates));
    metrics.certificate_rotations(move || used.rotations(), move || unusable.failures());
}

/// Exports the validity of the client certificates for Redis.
pub(super) fn certificates_for_redis(metrics: &Metrics, redis: &BucketsSettings) {
    let all = [&redis.others].into_iter().chain(&redis.seconds);
    let client = all.filter_map(|redis| redis.tls.as_ref()?.client.as_ref());
    let paths = client.map(|client| client.certificate.clone()).collect();
    files_expire(metrics, "redis", paths);
}

/// Exports the validity of the certificate in `files` that expires first. The files are read for each export, because
/// they are also read for each connection.
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
pub(super) fn connections(metrics: &Metrics, connections: &SharedConnections) {
    let SharedConnections {
        limit,
        failed,
        floods,
        buffers,
        ..
    } = connections.clone();
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    metrics.grpc_connections(
        &(Arc::new(move || ConnectionCounts {
            open: count(limit.open()),
            max: count(limit.max()),
            accepted: limit.accepted(),
            rejected: limit.rejected(),
            failed: failed.count(),
            flooded: floods.get(),
            unread: buffers.unread(),
            evicted: buffers.evicted(),
            late: buffers.timed_out(),
        }) as _),
    );
}
