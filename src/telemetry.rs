//! What the server tells about itself: metrics, traces, logs.
//!
//! Knows nothing of rules, stores or requests: whoever has something to tell is handed what to tell it to.

mod background;
pub mod logs;
pub mod metrics;
pub mod recording;
pub mod statsd;
mod throttle;
pub mod traces;

use std::num::NonZeroUsize;
use std::sync::Arc;

use thiserror::Error;

use background::{Background, Work};
use metrics::{BatchMetrics, Metrics, MetricsSettings, Port};
use statsd::StatsdSettings;
use traces::{TraceSettings, Tracing};

pub use throttle::Throttle;

/// What is decided before the server runs.
#[derive(Debug, Clone, Default)]
pub struct TelemetrySettings {
    /// What is counted, and how.
    pub metrics: MetricsSettings,
    /// The path that Prometheus asks for.
    pub prometheus_path: String,
    /// The daemon that metrics are sent to.
    pub statsd: Option<StatsdSettings>,
    /// Whether to trace.
    pub traces: Option<TraceSettings>,
}

/// All that tells about the server.
#[derive(Debug)]
pub struct Telemetry {
    metrics: Arc<Metrics>,
    tracing: Tracing,
    background: Background,
}

/// Why nothing can be told.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The operating system refused.
    #[error("the thread that tells metrics and traces cannot be made: {0}")]
    Thread(#[from] std::io::Error),
    /// The collector cannot be spoken to as it is to be.
    #[error(
        "traces cannot be sent: {0}; correct the OTEL_EXPORTER_OTLP_ variables, or set TRACING_ENABLED=false"
    )]
    Traces(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// What a store tells its work to.
#[derive(Debug, Clone, Default)]
pub struct StoreProbe {
    /// Counts its calls.
    pub batches: BatchMetrics,
    /// Traces them.
    pub tracing: Tracing,
}

impl Telemetry {
    /// Begins to tell, also at the port for Prometheus if there is one, about a server with so many threads.
    ///
    /// # Errors
    /// When the operating system has no thread for it, or traces cannot be sent as they are to be.
    pub fn start(
        settings: TelemetrySettings,
        threads: NonZeroUsize,
        prometheus: Option<Port>,
    ) -> Result<Self, TelemetryError> {
        let metrics = Arc::new(Metrics::new(settings.metrics.clone(), threads));
        let (background, tracing) = Background::start(Work {
            settings,
            metrics: Arc::clone(&metrics),
            prometheus,
        })?;
        Ok(Self {
            metrics,
            tracing,
            background,
        })
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// What begins spans.
    #[must_use]
    pub fn tracing(&self) -> &Tracing {
        &self.tracing
    }

    /// What a store tells its work to.
    #[must_use]
    pub fn probe(&self) -> StoreProbe {
        StoreProbe {
            batches: self.metrics.store.batches.clone(),
            tracing: self.tracing.clone(),
        }
    }

    /// Tells the rest; takes five seconds at most.
    pub async fn end(self) {
        self.background.end().await;
    }
}
