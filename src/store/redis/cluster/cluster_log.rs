//! What is told of a cluster: whether each slot has a master, each change once.

use tokio::time::Instant;

use super::topology_reader::TopologyReading;
use crate::store::StoreError;

/// What was told last, and what is about to be.
#[derive(Debug)]
pub(super) struct ClusterLog {
    /// What is so, as far as it was told.
    state: Option<State>,
    /// What the last reading says, if that is something else. Nodes do not all hear of a change at once, so it is
    /// told when another one says so, too.
    next: Option<State>,
    /// When it became other than whole, and how many requests had not been decided by then.
    since: Option<(Instant, u64)>,
}

/// Who has the slots.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Whole(Vec<String>),
    Torn {
        unowned: usize,
        failed: usize,
        is_down: bool,
    },
    /// No node says it any more.
    NotRead,
}

impl ClusterLog {
    /// Nothing.
    pub(super) fn new() -> Self {
        Self {
            state: None,
            next: None,
            since: None,
        }
    }

    /// Tells what has changed; `decided` is how many requests were not decided so far. Returns whether something is
    /// about to be told.
    pub(super) fn tell(
        &mut self,
        read: &Result<TopologyReading, StoreError>,
        masters: Vec<String>,
        decided: u64,
    ) -> bool {
        let state = match read {
            Ok(reading) if reading.is_whole() => State::Whole(masters),
            Ok(reading) => State::Torn {
                unowned: reading.unowned,
                failed: reading.failed,
                is_down: reading.is_down,
            },
            // That nothing was ever known is told when the breaker opens.
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
        self.announce(&state, read.as_ref().err(), decided);
        (self.state, self.next) = (Some(state), None);
        false
    }

    fn announce(&mut self, state: &State, error: Option<&StoreError>, decided: u64) {
        let since = self.since.take();
        match state {
            State::Whole(masters) => {
                let masters = masters.join(",");
                let Some((since, before)) = since else {
                    tracing::info!(masters, "the Redis Cluster is whole");
                    return;
                };
                let (after, requests) = (since.elapsed(), decided - before);
                tracing::warn!(
                    masters,
                    ?after,
                    requests,
                    "the Redis Cluster is whole again; requests so far were decided by policy"
                );
                return;
            }
            State::Torn {
                unowned,
                failed,
                is_down,
            } => {
                let (without_master, master_failed) = (unowned, failed);
                let decides = match is_down {
                    true => "it says of itself that it is down, and decides nothing",
                    false => "requests for these slots are decided by policy",
                };
                tracing::warn!(
                    without_master,
                    master_failed,
                    "the Redis Cluster is not whole, by its slots; {decides}"
                );
            }
            State::NotRead => {
                let error = error.map(ToString::to_string);
                tracing::warn!(
                    error,
                    "no node of the Redis Cluster says which of them has which slots; requests go where they were \
                     the last time, and nodes are asked again"
                );
            }
        }
        self.since = Some(since.unwrap_or((Instant::now(), decided)));
    }
}
