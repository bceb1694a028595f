//! Reads the owners of the slots from the nodes: at the start, after a redirection or a failure, and regularly.
//! One task per process. Also runs a monitor for each node that owns slots.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::Cluster;
use super::cluster_log::ClusterLog;
use super::node::Node;
use super::slot_map::SlotMap;
use super::slots::Address;
use super::topology_reader::{TopologyReader, TopologyReading};
use crate::store::StoreError;

/// Shortest time between two readings. Nodes need longer to detect the failure of another one.
const MIN_PAUSE: Duration = Duration::from_millis(100);

/// Shortest time between two readings while they report nothing new.
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// Longest time between two readings. Redirections report moved slots earlier; this is for nodes without requests.
const MAX_READ_INTERVAL: Duration = Duration::from_secs(30);

/// Longest time between two readings while the cluster is degraded or a node is unavailable.
const DEGRADED_READ_INTERVAL: Duration = Duration::from_millis(300);

/// How long a node without slots is kept: longer than requests wait in its lane, and long enough that a node that
/// is about to own its first slot is not connected to repeatedly.
const FORMER_NODE_LIFETIME: Duration = Duration::from_secs(60);

/// Maximum number of nodes of the map, and of the settings, that are queried in one reading.
const MAX_READERS: usize = 8;

impl Cluster {
    /// Keeps the topology up to date until it is dropped. `monitor` runs for each node that owns slots;
    /// `undecided` returns the number of requests that Redis did not decide.
    pub async fn watch<F>(
        self: Arc<Self>,
        monitor: impl Fn(Arc<Node>) -> F,
        undecided: impl Fn() -> u64,
    ) -> Infallible
    where
        F: Future<Output = Infallible> + Send + 'static,
    {
        let (mut log, mut monitored) = (ClusterLog::new(), Vec::new());
        let mut reader = TopologyReader::default();
        let (mut pause, mut last) = (MIN_PAUSE, None);
        loop {
            let read = self.read_map(&mut reader).await;
            self.read.notify_waiters();
            let map = self.map.load_full();
            let is_unsure = log.update(&read, map.masters(), undecided());
            let is_whole = read.as_ref().is_ok_and(TopologyReading::is_whole);
            let is_well = monitor_owners(&map, &mut monitored, &monitor) && is_whole && !is_unsure;
            if is_well {
                reader.close();
            }
            let read = read.ok();
            pause = match read == last {
                true => (pause * 2).min(MAX_PAUSE),
                false => MIN_PAUSE,
            };
            last = read;
            sleep(pause).await;
            let rest = if is_well {
                MAX_READ_INTERVAL
            } else {
                DEGRADED_READ_INTERVAL
            };
            // Both results start the next reading.
            let _ = timeout(rest, self.read_requested.notified()).await;
        }
    }

    /// Returns whether the first reading is in progress.
    pub(super) fn is_being_read(&self) -> bool {
        self.map().is_unknown() && !self.has_failed.load(Ordering::Acquire)
    }

    /// Queries nodes until one reports a complete cluster, starting with another node each time.
    async fn read_map(&self, reader: &mut TopologyReader) -> Result<TopologyReading, StoreError> {
        let round = self.readings.fetch_add(1, Ordering::Relaxed);
        let order = self.nodes_to_query(usize::try_from(round).unwrap_or_default());
        let read = reader.read(order, &self.settings).await;
        let read = read.unwrap_or_else(|| Err(self.not_known()));
        if let Ok(reading) = &read {
            let before =
                Instant::now().checked_sub(FORMER_NODE_LIFETIME.max(self.settings.timeout));
            let before = before.unwrap_or_else(Instant::now);
            self.change(|map| map.updated(&reading.ranges, before, |node| self.node(node)));
            self.breaker.set_missing(reading.missing());
        }
        self.note(read.as_ref().err());
        read
    }

    /// Returns the nodes to query: known ones, those of the settings, and last those that are down.
    fn nodes_to_query(&self, round: usize) -> Vec<Address> {
        let map = self.map();
        let owners = map.owners().map(|node| &node.address);
        let mut known: Vec<Address> = owners.chain(map.replicas()).cloned().collect();
        if !known.is_empty() {
            let first = round % known.len();
            known.rotate_left(first);
        }
        let down: HashSet<&Address> = { map.owners().filter(|node| !is_up(node)) }
            .map(|node| &node.address)
            .collect();
        known.sort_by_key(|address| down.contains(address));
        known.truncate(MAX_READERS);
        let mut seeds = self.seeds.clone();
        let first = round % seeds.len().max(1);
        seeds.rotate_left(first);
        seeds.retain(|seed| !known.contains(seed));
        seeds.truncate(MAX_READERS);
        known.extend(seeds);
        known
    }
}

fn is_up(node: &Node) -> bool {
    !node.breaker().is_open()
}

// --- Nodes that are looked after ---

/// A monitored node, until this value is dropped.
struct MonitoredNode {
    node: Arc<Node>,
    task: JoinHandle<Infallible>,
}

impl Drop for MonitoredNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Monitors the owners of a map and no other nodes. Returns whether the breakers of all nodes are closed.
fn monitor_owners<F>(
    map: &SlotMap,
    monitored: &mut Vec<MonitoredNode>,
    monitor: impl Fn(Arc<Node>) -> F,
) -> bool
where
    F: Future<Output = Infallible> + Send + 'static,
{
    monitored.retain(|monitored| {
        let is_owner = map
            .owners()
            .any(|owner| Arc::ptr_eq(owner, &monitored.node));
        if !is_owner && !is_up(&monitored.node) {
            tracing::warn!(
                addr = monitored.node.shown(),
                "unavailable cluster node no longer owns any slots"
            );
        }
        is_owner
    });
    for node in map.owners() {
        if !monitored
            .iter()
            .any(|monitored| Arc::ptr_eq(&monitored.node, node))
        {
            monitored.push(MonitoredNode {
                task: tokio::spawn(monitor(Arc::clone(node))),
                node: Arc::clone(node),
            });
        }
    }
    let down = map.former_nodes().filter(|former| !is_up(former));
    let were_down = down.map(|former| former.breaker().close()).count() > 0;
    // Nodes without slots are not probed, so requests are sent to them again.
    !were_down && map.owners().all(|owner| is_up(owner))
}
