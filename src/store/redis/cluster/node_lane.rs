//! The lane of a thread to a node of a cluster. It sends what it has collected as one pipeline, with a call for
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

/// Maximum number of redirections of a request. A slot that is being migrated takes four: its node replies that
/// the keys are split, then where each key is; the migration ends; and a node that does not know that yet
/// redirects once more.
const MAX_TURNS: u8 = 6;

const TURNED_AWAY: &str = "too many redirections: the nodes do not agree on the owner of the slot";

/// How a request is sent to a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) slot: u16,
    pub(super) mode: CallMode,
    /// Number of redirections.
    pub(super) turns: u8,
}

impl Route {
    /// Returns the route of a request that was not redirected.
    pub(super) fn to(slot: u16) -> Self {
        Self {
            slot,
            mode: CallMode::Together,
            turns: 0,
        }
    }
}

/// Which requests share a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum CallMode {
    /// All requests of a slot share a call.
    Together,
    /// Only requests of the same key share a call: the slot is being migrated, and nodes reject a call whose
    /// keys are on two nodes.
    Alone,
    /// As [`Self::Alone`], sent after ASKING to the node that imports the slot.
    Asking,
}

/// The lane of a thread to a node.
#[derive(Debug)]
pub(super) struct NodeLane {
    pub(super) node: Arc<Node>,
    lane: Lane<Route>,
    way: Arc<Way>,
}

/// Sends the batches of a lane to its node.
#[derive(Debug)]
struct Way {
    node: Arc<Node>,
    server: Server,
    ways: Weak<NodeLanes>,
}

impl NodeLane {
    /// Creates a lane, which connects when it is first used.
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

    /// Adds a request to the queue. If that fails, its caller receives the error.
    pub(super) fn push(&self, job: Job<Route>) {
        if let Some(error) = self.breaker_error() {
            job.answer(Err(Undecided::Failed(error)));
        } else if let Err(job) = self.lane.push(job) {
            job.answer(Err(Undecided::Failed(self.way.server.overloaded())));
        }
    }

    /// Returns the last failure if the breaker of the node is open.
    pub(super) fn breaker_error(&self) -> Option<StoreError> {
        self.way.server.breaker_error()
    }

    /// Returns the error for a missing reply.
    pub(super) fn no_answer(&self) -> StoreError {
        self.way.server.no_answer()
    }
}

/// Requests of one call.
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

/// Groups jobs by call.
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
                // Another node may own its slots by now.
                self.request_read();
                lane::answer(parts.into_iter().flat_map(|part| part.jobs), Err(error));
            }
        }
        ended
    }
}

/// The reason that a call was not decided.
enum Refusal {
    /// Another node owns the slot.
    Moved(Address),
    /// Another node imports the slot and has the keys.
    Ask(Address),
    /// The keys are on two nodes.
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
            // Some of the keys may be on this node. Older versions do not report that.
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

    /// Requests a reading of the map.
    fn request_read(&self) {
        if let Some(ways) = self.ways.upgrade() {
            ways.cluster.request_read();
        }
    }
}
