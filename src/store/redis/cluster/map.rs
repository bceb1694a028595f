//! Who owns which slot, and the lanes to the owners.

use std::sync::Arc;

use tokio::time::Instant;

use super::node::Member;
use super::shown;
use super::slots::{Address, Range, SLOTS};

/// The most nodes that are spoken to: as many as Redis Cluster is made for.
pub(super) const MAX_NODES: usize = 1000;

/// Stands for the owner of a slot that has none.
const NOBODY: u16 = u16::MAX;

/// The owners of all slots, as far as they are known.
#[derive(Debug, Clone)]
pub(super) struct Map {
    /// For each slot, the place of its owner among the members.
    owners: Box<[u16]>,
    members: Vec<Arc<Member>>,
    /// Nodes that own nothing any more, or nothing yet, and since when: requests wait in their lanes.
    guests: Vec<(Arc<Member>, Instant)>,
    /// Nodes that own nothing, but know who does.
    replicas: Vec<Address>,
}

impl Map {
    /// Nothing is known.
    pub(super) fn unknown() -> Self {
        Self {
            owners: vec![NOBODY; SLOTS].into(),
            members: Vec::new(),
            guests: Vec::new(),
            replicas: Vec::new(),
        }
    }

    /// The owner of a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Arc<Member>> {
        self.members
            .get(usize::from(self.owners[usize::from(slot)]))
    }

    /// A node that there is a lane to.
    pub(super) fn member(&self, address: &Address) -> Option<&Arc<Member>> {
        let guests = self.guests.iter().map(|(guest, _)| guest);
        { self.members.iter().chain(guests) }.find(|member| member.address == *address)
    }

    /// The owners.
    pub(super) fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.iter()
    }

    /// Whether nobody is known.
    pub(super) fn is_unknown(&self) -> bool {
        self.members.is_empty()
    }

    /// Where all nodes are that are known.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Address> {
        let members = self.members.iter().map(|member| &member.address);
        members.chain(&self.replicas)
    }

    /// The owners for people, in order.
    pub(super) fn masters(&self) -> Vec<String> {
        let mut masters: Vec<String> = self
            .members
            .iter()
            .map(|member| shown(&member.address))
            .collect();
        masters.sort_unstable();
        masters
    }

    /// What ranges say. Nodes that are known already stay the same; those that own nothing any more are guests
    /// until `before` is later than when they last owned something.
    pub(super) fn updated(
        &self,
        ranges: &[Range],
        before: Instant,
        make: impl Fn(&Address) -> Member,
    ) -> Self {
        let mut map = Self::unknown();
        for range in ranges {
            let owner = map.place(&range.owner, self, &make);
            map.owners[usize::from(range.first)..=usize::from(range.last)].fill(owner);
            map.replicas.extend(range.replicas.iter().cloned());
        }
        map.replicas.sort_unstable();
        map.replicas.dedup();
        map.replicas.truncate(MAX_NODES);
        let now = Instant::now();
        let left = self.members.iter().map(|member| (Arc::clone(member), now));
        let guests = self
            .guests
            .iter()
            .filter(|(_, since)| *since >= before)
            .cloned();
        for (guest, since) in left.chain(guests) {
            if map.member(&guest.address).is_none() {
                map.guests.push((guest, since));
            }
        }
        map
    }

    /// The same with a guest.
    pub(super) fn with(&self, guest: Arc<Member>) -> Self {
        let mut map = self.clone();
        if map.guests.len() >= MAX_NODES {
            map.guests.remove(0);
        }
        map.guests.push((guest, Instant::now()));
        map
    }

    /// The same, but that a slot has this owner.
    pub(super) fn moved(
        &self,
        slot: u16,
        owner: &Address,
        make: impl Fn(&Address) -> Member,
    ) -> Self {
        let mut map = self.clone();
        map.owners[usize::from(slot)] = map.place(owner, self, &make);
        map
    }

    /// The place of a node among the members; it becomes one if it is none.
    fn place(&mut self, address: &Address, known: &Self, make: impl Fn(&Address) -> Member) -> u16 {
        let at = |member: &Arc<Member>| member.address == *address;
        let place = match self.members.iter().position(at) {
            Some(place) => place,
            None if self.members.len() >= MAX_NODES => return NOBODY,
            None => {
                let member = match known.member(address) {
                    Some(member) => Arc::clone(member),
                    None => Arc::new(make(address)),
                };
                self.members.push(member);
                self.members.len() - 1
            }
        };
        u16::try_from(place).expect("there are at most a thousand")
    }
}
