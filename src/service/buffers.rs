//! Bounds the memory of requests that are still arriving and of responses that are not being read.
//!
//! A client can begin a thousand requests on each connection and complete none of them, or complete them and read none
//! of the responses. Both are counted per connection and per thread. When a thread holds too much, the connection that
//! holds the most pays for it: its oldest incomplete request is rejected, or the connection is closed. Other clients
//! are not affected.

mod connection_usage;
mod request;
mod response;

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use crate::clock::Clock;
use crate::telemetry::Throttle;
use crate::time::Micros;

use connection_usage::ConnectionUsage;
pub(super) use request::RequestBody;
pub(super) use response::MAX_SEND_BUFFER;
pub(super) use response::ResponseBody;

/// Maximum time in which a client must read at least a part of the responses that wait for it.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Minimum time between two log events of the same kind.
const LOG_EVERY: Micros = 10_000_000;

/// Maximum number of bytes that all connections together can hold of incomplete requests, and of responses that wait to
/// be sent. Clients rarely leave anything of either for longer than a moment.
const MAX_INCOMPLETE: usize = 64 << 20;
const MAX_UNREAD: usize = 64 << 20;

/// Maximum number of bytes that the connections of one thread can hold.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    incomplete: usize,
    unread: usize,
}

/// The bounds of each thread, and how often they were exceeded on all threads.
#[derive(Debug, Clone)]
pub(crate) struct BufferLimits {
    bounds: Bounds,
    counts: Arc<Counts>,
    incomplete_log: Throttle,
    unread_log: Throttle,
}

#[derive(Debug, Default)]
struct Counts {
    evicted: AtomicU64,
    timed_out: AtomicU64,
    unread: AtomicU64,
}

impl BufferLimits {
    /// Creates the limits of a server with this number of threads.
    #[must_use]
    pub(crate) fn shared_by(threads: NonZeroUsize) -> Self {
        Self::new(Bounds {
            incomplete: MAX_INCOMPLETE / threads,
            unread: MAX_UNREAD / threads,
        })
    }

    fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            counts: Arc::default(),
            incomplete_log: Throttle::every(LOG_EVERY),
            unread_log: Throttle::every(LOG_EVERY),
        }
    }

    /// Returns the number of incomplete requests that were rejected to make room for others.
    #[must_use]
    pub(crate) fn evicted(&self) -> u64 {
        self.counts.evicted.load(Relaxed)
    }

    /// Returns the number of requests that were rejected because they did not arrive completely in time.
    #[must_use]
    pub(crate) fn timed_out(&self) -> u64 {
        self.counts.timed_out.load(Relaxed)
    }

    /// Returns the number of connections that were closed because their responses were not read.
    #[must_use]
    pub(crate) fn unread(&self) -> u64 {
        self.counts.unread.load(Relaxed)
    }
}

/// The buffers of the connections of one thread.
#[derive(Clone)]
pub(super) struct Buffers(Arc<ThreadUsage>);

/// Number of bytes that the connections of one thread hold.
struct ThreadUsage {
    limits: BufferLimits,
    incomplete: AtomicUsize,
    unread: AtomicUsize,
    connections: Mutex<HashMap<u64, Arc<ConnectionUsage>>>,
    clock: Clock,
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers")
            .field("limits", &self.0.limits)
            .finish_non_exhaustive()
    }
}

impl Buffers {
    /// Creates the buffers of a thread without connections.
    #[must_use]
    pub(super) fn new(limits: BufferLimits, clock: Clock) -> Self {
        Self(Arc::new(ThreadUsage {
            limits,
            incomplete: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
            connections: Mutex::default(),
            clock,
        }))
    }

    /// Adds a connection. `number` identifies it on this thread.
    pub(super) fn connection(&self, number: u64, peer: &str) -> ConnectionBuffers {
        let usage = Arc::new(ConnectionUsage::new(&self.0, peer));
        self.0.connections().insert(number, Arc::clone(&usage));
        ConnectionBuffers { number, usage }
    }
}

impl ThreadUsage {
    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Arc<ConnectionUsage>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the open connection that holds the most bytes.
    fn largest(&self, bytes: impl Fn(&ConnectionUsage) -> usize) -> Option<Arc<ConnectionUsage>> {
        let connections = self.connections();
        let open = connections
            .values()
            .filter(|usage| !usage.is_closed.load(Relaxed));
        open.max_by_key(|usage| bytes(usage)).cloned()
    }

    /// Rejects incomplete requests until the others are within the bound.
    fn evict_requests(&self) {
        while self.incomplete.load(Relaxed) > self.limits.bounds.incomplete {
            let largest = self.largest(|usage| usage.incomplete.load(Relaxed));
            let Some(evicted) = largest.filter(|usage| usage.evict_oldest()) else {
                return;
            };
            let count = self.limits.counts.evicted.fetch_add(1, Relaxed) + 1;
            if self.limits.incomplete_log.passes((self.clock)()) {
                tracing::warn!(
                    peer = %evicted.peer,
                    held_bytes = evicted.incomplete.load(Relaxed),
                    count,
                    "too many incomplete requests, rejecting the oldest one of the connection that holds the most"
                );
            }
        }
    }

    /// Closes connections until the unread responses of the others are within the bound.
    fn close_unread(&self) {
        while self.unread.load(Relaxed) > self.limits.bounds.unread {
            let Some(largest) = self.largest(|usage| usage.unread.load(Relaxed)) else {
                return;
            };
            largest.close_unread();
        }
    }

    /// Counts and logs a request that did not arrive completely in time.
    fn request_timed_out(&self, peer: &str) {
        let count = self.limits.counts.timed_out.fetch_add(1, Relaxed) + 1;
        if self.limits.incomplete_log.passes((self.clock)()) {
            tracing::warn!(%peer, count, "request did not arrive completely in time, rejecting it");
        }
    }
}

/// The buffers of one connection, until it ends.
#[derive(Debug)]
pub(super) struct ConnectionBuffers {
    number: u64,
    usage: Arc<ConnectionUsage>,
}

impl ConnectionBuffers {
    /// Returns a handle for the bodies of the requests and responses of the connection.
    pub(super) fn usage(&self) -> Arc<ConnectionUsage> {
        Arc::clone(&self.usage)
    }

    /// Waits until the connection must be closed because its responses are not read.
    pub(super) async fn unread(&self) {
        let usage = &self.usage;
        let stalled = async {
            let mut reads = usage.reads.load(Relaxed);
            loop {
                sleep(READ_TIMEOUT).await;
                let later = usage.reads.load(Relaxed);
                if later == reads && usage.unread.load(Relaxed) > 0 {
                    return usage.close_unread();
                }
                reads = later;
            }
        };
        tokio::select! {
            () = usage.close.notified() => {}
            () = stalled => {}
        }
    }
}

impl Drop for ConnectionBuffers {
    fn drop(&mut self) {
        self.usage.thread.connections().remove(&self.number);
    }
}

#[cfg(test)]
mod tests;
