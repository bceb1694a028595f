//! The rules of a domain as a tree, and the walk of a descriptor through it.
//!
//! Each entry is looked up among the children of the node that the previous entry matched: first the exact key and value,
//! then patterns in the order of the file, then the key alone. The first match is used, without backtracking, and the
//! descriptor must end at the rule's node. envoyproxy/ratelimit does the same, except that it joins key and value into one
//! text first. Here, `("a", "b_c")` and `("a_b", "c")` are different entries.

use std::collections::HashMap;
use std::iter::FusedIterator;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::pattern::{self, is_wildcard};
use super::rule::Rule;

// --- Nodes ---

/// A node of the tree, with the key and the value of the entries that it matches.
#[derive(Debug, Clone)]
pub struct Node {
    /// The key, or a pattern for keys.
    pub key: String,
    /// The value, or a pattern for values; `None` for any value.
    pub value: Option<String>,
    /// Whether metrics of the rules at and below this node show the value of the entry.
    pub value_to_metric: bool,
    /// Whether all matching values share one bucket.
    pub share_threshold: bool,
    /// The name of the file that contains the node.
    pub file: Arc<str>,
    /// The line in that file, from 1. If the configuration has no lines, the number of the descriptor.
    pub line: usize,
    pub(super) rule: Option<Arc<Rule>>,
    pub(super) children: Option<Box<Level>>,
    /// The nodes from the top to this one, inclusive.
    pub(super) path: Box<[usize]>,
}

impl Node {
    /// With `share_threshold`, the pattern that replaces the value of the entry in bucket keys and metrics: the configured
    /// value, or `*` if only the key is a pattern. Entries with different keys never share a bucket.
    #[must_use]
    pub fn shared_pattern(&self) -> Option<&str> {
        self.share_threshold
            .then(|| self.value.as_deref().unwrap_or("*"))
    }

    /// The rule of the node, if it has limits.
    #[must_use]
    pub fn rule(&self) -> Option<&Rule> {
        self.rule.as_deref()
    }

    pub(super) fn is_wildcard(&self) -> bool {
        is_wildcard(&self.key) || self.value.as_deref().is_some_and(is_wildcard)
    }

    fn matches(&self, key: &[u8], value: &[u8]) -> bool {
        pattern::matches(&self.key, key)
            && self
                .value
                .as_ref()
                .is_none_or(|pattern| pattern::matches(pattern, value))
    }
}

/// Joins key and value for display, as envoyproxy/ratelimit does.
#[must_use]
pub fn composite(key: &str, value: Option<&str>) -> String {
    value.map_or_else(|| key.to_owned(), |value| format!("{key}_{value}"))
}

/// The children of a node, indexed for lookups.
#[derive(Debug, Clone, Default)]
pub(super) struct Level {
    keys: HashMap<Box<[u8]>, Named, RandomState>,
    /// Nodes whose key contains a `*`, in the order of the file.
    wild_keys: Vec<usize>,
}

/// The children with one key.
#[derive(Debug, Clone, Default)]
struct Named {
    /// Patterns are included, because a value can equal the text of a pattern.
    values: HashMap<Box<[u8]>, usize, RandomState>,
    /// Nodes whose value, but not the key, contains a `*`, in the order of the file.
    wild_values: Vec<usize>,
    bare: Option<usize>,
}

impl Level {
    /// All children, in the order of the file.
    pub(super) fn nodes(&self) -> Vec<usize> {
        let named = self.keys.values();
        let mut nodes: Vec<_> = named
            .flat_map(|named| named.values.values().copied().chain(named.bare))
            .collect();
        nodes.sort_unstable();
        nodes
    }
}

/// The rules of one domain.
#[derive(Debug, Clone)]
pub struct Domain {
    name: String,
    id: usize,
    files: Vec<Arc<str>>,
    root: Level,
    nodes: Vec<Node>,
}

/// How a node matches an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By the exact key and value.
    Exact,
    /// By a pattern for the key or the value.
    Wildcard,
    /// By the key; the node has no value.
    BareKey,
}

// --- Building ---

impl Domain {
    pub(super) fn new(name: String, id: usize) -> Self {
        Self {
            name,
            id,
            files: Vec::new(),
            root: Level::default(),
            nodes: Vec::new(),
        }
    }

    pub(super) fn add_file(&mut self, file: &Arc<str>) {
        self.files.push(Arc::clone(file));
    }

    /// Adds a node that is not the child of another node yet.
    pub(super) fn push(&mut self, parent: Option<usize>, node: Node) -> usize {
        let id = self.nodes.len();
        let above = parent.map_or(&[][..], |parent| &self.nodes[parent].path);
        let path = above.iter().copied().chain([id]).collect();
        self.nodes.push(Node { path, ..node });
        id
    }

    /// Makes a node a child of `parent`. If `parent` has a child with the same key and value, returns that child instead.
    pub(super) fn link(&mut self, parent: Option<usize>, id: usize) -> Result<(), usize> {
        let node = &self.nodes[id];
        let (key, value, is_wildcard) = (node.key.clone(), node.value.clone(), node.is_wildcard());
        let level = match parent {
            None => &mut self.root,
            Some(parent) => self.nodes[parent].children.get_or_insert_default(),
        };
        let is_wild_key = pattern::is_wildcard(&key);
        let named = level.keys.entry(key.into_bytes().into()).or_default();
        let slot = match value {
            Some(value) => named.values.entry(value.into_bytes().into()).or_insert(id),
            None => named.bare.get_or_insert(id),
        };
        if *slot != id {
            return Err(*slot);
        }
        if is_wild_key {
            level.wild_keys.push(id);
        } else if is_wildcard {
            named.wild_values.push(id);
        }
        Ok(())
    }

    pub(super) fn node(&self, id: usize) -> &Node {
        &self.nodes[id]
    }

    /// The nodes from the top to this one, inclusive.
    pub(super) fn above<'t>(&'t self, node: &'t Node) -> Nodes<'t> {
        Nodes {
            domain: self,
            path: &node.path,
        }
    }

    /// All nodes, in the order of the files.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    pub(super) fn set_rule(&mut self, id: usize, rule: Arc<Rule>) {
        self.nodes[id].rule = Some(rule);
    }
}

// --- Matching ---

impl Domain {
    /// The name that requests use.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The index of the domain.
    #[must_use]
    pub fn id(&self) -> usize {
        self.id
    }

    /// The names of the files that contain the domain: one, unless domains are merged.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| &**file)
    }

    /// Finds the rule for a descriptor with these keys and values, which can be any bytes.
    pub fn find<'t, 'e, T: AsRef<[u8]> + ?Sized + 'e>(
        &'t self,
        entries: impl IntoIterator<Item = (&'e T, &'e T)>,
    ) -> Option<Match<'t>> {
        let (mut level, mut last) = (Some(&self.root), None);
        for (key, value) in entries {
            let (id, _) = self.step(level?, key.as_ref(), value.as_ref())?;
            let node = self.node(id);
            level = node.children.as_deref();
            last = Some(node);
        }
        let node = last?;
        let rule = node.rule.as_deref()?;
        Some(Match {
            rule,
            nodes: Nodes {
                domain: self,
                path: &node.path,
            },
        })
    }

    /// All rules, each with the nodes from the top to it.
    pub fn matches(&self) -> impl Iterator<Item = Match<'_>> {
        self.nodes.iter().filter_map(|node| {
            Some(Match {
                rule: node.rule.as_deref()?,
                nodes: Nodes {
                    domain: self,
                    path: &node.path,
                },
            })
        })
    }

    pub(super) fn root(&self) -> &Level {
        &self.root
    }

    /// Finds the child that matches an entry.
    ///
    /// It does not allocate. Its cost depends on the number of patterns with the entry's key or with a `*` in the key, but
    /// not on the number of other siblings.
    pub(super) fn step(&self, level: &Level, key: &[u8], value: &[u8]) -> Option<(usize, How)> {
        let named = level.keys.get(key);
        if let Some(&id) = named.and_then(|named| named.values.get(value)) {
            return Some((id, How::Exact));
        }
        let fits = |id: &usize| self.nodes[*id].matches(key, value);
        let wild_value = named.and_then(|named| named.wild_values.iter().copied().find(fits));
        let mut earlier = level
            .wild_keys
            .iter()
            .copied()
            .take_while(|&id| wild_value.is_none_or(|w| id < w));
        if let Some(id) = earlier.find(fits).or(wild_value) {
            return Some((id, How::Wildcard));
        }
        named
            .and_then(|named| named.bare)
            .map(|id| (id, How::BareKey))
    }

    /// All children that match an entry, the best match first.
    pub(super) fn candidates(&self, level: &Level, key: &[u8], value: &[u8]) -> Vec<(usize, How)> {
        let fitting = |id: usize| {
            let node = &self.nodes[id];
            let is_key = node.key.as_bytes() == key;
            if is_key && node.value.as_deref().map(str::as_bytes) == Some(value) {
                Some((id, How::Exact))
            } else if node.is_wildcard() {
                node.matches(key, value).then_some((id, How::Wildcard))
            } else {
                (is_key && node.value.is_none()).then_some((id, How::BareKey))
            }
        };
        let mut all: Vec<_> = level.nodes().into_iter().filter_map(fitting).collect();
        all.sort_by_key(|&(id, how)| (how as u8, id));
        all
    }
}

/// The rule that matches a descriptor.
#[derive(Debug, Clone, Copy)]
pub struct Match<'t> {
    /// The rule that applies.
    pub rule: &'t Rule,
    /// The node that each entry matched, in order.
    pub nodes: Nodes<'t>,
}

/// The nodes from the top of the tree to a rule.
#[derive(Debug, Clone, Copy)]
pub struct Nodes<'t> {
    domain: &'t Domain,
    path: &'t [usize],
}

impl<'t> Iterator for Nodes<'t> {
    type Item = &'t Node;

    fn next(&mut self) -> Option<Self::Item> {
        let (&first, rest) = self.path.split_first()?;
        self.path = rest;
        Some(self.domain.node(first))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.path.len(), Some(self.path.len()))
    }
}

impl ExactSizeIterator for Nodes<'_> {}
impl FusedIterator for Nodes<'_> {}

#[cfg(test)]
mod tests;
