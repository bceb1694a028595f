//! Calls to the partitions of a request.

use std::mem;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Mode, Request, Step, Taken, in_mode};
use crate::store::split::PartitionedStore;
use crate::store::{Charge, Decision, StoreError};

/// A call to the partition of a portion.
struct Call {
    /// Index of the portion.
    portion: usize,
    /// Indices of the charges.
    members: Vec<usize>,
    /// The charges as they are sent.
    charges: Arc<[Charge]>,
}

/// A call with its result.
struct Reply {
    call: Call,
    decision: Result<Decision, StoreError>,
}

impl<'a, S: PartitionedStore> Request<'a, S> {
    /// Sends one step to all of its portions at once.
    ///
    /// All replies are processed even if one is an error, because what was taken must be known.
    pub(super) async fn send(&mut self, step: Step) {
        let is_first = !mem::replace(&mut self.has_sent, true);
        let take = step.take.into_iter().map(|at| (at, Mode::Take));
        let query = step.query.into_iter().map(|at| (at, Mode::Query));
        let mut calls = Vec::new();
        for (at, mode) in take.chain(query) {
            let call = self.call(at, mode);
            self.portions[at].is_requested |= mode == Mode::Take;
            if !call.members.is_empty() {
                calls.push(self.make(call));
            }
        }
        for Reply { call, decision } in join_all(calls).await {
            match decision {
                Ok(decision) => self.record(&call, &decision),
                Err(error) => {
                    if is_first {
                        let partition = self.portions[call.portion].partition;
                        self.context.round_trips.failed(partition);
                    }
                    self.give_up(call.portion, error);
                }
            }
        }
    }

    /// Returns the call of a portion, without charges for which there is [nothing to do](Self::is_done).
    fn call(&self, portion: usize, mode: Mode) -> Call {
        let has_split_quotas = self.has_split_quotas();
        let members = self.portions[portion].members.iter().copied();
        let members: Vec<usize> = members.filter(|&one| !self.is_done(one, mode)).collect();
        let charges = members.iter().map(|&member| &self.charges[member]);
        Call {
            portion,
            charges: charges
                .map(|charge| in_mode(charge, mode, has_split_quotas))
                .collect(),
            members,
        }
    }

    /// Makes a call and records its round-trip time.
    fn make(&self, call: Call) -> impl Future<Output = Reply> + use<'a, S> {
        let (context, deadline) = (self.context, self.deadline.into_std());
        let partition = self.portions[call.portion].partition;
        async move {
            let began = Instant::now();
            let charges = Arc::clone(&call.charges);
            let decision = context.store.decide(charges, deadline).await;
            let took = began.elapsed();
            // A call that timed out would have taken longer; other failures are fast.
            let took = if decision.is_ok() { took } else { 2 * took };
            context.round_trips.took(partition, took);
            Reply { call, decision }
        }
    }

    fn record(&mut self, call: &Call, decision: &Decision) {
        let outcomes = call.members.iter().zip(&decision.outcomes);
        for ((&member, outcome), charge) in outcomes.zip(call.charges.iter()) {
            if decision.admitted && outcome.admitted && charge.is_taking() {
                self.portions[call.portion].taken.push(Taken {
                    member,
                    at: outcome.state.at,
                });
            }
            self.outcomes[member] = Some(*outcome);
        }
    }
}
