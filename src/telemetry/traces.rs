//! Traces by OpenTelemetry: a span for each call, and one for each round trip to the store, sent by OTLP.
//!
//! A server that is not to trace pays a look at an `Option`; a call that is not sampled pays for the look at its
//! headers and a random number. Spans wait in a bounded queue and are sent by threads of their own; when nobody takes
//! them, they are dropped.

mod export;
mod propagation;
mod span;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;

use propagation::Propagation;

pub use span::{BatchSpan, CallSpan, Caller};

/// Whether to trace, and where to.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    /// How the collector is spoken to. Where it is, the `OTEL_EXPORTER_OTLP_` variables say.
    pub protocol: Protocol,
    /// `service.name`.
    pub service_name: String,
    /// `service.namespace`.
    pub service_namespace: Option<String>,
    /// `service.instance.id`.
    pub service_instance_id: String,
    /// The part of the calls that is traced when the caller has not decided.
    pub sampling_rate: f64,
}

/// How the collector is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP over HTTP, in protobuf.
    Http,
    /// OTLP over gRPC.
    Grpc,
}

/// Begins spans, if there are to be any. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tracing(Option<Arc<Tracer>>);

#[derive(Debug)]
struct Tracer {
    tracer: SdkTracer,
    propagation: Propagation,
}

/// Sends the spans that [`Tracing`] began.
#[derive(Debug)]
pub(super) struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Begins to send, on that runtime.
    pub(super) fn start(
        settings: &TraceSettings,
        runtime: &Handle,
    ) -> Result<(Self, Tracing), ExporterBuildError> {
        let exporter = export::exporter(settings.protocol, runtime)?;
        let namespace = settings.service_namespace.clone();
        let namespace = namespace.map(|name| KeyValue::new("service.namespace", name));
        let instance = settings.service_instance_id.clone();
        let resource = Resource::builder()
            .with_service_name(settings.service_name.clone())
            .with_attributes(namespace)
            .with_attribute(KeyValue::new("service.instance.id", instance))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let sampler = Sampler::TraceIdRatioBased(settings.sampling_rate);
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .with_resource(resource)
            .build();
        let tracer = Tracer {
            tracer: provider.tracer(env!("CARGO_PKG_NAME")),
            propagation: Propagation::new(),
        };
        Ok((Self { provider }, Tracing(Some(Arc::new(tracer)))))
    }

    /// Sends what waits; takes so long at most. Blocks.
    pub(super) fn end(&self, patience: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(patience) {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}
