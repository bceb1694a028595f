//! Differences in behavior if envoyproxy/ratelimit reads the same files.
//!
//! Only differences that follow from the rules are reported: the joining of keys and values, the order of files, the
//! algorithm, and keys that envoyproxy/ratelimit rejects.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::RuleSet;
use super::limit::{Algorithm, Hits, Limit};
use super::rule::{Limits, Rule};
use super::tree::{Domain, Node};

/// A difference between ratekeeper and envoyproxy/ratelimit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// envoyproxy/ratelimit has fixed windows instead of token buckets.
    Buckets {
        /// Number of limits that are token buckets.
        limits: usize,
    },
    /// envoyproxy/ratelimit joins key and value with an underscore, so that entries are equal if they differ only in the end
    /// of the key.
    Joined {
        /// The file and line of the longer key.
        at: String,
        /// The path of the level.
        level: String,
        /// The shorter key.
        short: String,
        /// The key that begins with the shorter one and an underscore.
        long: String,
    },
    /// envoyproxy/ratelimit reads files in random order, which is the order of the patterns of a domain in several files.
    Order {
        /// The domain.
        domain: String,
        /// The files that have patterns at the top of the domain.
        files: Vec<String>,
    },
    /// envoyproxy/ratelimit rejects the file because of these keys.
    Words {
        /// The file and line of the rule.
        at: String,
        /// The keys.
        words: Vec<&'static str>,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buckets { limits } => write!(
                f,
                "{limits} limits are token buckets here: what was taken comes back evenly, not all at once when \
                 a window ends, and no edge of a window lets twice as much pass"
            ),
            Self::Joined {
                at,
                level,
                short,
                long,
            } => write!(
                f,
                "{at}: in {level}, the keys '{short}' and '{long}' are two things here; envoyproxy/ratelimit joins \
                 key and value with _, so that a value of '{short}' that makes the same text matches the rule and \
                 the counter of '{long}'"
            ),
            Self::Order { domain, files } => write!(
                f,
                "domain '{domain}' has patterns (*) at its top in {}; the first that matches wins, here in the \
                 order of the files' names, there in a random order",
                files.join(" and ")
            ),
            Self::Words { at, words } => write!(
                f,
                "{at}: envoyproxy/ratelimit rejects the file because of {}; remove that before you go back",
                words.join(", ")
            ),
        }
    }
}

pub(super) fn differences(rules: &RuleSet) -> Vec<Difference> {
    let mut differences = Vec::new();
    let limits = rules.rules().iter().flat_map(|rule| match &rule.limits {
        Limits::Limited(limits) => limits.as_slice(),
        Limits::Unlimited { .. } => &[],
    });
    // A limit of 0 denies everything with either algorithm.
    let buckets = limits
        .filter(|limit| limit.algorithm == Algorithm::TokenBucket && limit.requests_per_unit > 0);
    let buckets = buckets.count();
    if buckets > 0 {
        differences.push(Difference::Buckets { limits: buckets });
    }
    for domain in rules.domains() {
        differences.extend(order(domain));
        differences.extend(joined(domain));
    }
    differences.extend(rules.rules().iter().filter_map(|rule| words(rule)));
    differences
}

/// Returns domains with patterns from several files. Only the top of a domain can have them, because nested levels are never
/// merged.
fn order(domain: &Domain) -> Option<Difference> {
    let top = domain.nodes().filter(|node| node.path.len() == 1);
    let files: BTreeSet<_> = top
        .filter(|node| node.is_wildcard())
        .map(|node| node.file.to_string())
        .collect();
    (files.len() > 1).then(|| Difference::Order {
        domain: domain.name().to_owned(),
        files: files.into_iter().collect(),
    })
}

fn joined(domain: &Domain) -> Vec<Difference> {
    let mut levels: BTreeMap<&[usize], Vec<&Node>> = BTreeMap::new();
    for node in domain.nodes() {
        let above = &node.path[..node.path.len().saturating_sub(1)];
        levels.entry(above).or_default().push(node);
    }
    let mut found = Vec::new();
    for (above, nodes) in levels {
        let level = above.last().map_or_else(
            || format!("domain '{}'", domain.name()),
            |&id| format!("the descriptors of '{}'", domain.node(id).key),
        );
        // One node of each key is enough.
        let keys: BTreeMap<&str, &Node> = nodes
            .iter()
            .rev()
            .map(|node| (node.key.as_str(), *node))
            .collect();
        for (long, node) in &keys {
            let shorter = long.match_indices('_').map(|(end, _)| &long[..end]);
            found.extend(
                shorter
                    .filter(|short| keys.contains_key(short))
                    .map(|short| Difference::Joined {
                        at: format!("{}:{}", node.file, node.line),
                        level: level.clone(),
                        short: short.to_owned(),
                        long: (*long).to_owned(),
                    }),
            );
        }
    }
    found
}

/// Returns the keys of a rule that envoyproxy/ratelimit does not have, if they have an effect.
fn words(rule: &Rule) -> Option<Difference> {
    let limits = match &rule.limits {
        Limits::Limited(limits) => limits.as_slice(),
        Limits::Unlimited { .. } => &[],
    };
    let any = |is: fn(&Limit) -> bool| limits.iter().any(is);
    let is_bucket = |limit: &Limit| limit.algorithm == Algorithm::TokenBucket;
    let words: Vec<_> = [
        ("a list of limits", limits.len() > 1),
        ("unit_multiplier", any(|limit| limit.unit_multiplier != 1)),
        (
            "burst",
            limits.iter().any(|limit| {
                is_bucket(limit)
                    && limit.burst != limit.requests_per_unit.max(1)
                    && limit.requests_per_unit > 0
            }),
        ),
        ("hits", any(|limit| limit.hits != Hits::Auto)),
        ("on_store_failure", rule.on_store_failure.is_some()),
        ("candidate", !rule.candidates.is_empty()),
    ]
    .into_iter()
    .filter_map(|(word, is_used)| is_used.then_some(word))
    .collect();
    (!words.is_empty()).then(|| Difference::Words {
        at: format!("{}:{}", rule.file, rule.line),
        words,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Algorithm, LoadOptions, RuleSet, SourceFile};

    fn differences(files: &[&str]) -> Vec<String> {
        let files: Vec<_> = files
            .iter()
            .enumerate()
            .map(|(i, text)| SourceFile {
                name: format!("{i}.yaml"),
                text: (*text).to_owned(),
            })
            .collect();
        let options = LoadOptions {
            default_algorithm: Algorithm::FixedWindow,
            merge_domains: true,
            ..LoadOptions::default()
        };
        let rules = RuleSet::load(&files, options).unwrap();
        rules
            .differences()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn check(files: &[&str], expected: &[&str]) {
        let found = differences(files);
        assert_eq!(found.len(), expected.len(), "{files:?}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{files:?}: {found}");
        }
    }

    const LIMIT: &str = "rate_limit: {unit: day, requests_per_unit: 5}";

    #[test]
    fn windows_of_plain_rules_differ_in_nothing() {
        let text = format!(
            "domain: d\ndescriptors: [{{key: a, value: b_c, {LIMIT}}}, {{key: ab, {LIMIT}}}]"
        );
        check(&[&text], &[]);
    }

    #[test]
    fn buckets_are_counted() {
        let limit = "rate_limit: {unit: day, requests_per_unit: 5, algorithm: token_bucket}";
        let text = format!(
            "domain: d\ndescriptors: [{{key: a, {limit}}}, {{key: b, {limit}}}, {{key: c, {LIMIT}}}]"
        );
        check(&[&text], &["2 limits are token buckets"]);
    }

    #[test]
    fn keys_that_joining_confuses_are_named() {
        let text = format!(
            "domain: d\ndescriptors:\n- {{key: a, {LIMIT}}}\n- {{key: a_b, value: c, {LIMIT}}}\n- {{key: a_b_c, {LIMIT}}}"
        );
        check(
            &[&text],
            &[
                "0.yaml:4: in domain 'd', the keys 'a' and 'a_b'",
                "'a' and 'a_b_c'",
                "'a_b' and 'a_b_c'",
            ],
        );
        let text = format!(
            "domain: d\ndescriptors: [{{key: x, descriptors: [{{key: a, {LIMIT}}}, {{key: a_b, {LIMIT}}}]}}]"
        );
        check(
            &[&text],
            &["in the descriptors of 'x', the keys 'a' and 'a_b'"],
        );
        // Keys on different levels cannot be confused.
        let text =
            format!("domain: d\ndescriptors: [{{key: a, descriptors: [{{key: a_b, {LIMIT}}}]}}]");
        check(&[&text], &[]);
    }

    #[test]
    fn patterns_of_several_files_are_named() {
        let file = |value: &str| {
            format!("domain: d\ndescriptors: [{{key: a, value: \"{value}\", {LIMIT}}}]")
        };
        check(
            &[&file("x*"), &file("y*")],
            &["domain 'd' has patterns (*) at its top in 0.yaml and 1.yaml"],
        );
        check(&[&file("x*"), &file("y")], &[]);
    }

    #[test]
    fn words_of_ours_are_named() {
        let text = "domain: d\ndescriptors:\n- {key: a, on_store_failure: deny, rate_limit: [{unit: day, requests_per_unit: 5, unit_multiplier: 2, hits: prepaid}, {unit: hour, requests_per_unit: 5}]}";
        check(
            &[text],
            &[
                "0.yaml:3: envoyproxy/ratelimit rejects the file because of a list of limits, unit_multiplier, hits, on_store_failure",
            ],
        );
        let text = "domain: d\ndescriptors: [{key: a, rate_limit: {unit: day, requests_per_unit: 5, burst: 9, algorithm: token_bucket}}]";
        check(&[text], &["1 limits", "because of burst;"]);
        let text = "domain: d\ndescriptors:\n- {key: a, rate_limit: {unlimited: true}, candidate: {unit: day, requests_per_unit: 5}}";
        check(
            &[text],
            &["0.yaml:3: envoyproxy/ratelimit rejects the file because of candidate;"],
        );
    }
}
