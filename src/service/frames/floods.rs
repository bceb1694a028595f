//! Connections that are closed because of what they flood the server with.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::scanner::Flood;
use crate::clock::Clock;
use crate::telemetry::Throttle;
use crate::time::Micros;

/// The shortest time between two warnings.
const WARN_EVERY: Micros = 10_000_000;

/// Counts connections that were closed because of too many control frames or resets, for all threads.
#[derive(Debug, Clone)]
pub struct FloodCount {
    count: Arc<AtomicU64>,
    warning: Throttle,
}

impl Default for FloodCount {
    fn default() -> Self {
        Self {
            count: Arc::default(),
            warning: Throttle::every(WARN_EVERY),
        }
    }
}

impl FloodCount {
    /// The number of such connections since the server started.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// What a connection needs to report a flood.
#[derive(Clone)]
pub struct FloodReporter {
    floods: FloodCount,
    peer: String,
    clock: Clock,
}

impl std::fmt::Debug for FloodReporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FloodReporter")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl FloodReporter {
    /// For a connection of `peer`, the address of the client.
    #[must_use]
    pub fn new(floods: FloodCount, peer: String, clock: Clock) -> Self {
        Self {
            floods,
            peer,
            clock,
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Counts and logs that the connection is closed, and returns the error to close it with.
    pub(super) fn closes(&self, flood: Flood) -> io::Error {
        let count = self.floods.count.fetch_add(1, Ordering::Relaxed) + 1;
        if self.floods.warning.passes((self.clock)()) {
            let peer = &self.peer;
            tracing::warn!(%peer, reason = %flood, count, "connection closed because of a flood");
        }
        io::Error::new(io::ErrorKind::ConnectionAborted, flood.to_string())
    }
}
