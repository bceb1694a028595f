//! Warnings about input that is valid and probably unintended, for the command `check`.

use super::mistake::{Mistake, Position};
use super::pattern::{self, is_wildcard};
use super::spelling::shown;
use super::tree::{Domain, Level, Node, composite};
use super::{Limits, RuleSet};

/// Replaces `*` in a pattern that is matched like a value; no value in a configuration contains it.
const ANY_TEXT: &str = "\u{10fffe}";

/// Maximum number of patterns among siblings that are compared with each other, which bounds the time.
const MAX_COMPARED: usize = 2_000;

/// Returns all warnings in the order of files and lines.
pub(super) fn lints(rules: &RuleSet) -> Vec<Mistake> {
    let mut lints = Vec::new();
    for domain in rules.domains() {
        for node in domain.nodes() {
            lints.extend(regular_expression(node));
            lints.extend(repeated_limit(node));
        }
        shadowed(domain, domain.root(), &mut lints);
    }
    lints.sort();
    lints
}

fn lint(node: &Node, what: String, advice: String) -> Mistake {
    Mistake {
        file: node.file.to_string(),
        position: Position::Text {
            line: node.line,
            column: 1,
        },
        what,
        advice,
    }
}

// --- Values that look like regular expressions ---

fn regular_expression(node: &Node) -> Option<Mistake> {
    let suspect = [Some(&node.key), node.value.as_ref()]
        .into_iter()
        .flatten()
        .find(|text| is_like_regex(text))?;
    let what = format!(
        "'{}' looks like a regular expression, but is compared literally: only * has a meaning, any text",
        shown(suspect)
    );
    let advice = "write the text with * for what may vary, or have Envoy match the expression and send a fixed value \
                  (header_value_match)";
    Some(lint(node, what, advice.to_owned()))
}

/// Whether a text contains syntax of regular expressions that does not occur in keys, paths, hosts and addresses.
fn is_like_regex(text: &str) -> bool {
    let is_anchored = text.len() > 1 && (text.starts_with('^') || text.ends_with('$'));
    let has_escape = text.as_bytes().windows(2).any(|pair| {
        pair[0] == b'\\'
            && matches!(
                pair[1],
                b'd' | b'D' | b'w' | b'W' | b's' | b'S' | b'b' | b'.' | b'/'
            )
    });
    // "10.0.*" and "api.*" are usual patterns; ".*" and "/api/.*" are probably regular expressions.
    let has_any = text.starts_with(".*")
        || text.contains("/.*")
        || text.contains(".+")
        || text.contains("(.*");
    is_anchored || has_escape || has_any || has_class(text) || has_choice(text)
}

/// Whether a text contains a class with a range or a negation, such as `[a-z]`, `[0-9]+` or `[^/]*`.
fn has_class(text: &str) -> bool {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('[') {
        let Some((class, after)) = after.split_once(']') else {
            return false;
        };
        let is_repeated = after.starts_with(['+', '*', '{']);
        let has_range = ["a-z", "A-Z", "0-9"]
            .iter()
            .any(|range| class.contains(range));
        if has_range || (class.starts_with('^') && is_repeated) {
            return true;
        }
        rest = after;
    }
    false
}

/// Whether a text contains a group, such as `(a|b)` or `(?:...)`.
fn has_choice(text: &str) -> bool {
    let Some((_, after)) = text.split_once('(') else {
        return false;
    };
    let inside = after.split_once(')').map(|(inside, _)| inside);
    inside.is_some_and(|inside| inside.contains('|') || inside.starts_with("?:"))
}

// --- The same limit twice ---

fn repeated_limit(node: &Node) -> Option<Mistake> {
    let Limits::Limited(limits) = &node.rule()?.limits else {
        return None;
    };
    let is_same = |i: usize| {
        let limit = &limits[i];
        limits[..i].iter().any(|other| {
            (
                other.requests_per_unit,
                other.unit,
                other.unit_multiplier,
                other.burst,
                other.algorithm,
            ) == (
                limit.requests_per_unit,
                limit.unit,
                limit.unit_multiplier,
                limit.burst,
                limit.algorithm,
            )
        })
    };
    (1..limits.len()).any(is_same).then(|| {
        lint(
            node,
            "two limits of this rate_limit are the same, so that one of them has no effect"
                .to_owned(),
            "remove one of them".to_owned(),
        )
    })
}

// --- Rules that no request reaches ---

/// Finds children that no entry reaches because an earlier pattern matches all of their entries.
fn shadowed(domain: &Domain, level: &Level, lints: &mut Vec<Mistake>) {
    let nodes: Vec<&Node> = level
        .nodes()
        .into_iter()
        .map(|id| domain.node(id))
        .collect();
    let patterns: Vec<&Node> = nodes
        .iter()
        .copied()
        .filter(|node| node.is_wildcard())
        .take(MAX_COMPARED)
        .collect();
    for &node in &nodes {
        if let Some(below) = &node.children {
            shadowed(domain, below, lints);
        }
        // An exact key and value are always matched first, and a key alone after all patterns.
        let is_bare = node.value.is_none() && !is_wildcard(&node.key);
        if !node.is_wildcard() && !is_bare {
            continue;
        }
        let is_earlier = |other: &&&Node| is_bare || other.path < node.path;
        let first = patterns
            .iter()
            .take_while(|other| is_bare || !std::ptr::eq(**other, node))
            .filter(is_earlier)
            .find(|other| covers(other, node));
        if let Some(first) = first {
            lints.push(shadow(node, first));
        }
    }
}

fn shadow(node: &Node, first: &Node) -> Mistake {
    let name = |node: &Node| shown(&composite(&node.key, node.value.as_deref()));
    let (place, first_name) = (format!("{}:{}", first.file, first.line), name(first));
    let what = match covers(node, first) {
        true => format!(
            "'{}' matches the same as '{first_name}' at {place}, which comes first: no request reaches this descriptor",
            name(node)
        ),
        false => format!(
            "no request reaches '{}': all that it matches is matched by '{first_name}' at {place} before it",
            name(node)
        ),
    };
    let advice = match is_wildcard(&node.key) || node.value.is_some() {
        true => {
            "of several patterns the first that matches is taken: move this one before that, or remove it"
        }
        false => "a key alone is for values that no pattern matches: remove one of them",
    };
    lint(node, what, advice.to_owned())
}

/// Whether the pattern `wide` matches every entry that `narrow` matches.
fn covers(wide: &Node, narrow: &Node) -> bool {
    let includes =
        |wide: &str, narrow: &str| pattern::matches(wide, narrow.replace('*', ANY_TEXT).as_bytes());
    let value = match (&wide.value, &narrow.value) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => includes(wide, narrow),
        (Some(wide), None) => wide.bytes().all(|byte| byte == b'*'),
    };
    value && includes(&wide.key, &narrow.key)
}

#[cfg(test)]
mod tests {
    use crate::tests::rules;

    fn lints(descriptors: &str) -> Vec<String> {
        let limit = "rate_limit: {unit: day, requests_per_unit: 1}";
        let text = format!("domain: d\ndescriptors:\n{descriptors}").replace("LIMIT", limit);
        rules(&text)
            .lints()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn what_looks_like_a_regular_expression() {
        for value in [
            "^/api",
            "/api$",
            ".*",
            "/api/.*",
            "/users/[0-9]+",
            "/users/\\\\d+",
            "a\\\\.b",
            "(get|post)",
            "[^/]+",
            "/v.+",
            "^$",
            "x(?:a)y",
        ] {
            let found = lints(&format!("- {{key: k, value: \"{value}\", LIMIT}}"));
            assert_eq!(found.len(), 1, "{value}: {found:?}");
            assert!(found[0].starts_with("a.yaml:3:1: '"), "{found:?}");
            assert!(
                found[0].contains("looks like a regular expression"),
                "{found:?}"
            );
        }
        for value in [
            "/api/*",
            "10.0.*",
            "api.*",
            "*.example.com",
            "$",
            "^",
            "a|b",
            "f(x)",
            "user[1]",
            "[::1]",
            "price-$5",
            "a+b@example.com",
            "1.5",
            "/a.b/c",
            "GET",
            "*",
            "C:\\\\temp",
        ] {
            let found = lints(&format!("- {{key: k, value: \"{value}\", LIMIT}}"));
            assert!(found.is_empty(), "{value}: {found:?}");
        }
    }

    #[test]
    fn rules_that_an_earlier_pattern_keeps_all_requests_from() {
        for (first, second, is_shadowed) in [
            ("value: a*", "value: ab*", true),
            ("value: ab*", "value: a*", false),
            ("value: a*c", "value: a*bc", true),
            ("value: a*", "value: a**", true),
            ("value: '*'", "value: x*", true),
            ("value: a*b*", "value: a*b", true),
            ("value: a*b", "value: a*b*", false),
            // An exact value is matched first wherever it is in the file, and a key alone last.
            ("value: a*", "value: abc", false),
            ("value: a*", "shadow_mode: false", false),
            ("value: '*'", "shadow_mode: false", true),
        ] {
            let found = lints(&format!(
                "- {{key: k, {first}, LIMIT}}\n- {{key: k, {second}, LIMIT}}"
            ));
            assert_eq!(
                found.len(),
                usize::from(is_shadowed),
                "{first}, {second}: {found:?}"
            );
            if is_shadowed {
                assert!(found[0].starts_with("a.yaml:4:1: "), "{found:?}");
                assert!(found[0].contains("at a.yaml:3"), "{found:?}");
            }
        }
        // A pattern also shadows a key alone that is before it in the file.
        let found = lints("- {key: k, LIMIT}\n- {key: k, value: '*', LIMIT}");
        assert!(
            found.len() == 1 && found[0].starts_with("a.yaml:3:1: "),
            "{found:?}"
        );
        let found =
            lints("- {key: 'k*', LIMIT}\n- {key: 'ka*', value: 'b*', LIMIT}\n- {key: 'j*', LIMIT}");
        assert!(
            found.len() == 1 && found[0].starts_with("a.yaml:4:1: "),
            "{found:?}"
        );
        // The same below the top, with another message for equivalent patterns.
        let found = lints(
            "- key: top\n  descriptors:\n  - {key: k, value: 'a*', LIMIT}\n  - {key: k, value: 'a**', LIMIT}",
        );
        assert!(
            found.len() == 1 && found[0].contains("matches the same as 'k_a*'"),
            "{found:?}"
        );
    }

    #[test]
    fn a_limit_that_is_there_twice() {
        let found = lints(
            "- {key: k, rate_limit: [{unit: day, requests_per_unit: 5}, {unit: day, requests_per_unit: 5, name: n}]}\n\
             - {key: l, rate_limit: [{unit: day, requests_per_unit: 5}, {unit: hour, requests_per_unit: 5}]}",
        );
        assert!(
            found.len() == 1 && found[0].contains("are the same"),
            "{found:?}"
        );
    }
}
