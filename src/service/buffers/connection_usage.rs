//! The bytes of incomplete requests and unread responses of one connection.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::ThreadUsage;
use super::request::IncompleteRequest;
use crate::service::health::ConnectionWatches;

/// Number of bytes that one connection holds.
pub(in crate::service) struct ConnectionUsage {
    pub(super) thread: Arc<ThreadUsage>,
    pub(super) peer: String,
    pub(super) incomplete: AtomicUsize,
    pub(super) unread: AtomicUsize,
    /// Number of parts of responses that the client has read.
    pub(super) reads: AtomicU64,
    /// Incomplete requests in the order in which their first part arrived.
    requests: Mutex<BTreeMap<u64, Arc<IncompleteRequest>>>,
    pub(super) next_request: AtomicU64,
    /// The connection is being closed. Its bytes do not count for the thread any more.
    pub(super) is_closed: AtomicBool,
    pub(super) close: Notify,
    pub(super) watches: ConnectionWatches,
}

impl fmt::Debug for ConnectionUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionUsage")
            .field("peer", &self.peer)
            .field("incomplete", &self.incomplete)
            .field("unread", &self.unread)
            .finish_non_exhaustive()
    }
}

impl ConnectionUsage {
    pub(super) fn new(thread: &Arc<ThreadUsage>, peer: &str) -> Self {
        Self {
            thread: Arc::clone(thread),
            peer: peer.to_owned(),
            incomplete: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
            reads: AtomicU64::new(0),
            requests: Mutex::default(),
            next_request: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            close: Notify::new(),
            watches: ConnectionWatches::default(),
        }
    }

    pub(super) fn requests(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<IncompleteRequest>>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rejects the oldest incomplete request. Returns whether there was one.
    pub(super) fn evict_oldest(&self) -> bool {
        let Some((_, oldest)) = self.requests().pop_first() else {
            return false;
        };
        self.release_request(&oldest);
        oldest.reject();
        true
    }

    /// Stops counting the bytes of a request.
    pub(super) fn release_request(&self, request: &IncompleteRequest) {
        let bytes = request.bytes.swap(0, Relaxed);
        self.incomplete.fetch_sub(bytes, Relaxed);
        self.thread.incomplete.fetch_sub(bytes, Relaxed);
    }

    /// Counts bytes of a response that wait to be sent.
    pub(super) fn add_unread(&self, bytes: usize) {
        self.unread.fetch_add(bytes, Relaxed);
        if !self.is_closed.load(Relaxed)
            && self.thread.unread.fetch_add(bytes, Relaxed) + bytes
                > self.thread.limits.bounds.unread
        {
            self.thread.close_unread();
        }
    }

    /// Stops counting bytes of a response that were sent, or never will be.
    pub(super) fn remove_unread(&self, bytes: usize) {
        self.unread.fetch_sub(bytes, Relaxed);
        if !self.is_closed.load(Relaxed) {
            self.thread.unread.fetch_sub(bytes, Relaxed);
        }
    }

    /// Closes the connection because its responses are not read.
    pub(super) fn close_unread(&self) {
        if self.is_closed.swap(true, Relaxed) {
            return;
        }
        let (thread, bytes) = (&self.thread, self.unread.load(Relaxed));
        thread.unread.fetch_sub(bytes, Relaxed);
        let count = thread.limits.counts.unread.fetch_add(1, Relaxed) + 1;
        if thread.limits.unread_log.passes((thread.clock)()) {
            tracing::warn!(
                peer = %self.peer,
                unread_bytes = bytes,
                count,
                "client does not read its responses, closing its connection"
            );
        }
        self.close.notify_one();
    }
}
