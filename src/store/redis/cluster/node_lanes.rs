//! The lanes of a thread to the nodes of a cluster.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Cluster;
use super::node_lane::{NodeLane, Route};
use super::slot_map::SlotMap;
use super::slots::Address;
use crate::key::slot;
use crate::store::redis::RedisSettings;
use crate::store::redis::lane::{Job, Undecided};
use crate::store::{Charge, Decision, StoreError};
use crate::timer::Deadlines;

/// The lanes of a thread to the nodes of a cluster.
#[derive(Debug)]
pub(super) struct NodeLanes {
    pub(super) cluster: Arc<Cluster>,
    pub(super) settings: RedisSettings,
    /// The lanes of a map, which may have been replaced.
    lanes: ArcSwap<LaneSet>,
    /// Held while lanes are added.
    updating: Mutex<()>,
    pub(super) deadlines: Deadlines,
    /// Runs the lanes. Threads without connections of their own use the lanes of another thread, and can end before it.
    runtime: Handle,
    this: Weak<Self>,
}

/// The lanes to all nodes of a map.
#[derive(Debug)]
struct LaneSet {
    map: Arc<SlotMap>,
    /// In the order of the map's nodes.
    members: Vec<Arc<NodeLane>>,
}

impl NodeLanes {
    pub(super) fn new(settings: &RedisSettings, cluster: &Arc<Cluster>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            cluster: Arc::clone(cluster),
            settings: settings.clone(),
            lanes: ArcSwap::from_pointee(LaneSet {
                map: Arc::new(SlotMap::unknown()),
                members: Vec::new(),
            }),
            updating: Mutex::default(),
            deadlines: Deadlines::start(),
            runtime: Handle::current(),
            this: this.clone(),
        })
    }

    /// Decides charges of one slot.
    pub(super) async fn decide(
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
        let (deadlines, route) = (self.deadlines.handle(), Route::to(slot));
        let (job, decision) = Job::new(charges, deadline, deadlines, caller, route);
        owner.push(job);
        let decision = decision.await;
        let decision = decision.unwrap_or_else(|| Err(Undecided::Failed(owner.no_answer())));
        if matches!(decision, Err(Undecided::Failed(_))) {
            owner.node.count_undecided();
        }
        decision
    }

    /// Returns the lane to the owner of a slot. Waits for it only during the first reading.
    async fn owner(&self, slot: u16, deadline: Instant) -> Result<Arc<NodeLane>, StoreError> {
        let cluster = &self.cluster;
        // Created before the map is read, so that no notification is missed.
        let read = cluster.read.notified();
        if let Some(owner) = self.known(slot) {
            return Ok(owner);
        }
        if cluster.is_being_read() {
            let _place =
                { cluster.first_read_waiters.try_acquire() }.map_err(|_| cluster.overloaded())?;
            if { self.deadlines.handle().timeout_at(deadline, read).await }.is_none() {
                return Err(cluster.not_known());
            }
            if let Some(owner) = self.known(slot) {
                return Ok(owner);
            }
        }
        cluster.request_read();
        cluster.has_owners()?;
        Err(cluster.refused(&format!("no node of the cluster owns slot {slot}")))
    }

    /// Returns the last failure if the breaker of the slot's owner is open, and counts the request as
    /// undecided.
    pub(super) fn unavailable(&self, slot: u16) -> Option<StoreError> {
        let owner = self.known(slot)?;
        let error = owner.breaker_error()?;
        owner.node.count_undecided();
        Some(error)
    }

    /// Returns the lane to the owner of a slot, if it is known.
    fn known(&self, slot: u16) -> Option<Arc<NodeLane>> {
        let map = self.cluster.map();
        let place = map.place(slot)?;
        let lanes = self.lanes.load();
        if Arc::ptr_eq(&lanes.map, &map) {
            return lanes.members.get(place).map(Arc::clone);
        }
        drop(lanes);
        let lanes = self.update();
        // The map may have changed again.
        lanes.members.get(lanes.map.place(slot)?).map(Arc::clone)
    }

    /// Adds a request to the lane of a node.
    pub(super) fn push(&self, to: &Address, job: Job<Route>) {
        let node = self.cluster.node_or_insert(to);
        let lanes = self.update();
        let place = lanes
            .map
            .nodes()
            .position(|known| Arc::ptr_eq(known, &node));
        match place {
            Some(place) => lanes.members[place].push(job),
            // So many nodes are known that this one was removed already.
            None => job.answer(Err(Undecided::Failed(self.cluster.overloaded()))),
        }
    }

    /// Returns lanes to all known nodes. Existing lanes are kept.
    fn update(&self) -> Arc<LaneSet> {
        let _laying = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        let (map, before) = (self.cluster.map.load_full(), self.lanes.load_full());
        if Arc::ptr_eq(&before.map, &map) {
            return before;
        }
        // A new lane starts a task.
        let _runtime = self.runtime.enter();
        let mut known: HashMap<&Address, &Arc<NodeLane>> = HashMap::new();
        known.extend(
            before
                .members
                .iter()
                .map(|member| (&member.node.address, member)),
        );
        let members = map.nodes().map(|node| match known.get(&node.address) {
            Some(member) if Arc::ptr_eq(&member.node, node) => Arc::clone(member),
            _ => Arc::new(NodeLane::new(node, self, &self.this)),
        });
        let lanes = Arc::new(LaneSet {
            members: members.collect(),
            map: Arc::clone(&map),
        });
        self.lanes.store(Arc::clone(&lanes));
        lanes
    }
}
