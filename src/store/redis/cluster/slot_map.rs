//! The owners of the slots.

use std::sync::Arc;

use tokio::time::Instant;

use super::node::Node;
use super::slots::{Address, Range, SLOTS};

/// Maximum number of owners, the size that Redis Cluster is made for.
pub(super) const MAX_NODES: usize = 1000;

/// Maximum number of owners that redirections add until the next reading, and the minimum for which nodes without
/// slots are kept.
const MAX_NAMED: usize = 32;

/// Index for slots without an owner.
const NO_OWNER: u16 = u16::MAX;

/// The known owners of all slots.
#[derive(Debug, Clone)]
pub(super) struct SlotMap {
    /// Index of the owner of each slot.
    places: Box<[u16]>,
    owners: Vec<Arc<Node>>,
    /// Nodes without slots and since when, the latest first. Requests can be in their lanes.
    former_nodes: Vec<(Arc<Node>, Instant)>,
    /// Replicas, which also know the owners.
    replicas: Vec<Address>,
    /// Number of owners in the last reading. `None`: there was none.
    read: Option<usize>,
}

impl SlotMap {
    /// Creates a map without owners.
    pub(super) fn unknown() -> Self {
        Self {
            places: vec![NO_OWNER; SLOTS].into(),
            owners: Vec::new(),
            former_nodes: Vec::new(),
            replicas: Vec::new(),
            read: None,
        }
    }

    /// Returns the index of a slot's owner among all [nodes](Self::nodes).
    pub(super) fn place(&self, slot: u16) -> Option<usize> {
        let place = self.places[usize::from(slot)];
        (place != NO_OWNER).then_some(usize::from(place))
    }

    /// Returns the owner of a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Arc<Node>> {
        self.owners.get(self.place(slot)?)
    }

    /// Returns the known node at an address.
    pub(super) fn node(&self, address: &Address) -> Option<&Arc<Node>> {
        self.nodes().find(|node| node.address == *address)
    }

    /// Returns all known nodes, owners first.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.owners.iter().chain(self.former_nodes())
    }

    /// Returns the owners.
    pub(super) fn owners(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.owners.iter()
    }

    /// Returns the nodes without slots.
    pub(super) fn former_nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.former_nodes.iter().map(|(former, _)| former)
    }

    /// Returns whether there was no reading yet.
    pub(super) fn is_unknown(&self) -> bool {
        self.read.is_none()
    }

    /// Returns whether any slot has an owner.
    pub(super) fn has_owners(&self) -> bool {
        !self.owners.is_empty()
    }

    /// Returns the replicas, which also know the owners.
    pub(super) fn replicas(&self) -> impl Iterator<Item = &Address> {
        self.replicas.iter()
    }

    /// Returns the sorted addresses of the owners.
    pub(super) fn masters(&self) -> Vec<String> {
        let mut masters: Vec<String> = self.owners().map(|node| node.shown()).collect();
        masters.sort_unstable();
        masters
    }

    /// Returns the map of a reading. Known nodes are kept; those without slots are kept until they last owned
    /// one earlier than `before`.
    pub(super) fn updated(
        &self,
        ranges: &[Range],
        before: Instant,
        make: impl Fn(&Address) -> Node,
    ) -> Self {
        let mut map = Self::unknown();
        for range in ranges {
            let owner = map.place_of(&range.owner, self, &make);
            map.places[usize::from(range.first)..=usize::from(range.last)].fill(owner);
            map.replicas.extend(range.replicas.iter().cloned());
        }
        map.read = Some(map.owners.len());
        map.replicas.sort_unstable();
        map.replicas.dedup();
        map.replicas.truncate(MAX_NODES);
        let now = Instant::now();
        let left = self.owners.iter().map(|node| (Arc::clone(node), now));
        let former_nodes = self
            .former_nodes
            .iter()
            .filter(|(_, since)| *since >= before)
            .cloned();
        for (former, since) in left.chain(former_nodes) {
            if map.former_nodes.len() < map.max_former_nodes()
                && map.node(&former.address).is_none()
            {
                map.former_nodes.push((former, since));
            }
        }
        map
    }

    /// Returns this map with a node without slots.
    pub(super) fn with(&self, address: &Address, make: impl Fn(&Address) -> Node) -> Self {
        let mut map = self.clone();
        if map.node(address).is_none() {
            map.former_nodes
                .insert(0, (Arc::new(make(address)), Instant::now()));
            map.former_nodes.truncate(map.max_former_nodes());
        }
        map
    }

    /// Returns this map with another owner of a slot.
    pub(super) fn moved(
        &self,
        slot: u16,
        owner: &Address,
        make: impl Fn(&Address) -> Node,
    ) -> Self {
        let mut map = self.clone();
        let is_owner = map.owners().any(|node| node.address == *owner);
        // Redirections to ever more nodes are ignored: the map is read anyway.
        if is_owner || map.owners.len() < self.read.unwrap_or_default() + MAX_NAMED {
            map.places[usize::from(slot)] = map.place_of(owner, self, &make);
            map.former_nodes
                .retain(|(former, _)| former.address != *owner);
        }
        map
    }

    /// Maximum number of nodes without slots: all owners can be replaced at once.
    fn max_former_nodes(&self) -> usize {
        self.read.unwrap_or_default().max(MAX_NAMED)
    }

    /// Returns the index of a node among the owners, and adds it if necessary.
    fn place_of(
        &mut self,
        address: &Address,
        known: &Self,
        make: impl Fn(&Address) -> Node,
    ) -> u16 {
        let at = |node: &Arc<Node>| node.address == *address;
        let place = match self.owners.iter().position(at) {
            Some(place) => place,
            None if self.owners.len() >= MAX_NODES => return NO_OWNER,
            None => {
                let node = match known.node(address) {
                    Some(node) => Arc::clone(node),
                    None => Arc::new(make(address)),
                };
                self.owners.push(node);
                self.owners.len() - 1
            }
        };
        u16::try_from(place).expect("there are at most a thousand")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::breaker::Breaker;

    fn at(port: usize) -> Address {
        ("there".to_owned(), u16::try_from(port).unwrap())
    }

    fn make(address: &Address) -> Node {
        Node::new(address, Breaker::default())
    }

    fn of(ports: impl IntoIterator<Item = usize>) -> Vec<Range> {
        let ports: Vec<usize> = ports.into_iter().collect();
        let size = SLOTS / ports.len();
        let range = |(i, port)| Range {
            first: u16::try_from(i * size).unwrap(),
            last: u16::try_from((i + 1) * size - 1).unwrap(),
            owner: at(port),
            replicas: Vec::new(),
        };
        ports.into_iter().enumerate().map(range).collect()
    }

    fn read(map: &SlotMap, ports: impl IntoIterator<Item = usize>) -> SlotMap {
        let before = Instant::now() - tokio::time::Duration::from_secs(60);
        map.updated(&of(ports), before, make)
    }

    #[tokio::test]
    async fn nodes_stay_the_same_while_they_come_and_go() {
        let first = read(&SlotMap::unknown(), [1, 2, 3]);
        let lost = Arc::clone(first.owner(0).unwrap());
        assert_eq!(lost.address, at(1));
        let second = read(&first, [4, 2, 3]);
        assert_eq!(second.owner(0).unwrap().address, at(4));
        assert!(
            second
                .former_nodes()
                .any(|former| Arc::ptr_eq(former, &lost))
        );
        let third = second.moved(5, &at(1), make);
        assert!(Arc::ptr_eq(third.owner(5).unwrap(), &lost));
        assert_eq!(third.nodes().count(), 4, "it is in one place");
        let fourth = third.updated(&of([2]), Instant::now(), make);
        assert_eq!(fourth.owner(0).unwrap().address, at(2));
        assert_eq!(
            fourth.nodes().count(),
            4,
            "those who owned a moment ago stay"
        );
    }

    #[tokio::test]
    async fn who_names_ever_other_nodes_does_not_fill_memory() {
        let mut map = read(&SlotMap::unknown(), [1, 2, 3]);
        for port in 10..5_000 {
            map = map.moved(u16::try_from(port).unwrap(), &at(port), make);
            map = map.with(&at(port + 10_000), make);
            if port % 100 == 0 {
                map = read(&map, [1, 2, 3]);
            }
            assert!(map.nodes().count() <= 3 + 2 * MAX_NAMED);
        }
        assert!(map.node(&at(14_999)).is_some(), "the latest is known");
        // A cluster that is replaced as a whole may be that large.
        let large = read(&map, 1..=500);
        let other = read(&large, 501..=1_000);
        assert!((1..=500).all(|port| other.node(&at(port)).is_some()));
    }
}
