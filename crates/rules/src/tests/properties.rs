//! What holds for any text, any tree and any descriptor.

use std::fmt::Write as _;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::files;
use crate::{End, LoadOptions, Mistake, Position, RuleSet};

/// A node as it is written, for a matcher that knows nothing but the rules of matching.
#[derive(Debug, Clone)]
struct Spec {
    key: String,
    value: Option<String>,
    has_limit: bool,
    children: Vec<Spec>,
}

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let parts = ("[ab*]{1,3}", option::of("[ab*]{1,3}"), any::<bool>());
    let leaf = parts.prop_map(|(key, value, has_limit)| Spec {
        key,
        value,
        has_limit,
        children: Vec::new(),
    });
    let level = leaf.prop_recursive(2, 40, 8, |inner| {
        let parts = (
            "[ab*]{1,3}",
            option::of("[ab*]{1,3}"),
            any::<bool>(),
            vec(inner, 0..8),
        );
        parts.prop_map(|(key, value, has_limit, children)| Spec {
            key,
            value,
            has_limit,
            children,
        })
    });
    vec(level, 0..12).prop_map(|mut level| {
        without_duplicates(&mut level);
        level
    })
}

fn without_duplicates(level: &mut Vec<Spec>) {
    let mut seen = std::collections::HashSet::new();
    level.retain(|spec| seen.insert((spec.key.clone(), spec.value.clone())));
    level
        .iter_mut()
        .for_each(|spec| without_duplicates(&mut spec.children));
}

fn write_level(level: &[Spec], indent: usize, text: &mut String) {
    for Spec {
        key,
        value,
        has_limit,
        children,
    } in level
    {
        let pad = " ".repeat(indent);
        let _ = writeln!(text, "{pad}- key: '{key}'");
        if let Some(value) = value {
            let _ = writeln!(text, "{pad}  value: '{value}'");
        }
        if *has_limit {
            let _ = writeln!(text, "{pad}  rate_limit: {{unit: day}}");
        }
        if !children.is_empty() {
            let _ = writeln!(text, "{pad}  descriptors:");
            write_level(children, indent + 4, text);
        }
    }
}

fn text_of(level: &[Spec]) -> String {
    let mut text = "domain: d\ndescriptors:\n".to_owned();
    write_level(level, 2, &mut text);
    text
}

fn fits(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => (0..=text.len()).any(|skip| fits(&pattern[1..], &text[skip..])),
        Some(c) => text.starts_with(c) && fits(&pattern[1..], &text[1..]),
    }
}

/// The path of the rule, by the letter: exact, else the first wildcard, else the bare key.
fn naive(level: &[Spec], entries: &[(String, String)]) -> Option<String> {
    let ((key, value), rest) = entries.split_first()?;
    let is_wild = |spec: &&Spec| format!("{}{:?}", spec.key, spec.value).contains('*');
    let matches = |spec: &&Spec| {
        fits(&spec.key, key)
            && spec
                .value
                .as_ref()
                .is_none_or(|pattern| fits(pattern, value))
    };
    let exact = level
        .iter()
        .find(|spec| spec.key == *key && spec.value.as_ref() == Some(value));
    let wild = || level.iter().filter(is_wild).find(matches);
    let bare = || {
        level
            .iter()
            .find(|spec| spec.key == *key && spec.value.is_none())
    };
    let spec = exact.or_else(wild).or_else(bare)?;
    let own = spec
        .value
        .as_ref()
        .map_or(spec.key.clone(), |value| format!("{}_{value}", spec.key));
    if rest.is_empty() {
        return spec.has_limit.then_some(own);
    }
    naive(&spec.children, rest).map(|below| format!("{own}.{below}"))
}

fn some_yaml() -> impl Strategy<Value = String> {
    let words = prop_oneof![
        Just("domain"),
        Just("descriptors"),
        Just("key"),
        Just("value"),
        Just("rate_limit"),
        Just("unit"),
        Just("replaces"),
        Just("metadata"),
        Just("name"),
        Just("burst"),
        Just("<<"),
        Just("second"),
        Just("5"),
        Just("true"),
        Just("~"),
        Just("1.5"),
        Just(": "),
        Just("- "),
        Just("\n"),
        Just("\n  "),
        Just("\n    "),
        Just("["),
        Just("]"),
        Just("{"),
        Just("}"),
        Just(", "),
        Just("&a "),
        Just("*a "),
        Just("\""),
        Just("'"),
        Just("|"),
        Just(">"),
        Just("#"),
        Just("!!str "),
        Just("---\n"),
        Just("...\n"),
        Just("? "),
        Just("\t"),
        Just("\u{feff}"),
        Just("%TAG "),
        Just("!x!y "),
        Just("\r"),
    ];
    vec(words, 0..60).prop_map(|words| words.concat())
}

fn load(text: &str) -> Result<RuleSet, crate::Mistakes> {
    RuleSet::load(&files(&[("a.yaml", text)]), LoadOptions::default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_text_makes_loading_panic(text in any::<String>()) {
        let _ = load(&text);
    }

    #[test]
    fn no_yaml_makes_loading_panic(text in some_yaml()) {
        if let Err(mistakes) = load(&text) {
            prop_assert!(!mistakes.as_slice().is_empty());
            prop_assert!(mistakes.as_slice().is_sorted());
            // As editors count: one more line than line feeds, unless only carriage returns break.
            let lines = text.split(['\n', '\r']).count() + 1;
            let is_inside = |mistake: Mistake| matches!(
                mistake.position,
                Position::Text { line, column } if line <= lines && column >= 1
            );
            prop_assert!(mistakes.into_iter().all(is_inside));
        }
    }

    #[test]
    fn matching_is_by_the_letter(
        level in specs(),
        descriptors in vec(vec(("[ab*]{1,3}", "[ab*]{0,3}"), 0..4), 20),
    ) {
        let rules = load(&text_of(&level)).map_err(|m| TestCaseError::fail(m.to_string()))?;
        let domain = rules.domain("d").unwrap();
        for entries in descriptors {
            let borrowed: Vec<_> = entries.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let found = domain.find(borrowed.iter().copied());
            let expected = naive(&level, &entries).map(|path| format!("d.{path}"));
            prop_assert_eq!(found.map(|found| found.rule.path.clone()), expected.clone());
            prop_assert!(found.is_none_or(|found| found.nodes.len() == entries.len()));
            let traced = match rules.trace("d", &borrowed).end {
                End::Rule { path, .. } => Some(path),
                _ => None,
            };
            prop_assert_eq!(traced, expected);
        }
    }
}
