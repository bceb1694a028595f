//! A lane: requests that come while a batch is on its way are the next batch. No timer decides when
//! to send; with nothing on its way, a request goes at once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::store::{Charge, Decision, StoreError};
use crate::telemetry::metrics::BatchMetrics;
use crate::telemetry::traces::Caller;

/// The most requests that wait for one lane. Beyond that, Redis is slower than the callers for so
/// long that their deadlines pass in the queue.
pub(super) const MAX_WAITING: usize = 4096;

/// The most requests of a batch, and the most charges after which none is added: a batch keeps Redis
/// from everybody else for as long as it takes, some hundred microseconds.
const MAX_REQUESTS: usize = 128;
const MAX_CHARGES: usize = 256;

/// A queue, and the task that empties it batch by batch. `R` is what is known of a request beside what it asks.
#[derive(Debug)]
pub(super) struct Lane<R> {
    queue: mpsc::Sender<Job<R>>,
    task: JoinHandle<()>,
}

/// A request that waits for its decision.
#[derive(Debug)]
pub(super) struct Job<R> {
    pub(super) charges: Arc<[Charge]>,
    /// When nobody waits any more.
    pub(super) deadline: Instant,
    /// Whose trace it is a part of.
    caller: Option<Caller>,
    /// Dropped when there is no answer in time.
    pub(super) answer: oneshot::Sender<Result<Decision, Undecided>>,
    pub(super) route: R,
}

/// Why a request was not decided.
#[derive(Debug, Clone)]
pub(super) enum Undecided {
    /// The store failed.
    Failed(StoreError),
    /// Its buckets are on their way from one node to another, and not together. Nothing was taken.
    Torn,
}

/// Whoever decides what a lane has collected.
pub(super) trait Decide<R>: Send + Sync + 'static {
    /// Decides jobs and answers them; none is left.
    fn decide(&self, jobs: &mut Vec<Job<R>>) -> impl Future<Output = ()> + Send;
}

impl<R: Send + 'static> Lane<R> {
    /// A lane whose waiting requests are told to the metrics.
    pub(super) fn new(decide: Arc<impl Decide<R>>, metrics: &BatchMetrics) -> Self {
        let (queue, jobs) = mpsc::channel(MAX_WAITING);
        let weak = queue.downgrade();
        metrics.queue(Box::new(move || {
            let queue = weak.upgrade()?;
            Some(queue.max_capacity() - queue.capacity())
        }));
        let task = tokio::spawn(run(decide, jobs));
        Self { queue, task }
    }

    /// Puts a request into the queue; gives it back when that is full.
    pub(super) fn push(&self, job: Job<R>) -> Result<(), Job<R>> {
        self.queue.try_send(job).map_err(TrySendError::into_inner)
    }
}

impl<R> Job<R> {
    /// A request, and where its answer will come, if it does before the deadline.
    pub(super) fn new(
        charges: Arc<[Charge]>,
        deadline: Instant,
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
        // The deadline, or a lane that dropped the job: because its deadline had come, or in a panic.
        let decision = async move { timeout_at(deadline, decision).await.ok()?.ok() };
        (job, decision)
    }

    /// Tells whoever waits. Who gave up waiting does not hear it.
    pub(super) fn answer(self, answer: Result<Decision, Undecided>) {
        let _ = self.answer.send(answer);
    }
}

/// Answers jobs, decided together or not.
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

/// Whose traces these are parts of.
pub(super) fn callers<R>(jobs: &[Job<R>]) -> impl Iterator<Item = Caller> {
    jobs.iter().filter_map(|job| job.caller.clone())
}

/// Until when somebody waits for one of these. The oldest has the earliest deadline; later ones would get
/// their answer too late to be told from none, but a batch behind this one would not.
pub(super) fn latest<R>(jobs: &[Job<R>]) -> Instant {
    let deadline = jobs.iter().map(|job| job.deadline).max();
    deadline.unwrap_or_else(Instant::now)
}

impl<R> Drop for Lane<R> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run<R>(decide: Arc<impl Decide<R>>, mut queue: mpsc::Receiver<Job<R>>) {
    let mut jobs = Vec::with_capacity(MAX_REQUESTS);
    while let Some(first) = queue.recv().await {
        jobs.push(first);
        // Whoever is ready to ask may do so before the batch is closed.
        tokio::task::yield_now().await;
        collect(&mut queue, &mut jobs);
        let now = Instant::now();
        // Nobody waits for these any more: they are never sent.
        jobs.retain(|job| job.deadline > now && !job.answer.is_closed());
        if !jobs.is_empty() {
            // A panic is a mistake of ours; it must cost one batch, not all that come after it. What it
            // leaves half done is this batch alone.
            let deciding = AssertUnwindSafe(decide.decide(&mut jobs));
            if deciding.catch_unwind().await.is_err() {
                tracing::error!("deciding a batch panicked; its requests are answered UNAVAILABLE");
            }
        }
        jobs.clear();
    }
}

/// Adds what waits to a batch that has one job already.
fn collect<R>(queue: &mut mpsc::Receiver<Job<R>>, jobs: &mut Vec<Job<R>>) {
    let mut charges: usize = jobs.iter().map(|job| job.charges.len()).sum();
    while jobs.len() < MAX_REQUESTS && charges < MAX_CHARGES {
        let Ok(job) = queue.try_recv() else { break };
        charges += job.charges.len();
        jobs.push(job);
    }
}
