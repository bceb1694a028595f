//! What would take too much stack, memory or time.

use super::check;
use crate::LoadOptions;
use crate::tests::{mistakes, rules};

#[test]
fn nesting() {
    let levels = |n: usize| {
        let mut text = "domain: d\ndescriptors:\n".to_owned();
        for level in 0..n {
            let indent = " ".repeat(level * 2);
            text += &format!("{indent}- key: k\n{indent}  descriptors:\n");
        }
        text
    };
    rules(&levels(64));
    let text = levels(64) + &" ".repeat(128) + "- key: k\n";
    let (above, below) = text.rsplit_once("key").unwrap();
    check(
        &format!("{above}§key{below}"),
        "descriptors are nested deeper than 64 levels; a descriptor with so many entries cannot",
    );
    for hostile in [
        "[".repeat(1_000_000),
        "{a: ".repeat(3_000),
        "- ".repeat(100_000),
        "? ".repeat(9_999),
    ] {
        let found = mistakes(&[("a.yaml", &hostile)], LoadOptions::default());
        assert!(
            found[0].contains("nested deeper than 256 levels"),
            "{found:?}"
        );
    }
}

#[test]
fn aliases_that_explode() {
    let mut text = "domain: d\na0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..30 {
        let aliases = vec![format!("*a{}", i - 1); 9].join(", ");
        text += &format!("a{i}: &a{i} [{aliases}]\n");
    }
    let found = mistakes(&[("a.yaml", &text)], LoadOptions::default());
    assert!(found[0].contains("excessive aliasing"), "{found:?}");
}

/// Small files whose aliases stand for very much: what they may stand for grows with the file.
#[test]
fn aliases_that_stand_for_many_descriptors() {
    use std::fmt::Write as _;

    let mut text = "domain: d\ndescriptors:\n- key: first\n  descriptors: &list\n".to_owned();
    for i in 0..1_000 {
        let _ = writeln!(text, "  - {{key: a{i}}}");
    }
    for i in 0..500 {
        let _ = writeln!(text, "- {{key: k{i}, descriptors: *list}}");
    }
    let found = mistakes(&[("a.yaml", &text)], LoadOptions::default());
    assert!(found[0].contains("excessive aliasing"), "{found:?}");
    // One limit for very many descriptors is what aliases are for.
    let mut text = "domain: d\ndescriptors:\n".to_owned();
    for i in 0..20_000 {
        let limit = match i {
            0 => "&limit {unit: second, requests_per_unit: 1000, burst: 5000, name: default}",
            _ => "*limit",
        };
        let _ = writeln!(text, "- {{key: key, value: value{i}, rate_limit: {limit}}}");
    }
    assert_eq!(rules(&text).rules().len(), 20_000);
}

#[test]
fn mistakes_are_counted_up_to_a_bound() {
    let of = |count: usize| {
        let text = "- {value: a}\n".repeat(count);
        mistakes(
            &[("a.yaml", &format!("domain: d\ndescriptors:\n{text}"))],
            LoadOptions::default(),
        )
    };
    assert_eq!(of(100).len(), 100);
    assert_eq!(of(101).last().unwrap(), "... and 1 more");
    assert_eq!(of(101).len(), 101);
    assert_eq!(of(999).last().unwrap(), "... and 899 more");
    for many in [1_000, 100_000] {
        assert_eq!(of(many).last().unwrap(), "... and at least 900 more");
    }
    // In the YAML itself, too.
    let text = format!("domain: d\ndescriptors: []\n{}", "<<: a\n".repeat(100_000));
    let found = mistakes(&[("a.yaml", &text)], LoadOptions::default());
    assert_eq!(found.last().unwrap(), "... and at least 900 more");
}
