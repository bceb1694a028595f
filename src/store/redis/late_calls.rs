//! Calls that nobody waits for any more. Their replies are still to come, or will never; until then, nobody knows
//! whether Redis is well or its callers are impatient, and their connections are not to be used.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::task::JoinSet;

/// Calls that are waited for beside the others, until they are dropped.
#[derive(Debug, Default)]
pub(super) struct LateCalls(Mutex<JoinSet<()>>);

impl LateCalls {
    /// Waits for the end of a call. There are never more than the batches that a lane has in flight in the time that Redis
    /// may take.
    pub(super) fn add(&self, call: impl Future<Output = ()> + Send + 'static) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that are over are only remembered until somebody asks.
        while calls.try_join_next().is_some() {}
        calls.spawn(call);
    }
}
