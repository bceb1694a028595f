//! Asks nodes who owns which slot, and whether the cluster is whole.

use std::collections::HashMap;

use bb8_redis::bb8::ManageConnection as _;
use bb8_redis::redis::{self, ErrorKind, RedisError, ServerErrorKind, Value};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

use super::shown;
use super::slots::{Address, Range, SLOTS, ranges};
use crate::store::StoreError;
use crate::store::breaker::Missing;
use crate::store::redis::RedisSettings;
use crate::store::redis::connection::{Connection, Connector, LastFailure, MIN_CONNECT_TIMEOUT};
use crate::store::redis::redis_error::describe;

/// What a node says of the cluster.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TopologyReading {
    pub(super) ranges: Vec<Range>,
    /// How many slots nobody owns.
    pub(super) unowned: usize,
    /// How many slots are those of a master that the others have given up.
    pub(super) failed: usize,
    /// By its account, the cluster decides nothing.
    pub(super) is_down: bool,
}

impl TopologyReading {
    /// What ranges say, and the answer to CLUSTER INFO.
    fn new(ranges: Vec<Range>, info: &str) -> Self {
        let mut is_owned = vec![false; SLOTS];
        for range in &ranges {
            is_owned[usize::from(range.first)..=usize::from(range.last)].fill(true);
        }
        let failed = info
            .lines()
            .find_map(|line| line.strip_prefix("cluster_slots_fail:")?.parse().ok());
        Self {
            unowned: is_owned.iter().filter(|is_owned| !**is_owned).count(),
            failed: failed.unwrap_or_default(),
            is_down: !info.lines().any(|line| line == "cluster_state:ok"),
            ranges,
        }
    }

    /// Each slot has a master that is up.
    pub(super) fn is_whole(&self) -> bool {
        self.unowned == 0 && self.failed == 0 && !self.is_down
    }

    /// What that leaves without a decision.
    pub(super) fn missing(&self) -> Missing {
        match self.is_whole() {
            true => Missing::Nothing,
            false if self.is_down => Missing::All,
            false => Missing::Some,
        }
    }
}

/// The nodes that were asked, and connections to them for the next time.
#[derive(Debug, Default)]
pub(super) struct TopologyReader {
    connections: HashMap<Address, ReaderConnection>,
}

/// A connection to a node that is asked who has which slots.
#[derive(Debug)]
struct ReaderConnection {
    connector: Connector,
    connection: Connection,
}

impl TopologyReader {
    /// Lets the connections go.
    pub(super) fn rest(&mut self) {
        self.connections.clear();
    }

    /// Asks nodes in this order until one knows the cluster to be whole. The next one is asked when one has answered,
    /// or has not in the time that an answer should take; `None` when there is none to ask.
    pub(super) async fn read(
        &mut self,
        order: Vec<Address>,
        settings: &RedisSettings,
    ) -> Option<Result<TopologyReading, StoreError>> {
        self.connections
            .retain(|address, _| order.contains(address));
        let patience = settings.timeout.min(MIN_CONNECT_TIMEOUT);
        let mut asked = FuturesUnordered::new();
        let mut order = order.into_iter();
        let mut best = None;
        loop {
            let next = order.next();
            let is_last = next.is_none();
            asked.extend(next.map(|address| {
                let informant = self.connections.remove(&address);
                ask(address, informant, settings)
            }));
            let must_wait = is_last && !matches!(best, Some(Ok(_)));
            let answer = match must_wait {
                true => asked.next().await,
                false => timeout(patience, asked.next()).await.unwrap_or(None),
            };
            let Some((address, read)) = answer else {
                if is_last {
                    return best;
                }
                continue;
            };
            let read = read.map(|(reading, informant)| {
                self.connections.insert(address, informant);
                reading
            });
            let is_whole = read.as_ref().is_ok_and(TopologyReading::is_whole);
            if is_whole || !best.as_ref().is_some_and(Result::is_ok) {
                best = Some(read);
            }
            if is_whole {
                return best;
            }
        }
    }
}

/// Asks a node, over the connection that there is or a new one. A reading may take as long as connecting may: it is
/// better late than never.
async fn ask(
    address: Address,
    informant: Option<ReaderConnection>,
    settings: &RedisSettings,
) -> (
    Address,
    Result<(TopologyReading, ReaderConnection), StoreError>,
) {
    let (host, port) = &address;
    let settings = RedisSettings {
        timeout: settings.timeout.max(MIN_CONNECT_TIMEOUT),
        ..settings.at(host, *port)
    };
    let informant = informant.filter(|known| !known.connector.is_unusable(&known.connection));
    let asked = async {
        let informant = match informant {
            Some(informant) => informant,
            None => {
                let failures = LastFailure::new(shown(&address), None, None);
                let connector = Connector::new(&settings, failures);
                let connection = connector.connect().await?;
                ReaderConnection {
                    connector,
                    connection,
                }
            }
        };
        let mut question = redis::pipe();
        { question.cmd("CLUSTER").arg("SLOTS") }
            .cmd("CLUSTER")
            .arg("INFO");
        let answer: (Value, String) = informant.connection.query(&question).await?;
        Ok::<_, RedisError>((answer, informant))
    };
    let read = match asked.await {
        Ok(((slots, info), informant)) => match ranges(&slots, host) {
            Some(ranges) => Ok((TopologyReading::new(ranges, &info), informant)),
            None => Err(StoreError::Unreachable {
                address: shown(&address),
                cause: "its answer to CLUSTER SLOTS is none".to_owned(),
            }),
        },
        Err(error) => Err(failure(&address, &error)),
    };
    (address, read)
}

/// Why a node did not say what was asked.
fn failure(address: &Address, error: &RedisError) -> StoreError {
    let (address, cause) = (shown(address), describe(error));
    match error.kind() {
        // Nothing else tells a Redis that is no node of a cluster.
        ErrorKind::Server(ServerErrorKind::ResponseError)
            if cause.contains("cluster support disabled") =>
        {
            StoreError::Unfit {
                address,
                cause: format!("{cause}; it is no node of a Redis Cluster: use REDIS_TYPE=single"),
            }
        }
        ErrorKind::Io => StoreError::Unreachable { address, cause },
        _ => StoreError::Unfit { address, cause },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_whole_when_each_slot_has_a_master_that_is_up() {
        let range = |first, last| Range {
            first,
            last,
            owner: ("there".to_owned(), 1),
            replicas: Vec::new(),
        };
        let ok = "cluster_state:ok\r\ncluster_slots_fail:0\r\n";
        for (ranges, info, missing, unowned) in [
            (
                vec![range(0, 8191), range(8192, 16383)],
                ok,
                Missing::Nothing,
                0,
            ),
            (vec![range(0, 8191)], ok, Missing::Some, 8192),
            (vec![range(1, 16383)], ok, Missing::Some, 1),
            (vec![range(0, 16383)], "cluster_state:fail", Missing::All, 0),
            (
                vec![range(0, 16383)],
                "cluster_slots_fail:5461\r\ncluster_state:ok",
                Missing::Some,
                0,
            ),
            (vec![], "cluster_state:fail", Missing::All, 16384),
        ] {
            let reading = TopologyReading::new(ranges, info);
            let state = (reading.missing(), reading.unowned);
            assert_eq!(state, (missing, unowned), "{info}");
        }
    }
}
