//! The ways of a thread to the nodes of a cluster: a lane and connections to each that is known.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::Cluster;
use super::map::Map;
use super::member::{Member, Route};
use super::slots::Address;
use crate::key::slot;
use crate::store::redis::RedisSettings;
use crate::store::redis::lane::{Job, Undecided};
use crate::store::{Charge, Decision, StoreError};
use crate::timer::Deadlines;

/// The ways of a thread to the nodes of a cluster.
#[derive(Debug)]
pub(super) struct Ways {
    pub(super) cluster: Arc<Cluster>,
    pub(super) settings: RedisSettings,
    /// Those to the nodes of a map, which may have been replaced.
    laid: ArcSwap<Laid>,
    /// Whoever lays others has this.
    laying: Mutex<()>,
    pub(super) deadlines: Deadlines,
    this: Weak<Self>,
}

/// The ways to all nodes of a map.
#[derive(Debug)]
struct Laid {
    map: Arc<Map>,
    /// In the order of its nodes.
    members: Vec<Arc<Member>>,
}

impl Ways {
    pub(super) fn new(settings: &RedisSettings, cluster: &Arc<Cluster>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            cluster: Arc::clone(cluster),
            settings: settings.clone(),
            laid: ArcSwap::from_pointee(Laid {
                map: Arc::new(Map::unknown()),
                members: Vec::new(),
            }),
            laying: Mutex::default(),
            deadlines: Deadlines::start(),
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
            owner.node.has_failed_one();
        }
        decision
    }

    /// The way to the owner of a slot. Waits for it only until the nodes have been asked once.
    async fn owner(&self, slot: u16, deadline: Instant) -> Result<Arc<Member>, StoreError> {
        let cluster = &self.cluster;
        // Made first, so that nothing is missed.
        let read = cluster.read.notified();
        if let Some(owner) = self.known(slot) {
            return Ok(owner);
        }
        if cluster.is_being_read() {
            let _place = { cluster.lobby.try_acquire() }.map_err(|_| cluster.overloaded())?;
            if { self.deadlines.handle().timeout_at(deadline, read).await }.is_none() {
                return Err(cluster.not_known());
            }
            if let Some(owner) = self.known(slot) {
                return Ok(owner);
            }
        }
        cluster.doubt();
        cluster.has_owners()?;
        Err(cluster.refused(&format!("no node of the cluster has slot {slot}")))
    }

    /// Why a request is not sent to the owner of a slot at present, if the breaker of that is open. Counts the
    /// request as one that the node did not decide.
    pub(super) fn turns_away(&self, slot: u16) -> Option<StoreError> {
        let owner = self.known(slot)?;
        let error = owner.is_shut()?;
        owner.node.has_failed_one();
        Some(error)
    }

    /// The way to the owner of a slot, if one is known.
    fn known(&self, slot: u16) -> Option<Arc<Member>> {
        let map = self.cluster.map();
        let place = map.place(slot)?;
        let laid = self.laid.load();
        if Arc::ptr_eq(&laid.map, &map) {
            return laid.members.get(place).map(Arc::clone);
        }
        drop(laid);
        let laid = self.lay();
        // The map may be yet another by now.
        laid.members.get(laid.map.place(slot)?).map(Arc::clone)
    }

    /// Puts a request into the lane of a node.
    pub(super) fn push(&self, to: &Address, job: Job<Route>) {
        let node = self.cluster.welcome(to);
        let laid = self.lay();
        let place = laid.map.nodes().position(|known| Arc::ptr_eq(known, &node));
        match place {
            Some(place) => laid.members[place].push(job),
            // So many nodes are named that this one is forgotten already.
            None => job.answer(Err(Undecided::Failed(self.cluster.overloaded()))),
        }
    }

    /// Ways to all nodes that are known now; those that are there stay the same.
    fn lay(&self) -> Arc<Laid> {
        let _laying = self.laying.lock().unwrap_or_else(PoisonError::into_inner);
        let (map, before) = (self.cluster.map.load_full(), self.laid.load_full());
        if Arc::ptr_eq(&before.map, &map) {
            return before;
        }
        let mut known: HashMap<&Address, &Arc<Member>> = HashMap::new();
        known.extend(
            before
                .members
                .iter()
                .map(|member| (&member.node.address, member)),
        );
        let members = map.nodes().map(|node| match known.get(&node.address) {
            Some(member) if Arc::ptr_eq(&member.node, node) => Arc::clone(member),
            _ => Arc::new(Member::new(node, self, &self.this)),
        });
        let laid = Arc::new(Laid {
            members: members.collect(),
            map: Arc::clone(&map),
        });
        self.laid.store(Arc::clone(&laid));
        laid
    }
}
