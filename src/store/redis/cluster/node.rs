//! A node of a cluster, and the lane to it: what it has collected goes out as one pipeline, with a call for
//! each slot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bb8_redis::redis::{ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::time::Instant;

use super::Cluster;
use super::slots::{Address, redirected};
use crate::store::breaker::Breaker;
use crate::store::redis::batch::Batch;
use crate::store::redis::connection::Calls;
use crate::store::redis::lane::{self, Decide, Job, Lane, Undecided};
use crate::store::redis::{NOT_OURS, RedisSettings, Server, failure};
use crate::store::{Charge, Decision, FailureKind, Payment, StoreError};

/// How often a request is sent on, having been turned away. A slot that is moved takes four: its node says
/// to ask for each key alone, then where; the move ends; and one more for a node that has not heard of it.
const MAX_TURNS: u8 = 6;

const TURNED_AWAY: &str =
    "each node says that another one has the slot; the cluster's nodes do not agree";

/// How a request goes to a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) slot: u16,
    pub(super) way: Way,
    /// How often it was turned away.
    pub(super) turns: u8,
}

impl Route {
    /// The way of a request that was not turned away yet.
    pub(super) fn to(slot: u16) -> Self {
        Self {
            slot,
            way: Way::Together,
            turns: 0,
        }
    }
}

/// With whom a request goes to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Way {
    /// With the others of its slot, in one call.
    Together,
    /// With none but those for the same key: the slot is on its way to another node, and a call whose keys are
    /// not all at one of them is decided by none.
    Alone,
    /// Alone, to the node that its slot is on its way to.
    Asking,
}

/// A node that owns slots, as the map knows it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) address: Address,
    lane: Lane<Route>,
    node: Arc<Node>,
    breaker: Breaker,
    /// A way of its own, for probes.
    probed: Server,
}

/// A node, as its lane knows it.
#[derive(Debug)]
struct Node {
    address: Address,
    server: Server,
    cluster: Weak<Cluster>,
    /// What was asked the last time that it failed: a node may fail with some slots and answer all else.
    failed: Mutex<Option<Charge>>,
}

impl Member {
    /// A node of a cluster. It is connected to when first needed.
    pub(super) fn new(address: &Address, cluster: &Cluster) -> Self {
        let (host, port) = address;
        let settings = cluster.settings.at(host, *port);
        let server = |settings: &RedisSettings, breaker| {
            Server::new(settings, Arc::clone(&cluster.script), breaker).in_cluster()
        };
        let breaker = Breaker::default();
        let node = Arc::new(Node {
            address: address.clone(),
            server: server(&settings, Some(breaker.clone())),
            cluster: cluster.this.clone(),
            failed: Mutex::default(),
        });
        Self {
            address: address.clone(),
            lane: Lane::new(Arc::clone(&node), &settings.probe.batches),
            node,
            breaker,
            probed: server(&settings.with_pool_size(1), None),
        }
    }

    /// Whether no request for it is let wait.
    pub(super) fn is_down(&self) -> bool {
        self.breaker.is_open()
    }

    /// Finds out whether a node that is down decides again.
    pub(super) async fn probe(&self) {
        self.breaker.half_open();
        let question = self.node.question();
        let request = (!question.is_empty()).then_some(question.as_slice());
        let question = Batch::new(request.into_iter());
        let deadline = Instant::now() + self.probed.timeout;
        match self.probed.decide_batch(&question, None, deadline).await {
            Ok(_) => self.breaker.close(),
            // The slot may be another node's by now; this one answers.
            Err(error) if error.kind() == FailureKind::Refused => self.breaker.close(),
            Err(error) => self.breaker.open(&error),
        }
    }

    /// Puts a request into the queue; answers it when that is full.
    pub(super) fn push(&self, job: Job<Route>) {
        if let Some(error) = self.node.server.is_shut() {
            job.answer(Err(Undecided::Failed(error)));
        } else if let Err(job) = self.lane.push(job) {
            job.answer(Err(Undecided::Failed(self.node.server.overloaded())));
        }
    }

    /// That there was no answer in time.
    pub(super) fn no_answer(&self) -> StoreError {
        self.node.server.no_answer()
    }
}

/// Requests that are decided in one call.
struct Part {
    jobs: Vec<Job<Route>>,
}

impl Part {
    fn route(&self) -> Route {
        self.jobs[0].route
    }

    fn batch(&self) -> Batch<'_> {
        Batch::new(self.jobs.iter().map(|job| &*job.charges))
    }
}

/// The calls that jobs make.
fn parts(jobs: impl Iterator<Item = Job<Route>>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut places: HashMap<(Way, u128), usize> = HashMap::new();
    for job in jobs {
        let next = parts.len();
        let alike = match (job.route.way, &*job.charges) {
            (Way::Together, _) => Some(u128::from(job.route.slot)),
            (Way::Alone | Way::Asking, [charge]) => Some(charge.key.hash()),
            (Way::Alone | Way::Asking, _) => None,
        };
        let place = alike.map_or(next, |alike| {
            *places.entry((job.route.way, alike)).or_insert(next)
        });
        if place == next {
            parts.push(Part { jobs: Vec::new() });
        }
        parts[place].jobs.push(job);
    }
    parts
}

impl Decide<Route> for Node {
    async fn decide(&self, jobs: &mut Vec<Job<Route>>) {
        let deadline = lane::latest(jobs);
        let callers: Vec<_> = lane::callers(jobs).collect();
        let requests = jobs.len();
        let parts = parts(jobs.drain(..));
        let result = {
            let batches: Vec<_> = parts.iter().map(Part::batch).collect();
            let mut calls = Calls::default();
            for (part, batch) in parts.iter().zip(&batches) {
                let call = batch.command(self.server.script.get_hash());
                match part.route().way {
                    Way::Together | Way::Alone => calls.add(call),
                    Way::Asking => calls.add_asking(call),
                }
            }
            let buckets = batches.iter().map(Batch::buckets).sum();
            let calls = self.server.call_each(calls, deadline);
            let replies = self
                .server
                .observed(callers, (requests, buckets), calls)
                .await;
            replies.map(|replies| {
                let replies = batches.iter().zip(replies);
                replies
                    .map(|(batch, reply)| self.read(batch, reply))
                    .collect::<Vec<_>>()
            })
        };
        match result {
            Ok(results) => {
                for (part, result) in parts.into_iter().zip(results) {
                    self.answer(part, result);
                }
            }
            Err(error) => {
                // Maybe another node has its slots by now.
                self.doubt();
                self.remember(&parts);
                lane::answer(parts.into_iter().flat_map(|part| part.jobs), Err(error));
            }
        }
    }
}

/// Why a call was not decided.
enum Refusal {
    /// Another node has the slot.
    Moved(Address),
    /// Another node is about to have the slot, and has the keys by now.
    Ask(Address),
    /// Some of the keys are here, and some are not.
    Torn,
    /// The node failed.
    Failed(StoreError),
}

impl Node {
    /// Remembers something of what failed.
    fn remember(&self, parts: &[Part]) {
        let jobs = parts.iter().flat_map(|part| &part.jobs);
        let charge = jobs.flat_map(|job| job.charges.iter()).next().cloned();
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        *failed = charge;
    }

    /// What takes nothing from the bucket that failed.
    fn question(&self) -> Vec<Charge> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let question = failed.clone().map(|charge| Charge {
            hits: 0,
            payment: Payment::Question,
            ..charge
        });
        question.into_iter().collect()
    }

    fn read(
        &self,
        batch: &Batch<'_>,
        reply: Result<Value, RedisError>,
    ) -> Result<Vec<Decision>, Refusal> {
        match reply {
            Ok(Value::Array(reply)) => self
                .server
                .decisions(batch, &reply)
                .map_err(Refusal::Failed),
            Ok(_) => Err(Refusal::Failed(self.server.refused(NOT_OURS))),
            Err(error) => Err(self.refusal(&error)),
        }
    }

    fn refusal(&self, error: &RedisError) -> Refusal {
        let to = || {
            let (address, _) = error.redirect_node()?;
            redirected(address, &self.address.0)
        };
        let refusal = match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved) => to().map(Refusal::Moved),
            ErrorKind::Server(ServerErrorKind::Ask) => to().map(Refusal::Ask),
            ErrorKind::Server(ServerErrorKind::TryAgain) => Some(Refusal::Torn),
            _ => None,
        };
        refusal.unwrap_or_else(|| {
            self.doubt();
            Refusal::Failed(failure(self.server.address.clone(), error))
        })
    }

    fn answer(&self, part: Part, result: Result<Vec<Decision>, Refusal>) {
        let refusal = match result {
            Ok(decisions) => return lane::answer(part.jobs, Ok(decisions)),
            Err(refusal) => refusal,
        };
        let route = part.route();
        let Some(cluster) = self.cluster.upgrade() else {
            return;
        };
        let (way, to) = match refusal {
            Refusal::Failed(error) => return lane::answer(part.jobs, Err(error)),
            Refusal::Moved(to) => {
                cluster.moved(route.slot, &to);
                (Way::Together, to)
            }
            // What is asked for together may be here in part. Older versions do not tell.
            Refusal::Ask(_) | Refusal::Torn if route.way == Way::Together => {
                (Way::Alone, self.address.clone())
            }
            Refusal::Ask(to) if part.jobs.iter().all(|job| job.charges.len() == 1) => {
                (Way::Asking, to)
            }
            Refusal::Ask(_) | Refusal::Torn => {
                for job in part.jobs {
                    job.answer(Err(Undecided::Torn));
                }
                return;
            }
        };
        for mut job in part.jobs {
            job.route.way = way;
            job.route.turns += 1;
            if job.route.turns > MAX_TURNS {
                job.answer(Err(Undecided::Failed(self.server.refused(TURNED_AWAY))));
            } else {
                cluster.push(&to, job);
            }
        }
    }

    /// Has the map read again.
    fn doubt(&self) {
        if let Some(cluster) = self.cluster.upgrade() {
            cluster.doubt();
        }
    }
}
