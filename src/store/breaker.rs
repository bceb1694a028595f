//! Whether a store is worth asking, as all threads of a server see it.
//!
//! Whoever calls the store tells how each call ended. When most of the latest calls failed, the breaker opens:
//! from then on no request waits. It is closed again by whoever probes the store meanwhile.
//!
//! A store of several parts has a breaker for each, and one for all.

mod whole;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::{FailureKind, ServerInfo, StoreError};
use whole::Whole;

pub use whole::{Condition, Lack};

/// How many of the latest calls are looked at, from a failed one on. Calls and not seconds: a store that
/// hangs ends few calls, and many good ones of a moment ago must not speak for it.
const LATEST: usize = 10;

/// The fewest failed calls that open it. One or two are a connection that broke.
const ENOUGH: usize = 3;

/// What happened longer ago than this tells nothing of now.
const STALE: Duration = Duration::from_secs(10);

/// A breaker; its clones are the same one.
#[derive(Debug, Clone)]
pub struct Breaker(Arc<Inner>);

/// Whether the store is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum BreakerState {
    /// By every request.
    #[default]
    Closed,
    /// By a probe, right now.
    HalfOpen,
    /// By nobody.
    Open,
}

#[derive(Debug)]
struct Inner {
    /// Requests must not wait for the store: anything but closed.
    is_open: AtomicBool,
    /// One of the latest calls failed. While none has, good calls need not be written down.
    is_troubled: AtomicBool,
    record: Mutex<Record>,
    state: watch::Sender<BreakerState>,
    /// Told when a call failed that was not the last straw.
    trouble: Notify,
    /// The store that it is of, with all its parts.
    whole: Arc<Whole>,
}

impl Inner {
    fn of(whole: Arc<Whole>) -> Self {
        Self {
            is_open: AtomicBool::new(false),
            is_troubled: AtomicBool::new(false),
            record: Mutex::default(),
            state: watch::Sender::default(),
            trouble: Notify::new(),
            whole,
        }
    }
}

impl Default for Breaker {
    /// That of a store, closed.
    fn default() -> Self {
        Self(Arc::new_cyclic(|this| {
            Inner::of(Arc::new(Whole::of(this.clone())))
        }))
    }
}

#[derive(Debug, Default)]
struct Record {
    /// When each of the latest calls ended, and whether it failed.
    latest: VecDeque<(Instant, bool)>,
    last_failure: Option<StoreError>,
}

impl Breaker {
    /// Whether requests are to do without the store.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.is_open.load(Ordering::Relaxed)
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        *self.0.state.borrow()
    }

    /// Its state, and what becomes of it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<BreakerState> {
        self.0.state.subscribe()
    }

    /// Completes when a call fails without opening the breaker.
    pub async fn wait_for_failure(&self) {
        self.0.trouble.notified().await;
    }

    /// How often it has opened, or one of a part.
    #[must_use]
    pub fn times_opened(&self) -> u64 {
        self.0.whole.times_opened()
    }

    /// How many calls of the store failed in this way, whatever part they were for.
    #[must_use]
    pub fn failures(&self, kind: FailureKind) -> u64 {
        self.0.whole.failures(kind)
    }

    /// How the last call that failed did.
    #[must_use]
    pub fn last_failure(&self) -> Option<StoreError> {
        self.record().last_failure.clone()
    }

    /// The same of the whole store, whatever part it was of.
    #[must_use]
    pub fn last_failure_of_all(&self) -> Option<StoreError> {
        self.0.whole.last_failure()
    }

    /// The server that a connection was last made to, of whatever part.
    #[must_use]
    pub fn server(&self) -> Option<ServerInfo> {
        self.0.whole.server()
    }

    /// A connection was made to this server; whether it is another one than before.
    pub fn connected_to(&self, server: &ServerInfo) -> bool {
        self.0.whole.connected_to(server)
    }

    // --- For a store of several parts ---

    /// A breaker of a part of the store. What it counts is counted for the whole store; how it is tells of the
    /// store once it is [a part](Self::consists_of).
    #[must_use]
    pub fn part(&self) -> Self {
        Self(Arc::new(Inner::of(Arc::clone(&self.0.whole))))
    }

    /// From now on, the store has the parts of these breakers.
    pub fn consists_of<'b>(&self, parts: impl IntoIterator<Item = &'b Self>) {
        let parts = parts.into_iter().map(|part| Arc::downgrade(&part.0));
        self.0.whole.consists_of(parts.collect());
    }

    /// There is something that the store lacks beside parts that are down.
    pub fn lacks(&self, lack: Lack) {
        self.0.whole.lacks(lack);
    }

    /// How the store is, all parts together.
    #[must_use]
    pub fn condition(&self) -> Condition {
        *self.0.whole.condition().borrow()
    }

    /// The same, and what becomes of it.
    #[must_use]
    pub fn watch_condition(&self) -> watch::Receiver<Condition> {
        self.0.whole.condition().subscribe()
    }

    // --- For those who call the store ---

    /// A call was answered.
    pub fn succeeded(&self) {
        if self.0.is_troubled.load(Ordering::Relaxed) {
            self.note(&mut self.record(), false);
        }
    }

    /// A call failed. Only a failure that others would have met as well counts towards opening.
    pub fn failed(&self, error: &StoreError) {
        self.0.whole.failed(error);
        if error.kind() == FailureKind::Refused {
            return;
        }
        let mut record = self.record();
        record.last_failure = Some(error.clone());
        if error.kind() == FailureKind::Unfit {
            // Whoever serves nobody may still answer what takes no write: that speaks for nothing.
            record.latest.retain(|(_, is_failure)| *is_failure);
        }
        if self.note(&mut record, true) {
            self.become_open(&mut record);
        } else {
            self.0.trouble.notify_one();
        }
    }

    /// A call failed for a reason that another one has been counted for, as those that were in flight over the same
    /// connection: it is counted as a failure, but does not bring the breaker closer to opening.
    pub fn failed_as_known(&self, error: &StoreError) {
        self.0.whole.failed(error);
    }

    /// Opens it at once: the store was found not to answer.
    pub fn open(&self, error: &StoreError) {
        self.0.whole.note(error);
        let mut record = self.record();
        record.last_failure = Some(error.clone());
        self.become_open(&mut record);
    }

    /// A probe is on its way to a store that nobody else asks.
    pub fn half_open(&self) {
        if self.is_open() {
            self.become_(BreakerState::HalfOpen);
        }
    }

    /// Closes it: the store answers.
    pub fn close(&self) {
        let mut record = self.record();
        record.latest.clear();
        self.0.is_troubled.store(false, Ordering::Relaxed);
        self.0.is_open.store(false, Ordering::Relaxed);
        self.become_(BreakerState::Closed);
    }

    // --- Within ---

    /// Writes down a call; true when so many failed that it is to open.
    fn note(&self, record: &mut Record, is_failure: bool) -> bool {
        if self.is_open() {
            return false;
        }
        let now = Instant::now();
        let latest = &mut record.latest;
        latest.push_back((now, is_failure));
        while latest.len() > LATEST || latest.front().is_some_and(|(then, _)| *then + STALE < now) {
            latest.pop_front();
        }
        // Good calls count from the first failure on.
        while latest.front().is_some_and(|(_, is_failure)| !is_failure) {
            latest.pop_front();
        }
        self.0
            .is_troubled
            .store(!latest.is_empty(), Ordering::Relaxed);
        let failures = latest.iter().filter(|(_, is_failure)| *is_failure).count();
        failures >= ENOUGH && 2 * failures >= latest.len()
    }

    fn become_open(&self, record: &mut Record) {
        record.latest.clear();
        self.0.is_open.store(true, Ordering::Relaxed);
        if self.state() == BreakerState::Closed {
            self.0.whole.opened();
        }
        self.become_(BreakerState::Open);
    }

    fn become_(&self, next: BreakerState) {
        let is_change = self.0.state.send_if_modified(|state| {
            let is_change = *state != next;
            *state = next;
            is_change
        });
        if is_change {
            self.0.whole.look();
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.record.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Tells a breaker of calls: `.` for a good one, `x` for a failed one, `u` for one that serves
    /// nobody, `d` for one that failed for its data.
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
    async fn it_opens_when_most_of_the_latest_calls_failed() {
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
    async fn a_closed_one_begins_anew() {
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

    /// Tells of a store: its own state, whether it is degraded, whether it is down.
    fn told(store: &Breaker) -> (BreakerState, bool, bool) {
        let condition = store.condition();
        (condition.state, condition.is_degraded, condition.is_down)
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_is_as_its_parts_are() {
        use BreakerState::{Closed, HalfOpen, Open};
        let store = Breaker::default();
        let (one, two) = (store.part(), store.part());
        one.open(&timeout());
        assert_eq!(told(&store), (Closed, false, false), "it is no part yet");
        store.consists_of([&one, &two]);
        assert_eq!(told(&store), (Open, true, false));
        assert!(!store.is_open(), "the other part is to be asked");
        one.half_open();
        assert_eq!(told(&store), (HalfOpen, true, false));
        two.open(&timeout());
        assert_eq!(told(&store), (Open, true, true));
        one.close();
        two.close();
        assert_eq!(told(&store), (Closed, false, false));
        store.lacks(Lack::Some);
        assert_eq!(told(&store), (Closed, true, false));
        store.lacks(Lack::All);
        assert_eq!(told(&store), (Closed, true, true));
        store.lacks(Lack::Nothing);
        store.open(&timeout());
        assert_eq!(told(&store), (Open, true, true));
        store.close();
        two.open(&timeout());
        store.consists_of([&one]);
        drop(two);
        assert_eq!(told(&store), (Closed, false, false));
        assert_eq!(store.times_opened(), 4, "of all that ever were parts");
        one.failed(&timeout());
        assert_eq!(store.failures(FailureKind::Timeout), 1);
        assert!(store.last_failure_of_all().is_some());
    }
}
