//! Examples of descriptors: for the descriptors that end at a node, and for those that two patterns match.

use super::super::pattern::{is_wildcard, matches};
use super::super::tree::{Domain, Node};
use super::{Way, way_of};
use crate::spelling::shown;

/// Values to try where a node matches any value: the first one that no sibling matches is used.
const FREE: [&str; 6] = ["any", "other", "0", "x.y", "/any", "192.0.2.1"];

/// Maximum number of patterns of a level that are compared with each other.
const MOST_PATTERNS: usize = 60;

/// A descriptor, and the node that it is an example of.
#[derive(Debug)]
pub(super) struct Example {
    entries: Vec<(String, String)>,
    way: Vec<(String, Option<String>)>,
}

impl Example {
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The nodes from the top to its node.
    pub(super) fn way(&self) -> Way<'_> {
        let way = self.way.iter();
        way.map(|(key, value)| (key.as_str(), value.as_deref()))
            .collect()
    }

    /// The descriptor as an operator types it.
    pub(super) fn text(&self) -> String {
        let entries = self.entries.iter();
        let entries = entries.map(|(key, value)| format!("{}={}", shown(key), shown(value)));
        entries.collect::<Vec<_>>().join(",")
    }
}

/// Returns a descriptor that ends at the last of these nodes; `None` if none is found, for instance because a pattern before
/// it shadows the node.
pub(super) fn example(domain: &Domain, way: &Way<'_>) -> Option<Example> {
    let mut level = Some(domain.root());
    let mut entries = Vec::new();
    for &(key, value) in way {
        let candidates =
            keys(key).flat_map(|key| values(value).map(move |value| (key.clone(), value)));
        let (entry, node) = candidates
            .filter_map(|entry| {
                let (id, _) = domain.step(level?, entry.0.as_bytes(), entry.1.as_bytes())?;
                let node = domain.node(id);
                let is_it = node.key == key && node.value.as_deref() == value;
                is_it.then_some((entry, node))
            })
            .next()?;
        entries.push(entry);
        level = node.children.as_deref();
    }
    Some(Example {
        entries,
        way: owned(way),
    })
}

fn owned(way: &Way<'_>) -> Vec<(String, Option<String>)> {
    let way = way.iter();
    way.map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)))
        .collect()
}

fn keys(key: &str) -> Box<dyn Iterator<Item = String> + '_> {
    match is_wildcard(key) {
        true => Box::new(FREE.iter().map(move |free| key.replace('*', free))),
        false => Box::new([key.to_owned()].into_iter()),
    }
}

fn values(value: Option<&str>) -> Box<dyn Iterator<Item = String> + '_> {
    match value {
        None => Box::new(FREE.iter().map(|free| (*free).to_owned())),
        Some(value) => keys(value),
    }
}

/// Returns descriptors that two patterns of a level match, so that their order matters.
pub(super) fn in_both(old: &Domain, new: &Domain) -> Vec<Example> {
    let mut examples = Vec::new();
    for domain in [old, new] {
        let wild: Vec<&Node> = domain.nodes().filter(|node| node.is_wildcard()).collect();
        for (index, one) in wild.iter().enumerate() {
            let siblings = wild[index + 1..]
                .iter()
                .filter(|other| are_siblings(one, other));
            for other in siblings.take(MOST_PATTERNS) {
                examples.extend(disputed(domain, one, other));
            }
        }
    }
    examples
}

fn are_siblings(one: &Node, other: &Node) -> bool {
    let above = |node: &Node| node.path.split_last().map(|(_, above)| above.to_vec());
    above(one) == above(other)
}

/// A descriptor that both match.
fn disputed(domain: &Domain, one: &Node, other: &Node) -> Option<Example> {
    let key = common(&one.key, &other.key)?;
    let value = match (one.value.as_deref(), other.value.as_deref()) {
        (Some(one), Some(other)) => common(one, other)?,
        (Some(value), None) | (None, Some(value)) => value.replace('*', "any"),
        (None, None) => "any".to_owned(),
    };
    let way = way_of(domain.above(one));
    let (_, above) = way.split_last()?;
    let mut example = example(domain, &above.to_vec())?;
    example.entries.push((key, value));
    // It is not an example of a node.
    example.way.clear();
    Some(example)
}

/// Returns a text that both patterns match, if one is easy to find.
fn common(one: &str, other: &str) -> Option<String> {
    let filled = |pattern: &str, with: &str| pattern.replacen('*', with, 1).replace('*', "");
    let bare = |pattern: &str| pattern.replace('*', "");
    let ends = |first: &str, second: &str| {
        let begin = first.split('*').next().unwrap_or_default();
        let end = second.rsplit('*').next().unwrap_or_default();
        format!("{begin}{end}")
    };
    [
        bare(one),
        bare(other),
        filled(one, &bare(other)),
        filled(other, &bare(one)),
        ends(one, other),
        ends(other, one),
        format!("{}{}", bare(one), bare(other)),
        format!("{}{}", bare(other), bare(one)),
    ]
    .into_iter()
    .find(|text| matches(one, text.as_bytes()) && matches(other, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::common;

    #[test]
    fn what_two_patterns_have_in_common_is_found() {
        for (one, other, expected) in [
            ("a*", "ab*", Some("ab")),
            ("*", "x", Some("x")),
            ("a*", "*b", Some("ab")),
            ("/files/*", "*.png", Some("/files/.png")),
            ("a*", "b*", None),
            ("x", "y", None),
        ] {
            assert_eq!(common(one, other).as_deref(), expected, "{one} {other}");
        }
    }
}
