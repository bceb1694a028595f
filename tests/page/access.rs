//! The page for those who have a keyboard alone, a small screen, a screen reader, or the dark.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::numbers::send;
use super::{DESK, PHONE, VIEWS, go, is_silent, server, visit};
use crate::support::{Backend, Browser, Key, Ratekeeper, Redis, root};

const RULES: &str = "
domain: shop
descriptors:
  - key: client
    rate_limit: {unit: day, requests_per_unit: 10}
    descriptors:
      - key: path
        shadow_mode: true
        rate_limit: {unit: day, requests_per_unit: 3}
  - key: other
    rate_limit: {unlimited: true}
";

/// The views with something in them.
const FILLED: [&str; 6] = [
    "overview",
    "rules",
    "top",
    "bucket?domain=shop&descriptor=client%3Dalice",
    "explain?domain=shop&descriptor=client%3Dalice",
    "configuration",
];

fn busy_server() -> Ratekeeper {
    let server = server(RULES, &Backend::Memory, &[("ADMIN_TOKEN", "swordfish")]);
    send(
        &server,
        &[("client=alice", 12), ("client=alice,path=/x", 5)],
    );
    server
}

#[test]
fn no_rule_of_accessibility_is_broken() {
    let server = busy_server();
    let browser = visit("access", &server, "overview");
    for (size, (width, height)) in [("phone", PHONE), ("desk", DESK)] {
        browser.resize(width, height);
        for scheme in ["light", "dark"] {
            browser.prefer(&[("prefers-color-scheme", scheme)]);
            for view in FILLED {
                go(&browser, view);
                filled(&browser, view);
                let name = view.split('?').next().unwrap();
                is_accessible(&browser, &format!("{name} ({size}, {scheme})"));
                let fits =
                    "document.documentElement.scrollWidth <= document.documentElement.clientWidth";
                assert_eq!(browser.run(&format!("return {fits}")), true, "{view}");
                browser.picture(&format!("{size}-{scheme}-{name}"));
            }
        }
    }
    is_silent(&browser);
}

#[test]
fn trouble_is_accessible_too() {
    let redis = Redis::start();
    let environment = [
        ("REDIS_URL", redis.url()),
        ("REDIS_TIMEOUT", "100ms".to_owned()),
    ];
    let server = Ratekeeper::start(RULES, environment);
    let browser = visit("trouble", &server, "overview");
    redis.pause();
    let _traffic = super::Traffic::start(&server, "shop", &["client=alice"]);
    browser.wait("document.getElementById('banner').textContent !== ''");
    for scheme in ["light", "dark"] {
        browser.prefer(&[("prefers-color-scheme", scheme)]);
        is_accessible(&browser, scheme);
    }
    redis.resume();
}

/// Waits until a view shows what there is.
fn filled(browser: &Browser, view: &str) {
    browser.wait(match view.split('?').next().unwrap() {
        "overview" => "document.querySelector('#most-denied tbody tr')",
        "rules" => "document.querySelector('#rules-tree .rule')",
        "top" => "document.querySelector('#top-denied tbody tr')",
        "bucket" => {
            "document.querySelector('#buckets .change') && document.getElementById('token')"
        }
        "explain" => "document.querySelector('#explanation h3')",
        _ => "document.getElementById('limits').textContent !== ''",
    });
}

/// Checks the page by the rules of WCAG 2.2, AA, and what is called good practice.
fn is_accessible(browser: &Browser, what: &str) {
    if browser.run("return typeof window.axe") == "undefined" {
        browser.run(&fs::read_to_string(axe()).unwrap());
    }
    let found = browser.run_until_called(
        "const done = arguments[0];
         axe.run(document, { resultTypes: ['violations'] }).then(
             ({ violations, passes }) => done({
                 violations: violations.map(({ id, nodes }) =>
                     [id, nodes.map(({ html, failureSummary }) => [html.slice(0, 200), failureSummary])]),
                 passes: passes.length,
             }),
             (error) => done({ violations: [String(error)], passes: 0 }));",
    );
    assert_eq!(found["violations"], json!([]), "{what}: {found:#}");
    assert!(found["passes"].as_u64().unwrap() > 20, "{what}: {found}");
}

/// The checks, as tests/setup installs them.
fn axe() -> PathBuf {
    let library = root().join("target/test-tools/venv/lib");
    let pythons = fs::read_dir(&library).expect("tests/setup was run");
    pythons
        .map(|python| {
            python
                .unwrap()
                .path()
                .join("site-packages/axe_playwright_python/axe.min.js")
        })
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("axe is not in {}: run tests/setup", library.display()))
}

/// Where the focus is, and whether it can be seen there.
fn focus(browser: &Browser) -> (String, bool) {
    let at = browser.run(
        "const at = document.activeElement;
         const { outlineStyle, outlineWidth } = getComputedStyle(at);
         const { width, height } = at.getBoundingClientRect();
         return [at.id || at.dataset.path || at.textContent.trim().slice(0, 40),
             outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 && width > 0 && height > 0];",
    );
    let (name, seen): (String, bool) = serde_json::from_value(at).unwrap();
    (name, seen)
}

/// Presses Tab until the focus is there; every stop on the way can be seen.
fn tab_to(browser: &Browser, wanted: &str) {
    let mut stops = Vec::new();
    for _ in 0..40 {
        browser.press(Key::Tab);
        let (name, is_seen) = focus(browser);
        assert!(is_seen, "the focus on {name:?} cannot be seen");
        if name.starts_with(wanted) {
            return;
        }
        stops.push(name);
    }
    panic!("{wanted:?} is not reached by {stops:?}");
}

#[test]
fn a_keyboard_is_enough() {
    let server = busy_server();
    let browser = visit("keyboard", &server, "overview");
    // An address that names a view would have the focus begin there.
    browser.open(&format!("http://{}/?", server.debug().address()));
    browser.wait("document.querySelector('#most-denied tbody tr')");
    browser.press(Key::Tab);
    assert_eq!(focus(&browser).0, "Skip to the content");
    browser.press(Key::Enter);
    assert_eq!(focus(&browser).0, "content");
    browser.press(Key::BackTab);
    assert_eq!(focus(&browser).0, "Configuration");

    // To the rules, and into the tree.
    browser.open(&format!("http://{}/", server.debug().address()));
    tab_to(&browser, "Rules");
    browser.press(Key::Enter);
    browser.wait("document.activeElement.id === 'rules-title'");
    browser.wait("document.querySelector('#rules-tree .rule')");
    tab_to(&browser, "rules-search");
    browser.type_text("path");
    browser.wait_for_text("#rules-count", "1 rule matches");
    tab_to(&browser, "shop");
    tab_to(&browser, "client");
    tab_to(&browser, "path");
    browser.press(Key::Enter);
    browser.wait("document.activeElement.parentElement.open");
    tab_to(&browser, "Explain a descriptor");
    browser.press(Key::Enter);
    browser.wait("!document.getElementById('explain').hidden");

    // A descriptor is explained and its bucket reset without a mouse.
    browser.wait("document.getElementById('explain-domain').value === 'shop'");
    browser.run("document.getElementById('explain-title').focus()");
    tab_to(&browser, "explain-descriptor");
    browser.run("document.getElementById('explain-descriptor').select()");
    browser.type_text("client=alice");
    browser.press(Key::Enter);
    browser.wait("document.querySelector('#explanation .limits a')");
    tab_to(&browser, "rk:shop");
    browser.press(Key::Enter);
    browser.wait("document.querySelector('#buckets .number')?.textContent === '0'");
    tab_to(&browser, "token");
    browser.type_text("swordfish");
    tab_to(&browser, "Reset");
    browser.press(Key::Space);
    browser.wait("document.querySelector('#buckets .number').textContent === '10'");
    is_silent(&browser);
}

#[test]
fn nothing_moves_for_those_who_do_not_like_it() {
    let server = busy_server();
    let browser = visit("still", &server, "overview");
    let moves = || {
        browser
            .run("return getComputedStyle(document.querySelector('.bar rect')).transitionDuration")
    };
    go(&browser, FILLED[3]);
    filled(&browser, FILLED[3]);
    assert_ne!(moves(), "0s");
    browser.prefer(&[("prefers-reduced-motion", "reduce")]);
    assert_eq!(moves(), "0s");
}

#[test]
fn the_page_is_for_browsers_and_the_list_for_others() {
    let server = server(RULES, &Backend::Memory, &[]);
    let plain = server.debug().get("/");
    assert_eq!(
        (plain.status, plain.kind.as_str()),
        (200, "text/plain; charset=utf-8")
    );
    let browser = visit("document", &server, "overview");
    let linked = browser.run(
        "return [...document.querySelectorAll('footer a')].map((a) => a.getAttribute('href'))",
    );
    let listed: Vec<Value> = plain
        .body
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, _)| json!(path.trim_start_matches('/')))
        .collect();
    assert_eq!(linked, json!(listed));
    for view in VIEWS {
        go(&browser, view);
        let title = browser.run("return document.title");
        assert!(
            title.as_str().unwrap().to_lowercase().starts_with(view),
            "{title}"
        );
    }
    // No resource comes from elsewhere.
    let origin = format!("http://{}/", server.debug().address());
    let loaded =
        browser.run("return performance.getEntriesByType('resource').map(({ name }) => name)");
    for name in loaded.as_array().unwrap() {
        let name = name.as_str().unwrap();
        assert!(
            name.starts_with(&origin) || name.starts_with("data:"),
            "{name}"
        );
    }
    is_silent(&browser);
}
