//! Reads from the nodes who owns which slot: at the start, whenever a node was wrong or failed, and now and then. One
//! for each server process. Sees to it that each node that owns slots is looked after.

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

/// The shortest time between two readings. The nodes need longer to notice that one of them is gone.
const MIN_PAUSE: Duration = Duration::from_millis(100);

/// The same when nothing new was read, time and again.
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// The longest time between two readings: slots that move are noticed when a node says so; this is for nodes that
/// nothing is asked of.
const MAX_READ_INTERVAL: Duration = Duration::from_secs(30);

/// The same while the cluster is not whole, or some of it does not answer.
const DEGRADED_READ_INTERVAL: Duration = Duration::from_millis(300);

/// How long a node stays known that owns nothing: longer than anybody waits in its lane, and not so short that
/// one that is about to own its first slot is connected to again and again.
const FORMER_NODE_LIFETIME: Duration = Duration::from_secs(60);

/// The most nodes of the map, and of the settings, that are asked in one reading.
const MAX_READERS: usize = 8;

impl Cluster {
    /// Keeps what is known of the cluster right, from now on; ends only when it is dropped. `monitor` looks after a node,
    /// for as long as that is known; `decided` tells how many requests were not decided by Redis.
    pub async fn watch<F>(
        self: Arc<Self>,
        monitor: impl Fn(Arc<Node>) -> F,
        decided: impl Fn() -> u64,
    ) -> Infallible
    where
        F: Future<Output = Infallible> + Send + 'static,
    {
        let (mut told, mut monitored) = (ClusterLog::new(), Vec::new());
        let mut informants = TopologyReader::default();
        let (mut pause, mut last) = (MIN_PAUSE, None);
        loop {
            let read = self.read_map(&mut informants).await;
            self.read.notify_waiters();
            let map = self.map.load_full();
            let is_unsure = told.tell(&read, map.masters(), decided());
            let is_whole = read.as_ref().is_ok_and(TopologyReading::is_whole);
            let is_well = monitor_owners(&map, &mut monitored, &monitor) && is_whole && !is_unsure;
            if is_well {
                informants.rest();
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
            // Over either way.
            let _ = timeout(rest, self.read_requested.notified()).await;
        }
    }

    /// Whether nodes are about to say for the first time who has which slots.
    pub(super) fn is_being_read(&self) -> bool {
        self.map().is_unknown() && !self.has_failed.load(Ordering::Acquire)
    }

    /// Asks nodes until one knows the cluster to be whole, another one first each time.
    async fn read_map(
        &self,
        informants: &mut TopologyReader,
    ) -> Result<TopologyReading, StoreError> {
        let round = self.readings.fetch_add(1, Ordering::Relaxed);
        let order = self.informants(usize::try_from(round).unwrap_or_default());
        let read = informants.read(order, &self.settings).await;
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

    /// The nodes to ask: those that are known, and those that the settings name. Last those that are down.
    fn informants(&self, round: usize) -> Vec<Address> {
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

/// A node that is looked after, for as long as this is held.
struct MonitoredNode {
    node: Arc<Node>,
    task: JoinHandle<Infallible>,
}

impl Drop for MonitoredNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Has the owners of a map looked after, and nobody else. Returns whether there is no node whose breaker is open.
fn monitor_owners<F>(
    map: &SlotMap,
    monitored: &mut Vec<MonitoredNode>,
    monitor: impl Fn(Arc<Node>) -> F,
) -> bool
where
    F: Future<Output = Infallible> + Send + 'static,
{
    monitored.retain(|monitored| {
        let is_owner = map.owners().any(|owner| Arc::ptr_eq(owner, &monitored.node));
        if !is_owner && !is_up(&monitored.node) {
            tracing::warn!(
                address = monitored.node.shown(),
                "the node of the Redis Cluster that does not decide has no slots any more; others have them"
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
    // Nobody probes those, so they are asked again.
    !were_down && map.owners().all(|owner| is_up(owner))
}
