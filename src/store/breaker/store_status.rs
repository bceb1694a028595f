//! The status of a whole store. It can have several parts with a breaker each, as a cluster has nodes; some can be down while
//! others decide.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;

use super::{BreakerState, Inner};
use crate::store::{FailureKind, ServerInfo, StoreError};

/// The condition of a store, including all parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Condition {
    /// The worst state of its breakers.
    pub state: BreakerState,
    /// Whether some or all requests are decided without the store.
    pub is_degraded: bool,
    /// Whether all requests are decided without the store.
    pub is_down: bool,
}

/// What is missing from a store apart from parts whose breaker is open, such as slots without an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// Nothing.
    #[default]
    Nothing,
    /// The buckets of some requests.
    Some,
    /// The buckets of all requests.
    All,
}

/// The breakers of a store, and counters of all of them.
#[derive(Debug)]
pub(super) struct StoreStatus {
    /// Number of failed calls by [`FailureKind`].
    failures: [AtomicU64; FailureKind::ALL.len()],
    opened: AtomicU64,
    last_failure: Mutex<Option<StoreError>>,
    server: Mutex<Option<ServerInfo>>,
    parts: Mutex<Parts>,
    condition: watch::Sender<Condition>,
}

#[derive(Debug)]
struct Parts {
    /// The breaker of the store itself. While it is open, no request is sent to any part.
    whole: Weak<Inner>,
    others: Vec<Weak<Inner>>,
    missing: Missing,
}

impl StoreStatus {
    /// Creates the status of a store with one breaker.
    pub(super) fn new(whole: Weak<Inner>) -> Self {
        Self {
            failures: Default::default(),
            opened: AtomicU64::new(0),
            last_failure: Mutex::default(),
            server: Mutex::default(),
            parts: Mutex::new(Parts {
                whole,
                others: Vec::new(),
                missing: Missing::Nothing,
            }),
            condition: watch::Sender::default(),
        }
    }

    pub(super) fn condition(&self) -> &watch::Sender<Condition> {
        &self.condition
    }

    /// Counts a failed call.
    pub(super) fn failed(&self, error: &StoreError) {
        self.failures[error.kind() as usize].fetch_add(1, Ordering::Relaxed);
        if error.kind() != FailureKind::Refused {
            self.record_failure(error);
        }
    }

    /// Records the error of a call or a probe as the latest one.
    pub(super) fn record_failure(&self, error: &StoreError) {
        *self.last() = Some(error.clone());
    }

    pub(super) fn last_failure(&self) -> Option<StoreError> {
        self.last().clone()
    }

    fn last(&self) -> MutexGuard<'_, Option<StoreError>> {
        { self.last_failure.lock() }.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the software of the server that was connected to last.
    pub(super) fn server(&self) -> Option<ServerInfo> {
        { self.server.lock() }
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Records the software of a server that was connected to. Returns whether it differs from the last one.
    pub(super) fn connected_to(&self, server: &ServerInfo) -> bool {
        let mut last = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = last.as_ref() != Some(server);
        if is_new {
            *last = Some(server.clone());
        }
        is_new
    }

    pub(super) fn failures(&self, kind: FailureKind) -> u64 {
        self.failures[kind as usize].load(Ordering::Relaxed)
    }

    /// Counts a breaker that opened.
    pub(super) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn times_opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    pub(super) fn set_parts(&self, others: Vec<Weak<Inner>>) {
        self.change(|parts| parts.others = others);
    }

    pub(super) fn set_missing(&self, missing: Missing) {
        self.change(|parts| parts.missing = missing);
    }

    /// Updates the condition after a breaker changed its state.
    pub(super) fn update(&self) {
        self.change(|_| {});
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) {
        // Locked until the condition is sent, so that the condition sent last is the current one.
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut parts);
        let next = parts.condition();
        self.condition.send_if_modified(|condition| {
            let is_change = *condition != next;
            *condition = next;
            is_change
        });
    }
}

impl Parts {
    fn condition(&self) -> Condition {
        let state = |part: &Weak<Inner>| Some(*part.upgrade()?.state.borrow());
        let whole = state(&self.whole).unwrap_or_default();
        let states = || self.others.iter().filter_map(state);
        let worst = states().chain([whole]).max().unwrap_or_default();
        let is_open = |state: BreakerState| state != BreakerState::Closed;
        let are_all_open = states().next().is_some() && states().all(is_open);
        Condition {
            state: worst,
            is_degraded: is_open(worst) || self.missing != Missing::Nothing,
            is_down: is_open(whole) || are_all_open || self.missing == Missing::All,
        }
    }
}
