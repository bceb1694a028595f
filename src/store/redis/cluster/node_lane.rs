//! The lane of a thread to a node of a cluster: what it has collected goes out as one pipeline, with a call for
//! each slot.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bb8_redis::redis::{ErrorKind, RedisError, ServerErrorKind, Value};

use super::node::Node;
use super::node_lanes::NodeLanes;
use super::slots::{Address, redirected};
use crate::store::redis::batch::Batch;
use crate::store::redis::connection::Calls;
use crate::store::redis::lane::{self, BatchEnd, Decide, Job, Lane, SendTurn, Undecided};
use crate::store::redis::{Server, UNEXPECTED_REPLY, failure};
use crate::store::{Decision, StoreError};

/// How often a request is sent on, having been turned away. A slot that is moved takes four: its node says
/// to ask for each key alone, then where; the move ends; and one more for a node that has not heard of it.
const MAX_TURNS: u8 = 6;

const TURNED_AWAY: &str =
    "each node says that another one has the slot; the cluster's nodes do not agree";

/// How a request goes to a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) slot: u16,
    pub(super) mode: CallMode,
    /// How often it was turned away.
    pub(super) turns: u8,
}

impl Route {
    /// The way of a request that was not turned away yet.
    pub(super) fn to(slot: u16) -> Self {
        Self {
            slot,
            mode: CallMode::Together,
            turns: 0,
        }
    }
}

/// With whom a request goes to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum CallMode {
    /// With the others of its slot, in one call.
    Together,
    /// With none but those for the same key: the slot is on its way to another node, and a call whose keys are
    /// not all at one of them is decided by none.
    Alone,
    /// Alone, to the node that its slot is on its way to.
    Asking,
}

/// The way of a thread to a node.
#[derive(Debug)]
pub(super) struct NodeLane {
    pub(super) node: Arc<Node>,
    lane: Lane<Route>,
    way: Arc<Way>,
}

/// The way to a node, as its lane knows it.
#[derive(Debug)]
struct Way {
    node: Arc<Node>,
    server: Server,
    ways: Weak<NodeLanes>,
}

impl NodeLane {
    /// A way to a node. It is connected to when first needed.
    pub(super) fn new(node: &Arc<Node>, ways: &NodeLanes, this: &Weak<NodeLanes>) -> Self {
        let (host, port) = &node.address;
        let settings = ways.settings.at(host, *port);
        let (script, breaker) = (Arc::clone(&ways.cluster.script), node.breaker().clone());
        let way = Arc::new(Way {
            node: Arc::clone(node),
            server: Server::new(&settings, script, Some(breaker)).in_cluster(),
            ways: this.clone(),
        });
        let batches = &settings.probe.batches;
        Self {
            node: Arc::clone(node),
            lane: Lane::new(Arc::clone(&way), ways.deadlines.handle(), batches),
            way,
        }
    }

    /// Puts a request into the queue; answers it when that is full.
    pub(super) fn push(&self, job: Job<Route>) {
        if let Some(error) = self.breaker_error() {
            job.answer(Err(Undecided::Failed(error)));
        } else if let Err(job) = self.lane.push(job) {
            job.answer(Err(Undecided::Failed(self.way.server.overloaded())));
        }
    }

    /// Why the node is not asked at present, if its breaker is open.
    pub(super) fn breaker_error(&self) -> Option<StoreError> {
        self.way.server.breaker_error()
    }

    /// That there was no answer in time.
    pub(super) fn no_answer(&self) -> StoreError {
        self.way.server.no_answer()
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
    let mut places: HashMap<(CallMode, u128), usize> = HashMap::new();
    for job in jobs {
        let next = parts.len();
        let alike = match (job.route.mode, &*job.charges) {
            (CallMode::Together, _) => Some(u128::from(job.route.slot)),
            (CallMode::Alone | CallMode::Asking, [charge]) => Some(charge.key.hash()),
            (CallMode::Alone | CallMode::Asking, _) => None,
        };
        let place = alike.map_or(next, |alike| {
            *places.entry((job.route.mode, alike)).or_insert(next)
        });
        if place == next {
            parts.push(Part { jobs: Vec::new() });
        }
        parts[place].jobs.push(job);
    }
    parts
}

impl Decide<Route> for Way {
    async fn decide(&self, jobs: &mut Vec<Job<Route>>, turn: SendTurn) -> BatchEnd {
        let deadline = lane::latest(jobs);
        let callers: Vec<_> = lane::callers(jobs).collect();
        let requests = jobs.len();
        let parts = parts(jobs.drain(..));
        let result = {
            let batches: Vec<_> = parts.iter().map(Part::batch).collect();
            let mut calls = Calls::default();
            for (part, batch) in parts.iter().zip(&batches) {
                let call = batch.command(self.server.script.hash());
                match part.route().mode {
                    CallMode::Together | CallMode::Alone => calls.add(call),
                    CallMode::Asking => calls.add_asking(call),
                }
            }
            let buckets = batches.iter().map(Batch::buckets).sum();
            let calls = self.server.call_each(calls, deadline, turn);
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
        let ended = BatchEnd::with(&result);
        match result {
            Ok(results) => {
                for (part, result) in parts.into_iter().zip(results) {
                    self.answer(part, result);
                }
            }
            Err(error) => {
                // Maybe another node has its slots by now.
                self.request_read();
                lane::answer(parts.into_iter().flat_map(|part| part.jobs), Err(error));
            }
        }
        ended
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

impl Way {
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
            Ok(_) => Err(Refusal::Failed(self.server.refused(UNEXPECTED_REPLY))),
            Err(error) => Err(self.refusal(&error)),
        }
    }

    fn refusal(&self, error: &RedisError) -> Refusal {
        let to = || {
            let (address, _) = error.redirect_node()?;
            redirected(address, &self.node.address.0)
        };
        let refusal = match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved) => to().map(Refusal::Moved),
            ErrorKind::Server(ServerErrorKind::Ask) => to().map(Refusal::Ask),
            ErrorKind::Server(ServerErrorKind::TryAgain) => Some(Refusal::Torn),
            _ => None,
        };
        refusal.unwrap_or_else(|| {
            self.request_read();
            Refusal::Failed(failure(self.server.address.clone(), error))
        })
    }

    fn answer(&self, part: Part, result: Result<Vec<Decision>, Refusal>) {
        let refusal = match result {
            Ok(decisions) => return lane::answer(part.jobs, Ok(decisions)),
            Err(refusal) => refusal,
        };
        let route = part.route();
        let Some(ways) = self.ways.upgrade() else {
            return;
        };
        let (mode, to) = match refusal {
            Refusal::Failed(error) => return lane::answer(part.jobs, Err(error)),
            Refusal::Moved(to) => {
                ways.cluster.moved(route.slot, &to);
                (CallMode::Together, to)
            }
            // What is asked for together may be here in part. Older versions do not tell.
            Refusal::Ask(_) | Refusal::Torn if route.mode == CallMode::Together => {
                (CallMode::Alone, self.node.address.clone())
            }
            Refusal::Ask(to) if part.jobs.iter().all(|job| job.charges.len() == 1) => {
                (CallMode::Asking, to)
            }
            Refusal::Ask(_) | Refusal::Torn => {
                for job in part.jobs {
                    job.answer(Err(Undecided::Torn));
                }
                return;
            }
        };
        for mut job in part.jobs {
            job.route.mode = mode;
            job.route.turns += 1;
            if job.route.turns > MAX_TURNS {
                job.answer(Err(Undecided::Failed(self.server.refused(TURNED_AWAY))));
            } else {
                ways.push(&to, job);
            }
        }
    }

    /// Has the map read again.
    fn request_read(&self) {
        if let Some(ways) = self.ways.upgrade() {
            ways.cluster.request_read();
        }
    }
}
