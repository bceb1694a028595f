//! Who owns which slot.

use std::sync::Arc;

use tokio::time::Instant;

use super::node::Node;
use super::slots::{Address, Range, SLOTS};

/// The most owners: as many nodes as Redis Cluster is made for.
pub(super) const MAX_NODES: usize = 1000;

/// The most owners that nodes have named in passing, until the map is read again; and the fewest nodes without
/// slots that are remembered, if that many are named.
const MAX_NAMED: usize = 32;

/// Stands for the owner of a slot that has none.
const NO_OWNER: u16 = u16::MAX;

/// The owners of all slots, as far as they are known.
#[derive(Debug, Clone)]
pub(super) struct SlotMap {
    /// For each slot, the place of its owner among the owners.
    places: Box<[u16]>,
    owners: Vec<Arc<Node>>,
    /// Nodes that own nothing any more, or nothing yet, and since when; the latest first. Requests wait in their
    /// lanes.
    former_nodes: Vec<(Arc<Node>, Instant)>,
    /// Nodes that own nothing, but know who does.
    replicas: Vec<Address>,
    /// How many owners a reading has named; `None`: there was none.
    read: Option<usize>,
}

impl SlotMap {
    /// Nothing is known.
    pub(super) fn unknown() -> Self {
        Self {
            places: vec![NO_OWNER; SLOTS].into(),
            owners: Vec::new(),
            former_nodes: Vec::new(),
            replicas: Vec::new(),
            read: None,
        }
    }

    /// The place of the owner of a slot among all [nodes](Self::nodes).
    pub(super) fn place(&self, slot: u16) -> Option<usize> {
        let place = self.places[usize::from(slot)];
        (place != NO_OWNER).then_some(usize::from(place))
    }

    /// The owner of a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Arc<Node>> {
        self.owners.get(self.place(slot)?)
    }

    /// A node that there is a way to.
    pub(super) fn node(&self, address: &Address) -> Option<&Arc<Node>> {
        self.nodes().find(|node| node.address == *address)
    }

    /// The nodes that there is a way to: the owners, then others.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.owners.iter().chain(self.former_nodes())
    }

    /// The owners.
    pub(super) fn owners(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.owners.iter()
    }

    /// Nodes that own nothing.
    pub(super) fn former_nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.former_nodes.iter().map(|(former, _)| former)
    }

    /// Whether nodes have not said yet who owns what.
    pub(super) fn is_unknown(&self) -> bool {
        self.read.is_none()
    }

    /// Whether any slot has an owner.
    pub(super) fn has_owners(&self) -> bool {
        !self.owners.is_empty()
    }

    /// Replicas: they know where the slots are as well as the owners do.
    pub(super) fn replicas(&self) -> impl Iterator<Item = &Address> {
        self.replicas.iter()
    }

    /// The owners for people, in order.
    pub(super) fn masters(&self) -> Vec<String> {
        let mut masters: Vec<String> = self.owners().map(|node| node.shown()).collect();
        masters.sort_unstable();
        masters
    }

    /// What ranges say. Nodes that are known already stay the same; those that own nothing any more are former_nodes
    /// until `before` is later than when they last owned something.
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

    /// The same with a former.
    pub(super) fn with(&self, address: &Address, make: impl Fn(&Address) -> Node) -> Self {
        let mut map = self.clone();
        if map.node(address).is_none() {
            map.former_nodes
                .insert(0, (Arc::new(make(address)), Instant::now()));
            map.former_nodes.truncate(map.max_former_nodes());
        }
        map
    }

    /// The same, but that a slot has this owner.
    pub(super) fn moved(
        &self,
        slot: u16,
        owner: &Address,
        make: impl Fn(&Address) -> Node,
    ) -> Self {
        let mut map = self.clone();
        let is_owner = map.owners().any(|node| node.address == *owner);
        // Whoever names ever others is not believed: the map is read anyway.
        if is_owner || map.owners.len() < self.read.unwrap_or_default() + MAX_NAMED {
            map.places[usize::from(slot)] = map.place_of(owner, self, &make);
            map.former_nodes
                .retain(|(former, _)| former.address != *owner);
        }
        map
    }

    /// As many as owners, who may all be replaced at once.
    fn max_former_nodes(&self) -> usize {
        self.read.unwrap_or_default().max(MAX_NAMED)
    }

    /// The place of a node among the owners; it becomes one if it is none.
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
