//! Describes the effect of a change of configuration: rules that are added or removed, limits that are raised or lowered,
//! descriptors that another rule matches, and the consequences for buckets.
//!
//! Trees are compared by their behavior: for each node of either tree, an example of a descriptor that ends there is looked
//! up in both. The names of buckets consist of descriptors, not of rules, so that most changes keep buckets.

mod change;
mod example;
mod limits;
mod matched;
mod measure;

use std::collections::{BTreeMap, BTreeSet};

use super::spelling::shown;
use super::tree::{Domain, Node};
use super::{Match, RuleSet};

pub use change::{Buckets, Change, Kind};

use example::{Example, example, in_both};
use limits::Before;
use matched::{added, matching, removed};

/// Returns all changes from one configuration to another, in the order of the old files and then of the new ones.
pub(super) fn diff(old: &RuleSet, new: &RuleSet) -> Vec<Change> {
    let mut changes = Vec::new();
    let names: BTreeSet<&str> = [old, new]
        .iter()
        .flat_map(|rules| rules.domains().map(Domain::name))
        .collect();
    for name in names {
        match (old.domain(name), new.domain(name)) {
            (Some(old), None) => changes.push(domain(Kind::DomainRemoved, old)),
            (None, Some(new)) => changes.push(domain(Kind::DomainAdded, new)),
            (Some(old), Some(new)) => Domains::new(old, new).compare(&mut changes),
            (None, None) => unreachable!("each name is in one of the configurations"),
        }
    }
    changes
}

fn domain(kind: Kind, domain: &Domain) -> Change {
    let rules = domain.nodes().filter(|node| node.rule.is_some()).count();
    let name = shown(domain.name());
    let (text, buckets) = match kind {
        Kind::DomainAdded => (
            format!("domain {name} is new, with {rules} rules; its requests were not limited"),
            Buckets::Reset,
        ),
        _ => (
            format!(
                "domain {name} is removed, with {rules} rules; its requests are no longer limited"
            ),
            Buckets::Left,
        ),
    };
    Change {
        kind,
        path: domain.name().to_owned(),
        at: None,
        before: None,
        after: None,
        buckets: Some(buckets),
        text,
        moved: None,
    }
}

/// The keys and the values from the top to a node.
type Way<'t> = Vec<(&'t str, Option<&'t str>)>;

/// A domain in the old and the new configuration, each with all of its nodes.
struct Domains<'t> {
    old: (&'t Domain, Ways<'t>),
    new: (&'t Domain, Ways<'t>),
}

/// All nodes, by what leads to them.
type Ways<'t> = BTreeMap<Way<'t>, &'t Node>;

impl<'t> Domains<'t> {
    fn new(old: &'t Domain, new: &'t Domain) -> Self {
        let ways = |domain: &'t Domain| {
            let nodes = domain.nodes();
            nodes
                .map(|node| (way_of(domain.above(node)), node))
                .collect()
        };
        Self {
            old: (old, ways(old)),
            new: (new, ways(new)),
        }
    }

    fn compare(&self, changes: &mut Vec<Change>) {
        let (old, new) = (&self.old.1, &self.new.1);
        let added = new.iter().filter(|(way, _)| !old.contains_key(*way));
        let mut nodes: Vec<_> = old
            .iter()
            .map(|(way, node)| (way, Some(*node), new.get(way).copied()))
            .chain(added.map(|(way, node)| (way, None, Some(*node))))
            .collect();
        // In the order of the files, removed rules first.
        nodes.sort_by_key(|(_, old, new)| (old.is_none(), old.or(*new).map(order)));
        let mut examples = Vec::new();
        for (way, was, is) in nodes {
            self.compare_rules(was, is, changes);
            examples.extend(self.example(way));
        }
        for example in examples {
            self.compare_way(&example, changes);
        }
        for example in in_both(self.old.0, self.new.0) {
            self.compare_way(&example, changes);
        }
        once(changes);
        renamed(changes);
    }

    /// Returns a descriptor that ends at the node in one of the trees.
    fn example(&self, way: &Way<'_>) -> Option<Example> {
        example(self.old.0, way).or_else(|| example(self.new.0, way))
    }

    /// Compares a rule that is at the same node in both trees.
    fn compare_rules(&self, was: Option<&Node>, is: Option<&Node>, changes: &mut Vec<Change>) {
        if let (Some(was), Some(is)) = (was, is)
            && let (Some(old), Some(new)) = (was.rule(), is.rule())
        {
            let before = Before {
                old,
                new,
                is_shared_alike: shared(self.old.0.above(was)) == shared(self.new.0.above(is)),
                shows_alike: shows(self.old.0, was) == shows(self.new.0, is),
            };
            before.changes(changes);
        }
    }

    /// Compares the rules that match the descriptors of an example.
    fn compare_way(&self, example: &Example, changes: &mut Vec<Change>) {
        let (old, new) = (
            self.old.0.find(example.pairs()),
            self.new.0.find(example.pairs()),
        );
        if old.map(|old| way_of(old.nodes)) == new.map(|new| way_of(new.nodes)) {
            return;
        }
        let is_at = |found: Match<'_>| example.way() == way_of(found.nodes);
        changes.push(match (old, new) {
            (Some(old), new) if is_at(old) && !has_rule(&self.new.1, example) => removed(old, new),
            (old, Some(new)) if is_at(new) && !has_rule(&self.old.1, example) => added(old, new),
            (old, new) => matching(example, old, new),
        });
    }
}

fn order(node: &Node) -> (&str, usize) {
    (&node.file, node.line)
}

fn way_of<'t>(nodes: impl Iterator<Item = &'t Node>) -> Way<'t> {
    nodes
        .map(|node| (node.key.as_str(), node.value.as_deref()))
        .collect()
}

/// The patterns that replace the values of a descriptor in the names of buckets; `None` for the value itself.
fn shared<'t>(nodes: impl Iterator<Item = &'t Node>) -> Vec<Option<&'t str>> {
    nodes.map(Node::shared_pattern).collect()
}

/// The levels whose values are shown in metrics.
fn shows(domain: &Domain, node: &Node) -> Vec<bool> {
    domain
        .above(node)
        .map(|node| node.value_to_metric)
        .collect()
}

fn has_rule(ways: &Ways<'_>, example: &Example) -> bool {
    let node = ways.get(&example.way());
    node.is_some_and(|node| node.rule.is_some())
}

// --- Names ---

/// Keeps one change for each pair of rules that descriptors move between; the first example is that of the rule itself.
fn once(changes: &mut Vec<Change>) {
    let mut reported = BTreeSet::new();
    changes.retain(|change| {
        let pair = change.moved;
        pair.is_none() || reported.insert(pair)
    });
}

/// Reports a removed and a new rule as a possible rename if their paths differ in one level and their limits are equal.
fn renamed(changes: &mut Vec<Change>) {
    let gone: Vec<usize> = (0..changes.len())
        .filter(|&index| changes[index].kind == Kind::RuleRemoved)
        .collect();
    let mut notes = Vec::new();
    for gone in gone {
        let old = &changes[gone];
        let mut like = changes.iter().filter(|new| {
            new.kind == Kind::RuleAdded
                && new.after == old.before
                && new.before.is_none()
                && old.after.is_none()
        });
        if let (Some(new), None) = (like.next(), like.next()) {
            notes.push(Change {
                kind: Kind::Renamed,
                path: new.path.clone(),
                at: new.at.clone(),
                before: Some(old.path.clone()),
                after: Some(new.path.clone()),
                buckets: Some(Buckets::Reset),
                moved: None,
                text: format!(
                    "{} may be {} under another name: it limits the same, but only what is sent under the new name",
                    shown(&new.path),
                    shown(&old.path)
                ),
            });
        }
    }
    changes.extend(notes);
}

#[cfg(test)]
mod tests;
