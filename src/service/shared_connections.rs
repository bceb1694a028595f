//! What the gRPC servers of all threads share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::buffers::BufferLimits;
use super::connections::ConnectionLimit;
use super::frames::FloodCount;
use crate::telemetry::Throttle;
use crate::time::Micros;
use crate::tls::Certificates;

/// Minimum time between two log events about connections that could not be opened.
const WARN_EVERY: Micros = 10_000_000;

/// What the gRPC servers of all threads share: the limit of connections, and the number of those that were closed for a
/// reason.
#[derive(Debug, Clone)]
pub(crate) struct SharedConnections {
    /// Certificates of the TLS handshake; `None` for plaintext.
    pub certificates: Option<Arc<Certificates>>,
    /// Maximum number of connections.
    pub limit: ConnectionLimit,
    /// Connections that could not be opened.
    pub failed: FailedConnections,
    /// Connections that were closed because of a flood.
    pub floods: FloodCount,
    /// Limits of incomplete requests and unread responses.
    pub buffers: BufferLimits,
}

/// Connections of all threads that failed before the first request.
#[derive(Debug, Clone)]
pub(crate) struct FailedConnections {
    count: Arc<AtomicU64>,
    warning: Throttle,
}

impl Default for FailedConnections {
    fn default() -> Self {
        Self {
            count: Arc::default(),
            warning: Throttle::every(WARN_EVERY),
        }
    }
}

impl FailedConnections {
    /// Returns the number since the server started.
    #[must_use]
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, peer: &str, error: &io::Error, now: Micros) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if self.warning.passes(now) {
            tracing::warn!(%peer, %error, count, "client cannot connect");
        }
    }
}
