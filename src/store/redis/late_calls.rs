//! Calls whose callers have all timed out or disconnected. Until the reply arrives or the timeout of Redis has
//! passed, it is unknown whether Redis is slow or the deadlines were short, and the connection is not used for
//! other calls.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::task::JoinSet;

/// Calls that are awaited in the background until this value is dropped.
#[derive(Debug, Default)]
pub(super) struct LateCalls(Mutex<JoinSet<()>>);

impl LateCalls {
    /// Awaits a call. Their number is bounded by the batches that a lane can have in flight within the timeout
    /// of Redis.
    pub(super) fn add(&self, call: impl Future<Output = ()> + Send + 'static) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Completed tasks are kept until they are joined.
        while calls.try_join_next().is_some() {}
        calls.spawn(call);
    }
}
