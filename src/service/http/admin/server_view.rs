//! The state of the server that the admin API reads.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::limiter::InForce;
use crate::limiter::top::Top;
use crate::source::History;
use crate::store::OnStoreFailure;
use crate::store::denied::Denials;
use crate::store::fallback::Standby;
use crate::store::memory::MemoryStore;
use crate::telemetry::Throttle;
use crate::telemetry::metrics::Metrics;
use crate::time::Micros;

/// Minimum time between two log events about rejected changes.
const WARN_EVERY: Micros = 1_000_000;

/// Maximum number of clients that read the whole configuration at the same time.
const MAX_READERS: usize = 8;

/// The state of a server.
pub(crate) struct ServerView {
    /// Host name.
    pub instance: String,
    /// When the server started.
    pub started: Instant,
    /// Clock of the server.
    pub clock: Clock,
    /// Returns whether the server reports SERVING.
    pub is_healthy: Box<dyn Fn() -> bool + Send + Sync>,
    /// Metrics of the server.
    pub metrics: Arc<Metrics>,
    /// The active rules.
    pub rules: Arc<InForce>,
    /// The latest accepted and rejected configuration.
    pub history: History,
    /// Where configurations come from.
    pub source: SourceView,
    /// Where buckets are stored.
    pub store: StoreView,
    /// Buckets with the most hits.
    pub top: Top,
    /// Throttles log events about rejected changes.
    pub rejections: Throttle,
    /// Held by the search for rules that is running: there is one at a time.
    pub search: Mutex<()>,
    /// A permit for each client that may read the whole configuration at the same time.
    pub readers: Arc<Semaphore>,
}

/// Where configurations come from.
#[derive(Debug, Clone)]
pub(crate) struct SourceView {
    /// Path of the file or directory, or address of the management server.
    pub origin: String,
    /// Whether the management server is connected; `None` with files.
    pub connected: Option<Arc<AtomicBool>>,
}

/// Where buckets are stored.
#[derive(Debug, Clone)]
pub(crate) enum StoreView {
    /// In memory.
    Memory(Arc<MemoryStore>),
    /// In Redis.
    Redis {
        /// Failure policy of rules without one of their own.
        failure_mode: OnStoreFailure,
        /// The failure policies with their breakers.
        standby: Standby,
        /// Names of the breakers, in the same order.
        names: Vec<&'static str>,
        /// Denials that this instance remembers.
        denials: Arc<Denials>,
    },
}

impl fmt::Debug for ServerView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerView")
            .field("instance", &self.instance)
            .field("source", &self.source)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl ServerView {
    /// Creates the value of [`readers`](Self::readers).
    #[must_use]
    pub(crate) fn reader_permits() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(MAX_READERS))
    }

    /// Creates the value of [`rejections`](Self::rejections).
    #[must_use]
    pub(crate) fn rejection_throttle() -> Throttle {
        Throttle::every(WARN_EVERY)
    }

    pub(super) fn now(&self) -> Micros {
        (self.clock)()
    }

    /// Blocks until no other search runs. Others wait until the guard is dropped.
    pub(super) fn lock_search(&self) -> MutexGuard<'_, ()> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn may_log_rejection(&self) -> bool {
        self.rejections.passes(self.now())
    }
}

/// Converts a number of things in memory to the type that the API and metrics use.
pub(super) fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
