//! With ten thousand rules the page stays as quick as with ten.

use std::fmt::Write as _;

use super::{go, is_silent, server, visit};
use crate::support::Backend;

/// The most elements of the whole page.
const MOST_ELEMENTS: u64 = 10_000;

#[test]
fn ten_thousand_rules_are_searched_and_leafed_through() {
    let mut rules = "domain: shop\ndescriptors:\n".to_owned();
    for service in 0..100 {
        let _ = write!(
            rules,
            "  - key: service\n    value: s{service:02}\n    descriptors:\n"
        );
        for path in 0..100 {
            let _ = write!(
                rules,
                "      - key: path\n        value: /p{service:02}{path:02}\n        \
                 rate_limit: {{unit: day, requests_per_unit: {}}}\n",
                path + 1
            );
        }
    }
    let server = server(&rules, &Backend::Memory, &[]);
    let browser = visit("many", &server, "rules");
    browser.wait_for_text("#rules-count", "10,000 rules; 1 to 200 are shown");
    let elements = browser.run("return document.querySelectorAll('*').length");
    assert!(elements.as_u64().unwrap() < MOST_ELEMENTS, "{elements}");
    browser.picture("first");

    browser.click("#rules-after");
    browser.wait_for_text("#rules-count", "10,000 rules; 201 to 400 are shown");
    browser.wait("document.getElementById('rules-tree').textContent.includes('/p0200')");
    browser.click("#rules-before");
    browser.wait_for_text("#rules-count", "10,000 rules; 1 to 200 are shown");
    browser.wait("document.getElementById('rules-before').disabled");

    browser.fill("#rules-search", "PATH_/P4217");
    browser.wait_for_text("#rules-count", "1 rule matches");
    let names = "return [...document.querySelectorAll('#rules-tree .name')].map((name) => name.textContent)";
    let names = browser.run(names);
    assert_eq!(
        names,
        serde_json::json!(["shop", "service_s42", "path_/p4217"])
    );
    browser.wait("document.getElementById('rules-pager').hidden");
    browser.fill("#rules-search", "no such rule");
    browser.wait_for_text("#rules-count", "0 rules match");
    browser.fill("#rules-search", "service_s42");
    browser.wait_for_text("#rules-count", "100 rules match");

    // What somebody closes stays closed, however often the counts come in.
    browser.click("#rules-tree summary");
    browser.wait("!document.querySelector('#rules-tree details').open");
    let asked = "performance.getEntriesByType('resource').filter(({ name }) => name.includes('v1/rules')).length";
    let before = browser.run(&format!("return {asked}"));
    browser.wait(&format!("{asked} >= {before} + 2"));
    assert_eq!(
        browser.run("return document.querySelector('#rules-tree details').open"),
        false
    );
    // What is found by another question is in sight nevertheless.
    browser.fill("#rules-search", "e_s42.path");
    browser.wait("document.querySelector('#rules-tree details').open");

    go(&browser, "configuration");
    browser.wait(
        "document.getElementById('more-limits').textContent.startsWith('and 9,600 more lines')",
    );
    is_silent(&browser);
}
