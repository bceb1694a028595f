//! Circuit breakers, shared by all threads of a server.
//!
//! The result of each call to a server is reported to its breaker. When most of the latest calls have failed, the breaker
//! opens, and no request waits for the server any more. A [prober](super::fallback::Prober) closes it when the server
//! decides again.
//!
//! A store of several parts, as the nodes of a cluster, has a breaker for each part and one for the whole store.

mod store_status;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::{FailureKind, ServerInfo, StoreError};
use store_status::StoreStatus;

pub use store_status::{Condition, Missing};

/// Maximum number of latest calls that count, starting with a failed one. It is a number of calls and not a time, because
/// few calls to a hanging server end, and they must not be outweighed by many earlier successes.
const LATEST: usize = 10;

/// Minimum number of failed calls that opens the breaker. One or two can be caused by a single closed connection.
const MIN_FAILURES: usize = 3;

/// Age from which on calls are ignored.
const STALE: Duration = Duration::from_secs(10);

/// A circuit breaker. Clones share the state.
#[derive(Debug, Clone)]
pub struct Breaker(Arc<Inner>);

/// The state of a [`Breaker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum BreakerState {
    /// Requests are sent to the server.
    #[default]
    Closed,
    /// No requests are sent; a probe is in flight.
    HalfOpen,
    /// No requests are sent.
    Open,
}

#[derive(Debug)]
struct Inner {
    /// Whether the state is not [`BreakerState::Closed`]. An atomic, because every request reads it.
    is_open: AtomicBool,
    /// Whether any of the latest calls failed. If not, successes need not be recorded.
    has_failures: AtomicBool,
    calls: Mutex<Calls>,
    state: watch::Sender<BreakerState>,
    /// Notified when a call fails without opening the breaker.
    failure: Notify,
    /// The store that the server is a part of.
    store: Arc<StoreStatus>,
}

impl Inner {
    fn new(store: Arc<StoreStatus>) -> Self {
        Self {
            is_open: AtomicBool::new(false),
            has_failures: AtomicBool::new(false),
            calls: Mutex::default(),
            state: watch::Sender::default(),
            failure: Notify::new(),
            store,
        }
    }
}

impl Default for Breaker {
    /// Creates a closed breaker of a whole store.
    fn default() -> Self {
        Self(Arc::new_cyclic(|this| {
            Inner::new(Arc::new(StoreStatus::new(this.clone())))
        }))
    }
}

/// A call that ended.
#[derive(Debug)]
struct Call {
    ended: Instant,
    has_failed: bool,
}

#[derive(Debug, Default)]
struct Calls {
    latest: VecDeque<Call>,
    last_failure: Option<StoreError>,
}

impl Breaker {
    /// Returns whether requests must not be sent to the server.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.is_open.load(Ordering::Relaxed)
    }

    /// Returns the state.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        *self.0.state.borrow()
    }

    /// Returns a receiver of the state and its changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<BreakerState> {
        self.0.state.subscribe()
    }

    /// Completes when a call fails without opening the breaker.
    pub async fn wait_for_failure(&self) {
        self.0.failure.notified().await;
    }

    /// Returns how often breakers of the store and its parts have opened.
    #[must_use]
    pub fn times_opened(&self) -> u64 {
        self.0.store.times_opened()
    }

    /// Returns the number of calls to the store, including all parts, that failed with an error of a kind.
    #[must_use]
    pub fn failures(&self, kind: FailureKind) -> u64 {
        self.0.store.failures(kind)
    }

    /// Returns the latest error of this server.
    #[must_use]
    pub fn last_failure(&self) -> Option<StoreError> {
        self.calls().last_failure.clone()
    }

    /// Returns the latest error of the store, including all parts.
    #[must_use]
    pub fn last_store_failure(&self) -> Option<StoreError> {
        self.0.store.last_failure()
    }

    /// Returns the software of the server that was connected to last, of any part.
    #[must_use]
    pub fn server(&self) -> Option<ServerInfo> {
        self.0.store.server()
    }

    /// Records the software of a server that was connected to. Returns whether it differs from the last one.
    pub fn connected_to(&self, server: &ServerInfo) -> bool {
        self.0.store.connected_to(server)
    }

    // --- For a store of several parts ---

    /// Creates a breaker for a part of the store. Its calls are counted for the whole store from now on; its state is part of
    /// the store's condition once it is passed to [`set_parts`](Self::set_parts).
    #[must_use]
    pub fn new_part(&self) -> Self {
        Self(Arc::new(Inner::new(Arc::clone(&self.0.store))))
    }

    /// Sets the parts of the store by their breakers.
    pub fn set_parts<'b>(&self, parts: impl IntoIterator<Item = &'b Self>) {
        let parts = parts.into_iter().map(|part| Arc::downgrade(&part.0));
        self.0.store.set_parts(parts.collect());
    }

    /// Sets what is missing from the store apart from parts whose breaker is open.
    pub fn set_missing(&self, missing: Missing) {
        self.0.store.set_missing(missing);
    }

    /// Returns the condition of the store, including all parts.
    #[must_use]
    pub fn condition(&self) -> Condition {
        *self.0.store.condition().borrow()
    }

    /// Returns a receiver of the condition of the store and its changes.
    #[must_use]
    pub fn watch_condition(&self) -> watch::Receiver<Condition> {
        self.0.store.condition().subscribe()
    }

    // --- Reports of calls ---

    /// Records a call that succeeded.
    pub fn succeeded(&self) {
        if self.0.has_failures.load(Ordering::Relaxed) {
            self.record(&mut self.calls(), false);
        }
    }

    /// Records a call that failed. Errors that concern only one request do not count towards opening.
    pub fn failed(&self, error: &StoreError) {
        self.0.store.failed(error);
        if error.kind() == FailureKind::Refused {
            return;
        }
        let mut calls = self.calls();
        calls.last_failure = Some(error.clone());
        if error.kind() == FailureKind::Unfit {
            // Such a server may still answer calls that write nothing, so successes do not count.
            calls.latest.retain(|call| call.has_failed);
        }
        if self.record(&mut calls, true) {
            self.transition_to_open(&mut calls);
        } else {
            self.0.failure.notify_one();
        }
    }

    /// Records a call that failed for the same reason as one that was recorded before, as calls in flight on one connection do.
    /// It is counted as an error but does not count towards opening.
    pub fn failed_as_known(&self, error: &StoreError) {
        self.0.store.failed(error);
    }

    /// Opens the breaker because a probe failed.
    pub fn open(&self, error: &StoreError) {
        self.0.store.record_failure(error);
        let mut calls = self.calls();
        calls.last_failure = Some(error.clone());
        self.transition_to_open(&mut calls);
    }

    /// Records that a probe is in flight. No-op if the breaker is closed.
    pub fn half_open(&self) {
        if self.is_open() {
            self.transition(BreakerState::HalfOpen);
        }
    }

    /// Closes the breaker because a probe succeeded.
    pub fn close(&self) {
        let mut calls = self.calls();
        calls.latest.clear();
        self.0.has_failures.store(false, Ordering::Relaxed);
        self.0.is_open.store(false, Ordering::Relaxed);
        self.transition(BreakerState::Closed);
    }

    // --- Transitions ---

    /// Records a call. Returns whether the breaker must open.
    fn record(&self, calls: &mut Calls, has_failed: bool) -> bool {
        if self.is_open() {
            return false;
        }
        let now = Instant::now();
        let latest = &mut calls.latest;
        latest.push_back(Call {
            ended: now,
            has_failed,
        });
        while latest.len() > LATEST || latest.front().is_some_and(|call| call.ended + STALE < now) {
            latest.pop_front();
        }
        // Successes count only after a failure.
        while latest.front().is_some_and(|call| !call.has_failed) {
            latest.pop_front();
        }
        self.0
            .has_failures
            .store(!latest.is_empty(), Ordering::Relaxed);
        let failures = latest.iter().filter(|call| call.has_failed).count();
        failures >= MIN_FAILURES && 2 * failures >= latest.len()
    }

    fn transition_to_open(&self, calls: &mut Calls) {
        calls.latest.clear();
        self.0.is_open.store(true, Ordering::Relaxed);
        if self.state() == BreakerState::Closed {
            self.0.store.opened();
        }
        self.transition(BreakerState::Open);
    }

    fn transition(&self, next: BreakerState) {
        let is_change = self.0.state.send_if_modified(|state| {
            let is_change = *state != next;
            *state = next;
            is_change
        });
        if is_change {
            self.0.store.update();
        }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout() -> StoreError {
        StoreError::Timeout {
            address: "there".to_owned(),
        }
    }

    fn unfit() -> StoreError {
        StoreError::Unfit {
            address: "there".to_owned(),
            cause: "READONLY".to_owned(),
        }
    }

    fn refused() -> StoreError {
        StoreError::Refused {
            address: "there".to_owned(),
            cause: "that one".to_owned(),
        }
    }

    /// Reports calls to a breaker: `.` succeeded, `x` timed out, `u` was sent to a server that cannot serve, `d` failed for
    /// its data; `_` waits until they are stale.
    async fn after(calls: &str) -> Breaker {
        let breaker = Breaker::default();
        for call in calls.chars() {
            match call {
                '.' => breaker.succeeded(),
                'x' => breaker.failed(&timeout()),
                'u' => breaker.failed(&unfit()),
                'd' => breaker.failed(&refused()),
                _ => tokio::time::advance(STALE + Duration::from_secs(1)).await,
            }
        }
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_if_most_of_the_latest_calls_failed() {
        for (calls, is_open) in [
            ("x", false),
            ("xx", false),
            ("xxx", true),
            ("............xxx", true),
            ("x.x.x", true),
            ("x..x..x", false),
            ("x..x..x..x..x..x..x..x..x..x..x", false),
            ("x.........xx", false),
            ("x.........xxx", true),
            ("dddddddddddddd", false),
            ("uu", false),
            ("u......u.......u", true),
            ("u.........._u......u", false),
            ("xx_x", false),
            ("xx_xx", false),
            ("xx_xxx", true),
        ] {
            assert_eq!(after(calls).await.is_open(), is_open, "{calls}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn closing_clears_the_record() {
        let breaker = after("xxx").await;
        let mut states = breaker.watch();
        assert_eq!(*states.borrow_and_update(), BreakerState::Open);
        breaker.half_open();
        assert!(breaker.is_open());
        breaker.open(&timeout());
        breaker.close();
        assert_eq!(*states.borrow_and_update(), BreakerState::Closed);
        breaker.failed(&timeout());
        breaker.failed(&timeout());
        assert!(!breaker.is_open());
        breaker.failed(&timeout());
        assert!(breaker.is_open());
        assert_eq!(breaker.times_opened(), 2);
        assert_eq!(breaker.failures(FailureKind::Timeout), 6);
        assert!(breaker.last_failure().is_some());
    }

    /// Returns the state of a store, whether it is degraded, and whether it is down.
    fn condition(store: &Breaker) -> (BreakerState, bool, bool) {
        let condition = store.condition();
        (condition.state, condition.is_degraded, condition.is_down)
    }

    #[tokio::test(start_paused = true)]
    async fn the_condition_of_a_store_is_that_of_its_parts() {
        use BreakerState::{Closed, HalfOpen, Open};
        let store = Breaker::default();
        let (one, two) = (store.new_part(), store.new_part());
        one.open(&timeout());
        assert_eq!(
            condition(&store),
            (Closed, false, false),
            "it is not a part yet"
        );
        store.set_parts([&one, &two]);
        assert_eq!(condition(&store), (Open, true, false));
        assert!(!store.is_open(), "the other part is available");
        one.half_open();
        assert_eq!(condition(&store), (HalfOpen, true, false));
        two.open(&timeout());
        assert_eq!(condition(&store), (Open, true, true));
        one.close();
        two.close();
        assert_eq!(condition(&store), (Closed, false, false));
        store.set_missing(Missing::Some);
        assert_eq!(condition(&store), (Closed, true, false));
        store.set_missing(Missing::All);
        assert_eq!(condition(&store), (Closed, true, true));
        store.set_missing(Missing::Nothing);
        store.open(&timeout());
        assert_eq!(condition(&store), (Open, true, true));
        store.close();
        two.open(&timeout());
        store.set_parts([&one]);
        drop(two);
        assert_eq!(condition(&store), (Closed, false, false));
        assert_eq!(store.times_opened(), 4, "of all former parts, too");
        one.failed(&timeout());
        assert_eq!(store.failures(FailureKind::Timeout), 1);
        assert!(store.last_store_failure().is_some());
    }
}
