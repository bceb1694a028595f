//! Explains how a descriptor is matched: the steps through the tree, the nodes that were passed over, and near misses.
//!
//! The steps are those of [`Domain::find`]; the hints are heuristics.

mod hints;

use std::fmt;

use super::tree::{Domain, How, Level, Node};
use super::{RuleSet, spelling};
use ratekeeper_core::text::readable;

/// The walk of a descriptor through the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The name of the domain.
    pub domain: String,
    /// One step for each entry that was looked up. The last one may have failed.
    pub steps: Vec<Step>,
    /// The result of the walk.
    pub end: End,
    /// Hints about near misses and surprising matches, one sentence each.
    pub hints: Vec<String>,
}

/// The lookup of an entry among the children of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The key of the entry.
    pub key: String,
    /// The value of the entry.
    pub value: String,
    /// The node that matched.
    pub taken: Option<Candidate>,
    /// Nodes that would have matched after it.
    pub passed_over: Vec<Candidate>,
}

/// A node that matches an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// How the node matches.
    pub how: How,
    /// The key, or its pattern.
    pub key: String,
    /// The value, or its pattern.
    pub value: Option<String>,
    /// Whether the node has limits.
    pub has_limits: bool,
    /// The position in the configuration, as `file:line`.
    pub origin: String,
}

/// The result of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The rule that matches.
    Rule {
        /// The index in [`RuleSet::rules`].
        id: usize,
        /// The path of the rule.
        path: String,
        /// The position in the configuration, as `file:line`.
        origin: String,
    },
    /// The domain does not exist.
    NoDomain,
    /// The descriptor has no entries.
    NoEntries,
    /// The last entry matched a node without `rate_limit`.
    NoLimits,
    /// An entry matched no node.
    NoNode {
        /// Number of entries that matched a node.
        matched: usize,
    },
}

impl Candidate {
    fn new(how: How, node: &Node) -> Self {
        Self {
            how,
            key: node.key.clone(),
            value: node.value.clone(),
            has_limits: node.rule.is_some(),
            origin: origin(node),
        }
    }
}

fn origin(node: &Node) -> String {
    format!("{}:{}", node.file, node.line)
}

pub(super) fn trace(rules: &RuleSet, name: &str, entries: &[(&[u8], &[u8])]) -> Trace {
    let Some(domain) = rules.domain(name) else {
        let names = rules.domains().map(Domain::name);
        return Trace {
            domain: name.to_owned(),
            steps: Vec::new(),
            end: End::NoDomain,
            hints: hints::no_domain(name, names),
        };
    };
    let walk = walk(domain, entries);
    Trace {
        domain: name.to_owned(),
        hints: hints::hints(domain, entries, &walk),
        steps: walk.steps,
        end: walk.end,
    }
}

/// A walk and the node that it reached.
struct Walk<'t> {
    steps: Vec<Step>,
    end: End,
    /// The last node reached; `None` at the top.
    last: Option<&'t Node>,
    /// The children of that node.
    level: Option<&'t Level>,
}

fn walk<'t>(domain: &'t Domain, entries: &[(&[u8], &[u8])]) -> Walk<'t> {
    let mut walk = Walk {
        steps: Vec::new(),
        end: End::NoEntries,
        last: None,
        level: Some(domain.root()),
    };
    for (matched, &(key, value)) in entries.iter().enumerate() {
        let taken = walk.level.and_then(|level| domain.step(level, key, value));
        walk.steps
            .push(step(domain, walk.level, (key, value), taken));
        let Some((id, _)) = taken else {
            walk.end = End::NoNode { matched };
            return walk;
        };
        let node = domain.node(id);
        walk.last = Some(node);
        walk.level = node.children.as_deref();
        walk.end = node.rule().map_or(End::NoLimits, |rule| End::Rule {
            id: rule.id,
            path: rule.path.clone(),
            origin: origin(node),
        });
    }
    walk
}

fn step(
    domain: &Domain,
    level: Option<&Level>,
    (key, value): (&[u8], &[u8]),
    taken: Option<(usize, How)>,
) -> Step {
    let mut fitting = level.map_or_else(Vec::new, |level| domain.candidates(level, key, value));
    fitting.retain(|&(id, _)| taken.is_none_or(|(taken, _)| id != taken));
    let candidate = |(id, how)| Candidate::new(how, domain.node(id));
    Step {
        key: readable(key).into_owned(),
        value: readable(value).into_owned(),
        taken: taken.map(candidate),
        passed_over: fitting.into_iter().map(candidate).collect(),
    }
}

// --- Text output ---

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact match",
            Self::Wildcard => "wildcard",
            Self::BareKey => "key without a value",
        })
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = if self.has_limits {
            ""
        } else {
            ", no rate_limit"
        };
        write!(
            f,
            "{} ({}, {}{limits})",
            entry(&self.key, self.value.as_deref()),
            self.how,
            self.origin
        )
    }
}

/// Formats each step on a line, then the result and the hints.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "domain {}", spelling::shown(&self.domain))?;
        for Step {
            key,
            value,
            taken,
            passed_over,
        } in &self.steps
        {
            write!(f, "  {}: ", entry(key, Some(value)))?;
            match taken {
                Some(node) => writeln!(f, "{node}")?,
                None => writeln!(f, "nothing matches")?,
            }
            for node in passed_over {
                writeln!(f, "    passed over: {node}")?;
            }
        }
        match &self.end {
            End::Rule { path, origin, .. } => writeln!(f, "rule {path} ({origin})")?,
            End::NoDomain => writeln!(f, "no limit: the domain is not configured")?,
            End::NoEntries => writeln!(f, "no limit: the descriptor has no entries")?,
            End::NoLimits => writeln!(f, "no limit: the last node has no rate_limit")?,
            End::NoNode { matched } => {
                writeln!(f, "no limit: entry {} matches nothing", matched + 1)?;
            }
        }
        self.hints
            .iter()
            .try_for_each(|hint| writeln!(f, "hint: {hint}"))
    }
}

/// Formats an entry or a pattern.
fn entry(key: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!("({}, {})", spelling::shown(key), spelling::shown(value)),
        None => format!("({})", spelling::shown(key)),
    }
}

#[cfg(test)]
mod tests;
