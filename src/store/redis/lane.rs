//! A queue of requests for one Redis, and the task that sends them in batches.
//!
//! Requests that arrive while a batch is in flight form the next batch. With nothing in flight, a request is sent
//! immediately. If Redis is near, the next batch is sent when the reply to the previous one arrives. If the round
//! trip takes longer than a batch is worth waiting for, several batches are in flight, a short time apart
//! ([`Pace`]).
//!
//! Batches are sent over one connection, which keeps their order as long as nothing fails. Small requests overtake
//! large ones, so that they do not wait behind a row of these ([`Queue::take`]). Requests that are in flight at
//! the same time could have arrived in either order; a request that is sent after the response to another one is
//! always decided after it.

mod pace;
mod queue;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use futures_util::{FutureExt as _, future};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::store::{Charge, Decision, StoreError};
use crate::telemetry::metrics::BatchMetrics;
use crate::telemetry::traces::Caller;
use crate::timer::DeadlinesHandle;
use pace::Pace;
use queue::{Queue, Size};

/// Maximum number of requests in the queue of a lane. With more, Redis has been slower than the requests for so
/// long that their deadlines pass in the queue.
pub(super) const MAX_WAITING: usize = 4096;

/// Maximum number of batches of a lane in flight. At the shortest spacing, these are the batches of 128 ms.
const MAX_IN_FLIGHT: usize = 256;

/// A queue and the task that empties it in batches. `R` is additional data of a request.
#[derive(Debug)]
pub(super) struct Lane<R> {
    queue: Arc<Queue<R>>,
    task: JoinHandle<()>,
}

/// A request that waits for its decision.
#[derive(Debug)]
pub(super) struct Job<R> {
    pub(super) charges: Arc<[Charge]>,
    /// The time at which its caller stops waiting.
    pub(super) deadline: Instant,
    /// The trace that it belongs to.
    caller: Option<Caller>,
    /// Dropped if there is no decision in time.
    pub(super) answer: oneshot::Sender<Result<Decision, Undecided>>,
    pub(super) route: R,
}

/// The reason that a request was not decided.
#[derive(Debug, Clone)]
pub(super) enum Undecided {
    /// The store failed.
    Failed(StoreError),
    /// Its buckets are being migrated and are on two nodes. Nothing was charged.
    Torn,
}

/// Decides the batches of a lane.
pub(super) trait Decide<R>: Send + Sync + 'static {
    /// Decides all jobs, sends the results to their callers and leaves `jobs` empty. Drops `turn` when the
    /// batch has been written to the connection, so that the next batch follows it.
    fn decide(
        &self,
        jobs: &mut Vec<Job<R>>,
        turn: SendTurn,
    ) -> impl Future<Output = BatchEnd> + Send;
}

/// Held until a batch has been written; the next batch of the lane waits for that.
#[derive(Debug)]
pub(super) struct SendTurn(
    #[expect(dead_code, reason = "dropping it is the signal")] oneshot::Sender<()>,
);

/// How a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchEnd {
    /// Redis replied or did not reply in time. The duration is a measure of the round trip.
    Replied,
    /// The batch could not be sent, or the connection was lost.
    Failed,
}

impl BatchEnd {
    /// Returns how a batch with this result ended.
    pub(super) fn with<T>(result: &Result<T, StoreError>) -> Self {
        match result {
            Ok(_) | Err(StoreError::Timeout { .. } | StoreError::Refused { .. }) => Self::Replied,
            Err(_) => Self::Failed,
        }
    }
}

impl<R: Send + 'static> Lane<R> {
    /// Starts a lane. The number of its queued requests is exported with `metrics`.
    pub(super) fn new(
        decide: Arc<impl Decide<R>>,
        deadlines: DeadlinesHandle,
        metrics: &BatchMetrics,
    ) -> Self {
        let queue = Arc::new(Queue::default());
        let weak = Arc::downgrade(&queue);
        metrics.queue(Box::new(move || Some(weak.upgrade()?.len())));
        let task = tokio::spawn(run(decide, Arc::clone(&queue), deadlines));
        Self { queue, task }
    }

    /// Adds a request to the queue. Returns it if the queue is full.
    pub(super) fn push(&self, job: Job<R>) -> Result<(), Job<R>> {
        self.queue.push(job)
    }
}

impl<R> Job<R> {
    /// Creates a job, and a future of its result that is `None` after the deadline.
    pub(super) fn new(
        charges: Arc<[Charge]>,
        deadline: Instant,
        deadlines: DeadlinesHandle,
        caller: Option<Caller>,
        route: R,
    ) -> (
        Self,
        impl Future<Output = Option<Result<Decision, Undecided>>>,
    ) {
        let (answer, decision) = oneshot::channel();
        let job = Self {
            charges,
            deadline,
            caller,
            answer,
            route,
        };
        // The lane drops jobs after their deadline and those of a batch that panicked.
        let decision = async move { deadlines.timeout_at(deadline, decision).await?.ok() };
        (job, decision)
    }

    /// Sends the result to the caller; a no-op if the caller has gone away.
    pub(super) fn answer(self, answer: Result<Decision, Undecided>) {
        let _ = self.answer.send(answer);
    }

    /// Returns whether the caller still waits.
    fn has_live_caller(&self, now: Instant) -> bool {
        self.deadline > now && !self.answer.is_closed()
    }
}

/// Sends the decisions of a batch, or its error, to the callers.
pub(super) fn answer<R>(
    jobs: impl IntoIterator<Item = Job<R>>,
    result: Result<Vec<Decision>, StoreError>,
) {
    match result {
        Ok(decisions) => {
            for (job, decision) in jobs.into_iter().zip(decisions) {
                job.answer(Ok(decision));
            }
        }
        Err(error) => {
            for job in jobs {
                job.answer(Err(Undecided::Failed(error.clone())));
            }
        }
    }
}

/// Returns the traces that the jobs belong to.
pub(super) fn callers<R>(jobs: &[Job<R>]) -> impl Iterator<Item = Caller> {
    jobs.iter().filter_map(|job| job.caller.clone())
}

/// Returns the latest deadline of the jobs. The reply is useful until then.
pub(super) fn latest<R>(jobs: &[Job<R>]) -> Instant {
    let deadline = jobs.iter().map(|job| job.deadline).max();
    deadline.unwrap_or_else(Instant::now)
}

impl<R> Drop for Lane<R> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// --- Sending ---

/// A completed batch.
struct Sent<R> {
    /// Empty; kept for its allocation.
    jobs: Vec<Job<R>>,
    size: Size,
    began: Instant,
    ended: Option<BatchEnd>,
}

/// State of the batches of a lane.
struct Batches<R> {
    pace: Pace,
    in_flight: usize,
    /// Charges of large requests in flight.
    large: usize,
    spare: Vec<Job<R>>,
}

impl<R> Batches<R> {
    fn begins(&mut self, size: Size, now: Instant) {
        self.in_flight += 1;
        self.large += size.large;
        self.pace.sent(now);
    }

    fn ends(&mut self, sent: Sent<R>) {
        self.in_flight -= 1;
        self.large -= sent.size.large;
        self.spare = sent.jobs;
        if sent.ended == Some(BatchEnd::Replied) {
            self.pace.took(sent.began.elapsed(), sent.size.charges);
        }
    }

    /// Returns when the next batch can be sent while others are in flight. `None`: immediately.
    fn due(&self) -> Option<Instant> {
        if self.in_flight == 0 {
            return None;
        }
        let due = self.pace.due();
        (self.is_full() || due > Instant::now()).then_some(due)
    }

    /// Returns whether a batch must end before the next is sent.
    fn is_full(&self) -> bool {
        self.in_flight >= MAX_IN_FLIGHT
    }
}

async fn run<R: Send>(
    decide: Arc<impl Decide<R>>,
    queue: Arc<Queue<R>>,
    deadlines: DeadlinesHandle,
) {
    let decide = &*decide;
    let decided = |mut jobs: Vec<Job<R>>, size: Size, turn: SendTurn| async move {
        let began = Instant::now();
        // A panic is a bug of this server; it must fail one batch, not all that follow. Only that batch can
        // be left incomplete.
        let deciding = AssertUnwindSafe(decide.decide(&mut jobs, turn)).catch_unwind();
        let ended = deciding.await.ok();
        if ended.is_none() {
            tracing::error!("deciding a batch panicked; its requests are answered UNAVAILABLE");
        }
        jobs.clear();
        Sent {
            jobs,
            size,
            began,
            ended,
        }
    };
    let mut in_flight = FuturesUnordered::new();
    let mut batches = Batches {
        pace: Pace::default(),
        in_flight: 0,
        large: 0,
        spare: Vec::new(),
    };
    loop {
        while !queue.has_some(batches.large) {
            tokio::select! {
                biased;
                Some(sent) = in_flight.next() => batches.ends(sent),
                () = queue.filled() => {}
            }
        }
        while let Some(due) = batches.due() {
            tokio::select! {
                biased;
                Some(sent) = in_flight.next() => batches.ends(sent),
                () = deadlines.clone().sleep_until(due), if !batches.is_full() => {}
            }
        }
        // Other tasks that are ready can add requests before the batch is closed.
        tokio::task::yield_now().await;
        let mut jobs = std::mem::take(&mut batches.spare);
        let size = queue.take(&mut jobs, batches.large);
        if jobs.is_empty() {
            batches.spare = jobs;
            continue;
        }
        batches.begins(size, Instant::now());
        let (turn, mut is_on_its_way) = SendTurn::new();
        in_flight.push(decided(jobs, size, turn));
        loop {
            tokio::select! {
                biased;
                Some(sent) = in_flight.next() => batches.ends(sent),
                _ = &mut is_on_its_way => break,
            }
        }
    }
}

impl SendTurn {
    fn new() -> (Self, oneshot::Receiver<()>) {
        let (turn, is_over) = oneshot::channel();
        (Self(turn), is_over)
    }
}

/// Polls a call, which sends it, and then ends its turn.
pub(super) async fn signal_when_sent<T>(
    turn: Option<SendTurn>,
    call: impl Future<Output = T>,
) -> T {
    let mut call = std::pin::pin!(call);
    let mut turn = Some(turn);
    future::poll_fn(move |cx| {
        let reply = call.as_mut().poll(cx);
        drop(turn.take());
        reply
    })
    .await
}
