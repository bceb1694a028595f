//! Logs whether each slot has a master, once per change.

use tokio::time::Instant;

use super::topology_reader::TopologyReading;
use crate::store::StoreError;

/// The logged state of a cluster.
#[derive(Debug)]
pub(super) struct ClusterLog {
    /// The state that was logged last.
    state: Option<State>,
    /// The state of the last reading if it differs. Nodes do not learn of a change at the same time, so it is
    /// logged when a second reading confirms it.
    next: Option<State>,
    /// When the cluster became degraded, and the number of undecided requests at that time.
    since: Option<(Instant, u64)>,
}

/// State of the slots.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Whole(Vec<String>),
    Torn {
        unowned: usize,
        failed: usize,
        is_down: bool,
    },
    /// No node reports the owners any more.
    NotRead,
}

impl ClusterLog {
    /// Creates a log of a cluster of unknown state.
    pub(super) fn new() -> Self {
        Self {
            state: None,
            next: None,
            since: None,
        }
    }

    /// Logs a change of state. `undecided` is the number of requests that were not decided so far. Returns
    /// whether a change awaits confirmation.
    pub(super) fn update(
        &mut self,
        read: &Result<TopologyReading, StoreError>,
        masters: Vec<String>,
        undecided: u64,
    ) -> bool {
        let state = match read {
            Ok(reading) if reading.is_whole() => State::Whole(masters),
            Ok(reading) => State::Torn {
                unowned: reading.unowned,
                failed: reading.failed,
                is_down: reading.is_down,
            },
            // The opening of the breaker is logged in this case.
            Err(_) if masters.is_empty() => return false,
            Err(_) => State::NotRead,
        };
        if self.state.as_ref() == Some(&state) {
            self.next = None;
            return false;
        }
        if self.state.is_some() && self.next.as_ref() != Some(&state) {
            self.next = Some(state);
            return true;
        }
        self.announce(&state, read.as_ref().err(), undecided);
        (self.state, self.next) = (Some(state), None);
        false
    }

    fn announce(&mut self, state: &State, error: Option<&StoreError>, undecided: u64) {
        let since = self.since.take();
        match state {
            State::Whole(masters) => {
                let masters = masters.join(",");
                let Some((since, before)) = since else {
                    tracing::info!(masters, "cluster complete: all slots have a master");
                    return;
                };
                let (outage, requests) = (since.elapsed(), undecided - before);
                tracing::warn!(
                    masters,
                    ?outage,
                    requests,
                    "cluster complete again: all slots have a master"
                );
                return;
            }
            State::Torn {
                unowned,
                failed,
                is_down,
            } => {
                let slots = unowned + failed;
                tracing::warn!(
                    slots_unassigned = unowned,
                    slots_failed = failed,
                    is_down,
                    "cluster degraded: {slots} slots have no master, applying failure policy"
                );
            }
            State::NotRead => {
                let error = error.map(ToString::to_string);
                tracing::warn!(
                    error,
                    "cluster topology unavailable, keeping the last known owners"
                );
            }
        }
        self.since = Some(since.unwrap_or((Instant::now(), undecided)));
    }
}
