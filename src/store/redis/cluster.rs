//! Buckets in a Redis Cluster: each is on the node that owns its slot, and each node has a lane of its own.
//!
//! What is asked of one slot is decided there, atomically; the slots that a node's lane has collected go out
//! together, as one pipeline. Requests over several slots are [`Split`]'s matter. Who owns which slot is read from
//! the nodes (`cluster/watch.rs`) and learnt from those that turn a request away. All threads of a server share what
//! is known, and a breaker for each node ([`Cluster`]); each has its own lanes and connections (`cluster/ways.rs`).
//!
//! A node that turns a call away has run nothing of it, so that call is sent where it says. Whatever may
//! have run is never sent again.
//!
//! Two requests on one bucket are decided in the order in which they were asked as long as its slot stays where it
//! is. When it moves, those that are under way at that moment may overtake one another; but none is decided
//! after it was answered, so whoever has an answer finds it to be so.

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

/// What is said of a request whose bucket is nowhere to be found.
const UNRESOLVED_SPLIT: &str =
    "TRYAGAIN for a single bucket, which the nodes of a cluster do not say";

/// What is said when all nodes say that they have no slots.
const NO_MASTER: &str = "its nodes say that no slot has a master";

/// Buckets in a Redis Cluster. See [`RedisStore`](super::RedisStore) for what it has in common with a single
/// server.
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
    /// A store on a cluster that somebody [watches](Cluster::watch). Must be called within a tokio runtime.
    ///
    /// Each node has a breaker of its own: while one is down, no request for it waits, and those for the others are
    /// none the worse.
    #[must_use]
    pub fn new(settings: &RedisSettings, cluster: &Arc<Cluster>) -> Self {
        Self::start(settings, cluster, None)
    }

    /// A store on a cluster of its own, with another text of the script, for tests that own the clock that it reads.
    /// Nobody probes its nodes: each is always asked.
    #[must_use]
    pub fn with_script(settings: &RedisSettings, seeds: &[(String, u16)], source: &str) -> Self {
        let cluster = Cluster::running(settings, seeds, source);
        let ask_always = |node: Arc<Node>| async move {
            let mut states = node.breaker().watch();
            loop {
                // An error would say that the breaker is gone, but this has one of it.
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

/// A task, for as long as this is held.
#[derive(Debug)]
struct Watch(JoinHandle<Infallible>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Decides charges of one slot; [`Split`] sees to it that no others come.
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
            // Only together are they a matter of one slot.
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

/// Decides requests whose slot is on its way from one node to another, bucket by bucket.
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

/// What is known of a cluster, by all threads of a server.
#[derive(Debug)]
pub struct Cluster {
    /// As whom to speak to each node.
    settings: RedisSettings,
    seeds: Vec<Address>,
    script: Arc<Script>,
    /// Open while it is not known who has which slots; has the breakers of the nodes as its parts.
    breaker: Breaker,
    map: ArcSwap<SlotMap>,
    /// Whoever changes the map has this.
    changing: Mutex<()>,
    /// Told when the map is to be read.
    read_requested: Notify,
    /// Told when it has been read, or could not be.
    read: Notify,
    /// The last time, it could not be.
    has_failed: AtomicBool,
    /// Why it could not be read, the last time.
    failure: Mutex<Option<StoreError>>,
    /// Places for those who wait until it has been read for the first time.
    first_read_waiters: Semaphore,
    /// Readings so far.
    readings: AtomicU64,
}

impl Cluster {
    /// The cluster that these nodes are of. They are asked for the others once it is [watched](Self::watch), but need
    /// not be there yet.
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

    /// Its breaker: open while it is not known who has which slots.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    fn map(&self) -> Guard<Arc<SlotMap>> {
        self.map.load()
    }

    /// A node that there is a way to; made known if it is not.
    fn node_or_insert(&self, address: &Address) -> Arc<Node> {
        if let Some(node) = self.map().node(address) {
            return Arc::clone(node);
        }
        self.change(|map| map.with(address, |address| self.node(address)));
        let map = self.map();
        let inserted = map.node(address).map(Arc::clone);
        // Another thread may have pushed it out again.
        inserted.unwrap_or_else(|| Arc::new(self.node(address)))
    }

    /// Remembers that a slot has another owner, and has the whole map read again.
    fn moved(&self, slot: u16, owner: &Address) {
        self.change(|map| map.moved(slot, owner, |address| self.node(address)));
        self.request_read();
    }

    /// Puts another map in place of the one that is known.
    fn change(&self, change: impl FnOnce(&SlotMap) -> SlotMap) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let map = change(&self.map());
        self.breaker
            .set_parts(map.owners().map(|node| node.breaker()));
        self.map.store(Arc::new(map));
    }

    /// A node that may become one of the map's.
    fn node(&self, address: &Address) -> Node {
        Node::new(address, self.breaker.new_part())
    }

    /// Has the map read soon.
    fn request_read(&self) {
        self.read_requested.notify_one();
    }
}

// --- Failures ---

impl Cluster {
    /// The cluster for people.
    fn shown(&self) -> String {
        let seeds: Vec<String> = self.seeds.iter().map(shown).collect();
        seeds.join(",")
    }

    /// Whether any node is known to have slots, or why not.
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

    /// How the last reading ended.
    fn note(&self, failure: Option<&StoreError>) {
        let mut noted = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        *noted = failure.cloned();
        self.has_failed.store(failure.is_some(), Ordering::Release);
    }

    fn not_known(&self) -> StoreError {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone().unwrap_or_else(|| StoreError::Unreachable {
            address: self.shown(),
            cause: "no node said in time which of them has which slots".to_owned(),
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

/// An address for people.
fn shown((host, port): &Address) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}
