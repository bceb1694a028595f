//! Bounds the memory of requests that are still arriving and of responses that are not being read.
//!
//! A client can begin a thousand requests on each connection and complete none of them, or complete them and read
//! none of the responses. Both are counted per connection and per thread. When a thread holds too much, the
//! connection that holds the most pays for it: its oldest incomplete request is rejected, or the connection is
//! closed. Other clients are not affected.

mod request;
mod response;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::telemetry::Throttle;
use crate::time::Micros;

use request::Arriving;
pub use request::RequestBody;
pub(super) use response::MAX_SEND_BUFFER;
pub use response::ResponseBody;

/// How long a client may take to read any part of the responses that wait for it.
const READ_TIME: Duration = Duration::from_secs(20);

/// The shortest time between two log lines about the same kind of client.
const LOG_EVERY: Micros = 10_000_000;

/// Bytes that all connections together may hold of incomplete requests, and of responses that wait to be sent. Few clients
/// leave anything of either for longer than a moment.
const MAX_INCOMPLETE: usize = 64 << 20;
const MAX_UNREAD: usize = 64 << 20;

/// The most bytes that the connections of one thread may hold.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    incomplete: usize,
    unread: usize,
}

/// The bounds of each thread, and how often clients that held too much were stopped on all of them.
#[derive(Debug, Clone)]
pub struct BufferLimits {
    bounds: Bounds,
    counts: Arc<Counts>,
    incomplete_log: Throttle,
    unread_log: Throttle,
}

#[derive(Debug, Default)]
struct Counts {
    evicted: AtomicU64,
    late: AtomicU64,
    unread: AtomicU64,
}

impl BufferLimits {
    /// The limits of a server with so many threads.
    #[must_use]
    pub fn shared_by(threads: NonZeroUsize) -> Self {
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

    /// Incomplete requests that were rejected to make room for others.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.counts.evicted.load(Relaxed)
    }

    /// Requests that were rejected because they did not arrive in time.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.counts.late.load(Relaxed)
    }

    /// Connections that were closed because their responses were not read.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.counts.unread.load(Relaxed)
    }
}

/// What the connections of one thread hold.
#[derive(Clone)]
pub(super) struct Buffers(Arc<Thread>);

struct Thread {
    limits: BufferLimits,
    incomplete: AtomicUsize,
    unread: AtomicUsize,
    connections: Mutex<HashMap<u64, Arc<Held>>>,
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
    /// The buffers of a thread that serves connections.
    #[must_use]
    pub(super) fn new(limits: BufferLimits, clock: Clock) -> Self {
        Self(Arc::new(Thread {
            limits,
            incomplete: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
            connections: Mutex::default(),
            clock,
        }))
    }

    /// The buffers of a connection. `number` is its own on this thread.
    pub(super) fn connection(&self, number: u64, peer: &str) -> ConnectionBuffers {
        let held = Arc::new(Held {
            thread: Arc::clone(&self.0),
            peer: peer.to_owned(),
            incomplete: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
            reads: AtomicU64::new(0),
            arriving: Mutex::default(),
            begun: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            close: Notify::new(),
        });
        self.0.connections().insert(number, Arc::clone(&held));
        ConnectionBuffers { number, held }
    }
}

impl Thread {
    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Arc<Held>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The open connection that holds the most.
    fn largest(&self, bytes: impl Fn(&Held) -> usize) -> Option<Arc<Held>> {
        let connections = self.connections();
        let open = connections
            .values()
            .filter(|held| !held.is_closed.load(Relaxed));
        open.max_by_key(|held| bytes(held)).cloned()
    }

    /// Rejects incomplete requests until the others fit.
    fn evict_requests(&self) {
        while self.incomplete.load(Relaxed) > self.limits.bounds.incomplete {
            let largest = self.largest(|held| held.incomplete.load(Relaxed));
            let Some(evicted) = largest.filter(|held| held.evict_oldest()) else {
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

    /// Closes connections until what the others do not read fits.
    fn close_unread(&self) {
        while self.unread.load(Relaxed) > self.limits.bounds.unread {
            let Some(largest) = self.largest(|held| held.unread.load(Relaxed)) else {
                return;
            };
            largest.close_unread();
        }
    }

    fn is_late(&self, peer: &str) {
        let count = self.limits.counts.late.fetch_add(1, Relaxed) + 1;
        if self.limits.incomplete_log.passes((self.clock)()) {
            tracing::warn!(%peer, count, "a request did not arrive completely in time, rejecting it");
        }
    }
}

/// The buffers of one connection, until it ends.
#[derive(Debug)]
pub(super) struct ConnectionBuffers {
    number: u64,
    held: Arc<Held>,
}

impl ConnectionBuffers {
    /// A handle for the bodies of the connection's requests and responses.
    pub(super) fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held)
    }

    /// Waits until the connection must be closed because its responses are not read.
    pub(super) async fn unread(&self) {
        let held = &self.held;
        let stalled = async {
            let mut reads = held.reads.load(Relaxed);
            loop {
                sleep(READ_TIME).await;
                let later = held.reads.load(Relaxed);
                if later == reads && held.unread.load(Relaxed) > 0 {
                    return held.close_unread();
                }
                reads = later;
            }
        };
        tokio::select! {
            () = held.close.notified() => {}
            () = stalled => {}
        }
    }
}

impl Drop for ConnectionBuffers {
    fn drop(&mut self) {
        self.held.thread.connections().remove(&self.number);
    }
}

/// What a connection holds.
pub(super) struct Held {
    thread: Arc<Thread>,
    peer: String,
    incomplete: AtomicUsize,
    unread: AtomicUsize,
    /// Parts of responses that the client has made room for.
    reads: AtomicU64,
    /// Requests of which a part has arrived, by their order.
    arriving: Mutex<BTreeMap<u64, Arc<Arriving>>>,
    begun: AtomicU64,
    /// The connection is being closed: nothing of it counts for the thread any more.
    is_closed: AtomicBool,
    close: Notify,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("peer", &self.peer)
            .field("incomplete", &self.incomplete)
            .field("unread", &self.unread)
            .finish_non_exhaustive()
    }
}

impl Held {
    fn arriving(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Arriving>>> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rejects the oldest incomplete request. Returns whether there was one.
    fn evict_oldest(&self) -> bool {
        let Some((_, oldest)) = self.arriving().pop_first() else {
            return false;
        };
        self.forget_request(&oldest);
        oldest.reject();
        true
    }

    fn forget_request(&self, arriving: &Arriving) {
        let bytes = arriving.bytes.swap(0, Relaxed);
        self.incomplete.fetch_sub(bytes, Relaxed);
        self.thread.incomplete.fetch_sub(bytes, Relaxed);
    }

    /// Counts bytes of a response that wait to be sent.
    fn add_unread(&self, bytes: usize) {
        self.unread.fetch_add(bytes, Relaxed);
        if !self.is_closed.load(Relaxed)
            && self.thread.unread.fetch_add(bytes, Relaxed) + bytes
                > self.thread.limits.bounds.unread
        {
            self.thread.close_unread();
        }
    }

    /// Counts bytes of a response that are sent, or will never be.
    fn remove_unread(&self, bytes: usize) {
        self.unread.fetch_sub(bytes, Relaxed);
        if !self.is_closed.load(Relaxed) {
            self.thread.unread.fetch_sub(bytes, Relaxed);
        }
    }

    /// Has the connection closed.
    fn close_unread(&self) {
        if self.is_closed.swap(true, Relaxed) {
            return;
        }
        let (thread, bytes) = (&self.thread, self.unread.load(Relaxed));
        thread.unread.fetch_sub(bytes, Relaxed);
        let count = thread.limits.counts.unread.fetch_add(1, Relaxed) + 1;
        if thread.limits.unread_log.passes((thread.clock)()) {
            tracing::warn!(peer = %self.peer, unread_bytes = bytes, count, "a client does not read its responses, closing its connection");
        }
        self.close.notify_one();
    }
}

#[cfg(test)]
mod tests;
