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
use super::informants::{Informants, Reading};
use super::map::Map;
use super::node::Node;
use super::slots::Address;
use super::told::Told;
use crate::store::StoreError;

/// The shortest time between two readings. The nodes need longer to notice that one of them is gone.
const PAUSE: Duration = Duration::from_millis(100);

/// The same when nothing new was read, time and again.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The longest time between two readings: slots that move are noticed when a node says so; this is for nodes that
/// nothing is asked of.
const REST: Duration = Duration::from_secs(30);

/// The same while the cluster is not whole, or some of it does not answer.
const CONCERN: Duration = Duration::from_millis(300);

/// How long a node stays known that owns nothing: longer than anybody waits in its lane, and not so short that
/// one that is about to own its first slot is connected to again and again.
const STAY: Duration = Duration::from_secs(60);

/// The most nodes of the map, and of the settings, that are asked in one reading.
const MOST_ASKED: usize = 8;

impl Cluster {
    /// Keeps what is known of the cluster right, from now on; ends only when it is dropped. `tend` looks after a node,
    /// for as long as that is known; `decided` tells how many requests were not decided by Redis.
    pub async fn watch<F>(
        self: Arc<Self>,
        tend: impl Fn(Arc<Node>) -> F,
        decided: impl Fn() -> u64,
    ) -> Infallible
    where
        F: Future<Output = Infallible> + Send + 'static,
    {
        let (mut told, mut tended) = (Told::new(), Vec::new());
        let mut informants = Informants::default();
        let (mut pause, mut last) = (PAUSE, None);
        loop {
            let read = self.read_map(&mut informants).await;
            self.read.notify_waiters();
            let map = self.map.load_full();
            let is_unsure = told.tell(&read, map.masters(), decided());
            let is_whole = read.as_ref().is_ok_and(Reading::is_whole);
            let is_well = tend_owners(&map, &mut tended, &tend) && is_whole && !is_unsure;
            if is_well {
                informants.rest();
            }
            let read = read.ok();
            pause = match read == last {
                true => (pause * 2).min(LONGEST_PAUSE),
                false => PAUSE,
            };
            last = read;
            sleep(pause).await;
            let rest = if is_well { REST } else { CONCERN };
            // Over either way.
            let _ = timeout(rest, self.doubted.notified()).await;
        }
    }

    /// Whether nodes are about to say for the first time who has which slots.
    pub(super) fn is_being_read(&self) -> bool {
        self.map().is_unknown() && !self.has_failed.load(Ordering::Acquire)
    }

    /// Asks nodes until one knows the cluster to be whole, another one first each time.
    async fn read_map(&self, informants: &mut Informants) -> Result<Reading, StoreError> {
        let round = self.readings.fetch_add(1, Ordering::Relaxed);
        let order = self.informants(usize::try_from(round).unwrap_or_default());
        let read = informants.read(order, &self.settings).await;
        let read = read.unwrap_or_else(|| Err(self.not_known()));
        if let Ok(reading) = &read {
            let before = Instant::now().checked_sub(STAY.max(self.settings.timeout));
            let before = before.unwrap_or_else(Instant::now);
            self.change(|map| map.updated(&reading.ranges, before, |node| self.node(node)));
            self.breaker.lacks(reading.lack());
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
        known.truncate(MOST_ASKED);
        let mut seeds = self.seeds.clone();
        let first = round % seeds.len().max(1);
        seeds.rotate_left(first);
        seeds.retain(|seed| !known.contains(seed));
        seeds.truncate(MOST_ASKED);
        known.extend(seeds);
        known
    }
}

fn is_up(node: &Node) -> bool {
    !node.breaker().is_open()
}

// --- Nodes that are looked after ---

/// A node that is looked after, for as long as this is held.
struct Tended {
    node: Arc<Node>,
    task: JoinHandle<Infallible>,
}

impl Drop for Tended {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Has the owners of a map looked after, and nobody else. Returns whether there is no node whose breaker is open.
fn tend_owners<F>(map: &Map, tended: &mut Vec<Tended>, tend: impl Fn(Arc<Node>) -> F) -> bool
where
    F: Future<Output = Infallible> + Send + 'static,
{
    tended.retain(|tended| {
        let is_owner = map.owners().any(|owner| Arc::ptr_eq(owner, &tended.node));
        if !is_owner && !is_up(&tended.node) {
            tracing::warn!(
                address = tended.node.shown(),
                "the node of the Redis Cluster that does not decide has no slots any more; others have them"
            );
        }
        is_owner
    });
    for node in map.owners() {
        if !tended.iter().any(|tended| Arc::ptr_eq(&tended.node, node)) {
            tended.push(Tended {
                task: tokio::spawn(tend(Arc::clone(node))),
                node: Arc::clone(node),
            });
        }
    }
    let down = map.guests().filter(|guest| !is_up(guest));
    let were_down = down.map(|guest| guest.breaker().close()).count() > 0;
    // Nobody probes those, so they are asked again.
    !were_down && map.owners().all(|owner| is_up(owner))
}
