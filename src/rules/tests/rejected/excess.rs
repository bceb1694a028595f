//! What would take too much stack, memory or time.

use super::check;
use crate::rules::LoadOptions;
use crate::rules::tests::{mistakes, rules};

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
