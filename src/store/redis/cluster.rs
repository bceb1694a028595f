//! Buckets in a Redis Cluster: each is on the node that owns its slot, and each node has a lane of its own.
//!
//! What is asked of one slot is decided there, atomically; the slots that a node's lane has collected go out
//! together, as one pipeline. Requests over several slots are [`Split`]'s matter. Who owns which slot is read from
//! the nodes (`cluster/watch.rs`) and learnt from those that turn a request away.
//!
//! A node that turns a call away has run nothing of it, so that call is sent where it says. Whatever may
//! have run is never sent again.
//!
//! Two requests on one bucket are decided in the order in which they were asked as long as its slot stays where it
//! is. When it moves, those that are under way at that moment may overtake one another; but none is decided
//! after it was answered, so whoever has an answer finds it to be so.

mod map;
mod node;
mod slots;
mod watch;

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use bb8_redis::redis::Script;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::lane::{Job, MAX_WAITING, Undecided};
use super::{RedisSettings, SCRIPT};
use crate::store::breaker::Breaker;
use crate::store::split::{GiveBacks, Places, Split};
use crate::store::{Cause, Charge, Decision, Store, StoreError};
use map::Map;
use node::{Member, Route};
use slots::Address;
use watch::Watch;

pub use slots::slot;

/// What is said of a request whose bucket is nowhere to be found.
const TORN: &str = "TRYAGAIN for a single bucket, which the nodes of a cluster do not say";

/// Buckets in a Redis Cluster. See [`RedisStore`](super::RedisStore) for what it has in common with a single
/// server.
pub struct ClusterStore {
    cluster: Arc<Cluster>,
    torn: Split<BucketByBucket>,
    _watch: Watch,
}

impl fmt::Debug for ClusterStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterStore")
            .field("seeds", &self.cluster.seeds)
            .finish_non_exhaustive()
    }
}

impl ClusterStore {
    /// A store on the cluster that these nodes are of. They are asked for the others at once, but need not
    /// be there yet. Must be called within a tokio runtime.
    ///
    /// Tells a breaker whether any node answers. Each node has a breaker of its own: while one
    /// is down, no request for it waits, and those for the others are none the worse.
    #[must_use]
    pub fn telling(settings: &RedisSettings, seeds: &[(String, u16)], breaker: Breaker) -> Self {
        Self::start(Cluster::new(settings, seeds, SCRIPT, breaker))
    }

    /// The same with another text of the script, for tests that own the clock that it reads.
    #[must_use]
    pub fn with_script(settings: &RedisSettings, seeds: &[(String, u16)], source: &str) -> Self {
        Self::start(Cluster::new(settings, seeds, source, Breaker::default()))
    }

    fn start(cluster: Arc<Cluster>) -> Self {
        Self {
            torn: Split::new(BucketByBucket(Arc::clone(&cluster)), GiveBacks::default()),
            _watch: Watch::start(Arc::clone(&cluster)),
            cluster,
        }
    }
}

/// Decides charges of one slot; [`Split`] sees to it that no others come.
impl Store for ClusterStore {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: Instant,
    ) -> Result<Decision, StoreError> {
        match self.cluster.decide(Arc::clone(&charges), deadline).await {
            Ok(decision) => Ok(decision),
            Err(Undecided::Failed(error)) => Err(error),
            // Only together are they a matter of one slot.
            Err(Undecided::Torn) => self.torn.decide(charges, deadline).await,
        }
    }
}

impl Places for ClusterStore {
    fn place(&self, charge: &Charge) -> u32 {
        slot(charge.key.as_str()).into()
    }
}

/// Asks the nodes of a cluster whether one of them is there, whatever it is asked to decide.
#[derive(Debug)]
pub struct AnyNode(Arc<Cluster>);

impl AnyNode {
    /// Asks the cluster that these nodes are of.
    pub(super) fn new(settings: &RedisSettings, seeds: &[Address]) -> Self {
        Self(Cluster::new(settings, seeds, SCRIPT, Breaker::default()))
    }
}

impl Store for AnyNode {
    async fn decide(&self, _: Arc<[Charge]>, _: Instant) -> Result<Decision, StoreError> {
        self.0.read_map().await.map(|_| Decision {
            admitted: true,
            outcomes: Vec::new(),
            cause: Cause::Buckets,
        })
    }
}

/// Decides requests whose slot is on its way from one node to another, bucket by bucket.
#[derive(Debug)]
struct BucketByBucket(Arc<Cluster>);

impl Store for BucketByBucket {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: Instant,
    ) -> Result<Decision, StoreError> {
        match self.0.decide(charges, deadline).await {
            Ok(decision) => Ok(decision),
            Err(Undecided::Failed(error)) => Err(error),
            Err(Undecided::Torn) => Err(self.0.refused(TORN)),
        }
    }
}

impl Places for BucketByBucket {
    fn place(&self, charge: &Charge) -> u32 {
        let low = charge.key.hash() & u128::from(u32::MAX);
        u32::try_from(low).expect("masked to 32 bits")
    }
}

// --- The cluster ---

/// What is known of a cluster, and the ways to its nodes.
#[derive(Debug)]
struct Cluster {
    /// As whom to speak to each node.
    settings: RedisSettings,
    seeds: Vec<Address>,
    script: Arc<Script>,
    /// Told whether any node answers.
    breaker: Breaker,
    map: ArcSwap<Map>,
    /// Whoever changes the map has this.
    changing: Mutex<()>,
    /// How often the map has been read.
    readings: AtomicUsize,
    /// Told when the map is to be read.
    doubted: Notify,
    /// Told when it has been read.
    read: Notify,
    /// Places for those who wait until it has been read for the first time.
    lobby: Semaphore,
    /// Why it could not be read, the last time.
    failure: Mutex<Option<StoreError>>,
    this: Weak<Self>,
}

impl Cluster {
    fn new(
        settings: &RedisSettings,
        seeds: &[Address],
        source: &str,
        breaker: Breaker,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            settings: settings.clone(),
            seeds: seeds.to_vec(),
            script: Arc::new(Script::new(source)),
            breaker,
            map: ArcSwap::from_pointee(Map::unknown()),
            changing: Mutex::default(),
            readings: AtomicUsize::new(0),
            doubted: Notify::new(),
            read: Notify::new(),
            lobby: Semaphore::new(MAX_WAITING),
            failure: Mutex::default(),
            this: this.clone(),
        })
    }

    /// Decides charges of one slot.
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: Instant,
    ) -> Result<Decision, Undecided> {
        let slot = charges
            .first()
            .map_or(0, |charge| slot(charge.key.as_str()));
        let owner = self
            .owner(slot, deadline)
            .await
            .map_err(Undecided::Failed)?;
        let caller = self.settings.probe.tracing.caller();
        let (job, decision) = Job::new(charges, deadline, caller, Route::to(slot));
        owner.push(job);
        let decision = decision.await;
        decision.unwrap_or_else(|| Err(Undecided::Failed(owner.no_answer())))
    }

    /// The owner of a slot. Waits for it only as long as nothing is known of the cluster.
    async fn owner(&self, slot: u16, deadline: Instant) -> Result<Arc<Member>, StoreError> {
        let mut place = None;
        loop {
            // Made first, so that nothing is missed.
            let read = self.read.notified();
            let map = self.map.load();
            if let Some(owner) = map.owner(slot) {
                return Ok(Arc::clone(owner));
            }
            if !map.is_unknown() {
                self.doubt();
                return Err(self.refused(&format!("no node of the cluster has slot {slot}")));
            }
            drop(map);
            if place.is_none() {
                place = Some(self.lobby.try_acquire().map_err(|_| self.overloaded())?);
            }
            if timeout_at(deadline, read).await.is_err() {
                return Err(self.not_known());
            }
        }
    }

    /// Puts a request into the lane of a node.
    fn push(&self, to: &Address, job: Job<Route>) {
        let known = self.map.load().member(to).cloned();
        known.unwrap_or_else(|| self.welcome(to)).push(job);
    }

    /// A node that owns nothing yet.
    fn welcome(&self, address: &Address) -> Arc<Member> {
        let guest = Arc::new(self.member(address));
        self.change(|map| map.with(Arc::clone(&guest)));
        guest
    }

    /// Remembers that a slot has another owner, and has the whole map read again.
    fn moved(&self, slot: u16, owner: &Address) {
        self.change(|map| map.moved(slot, owner, |address| self.member(address)));
        self.doubt();
    }

    /// Puts another map in place of the one that is known.
    fn change(&self, change: impl FnOnce(&Map) -> Map) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let map = change(&self.map.load());
        self.map.store(Arc::new(map));
    }

    /// A node that may become one of the map's.
    fn member(&self, address: &Address) -> Member {
        Member::new(address, self)
    }

    /// Has the map read soon.
    fn doubt(&self) {
        self.doubted.notify_one();
    }
}

// --- Failures ---

impl Cluster {
    /// The cluster for people.
    fn shown(&self) -> String {
        let seeds: Vec<String> = self.seeds.iter().map(shown).collect();
        seeds.join(",")
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
