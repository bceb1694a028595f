//! A lane: requests that come while a batch is on its way are the next batch. No timer decides when
//! to send; with nothing on its way, a request goes at once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::Server;
use super::batch::Batch;
use crate::store::{Charge, Decision, StoreError};
use crate::telemetry::traces::Caller;

/// The most requests that wait for one lane. Beyond that, Redis is slower than the callers for so
/// long that their deadlines pass in the queue.
const MAX_WAITING: usize = 4096;

/// The most requests of a batch, and the most charges after which none is added: a batch keeps Redis
/// from everybody else for as long as it takes, some hundred microseconds.
const MAX_REQUESTS: usize = 128;
const MAX_CHARGES: usize = 256;

/// A queue, and the task that empties it batch by batch.
#[derive(Debug)]
pub(super) struct Lane {
    queue: mpsc::Sender<Job>,
    task: JoinHandle<()>,
}

/// A request that waits for its decision.
#[derive(Debug)]
struct Job {
    charges: Arc<[Charge]>,
    /// When nobody waits any more.
    deadline: Instant,
    /// Whose trace it is a part of.
    caller: Option<Caller>,
    answer: oneshot::Sender<Result<Decision, StoreError>>,
}

impl Lane {
    pub(super) fn new(server: Arc<Server>) -> Self {
        let (queue, jobs) = mpsc::channel(MAX_WAITING);
        let weak = queue.downgrade();
        server.probe.batches.queue(Box::new(move || {
            let queue = weak.upgrade()?;
            Some(queue.max_capacity() - queue.capacity())
        }));
        let task = tokio::spawn(run(server, jobs));
        Self { queue, task }
    }

    /// Puts a request into the queue and waits for its decision, until the deadline.
    pub(super) async fn decide(
        &self,
        server: &Server,
        charges: Arc<[Charge]>,
        deadline: Instant,
    ) -> Result<Decision, StoreError> {
        let (answer, decision) = oneshot::channel();
        let job = Job {
            charges,
            deadline,
            caller: server.probe.tracing.caller(),
            answer,
        };
        if self.queue.try_send(job).is_err() {
            return Err(StoreError::Overloaded {
                address: server.address.clone(),
                waiting: MAX_WAITING,
            });
        }
        match timeout_at(deadline, decision).await {
            Ok(Ok(result)) => result,
            // The deadline, or a lane that dropped the job: because its deadline had come, or in a panic.
            Ok(Err(_)) | Err(_) => Err(server.no_answer()),
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(server: Arc<Server>, mut queue: mpsc::Receiver<Job>) {
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
            let deciding = AssertUnwindSafe(decide(&server, &mut jobs));
            if deciding.catch_unwind().await.is_err() {
                tracing::error!("deciding a batch panicked; its requests are answered UNAVAILABLE");
            }
        }
        jobs.clear();
    }
}

/// Adds what waits to a batch that has one job already.
fn collect(queue: &mut mpsc::Receiver<Job>, jobs: &mut Vec<Job>) {
    let mut charges: usize = jobs.iter().map(|job| job.charges.len()).sum();
    while jobs.len() < MAX_REQUESTS && charges < MAX_CHARGES {
        let Ok(job) = queue.try_recv() else { break };
        charges += job.charges.len();
        jobs.push(job);
    }
}

/// Decides a batch and answers everybody in it.
async fn decide(server: &Server, jobs: &mut Vec<Job>) {
    let result = {
        let batch = Batch::new(jobs.iter().map(|job| &*job.charges));
        // Each has its answer at its own deadline, at the latest; then the next batch has its turn.
        let deadline = jobs.iter().map(|job| job.deadline).max();
        let deadline = deadline.unwrap_or_else(Instant::now);
        let callers = jobs.iter().filter_map(|job| job.caller.clone());
        server.decide_batch(&batch, callers, deadline).await
    };
    match result {
        Ok(decisions) => {
            for (job, decision) in jobs.drain(..).zip(decisions) {
                // Whoever gave up waiting does not hear it.
                let _ = job.answer.send(Ok(decision));
            }
        }
        Err(error) => {
            for job in jobs.drain(..) {
                let _ = job.answer.send(Err(error.clone()));
            }
        }
    }
}
