//! Floods: connections that are closed because they send too many control frames or resets.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;
use crate::telemetry::Throttle;
use crate::time::Micros;

/// Minimum time between two log events about floods.
const WARN_EVERY: Micros = 10_000_000;

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flood {
    /// The client sends too many frames that carry no request.
    ControlFrames,
    /// The client resets too many calls.
    Resets,
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ControlFrames => "too many control frames for its requests",
            Self::Resets => "too many resets for its requests",
        })
    }
}

/// Number of connections of all threads that were closed because of a flood.
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
    /// Returns the number since the server started.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// Counts and logs a flood of one connection.
#[derive(Clone)]
pub struct FloodReporter {
    floods: FloodCount,
    peer: String,
    clock: Clock,
}

impl fmt::Debug for FloodReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FloodReporter")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl FloodReporter {
    /// Creates a reporter for the connection of the client with the address `peer`.
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

    /// Counts and logs the flood, and returns the error that closes the connection.
    pub(super) fn report(&self, flood: Flood) -> io::Error {
        let count = self.floods.count.fetch_add(1, Ordering::Relaxed) + 1;
        if self.floods.warning.passes((self.clock)()) {
            let peer = &self.peer;
            tracing::warn!(%peer, reason = %flood, count, "connection closed because of a flood");
        }
        io::Error::new(io::ErrorKind::ConnectionAborted, flood.to_string())
    }
}
