//! Decides requests whose buckets live in several places, each of them atomic by itself alone: a second
//! Redis for the limits of a second, the slots of a cluster.
//!
//! A request with all of its buckets in one place is decided there. Any other request takes in all of its places at
//! once, in one round trip; where one of them denies it, what was taken in the others is given back. Until then,
//! other requests may be denied what they could have had; never is more admitted than one store would admit.
//!
//! What is given back is less than what was taken by what was refilled since ([`State::given_back`]), which must not
//! drain a bucket that is asked for more than its rate. So, by what is known of buckets that denied lately
//! ([`Denials`]):
//! - A request that one of them denies for certain takes nothing: the others are only asked, in one round trip.
//! - Where one of them has hardly more left than the requests in flight ask for, the request takes there first
//!   and asks in the other places, and takes in those once it has that: two round trips, if the deadline leaves time for two.
//!
//! A charge whose place is unavailable is decided by its failure policy ([`Standby`]), as if that were its place; what
//! the other places decided stands, and all or nothing holds over both.

mod give_back;
mod per_second;
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

pub use give_back::GiveBacks;
pub use per_second::PerSecond;

use request::Request;
use round_trips::RoundTrips;

#[cfg(doc)]
use crate::bucket::State;

/// The most requests over several places that are decided at once, and the most that wait for it.
const MAX_IN_FLIGHT: usize = 4096;

/// How errors call the places together.
const PLACES: &str = "several places";

/// A store that decides requests whose charges are all in one place.
pub trait Places: Store {
    /// Where the bucket of a charge is; the same for all instances that share the buckets.
    fn place(&self, charge: &Charge) -> u32;

    /// Why a request is not sent to the place of a charge at present, if that is known to be unavailable. The request
    /// counts as one that the place did not decide.
    fn turns_away(&self, _charge: &Charge) -> Option<StoreError> {
        None
    }
}

/// What the threads of a server share of requests over several places.
#[derive(Debug, Clone, Default)]
pub struct SplitContext {
    /// Counts what becomes of hits taken in vain.
    pub give_backs: GiveBacks,
    /// What is known of buckets that denied. Whatever wraps the store adds to it; without that, nothing is known.
    pub denials: Arc<Denials>,
    /// Decides charges whose place is unavailable. `None`: a request with such a charge is not decided.
    pub standby: Option<Standby>,
}

/// A store over places. A request over several of them is decided to its end even when nobody waits for
/// it any more: it has taken everywhere then, or nowhere.
pub struct Split<S> {
    store: Arc<S>,
    queue: mpsc::Sender<Job>,
    task: JoinHandle<()>,
}

/// A request that waits for its decision.
#[derive(Debug)]
struct Job {
    charges: Arc<[Charge]>,
    /// How many of them are no candidates.
    counted: usize,
    deadline: Instant,
    answer: oneshot::Sender<Result<Decision, StoreError>>,
}

impl<S: fmt::Debug> fmt::Debug for Split<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Split")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl<S: Places> Split<S> {
    /// Decides over the places of `store`. Must be called within a tokio runtime.
    pub fn new(store: S, context: SplitContext) -> Self {
        let store = Arc::new(store);
        let (queue, jobs) = mpsc::channel(MAX_IN_FLIGHT);
        let work = Work {
            store: Arc::clone(&store),
            round_trips: RoundTrips::default(),
            context,
        };
        let task = tokio::spawn(run(work, jobs));
        Self { store, queue, task }
    }

    fn is_in_one_place(&self, charges: &[Charge]) -> bool {
        let mut places = charges.iter().map(|charge| self.store.place(charge));
        let first = places.next();
        places.all(|place| Some(place) == first)
    }
}

impl<S: Places> Store for Split<S> {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        if self.is_in_one_place(&charges) {
            return self.store.decide(charges, deadline).await;
        }
        if charges.last().is_some_and(|last| last.part.is_candidate()) {
            return self.decide_and_try(&charges, deadline).await;
        }
        let counted = charges.len();
        self.decide_apart(charges, counted, deadline).await
    }
}

impl<S: Places> Split<S> {
    /// Decides a request with candidates that is over several places. What stands in for nothing is left out, lest
    /// the request goes to a place for that alone. Whether the others are taken, no place can tell by itself, so
    /// they count as long as the request is admitted.
    async fn decide_and_try(
        &self,
        charges: &[Charge],
        deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        let goes_along = |charge: &&Charge| match charge.part {
            Part::Candidate { from, to } => from < to,
            Part::Must | Part::Quota(_) | Part::Shadow => true,
        };
        let charges: Arc<[Charge]> = charges.iter().take_while(goes_along).cloned().collect();
        if charges.is_empty() {
            return Ok(Decision {
                admitted: true,
                outcomes: Vec::new(),
                cause: Cause::Buckets,
            });
        }
        if self.is_in_one_place(&charges) {
            return self.store.decide(charges, deadline).await;
        }
        let only_asked = |charge: &Charge| Charge {
            part: match charge.part {
                Part::Candidate { .. } => Part::Shadow,
                part => part,
            },
            ..charge.clone()
        };
        let counted = without_candidates(&charges).len();
        let charges = charges.iter().map(only_asked).collect();
        self.decide_apart(charges, counted, deadline).await
    }

    /// Decides a request over several places. The first `counted` charges are no candidates.
    async fn decide_apart(
        &self,
        charges: Arc<[Charge]>,
        counted: usize,
        deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        let (answer, decision) = oneshot::channel();
        let job = Job {
            charges,
            counted,
            deadline: Instant::from_std(deadline),
            answer,
        };
        if self.queue.try_send(job).is_err() {
            return Err(StoreError::Overloaded {
                address: PLACES.to_owned(),
                waiting: MAX_IN_FLIGHT,
            });
        }
        decision.await.unwrap_or_else(|_| {
            Err(StoreError::Unreachable {
                address: PLACES.to_owned(),
                cause: "deciding panicked".to_owned(),
            })
        })
    }
}

impl<S> Drop for Split<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// --- Deciding ---

/// What requests over several places share.
struct Work<S> {
    store: Arc<S>,
    round_trips: RoundTrips,
    context: SplitContext,
}

async fn run<S: Places>(work: Work<S>, mut queue: mpsc::Receiver<Job>) {
    let mut in_flight = FuturesUnordered::new();
    loop {
        tokio::select! {
            job = queue.recv(), if in_flight.len() < MAX_IN_FLIGHT => match job {
                // A panic is a mistake of ours, and costs one request.
                Some(job) => {
                    let competing = in_flight.len() + 1;
                    in_flight.push(AssertUnwindSafe(work.decide(job, competing)).catch_unwind());
                }
                None => return,
            },
            Some(ended) = in_flight.next() => if ended.is_err() {
                tracing::error!("deciding a request over several places panicked; it is answered UNAVAILABLE");
            },
        }
    }
}

impl<S: Places> Work<S> {
    /// Decides a request while so many, itself included, are being decided.
    async fn decide(&self, job: Job, competing: usize) {
        let mut request = Request::new(self, (&job.charges, job.counted), job.deadline);
        let result = request.decide(competing).await;
        if !matches!(&result, Ok(decision) if decision.admitted) {
            let mut giving_back = Box::pin(self.give_back(request.in_vain()));
            // The first poll puts it in line, so that whoever hears the answer and asks again comes after it.
            let is_done = (&mut giving_back).now_or_never().is_some();
            let _ = job.answer.send(result);
            if !is_done {
                giving_back.await;
            }
            return;
        }
        // Whoever gave up waiting does not hear it.
        let _ = job.answer.send(result);
    }
}

#[cfg(test)]
mod tests;
