//! Settings of the server, which are complete and valid before it starts.

use std::num::NonZeroUsize;
use std::time::Duration;

use tokio::sync::watch;

use super::health::HealthSettings;
use crate::limiter::{LimiterSettings, Sample};
use crate::rules::LoadOptions;
use crate::service::{AdminToken, ConnectionSettings, ResponseSettings};
use crate::source::Origin;
use crate::store::fallback::FallbackSettings;
use crate::store::redis::BucketsSettings;
use crate::telemetry::TelemetrySettings;
use crate::telemetry::recording::RecordingSettings;
use crate::tls::ServerTls;

/// Settings of the server.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where the configuration comes from.
    pub origin: Origin,
    /// How the configuration is loaded.
    pub load: LoadOptions,
    /// Where buckets are stored.
    pub store: StoreSettings,
    /// What happens while Redis is unavailable.
    pub failure: FailureSettings,
    /// How requests are decided.
    pub limiter: LimiterSettings,
    /// What responses contain.
    pub response: ResponseSettings,
    /// Which metrics and traces are exported.
    pub telemetry: TelemetrySettings,
    /// Where requests are recorded, and which part of them; `None` for no recording.
    pub recording: Option<(RecordingSettings, Sample)>,
    /// Number of worker threads.
    pub threads: NonZeroUsize,
    /// How the server shuts down.
    pub shutdown: ShutdownSettings,
    /// Settings of the ports.
    pub ports: PortSettings,
}

/// How the server shuts down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShutdownSettings {
    /// Time in which the server reports NOT_SERVING and still accepts requests.
    pub delay: Duration,
    /// Maximum time after that for requests in flight to complete.
    pub grace: Duration,
}

/// Where buckets are stored.
#[derive(Debug, Clone)]
pub(crate) enum StoreSettings {
    /// In this process.
    Memory {
        /// Maximum number of buckets.
        max_buckets: usize,
    },
    /// In Redis.
    Redis(Box<BucketsSettings>),
}

impl StoreSettings {
    /// Returns the maximum time for a decision; `None` if the store does no I/O.
    pub(super) fn timeout(&self) -> Option<Duration> {
        match self {
            Self::Memory { .. } => None,
            Self::Redis(redis) => Some(redis.timeout()),
        }
    }
}

/// What happens to requests, and to the health of the server, while Redis is unavailable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FailureSettings {
    /// The failure policy.
    pub fallback: FallbackSettings,
    /// Minimum time that Redis gets for a decision, also if the deadline of the caller is earlier.
    pub min_store_timeout: Duration,
    /// Whether the server is healthy only while Redis is available.
    pub health_follows: bool,
}

/// Settings of the ports.
#[derive(Debug, Clone)]
pub(crate) struct PortSettings {
    /// Limits of gRPC connections.
    pub connections: ConnectionSettings,
    /// Certificates of the gRPC port; `None` for plaintext.
    pub tls: Option<ServerTls>,
    /// Maximum number of connections to each HTTP port.
    pub http_connections: usize,
    /// When the server is healthy.
    pub health: HealthSettings,
    /// Token that allows changes through the admin API; `None` makes it read-only.
    pub admin_token: Option<AdminToken>,
    /// Number of counters per thread and time slice for buckets with many hits; 0 disables counting.
    pub top_size: usize,
    /// Changes when files must be read again although no change was noticed.
    pub reread: watch::Receiver<()>,
}
