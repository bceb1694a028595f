//! Queries nodes for the owners of the slots and the state of the cluster.

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

/// The topology that a node reports.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TopologyReading {
    pub(super) ranges: Vec<Range>,
    /// Number of slots without an owner.
    pub(super) unowned: usize,
    /// Number of slots whose master is marked as failed.
    pub(super) failed: usize,
    /// The node reports that the cluster is down.
    pub(super) is_down: bool,
}

impl TopologyReading {
    /// Combines the replies to CLUSTER SLOTS and CLUSTER INFO.
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

    /// Returns whether each slot has a master that is up.
    pub(super) fn is_whole(&self) -> bool {
        self.unowned == 0 && self.failed == 0 && !self.is_down
    }

    /// Returns which requests the cluster cannot decide.
    pub(super) fn missing(&self) -> Missing {
        match self.is_whole() {
            true => Missing::Nothing,
            false if self.is_down => Missing::All,
            false => Missing::Some,
        }
    }
}

/// Connections to nodes, kept between readings.
#[derive(Debug, Default)]
pub(super) struct TopologyReader {
    connections: HashMap<Address, ReaderConnection>,
}

/// A connection to a node.
#[derive(Debug)]
struct ReaderConnection {
    connector: Connector,
    connection: Connection,
}

impl TopologyReader {
    /// Closes the connections.
    pub(super) fn close(&mut self) {
        self.connections.clear();
    }

    /// Queries nodes in this order until one reports a complete cluster, and returns the best reading. The
    /// next node is queried when one has replied or is late. Returns `None` if `order` is empty.
    pub(super) async fn read(
        &mut self,
        order: Vec<Address>,
        settings: &RedisSettings,
    ) -> Option<Result<TopologyReading, StoreError>> {
        self.connections
            .retain(|address, _| order.contains(address));
        let patience = settings.timeout.min(MIN_CONNECT_TIMEOUT);
        let mut queries = FuturesUnordered::new();
        let mut order = order.into_iter();
        let mut best = None;
        loop {
            let next = order.next();
            let is_last = next.is_none();
            queries.extend(next.map(|address| {
                let informant = self.connections.remove(&address);
                query_node(address, informant, settings)
            }));
            let must_wait = is_last && !matches!(best, Some(Ok(_)));
            let answer = match must_wait {
                true => queries.next().await,
                false => timeout(patience, queries.next()).await.unwrap_or(None),
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

/// Queries a node over the existing connection or a new one. The timeout is at least that of connecting, because a
/// late topology is better than none.
async fn query_node(
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
        let mut commands = redis::pipe();
        { commands.cmd("CLUSTER").arg("SLOTS") }
            .cmd("CLUSTER")
            .arg("INFO");
        let answer: (Value, String) = informant.connection.query(&commands).await?;
        Ok::<_, RedisError>((answer, informant))
    };
    let read = match asked.await {
        Ok(((slots, info), informant)) => match ranges(&slots, host) {
            Some(ranges) => Ok((TopologyReading::new(ranges, &info), informant)),
            None => Err(StoreError::Unreachable {
                address: shown(&address),
                cause: "invalid reply to CLUSTER SLOTS".to_owned(),
            }),
        },
        Err(error) => Err(failure(&address, &error)),
    };
    (address, read)
}

/// Converts an error of a query.
fn failure(address: &Address, error: &RedisError) -> StoreError {
    let (address, cause) = (shown(address), describe(error));
    match error.kind() {
        // A Redis outside a cluster has no other error of its own.
        ErrorKind::Server(ServerErrorKind::ResponseError)
            if cause.contains("cluster support disabled") =>
        {
            StoreError::Unfit {
                address,
                cause: format!(
                    "{cause}; the server is not a node of a Redis Cluster: use REDIS_TYPE=single"
                ),
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
