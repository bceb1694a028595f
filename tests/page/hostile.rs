//! Whatever clients send and rules are called, it is shown as text, and harms nobody.

use serde_json::json;

use super::{PHONE, VIEWS, go, server, stores, visit};
use crate::support::{Browser, ask};

/// What would be noticed, were it taken for more than text.
const SCRIPT: &str = "<script>window.harmed=1</script>";
const IMAGE: &str = "\"><img src=x onerror=window.harmed=2>";
const REVERSED: &str = "\u{202e}txt.exe\u{202c}\u{200f}";

fn rules() -> String {
    format!(
        "domain: {}\ndescriptors:\n  - key: {}\n    rate_limit: {{unit: day, requests_per_unit: 1, name: {}}}\n  \
         - key: client\n    rate_limit: {{unit: day, requests_per_unit: 1}}\n  \
         - key: {}\n    rate_limit: {{unit: day, requests_per_unit: 1}}\n",
        json!(SCRIPT),
        json!(IMAGE),
        json!(REVERSED),
        json!("k".repeat(900)),
    )
}

#[test]
fn hostile_values_are_shown_harmlessly() {
    let long = "z".repeat(1500);
    for backend in stores() {
        let server = server(&rules(), &backend, &[]);
        for value in [SCRIPT, IMAGE, REVERSED, long.as_str(), "\u{0}\u{1b}[31m\n"] {
            for _ in 0..3 {
                let mut request = ask(SCRIPT, &["client=x"]);
                request.descriptors[0].entries[0].value = value.into();
                let _ = server.ask(request).unwrap();
            }
        }
        let browser = visit("hostile", &server, "overview");
        browser.resize(PHONE.0, PHONE.1);
        browser.wait("document.querySelectorAll('#most-denied tbody tr').length === 5");
        for view in VIEWS {
            go(&browser, view);
            harmless(&browser, view);
        }
        go(&browser, "rules");
        browser
            .wait("document.getElementById('rules-tree').textContent.includes('window.harmed=1')");
        harmless(&browser, "rules with rules");
        go(&browser, "top");
        browser.wait("document.querySelectorAll('#top-denied tbody tr').length === 5");
        let told = browser.text("#top-denied");
        assert!(
            told.contains("client=<script>window.harmed=1</script>")
                || told.contains("window.harmed=1"),
            "{told}"
        );
        let unseen = [
            '\u{200b}'..='\u{200f}',
            '\u{202a}'..='\u{202e}',
            '\u{2060}'..='\u{206f}',
        ];
        let hidden = told
            .chars()
            .find(|c| c.is_control() || unseen.iter().any(|range| range.contains(c)));
        assert_eq!(hidden, None, "{told}");
        assert!(told.contains("more characters"), "{told}");
        browser.picture("top");
        // Each leads to its bucket, whatever is in its name; but a name that was shortened tells no bucket.
        for row in 1..=5 {
            go(&browser, "top");
            browser.wait("document.querySelectorAll('#top-denied tbody tr').length === 5");
            browser.click(&format!("#top-denied tbody tr:nth-child({row}) a"));
            browser.wait(
                "document.querySelector('#buckets .number')?.textContent === '0'
                 || document.getElementById('bucket-error').textContent.includes('hash')",
            );
            harmless(&browser, "bucket");
        }
        for value in [SCRIPT, IMAGE, REVERSED, long.as_str()] {
            go(&browser, "explain");
            browser.run_with(
                "document.getElementById('explain-domain').value = arguments[0];
                 document.getElementById('explain-descriptor').value = arguments[1];",
                &[json!(SCRIPT), json!(format!("client={}", typed(value)))],
            );
            browser.click("#explain-form button");
            browser
                .wait("document.querySelector('#explanation h3')?.textContent.startsWith('Rule')");
            harmless(&browser, "explain");
        }
        // The browser itself notes that a bucket of a shortened name is not told.
        let complaints = browser.complaints();
        let expected = |line: &String| line.contains("%25sha256") && line.contains("400");
        assert!(complaints.iter().all(expected), "{complaints:?}");
    }
}

/// As it is typed in a descriptor.
fn typed(value: &str) -> String {
    let mut typed = String::new();
    for c in value.chars() {
        if matches!(c, '\\' | '=' | ',') {
            typed.push('\\');
        }
        typed.push(c);
    }
    typed
}

/// Nothing ran, nothing was made of it, and nothing is wider than the screen.
fn harmless(browser: &Browser, view: &str) {
    let found = browser.run(
        "return {
            harmed: window.harmed ?? null,
            made: document.querySelectorAll('img, iframe, script:not([src=\"page/main.js\"])').length,
            wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
        }",
    );
    assert_eq!(
        found,
        json!({"harmed": null, "made": 0, "wide": false}),
        "{view}"
    );
}
