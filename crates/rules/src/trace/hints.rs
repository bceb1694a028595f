//! Hints: near misses of a descriptor that no rule matches, and surprising matches.

use super::{Candidate, End, How, Walk, entry, origin};
use crate::spelling::{nearest, shown};
use crate::tree::{Domain, Level, Node};
use ratekeeper_core::text::readable;

/// Maximum number of orders of the entries that are tried; 5 entries have 120.
const MAX_ORDERED: usize = 5;

/// Maximum number of siblings that a hint names.
const MAX_NAMED: usize = 5;

pub(super) fn no_domain<'a>(name: &str, domains: impl Iterator<Item = &'a str>) -> Vec<String> {
    let domains: Vec<_> = domains.collect();
    let hint = match nearest(name, domains.iter().copied()) {
        Some(meant) => format!("did you mean the domain '{}'?", shown(meant)),
        None if domains.is_empty() => "no domain is configured at all".to_owned(),
        None => format!(
            "the domains are {}",
            list(domains.iter().map(|name| shown(name)))
        ),
    };
    vec![hint]
}

pub(super) fn hints(domain: &Domain, entries: &[(&[u8], &[u8])], walk: &Walk<'_>) -> Vec<String> {
    let mut hints = Vec::new();
    match walk.end {
        End::Rule { .. } | End::NoDomain => {}
        End::NoEntries => hints.push("a descriptor needs at least one entry".to_owned()),
        End::NoLimits => hints.extend(too_short(domain, walk)),
        End::NoNode { matched } => match walk.level {
            Some(level) => hints.extend(near_miss(domain, level, entries[matched])),
            None => hints.extend(too_long(walk, entries.len() - matched)),
        },
    }
    if !matches!(walk.end, End::Rule { .. }) {
        hints.extend(shadowed(domain, entries, walk));
        hints.extend(other_order(domain, entries));
    }
    hints
}

/// Returns a hint if the descriptor ends above the limits.
fn too_short(domain: &Domain, walk: &Walk<'_>) -> Option<String> {
    let node = walk.last?;
    let below = walk.level.map(|level| children(domain, level));
    let limited: Vec<_> = below
        .into_iter()
        .flatten()
        .filter(|node| node.rule().is_some())
        .map(|node| entry(&node.key, node.value.as_deref()))
        .collect();
    Some(if limited.is_empty() {
        format!(
            "{} has no rate_limit: descriptors that end there are not limited",
            named(node)
        )
    } else {
        format!(
            "one entry too few? {} has no rate_limit, but below it {} does",
            named(node),
            list(limited.into_iter())
        )
    })
}

/// Returns a hint if the descriptor is longer than the tree is deep.
fn too_long(walk: &Walk<'_>, surplus: usize) -> Option<String> {
    let node = walk.last?;
    let limits = if node.rule().is_some() {
        "has a rate_limit"
    } else {
        "has no rate_limit"
    };
    let entries = if surplus == 1 {
        "one entry".to_owned()
    } else {
        format!("{surplus} entries")
    };
    Some(format!(
        "{entries} too many? {} {limits}, but nothing below it: a rule applies only to descriptors \
         that end where it does",
        named(node)
    ))
}

/// Returns a hint about a sibling that the entry probably should match.
fn near_miss(domain: &Domain, level: &Level, (key, value): (&[u8], &[u8])) -> Option<String> {
    let (key, value) = (&*readable(key), &*readable(value));
    let nodes: Vec<_> = children(domain, level).collect();
    let same_key: Vec<_> = nodes.iter().filter(|node| node.key == key).collect();
    if same_key.is_empty() {
        let keys = nodes.iter().map(|node| node.key.as_str());
        return Some(match nearest(key, keys) {
            Some(meant) => {
                format!(
                    "no rule has the key '{}' here; did you mean '{}'?",
                    shown(key),
                    shown(meant)
                )
            }
            None => format!(
                "no rule has the key '{}' here; there is {}",
                shown(key),
                list(
                    nodes
                        .iter()
                        .map(|node| entry(&node.key, node.value.as_deref()))
                )
            ),
        });
    }
    let values = same_key.iter().filter_map(|node| node.value.as_deref());
    let known = match nearest(value, values.clone()) {
        Some(meant) => format!("did you mean '{}'?", shown(meant)),
        None => format!("there is {}", list(values.map(shown))),
    };
    Some(format!(
        "the key '{}' has no rule for the value '{}', and none for all values; {known}",
        shown(key),
        shown(value)
    ))
}

/// Returns a hint if a sibling that was passed over would have led to a rule.
fn shadowed(domain: &Domain, entries: &[(&[u8], &[u8])], walk: &Walk<'_>) -> Option<String> {
    walk.steps.iter().enumerate().find_map(|(i, step)| {
        let taken = step.taken.as_ref()?;
        let level = level_at(domain, &entries[..i])?;
        let (key, value) = entries[i];
        let fitting = domain.candidates(level, key, value);
        let (other, how) = fitting.into_iter().skip(1).find(|&(id, _)| {
            let node = domain.node(id);
            leads_to_rule(domain, node, &entries[i + 1..])
        })?;
        let other = Candidate::new(how, domain.node(other));
        Some(format!(
            "{} shadows {}: {} wins, and the other is never tried afterwards",
            entry(&taken.key, taken.value.as_deref()),
            other,
            match (taken.how, how) {
                (How::Wildcard, How::Wildcard) => "the first wildcard in the file",
                (taken, _) => match taken {
                    How::Exact => "an exact match",
                    How::Wildcard => "a wildcard",
                    How::BareKey => "a key without a value",
                },
            }
        ))
    })
}

fn level_at<'t>(domain: &'t Domain, entries: &[(&[u8], &[u8])]) -> Option<&'t Level> {
    entries
        .iter()
        .try_fold(domain.root(), |level, &(key, value)| {
            let (id, _) = domain.step(level, key, value)?;
            domain.node(id).children.as_deref()
        })
}

fn leads_to_rule(domain: &Domain, node: &Node, entries: &[(&[u8], &[u8])]) -> bool {
    let end = entries.iter().try_fold(node, |node, &(key, value)| {
        let (id, _) = domain.step(node.children.as_deref()?, key, value)?;
        Some(domain.node(id))
    });
    end.is_some_and(|node| node.rule().is_some())
}

/// Returns a hint if a rule matches the entries in another order.
fn other_order(domain: &Domain, entries: &[(&[u8], &[u8])]) -> Option<String> {
    if !(2..=MAX_ORDERED).contains(&entries.len()) {
        return None;
    }
    let mut orders = vec![Vec::new()];
    for _ in entries {
        orders = orders
            .iter()
            .flat_map(|order| longer_by_one(order, entries.len()))
            .collect();
    }
    orders.iter().find_map(|order| {
        let ordered: Vec<_> = order.iter().map(|&i| entries[i]).collect();
        let found = domain.find(ordered.iter().copied())?;
        Some(format!(
            "the order of entries matters: {} would match the rule {}",
            ordered
                .iter()
                .map(|&(key, value)| entry(&readable(key), Some(&readable(value))))
                .collect::<Vec<_>>()
                .join(" "),
            found.rule.path
        ))
    })
}

fn longer_by_one(order: &[usize], count: usize) -> Vec<Vec<usize>> {
    let unused = (0..count).filter(|i| !order.contains(i));
    unused.map(|i| [order, &[i]].concat()).collect()
}

// --- Formatting ---

fn children<'t>(domain: &'t Domain, level: &Level) -> impl Iterator<Item = &'t Node> {
    level.nodes().into_iter().map(|id| domain.node(id))
}

fn named(node: &Node) -> String {
    format!(
        "{} at {}",
        entry(&node.key, node.value.as_deref()),
        origin(node)
    )
}

fn list(words: impl Iterator<Item = String>) -> String {
    let mut words: Vec<_> = words.take(MAX_NAMED + 1).collect();
    if words.is_empty() {
        return "nothing".to_owned();
    }
    if words.len() > MAX_NAMED {
        words[MAX_NAMED] = "more".to_owned();
    }
    words.join(", ")
}
