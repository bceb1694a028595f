//! The gRPC services of a thread.

use std::sync::Arc;
use std::time::Duration;

use tonic::codec::CompressionEncoding::Gzip;
use tonic::service::Routes;

use super::Process;
use super::settings::Settings;
use crate::clock;
use crate::limiter::top::Top;
use crate::limiter::{InForce, Limiter, LimiterSettings, Record, Sample};
use crate::service::pb::DESCRIPTORS;
use crate::service::pb::health::{self as health_pb, health_server::HealthServer};
use crate::service::pb::rate_limit_service_server::RateLimitServiceServer;
use crate::service::{GrpcRouter, HealthService, RateLimit, ResponseSettings, max_message_bytes};
use crate::store::Store;
use crate::telemetry::metrics::{Metrics, Recorder};
use crate::telemetry::recording::Handle;
use crate::telemetry::traces::Tracing;

/// Creates the rate limit service of each thread.
#[derive(Clone)]
pub(super) struct RateLimits {
    rules: Arc<InForce>,
    limiter: LimiterSettings,
    response: ResponseSettings,
    timeout: Option<Duration>,
    min_timeout: Duration,
    tracing: Tracing,
    pub(super) top: Top,
    recording: Option<(Handle, Sample)>,
}

impl RateLimits {
    pub(super) fn new(settings: &Settings, process: &Process, rules: &Arc<InForce>) -> Self {
        let recording = process.recording.as_ref();
        Self {
            rules: Arc::clone(rules),
            limiter: settings.limiter.clone(),
            response: settings.response.clone(),
            timeout: settings.store.timeout(),
            min_timeout: settings.failure.min_store_timeout,
            tracing: process.telemetry.tracing().clone(),
            top: Top::new(settings.ports.top_size),
            recording: recording.map(|(recording, sample)| (recording.handle(), *sample)),
        }
    }

    /// Creates the service over a store.
    pub(super) fn service<S: Store>(&self, store: S, recorder: &Recorder) -> RateLimit<S> {
        let record = self
            .recording
            .as_ref()
            .map(|(recording, sample)| Record::new(recording.lines(), *sample, clock::system()));
        let limiter = Limiter::new(store, Arc::clone(&self.rules), self.limiter.clone())
            .with_timeout(self.timeout)
            .counted_by(recorder.clone())
            .noted_by(self.top.noter())
            .recorded_by(record);
        RateLimit::new(limiter, self.response.clone())
            .with_min_timeout(self.min_timeout)
            .traced_by(self.tracing.clone())
    }
}

/// Creates all gRPC services of each thread.
#[derive(Clone)]
pub(super) struct GrpcServices {
    pub(super) rate_limits: RateLimits,
    pub(super) health: HealthService,
    pub(super) metrics: Arc<Metrics>,
}

impl GrpcServices {
    /// Creates the services of a thread with its store.
    pub(super) fn router<S: Store>(
        &self,
        store: S,
    ) -> anyhow::Result<GrpcRouter<RateLimitServiceServer<RateLimit<S>>>> {
        let recorder = self.metrics.recorder();
        let RateLimits {
            limiter, response, ..
        } = &self.rate_limits;
        let rate_limit = RateLimitServiceServer::new(self.rate_limits.service(store, &recorder))
            .max_decoding_message_size(max_message_bytes(&limiter.bounds))
            .accept_compressed(Gzip);
        let health = HealthServer::new(self.health.clone());
        let others = Routes::new(health.accept_compressed(Gzip))
            .add_service(reflection().build_v1()?.accept_compressed(Gzip))
            .add_service(reflection().build_v1alpha()?.accept_compressed(Gzip))
            .prepare();
        let bad_requests = response.bad_requests.clone();
        Ok(GrpcRouter::new(rate_limit, others, recorder, bad_requests))
    }
}

/// Server reflection, with which grpcurl works without .proto files, in both versions of the protocol.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(health_pb::DESCRIPTORS)
}
