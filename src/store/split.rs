//! Decides requests whose buckets are in several partitions, each of which is atomic only by itself: a second Redis for
//! limits per second, or the slots of a cluster.
//!
//! A request whose buckets are in one partition is decided there. Any other request takes hits in all of its partitions at
//! once, in one round trip; if one of them denies it, what the others took is given back. Until then, other requests can be
//! denied although they could have been allowed; more than one store would allow is never allowed.
//!
//! A refund is smaller than what was taken by the refill in between ([`State::given_back`]). So that refunds do not drain a
//! bucket that receives more requests than it allows, the denials of the latest second ([`Denials`]) are used as follows:
//! - A request that is certain to be denied takes nothing: the other partitions are only queried, in one round trip.
//! - If the tokens left in a bucket are hardly more than the requests in flight need, the request takes hits in that
//!   partition first and queries the others, and takes hits there once it is admitted: two round trips, if the deadline leaves
//!   time for them.
//!
//! A charge whose partition is unavailable is decided by its failure policy ([`Standby`]). The decisions of the other
//! partitions stand, and all or nothing holds over both.

mod per_second;
mod refunds;
mod request;
mod round_trips;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::denied::Denials;
use super::fallback::Standby;
use super::{Cause, Charge, Decision, Part, Store, StoreError, without_candidates};

pub use per_second::PerSecond;
pub use refunds::GiveBacks;

use request::Request;
use round_trips::RoundTrips;

#[cfg(doc)]
use crate::bucket::State;

/// Maximum number of requests over several partitions that are decided at once, and of those in the queue.
const MAX_IN_FLIGHT: usize = 4096;

/// The address in errors that concern no single partition.
const SEVERAL: &str = "several partitions";

/// A store that decides a request atomically if all of its charges are in one partition.
pub trait PartitionedStore: Store {
    /// Returns the partition of a charge's bucket. All instances that share the buckets return the same.
    fn partition(&self, charge: &Charge) -> u32;

    /// Returns an error if the partition of a charge is known to be unavailable, so that no request is sent to it. The
    /// request is counted as one that the partition did not decide.
    fn unavailable(&self, _charge: &Charge) -> Option<StoreError> {
        None
    }
}

/// State of [`Split`] that all threads of a server share.
#[derive(Debug, Clone, Default)]
pub struct SplitContext {
    /// Counters of refunds.
    pub give_backs: GiveBacks,
    /// Denials of the latest second. The store that wraps [`Split`] adds to them; without one, none are known.
    pub denials: Arc<Denials>,
    /// Decides charges whose partition is unavailable. `None`: a request with such a charge fails.
    pub standby: Option<Standby>,
}

/// A store over several partitions.
///
/// A request over several partitions is completed even if its caller has disconnected, so that hits are taken in all
/// partitions or in none.
pub struct Split<S> {
    store: Arc<S>,
    queue: mpsc::Sender<Job>,
    task: JoinHandle<()>,
}

/// A queued request.
#[derive(Debug)]
struct Job {
    charges: Arc<[Charge]>,
    /// Number of charges that are not candidates. They come first.
    counted: usize,
    deadline: Instant,
    reply: oneshot::Sender<Result<Decision, StoreError>>,
}

impl<S: fmt::Debug> fmt::Debug for Split<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Split")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl<S: PartitionedStore> Split<S> {
    /// Creates a store over the partitions of `store`. Must be called within a tokio runtime.
    pub fn new(store: S, shared: SplitContext) -> Self {
        let store = Arc::new(store);
        let (queue, jobs) = mpsc::channel(MAX_IN_FLIGHT);
        let context = Context {
            store: Arc::clone(&store),
            round_trips: RoundTrips::default(),
            shared,
        };
        let task = tokio::spawn(run(context, jobs));
        Self { store, queue, task }
    }

    fn is_in_one_partition(&self, charges: &[Charge]) -> bool {
        let mut partitions = charges.iter().map(|charge| self.store.partition(charge));
        let first = partitions.next();
        partitions.all(|partition| Some(partition) == first)
    }
}

impl<S: PartitionedStore> Store for Split<S> {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        if self.is_in_one_partition(&charges) {
            return self.store.decide(charges, deadline).await;
        }
        if charges.last().is_some_and(|last| last.part.is_candidate()) {
            return self.decide_with_candidates(&charges, deadline).await;
        }
        let counted = charges.len();
        self.decide_split(charges, counted, deadline).await
    }
}

impl<S: PartitionedStore> Split<S> {
    /// Decides a request with candidate limits.
    ///
    /// Candidates that replace no limit are left out, so that no partition is called for them alone. Whether the request is
    /// admitted by the charges that a candidate replaces is unknown to a single partition, so candidates are charged as
    /// shadow limits.
    async fn decide_with_candidates(
        &self,
        charges: &[Charge],
        deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        let is_kept = |charge: &&Charge| match charge.part {
            Part::Candidate { from, to } => from < to,
            Part::Must | Part::Quota(_) | Part::Shadow => true,
        };
        let charges: Arc<[Charge]> = charges.iter().take_while(is_kept).cloned().collect();
        if charges.is_empty() {
            return Ok(Decision {
                admitted: true,
                outcomes: Vec::new(),
                cause: Cause::Buckets,
            });
        }
        if self.is_in_one_partition(&charges) {
            return self.store.decide(charges, deadline).await;
        }
        let as_shadow = |charge: &Charge| Charge {
            part: match charge.part {
                Part::Candidate { .. } => Part::Shadow,
                part => part,
            },
            ..charge.clone()
        };
        let counted = without_candidates(&charges).len();
        let charges = charges.iter().map(as_shadow).collect();
        self.decide_split(charges, counted, deadline).await
    }

    /// Queues a request over several partitions and waits for its decision. The first `counted` charges are not
    /// candidates.
    async fn decide_split(
        &self,
        charges: Arc<[Charge]>,
        counted: usize,
        deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        let (reply, decision) = oneshot::channel();
        let job = Job {
            charges,
            counted,
            deadline: Instant::from_std(deadline),
            reply,
        };
        if self.queue.try_send(job).is_err() {
            return Err(StoreError::Overloaded {
                address: SEVERAL.to_owned(),
                waiting: MAX_IN_FLIGHT,
            });
        }
        decision.await.unwrap_or_else(|_| {
            Err(StoreError::Unreachable {
                address: SEVERAL.to_owned(),
                cause: "the decision panicked".to_owned(),
            })
        })
    }
}

impl<S> Drop for Split<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// --- The task that decides ---

/// State that the requests of one [`Split`] share.
struct Context<S> {
    store: Arc<S>,
    round_trips: RoundTrips,
    shared: SplitContext,
}

async fn run<S: PartitionedStore>(context: Context<S>, mut queue: mpsc::Receiver<Job>) {
    let mut in_flight = FuturesUnordered::new();
    loop {
        tokio::select! {
            job = queue.recv(), if in_flight.len() < MAX_IN_FLIGHT => match job {
                Some(job) => {
                    let concurrent = in_flight.len() + 1;
                    // A panic is a bug, and must fail only one request.
                    in_flight.push(AssertUnwindSafe(context.decide(job, concurrent)).catch_unwind());
                }
                None => return,
            },
            Some(ended) = in_flight.next() => if ended.is_err() {
                tracing::error!("request over several partitions panicked, answering UNAVAILABLE");
            },
        }
    }
}

impl<S: PartitionedStore> Context<S> {
    /// Decides a request while `concurrent` requests, itself included, are being decided.
    async fn decide(&self, job: Job, concurrent: usize) {
        let mut request = Request::new(self, &job);
        let result = request.decide(concurrent).await;
        if matches!(&result, Ok(decision) if decision.admitted) {
            // Sending fails if the caller has gone away.
            let _ = job.reply.send(result);
            return;
        }
        let mut giving_back = Box::pin(self.give_back(request.refunds()));
        // The first poll queues the refunds, so that they precede a retry of the caller.
        let is_done = (&mut giving_back).now_or_never().is_some();
        let _ = job.reply.send(result);
        if !is_done {
            giving_back.await;
        }
    }
}

#[cfg(test)]
mod tests;
