//! Buckets in a Redis Cluster. Each bucket is on the node that owns its slot, and each node has a lane.
//!
//! Requests of one slot are decided on its node, atomically; the slots that the lane of a node has collected are
//! sent together as one pipeline. [`Split`] decides requests over several slots. The owners of the slots are read
//! from the nodes (`cluster/topology_watch.rs`) and from redirections. All threads share the topology and a
//! breaker per node ([`Cluster`]); each has its own lanes and connections (`cluster/node_lanes.rs`).
//!
//! A node that redirects a call has executed nothing of it, so the call is sent to the other node. A call that may
//! have been executed is never sent again.
//!
//! Two requests on one bucket are decided in the order of arrival while its slot stays on one node. When it moves,
//! requests that are in flight at that moment can overtake one another, but a request that arrives after the
//! response to another one is always decided after it.

mod cluster_log;
mod node;
mod node_lane;
mod node_lanes;
mod probe;
mod slot_map;
mod slots;
mod topology_reader;
mod topology_watch;

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::lane::{MAX_WAITING, Undecided};
use super::script::Script;
use super::{RedisSettings, SCRIPT};
use crate::store::breaker::{Breaker, BreakerState};
use crate::store::split::{PartitionedStore, Split, SplitContext};
use crate::store::{Charge, Decision, Probe, Store, StoreError};
use node_lanes::NodeLanes;
use slot_map::SlotMap;
use slots::Address;

pub use crate::key::slot;
pub use node::Node;
pub use probe::{NodeProbe, is_cluster_error};

/// Error text for a request on a single bucket that nodes report to be on two nodes.
const UNRESOLVED_SPLIT: &str = "unexpected TRYAGAIN for a single bucket";

/// Error text if no slot has a master.
const NO_MASTER: &str = "no slot has a master";

/// Buckets in a Redis Cluster. See [`RedisStore`](super::RedisStore) for lanes and deadlines.
pub struct ClusterStore {
    ways: Arc<NodeLanes>,
    torn: Split<BucketByBucket>,
    _watch: Option<Watch>,
}

impl fmt::Debug for ClusterStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterStore")
            .field("seeds", &self.ways.cluster.seeds)
            .finish_non_exhaustive()
    }
}

impl ClusterStore {
    /// Creates a store on a cluster that is being [watched](Cluster::watch). Must be called within a tokio
    /// runtime.
    ///
    /// Each node has a breaker: while one node is down, its requests do not wait, and requests for the others
    /// are not affected.
    #[must_use]
    pub fn new(settings: &RedisSettings, cluster: &Arc<Cluster>) -> Self {
        Self::start(settings, cluster, None)
    }

    /// Creates a store and its cluster with another script, for tests that control the clock that the script
    /// reads. Nodes are not probed: their breakers close immediately.
    #[must_use]
    pub fn with_script(settings: &RedisSettings, seeds: &[(String, u16)], source: &str) -> Self {
        let cluster = Cluster::running(settings, seeds, source);
        let ask_always = |node: Arc<Node>| async move {
            let mut states = node.breaker().watch();
            loop {
                // The breaker outlives this task, so this is no error.
                let _ = states
                    .wait_for(|state| *state != BreakerState::Closed)
                    .await;
                node.breaker().close();
            }
        };
        let watch = Arc::clone(&cluster).watch(ask_always, || 0);
        Self::start(settings, &cluster, Some(Watch(tokio::spawn(watch))))
    }

    fn start(settings: &RedisSettings, cluster: &Arc<Cluster>, watch: Option<Watch>) -> Self {
        let ways = NodeLanes::new(settings, cluster);
        Self {
            torn: Split::new(BucketByBucket(Arc::clone(&ways)), SplitContext::default()),
            _watch: watch,
            ways,
        }
    }
}

/// A task that is aborted when this value is dropped.
#[derive(Debug)]
struct Watch(JoinHandle<Infallible>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Decides charges of one slot; [`Split`] passes no others.
impl Store for ClusterStore {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        let by = Instant::from_std(deadline);
        match self.ways.decide(Arc::clone(&charges), by).await {
            Ok(decision) => Ok(decision),
            Err(Undecided::Failed(error)) => Err(error),
            // Only together are they on two nodes.
            Err(Undecided::Torn) => self.torn.decide(charges, deadline).await,
        }
    }
}

impl PartitionedStore for ClusterStore {
    fn partition(&self, charge: &Charge) -> u32 {
        slot(charge.key.as_str()).into()
    }

    fn unavailable(&self, charge: &Charge) -> Option<StoreError> {
        self.ways.unavailable(slot(charge.key.as_str()))
    }
}

/// A probe that succeeds if the owners of the slots are known. Nodes have [probes](NodeProbe) of their own.
#[derive(Debug)]
pub struct TopologyProbe(Arc<Cluster>);

impl TopologyProbe {
    /// Creates a probe of a cluster that is being [watched](Cluster::watch).
    pub(super) fn new(cluster: &Arc<Cluster>) -> Self {
        Self(Arc::clone(cluster))
    }
}

impl Probe for TopologyProbe {
    async fn probe(&self, _deadline: std::time::Instant) -> Result<(), StoreError> {
        let cluster = &self.0;
        // Created before the map is read, so that no notification is missed.
        let read = cluster.read.notified();
        if !cluster.map.load().has_owners() {
            cluster.request_read();
            read.await;
            cluster.has_owners()?;
        }
        Ok(())
    }
}

/// Decides requests whose slot is being migrated, each bucket separately.
#[derive(Debug)]
struct BucketByBucket(Arc<NodeLanes>);

impl Store for BucketByBucket {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        match self.0.decide(charges, Instant::from_std(deadline)).await {
            Ok(decision) => Ok(decision),
            Err(Undecided::Failed(error)) => Err(error),
            Err(Undecided::Torn) => Err(self.0.cluster.refused(UNRESOLVED_SPLIT)),
        }
    }
}

impl PartitionedStore for BucketByBucket {
    fn partition(&self, charge: &Charge) -> u32 {
        let low = charge.key.hash() & u128::from(u32::MAX);
        u32::try_from(low).expect("masked to 32 bits")
    }
}

// --- The cluster ---

/// The topology of a cluster, shared by all threads of a server.
#[derive(Debug)]
pub struct Cluster {
    /// Settings of the connections to each node.
    settings: RedisSettings,
    seeds: Vec<Address>,
    script: Arc<Script>,
    /// Open while the owners of the slots are unknown. The breakers of the nodes are its parts.
    breaker: Breaker,
    map: ArcSwap<SlotMap>,
    /// Held while the map is replaced.
    changing: Mutex<()>,
    /// Notified when the map must be read.
    read_requested: Notify,
    /// Notified when a reading has ended.
    read: Notify,
    /// The last reading failed.
    has_failed: AtomicBool,
    /// The error of the last reading.
    failure: Mutex<Option<StoreError>>,
    /// Permits of requests that wait for the first reading.
    first_read_waiters: Semaphore,
    /// Number of readings.
    readings: AtomicU64,
}

impl Cluster {
    /// Creates the topology of the cluster of these nodes. It is read once the cluster is
    /// [watched](Self::watch); the nodes need not be available yet.
    #[must_use]
    pub fn new(settings: &RedisSettings, seeds: &[(String, u16)]) -> Arc<Self> {
        Self::running(settings, seeds, SCRIPT)
    }

    fn running(settings: &RedisSettings, seeds: &[Address], source: &str) -> Arc<Self> {
        Arc::new(Self {
            settings: settings.clone(),
            seeds: seeds.to_vec(),
            script: Arc::new(Script::new(source)),
            breaker: Breaker::default(),
            map: ArcSwap::from_pointee(SlotMap::unknown()),
            changing: Mutex::default(),
            read_requested: Notify::new(),
            read: Notify::new(),
            has_failed: AtomicBool::new(false),
            failure: Mutex::default(),
            first_read_waiters: Semaphore::new(MAX_WAITING),
            readings: AtomicU64::new(0),
        })
    }

    /// Returns the breaker that is open while the owners of the slots are unknown.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    fn map(&self) -> Guard<Arc<SlotMap>> {
        self.map.load()
    }

    /// Returns the node at an address, and adds it if it is unknown.
    fn node_or_insert(&self, address: &Address) -> Arc<Node> {
        if let Some(node) = self.map().node(address) {
            return Arc::clone(node);
        }
        self.change(|map| map.with(address, |address| self.node(address)));
        let map = self.map();
        let inserted = map.node(address).map(Arc::clone);
        // Another thread may have removed it again.
        inserted.unwrap_or_else(|| Arc::new(self.node(address)))
    }

    /// Records that a slot has another owner, and requests a reading of the whole map.
    fn moved(&self, slot: u16, owner: &Address) {
        self.change(|map| map.moved(slot, owner, |address| self.node(address)));
        self.request_read();
    }

    /// Replaces the map.
    fn change(&self, change: impl FnOnce(&SlotMap) -> SlotMap) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let map = change(&self.map());
        self.breaker
            .set_parts(map.owners().map(|node| node.breaker()));
        self.map.store(Arc::new(map));
    }

    /// Creates a node that is not in the map yet.
    fn node(&self, address: &Address) -> Node {
        Node::new(address, self.breaker.new_part())
    }

    /// Requests a reading of the map.
    fn request_read(&self) {
        self.read_requested.notify_one();
    }
}

// --- Failures ---

impl Cluster {
    /// Returns the addresses of the cluster for logs and errors.
    fn shown(&self) -> String {
        let seeds: Vec<String> = self.seeds.iter().map(shown).collect();
        seeds.join(",")
    }

    /// Returns an error if no node is known to own slots.
    fn has_owners(&self) -> Result<(), StoreError> {
        let map = self.map();
        match map.has_owners() {
            true => Ok(()),
            false if map.is_unknown() => Err(self.not_known()),
            false => Err(StoreError::Unfit {
                address: self.shown(),
                cause: NO_MASTER.to_owned(),
            }),
        }
    }

    /// Records the result of a reading.
    fn note(&self, failure: Option<&StoreError>) {
        let mut noted = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        *noted = failure.cloned();
        self.has_failed.store(failure.is_some(), Ordering::Release);
    }

    fn not_known(&self) -> StoreError {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone().unwrap_or_else(|| StoreError::Unreachable {
            address: self.shown(),
            cause: "no node reported the owners of the slots in time".to_owned(),
        })
    }

    fn refused(&self, cause: &str) -> StoreError {
        StoreError::Refused {
            address: self.shown(),
            cause: cause.to_owned(),
        }
    }

    fn overloaded(&self) -> StoreError {
        StoreError::Overloaded {
            address: self.shown(),
            waiting: MAX_WAITING,
        }
    }
}

/// Returns an address for logs and errors.
fn shown((host, port): &Address) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}
