//! What is told of a store as a whole. It may have several parts, each with a breaker, as a cluster has nodes: one
//! of them may be down while the others decide.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;

use super::{BreakerState, Inner};
use crate::store::{FailureKind, ServerInfo, StoreError};

/// How a store is, all parts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Condition {
    /// Of the part that is worst off.
    pub state: BreakerState,
    /// Some requests, at least, are decided without the store.
    pub is_degraded: bool,
    /// All of them are.
    pub is_down: bool,
}

/// What a store lacks that no breaker tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lack {
    /// Nothing.
    #[default]
    Nothing,
    /// What some requests are about.
    Some,
    /// What all requests are about.
    All,
}

/// The breakers of a store, and what was counted of them.
#[derive(Debug)]
pub(super) struct Whole {
    /// By their kinds.
    failures: [AtomicU64; FailureKind::ALL.len()],
    opened: AtomicU64,
    last_failure: Mutex<Option<StoreError>>,
    server: Mutex<Option<ServerInfo>>,
    parts: Mutex<Parts>,
    condition: watch::Sender<Condition>,
}

#[derive(Debug)]
struct Parts {
    /// The breaker of the store itself: while it is open, nothing is asked of any part.
    first: Weak<Inner>,
    others: Vec<Weak<Inner>>,
    lack: Lack,
}

impl Whole {
    /// A store with one breaker.
    pub(super) fn of(first: Weak<Inner>) -> Self {
        Self {
            failures: Default::default(),
            opened: AtomicU64::new(0),
            last_failure: Mutex::default(),
            server: Mutex::default(),
            parts: Mutex::new(Parts {
                first,
                others: Vec::new(),
                lack: Lack::Nothing,
            }),
            condition: watch::Sender::default(),
        }
    }

    pub(super) fn condition(&self) -> &watch::Sender<Condition> {
        &self.condition
    }

    /// A call failed.
    pub(super) fn failed(&self, error: &StoreError) {
        self.failures[error.kind() as usize].fetch_add(1, Ordering::Relaxed);
        if error.kind() != FailureKind::Refused {
            self.note(error);
        }
    }

    /// How a call or a probe failed.
    pub(super) fn note(&self, error: &StoreError) {
        *self.last() = Some(error.clone());
    }

    pub(super) fn last_failure(&self) -> Option<StoreError> {
        self.last().clone()
    }

    fn last(&self) -> MutexGuard<'_, Option<StoreError>> {
        { self.last_failure.lock() }.unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server of the latest connection said of itself.
    pub(super) fn server(&self) -> Option<ServerInfo> {
        { self.server.lock() }
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A connection was made to this server; whether it is another one than before.
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

    /// A breaker has opened.
    pub(super) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn times_opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// From now on, these are its parts.
    pub(super) fn consists_of(&self, others: Vec<Weak<Inner>>) {
        self.change(|parts| parts.others = others);
    }

    pub(super) fn lacks(&self, lack: Lack) {
        self.change(|parts| parts.lack = lack);
    }

    /// A breaker is in another state than before.
    pub(super) fn look(&self) {
        self.change(|_| {});
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) {
        // Held until it is told, so that what is told last is so.
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
        let first = state(&self.first).unwrap_or_default();
        let states = || self.others.iter().filter_map(state);
        let worst = states().chain([first]).max().unwrap_or_default();
        let is_open = |state: BreakerState| state != BreakerState::Closed;
        let are_all_open = states().next().is_some() && states().all(is_open);
        Condition {
            state: worst,
            is_degraded: is_open(worst) || self.lack != Lack::Nothing,
            is_down: is_open(first) || are_all_open || self.lack == Lack::All,
        }
    }
}
