//! Every mistake that one file can have. The sign § in a text is no part of it: it stands where the
//! mistake must be reported.

mod excess;
mod ours;
mod reference;

use super::{mistakes, rules};
use crate::LoadOptions;

/// The text without its mark, and the place of the mark.
fn marked(text: &str) -> (String, String) {
    let at = text.find('§').expect("the text has a mark");
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
    (
        text.replacen('§', "", 1),
        format!("a.yaml:{line}:{column}: "),
    )
}

fn check_with(options: LoadOptions, text: &str, what: &str) {
    let (text, place) = marked(text);
    let found = mistakes(&[("a.yaml", &text)], options);
    assert_eq!(found.len(), 1, "{found:#?}\n{text}");
    assert!(
        found[0].starts_with(&(place.clone() + what)),
        "{}\nis not\n{place}{what}",
        found[0]
    );
}

/// `text` is a file with exactly one mistake, whose message begins with `what`.
fn check(text: &str, what: &str) {
    check_with(LoadOptions::default(), text, what);
}

/// `text` is a file with an error that is ignored with a warning by default, and rejected in strict mode.
fn check_ignored(text: &str, what: &str) {
    let strict = LoadOptions {
        strict: true,
        ..LoadOptions::default()
    };
    check_with(strict, text, what);
    let (text, place) = marked(text);
    let rules = rules(&text);
    let warnings: Vec<_> = rules.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:#?}\n{text}");
    assert!(warnings[0].starts_with(&(place + what)), "{}", warnings[0]);
}

/// The same for the contents of a descriptor whose key is `k`, indented by four.
fn check_descriptor(body: &str, what: &str) {
    check(
        &format!("domain: d\ndescriptors:\n  - key: k\n    {body}"),
        what,
    );
}

/// The same for the contents of a `rate_limit` of 5 per second.
fn check_limit(body: &str, what: &str) {
    check_descriptor(
        &format!("rate_limit: {{unit: second, requests_per_unit: 5, {body}}}"),
        what,
    );
}
