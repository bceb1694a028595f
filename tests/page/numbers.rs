//! What the page counts is what the metrics count.

use serde_json::json;

use super::{Traffic, go, is_silent, server, stores, visit};
use crate::support::{Browser, Ratekeeper, Scrape, ask, eventually};

const RULES: &str = "
domain: shop
descriptors:
  - key: client
    rate_limit: {unit: day, requests_per_unit: 10}
  - key: path
    value: /cart
    rate_limit: {unit: day, requests_per_unit: 1000}
    descriptors:
      - key: user
        rate_limit: {unit: day, requests_per_unit: 3}
  - key: plenty
    rate_limit: {unit: day, requests_per_unit: 4000000000}
";

/// Descriptors, and how often each is asked for.
const ASKED: [(&str, u32); 5] = [
    ("client=alice", 14),
    ("client=bob", 2),
    ("path=/cart", 9),
    ("path=/cart,user=carol", 5),
    ("other=thing", 6),
];

const CAUSES: [&str; 6] = [
    "buckets",
    "remembered_denial",
    "no_limit",
    "fallback_local",
    "fallback_allow",
    "fallback_deny",
];

#[test]
fn the_numbers_are_those_of_the_metrics() {
    for backend in stores() {
        let server = server(RULES, &backend, &[]);
        send(&server, &ASKED);
        let browser = visit("numbers", &server, "overview");
        browser.wait_for_text("#total-admitted", "30");
        browser.wait_for_text("#total-denied", "6");
        browser.wait_for_text("#total-fallback", "0");
        let scrape = Scrape::of(&server);
        for cause in CAUSES {
            for (verdict, cell) in [("ok", "ok"), ("over_limit", "over")] {
                let series = format!(
                    "ratekeeper_decisions_total{{cause=\"{cause}\",verdict=\"{verdict}\"}}"
                );
                let shown = browser.text(&format!("#{cell}-{cause}"));
                assert_eq!(shown, scrape.value(&series).to_string(), "{series}");
            }
        }
        browser.wait("document.querySelector('#most-denied tbody tr')");
        assert!(
            browser
                .text("#most-denied tbody tr")
                .contains("client=alice")
        );

        rules_agree(&browser, &scrape);
        most_denied(&browser);
        is_silent(&browser);
    }
}

/// The counts of each rule in the tree are those of its series.
fn rules_agree(browser: &Browser, scrape: &Scrape) {
    go(browser, "rules");
    browser.wait_for_text("#rules-count", "4 rules");
    for (path, labels) in [
        (json!(["shop", "client"]), "key1=\"client\""),
        (json!(["shop", "path_/cart"]), "key1=\"path_/cart\""),
        (
            json!(["shop", "path_/cart", "user"]),
            "key1=\"path_/cart\",key2=\"user\"",
        ),
    ] {
        for (term, metric) in [
            ("Hits within the limit", "within_limit"),
            ("Near the limit", "near_limit"),
            ("Over the limit", "over_limit"),
        ] {
            let series =
                format!("ratelimit_service_rate_limit_{metric}{{domain=\"shop\",{labels}}}");
            let shown = fact(browser, &path.to_string(), term);
            assert_eq!(shown, scrape.value(&series).to_string(), "{series}");
        }
    }
}

/// What is told of a rule in its place in the tree.
fn fact(browser: &Browser, path: &str, term: &str) -> String {
    let script = "
        const place = [...document.querySelectorAll('#rules-tree details')]
            .find(({ dataset }) => dataset.path === arguments[0]);
        const row = [...place.querySelectorAll(':scope > .more dl > div')]
            .find((row) => row.firstElementChild.textContent === arguments[1]);
        return row.lastElementChild.textContent";
    let told = browser.run_with(script, &[json!(path), json!(term)]);
    told.as_str().unwrap().to_owned()
}

fn most_denied(browser: &Browser) {
    go(browser, "top");
    for window in ["minute", "hour"] {
        browser.click(&format!("#top [data-window={window}]"));
        browser.wait(&format!(
            "document.getElementById('top-total').textContent.includes('last {window}')"
        ));
        let denied = cells(browser, "#top-denied");
        assert!(denied[0][0].contains("client=alice"), "{denied:?}");
        assert_eq!(denied[0][1..3], ["4", "14"], "{denied:?}");
        assert!(denied[1][0].contains("user=carol"), "{denied:?}");
        assert_eq!(denied[1][1..3], ["2", "5"], "{denied:?}");
        let hottest = cells(browser, "#top-hottest");
        assert!(hottest[0][0].contains("client=alice"), "{hottest:?}");
        assert_eq!(hottest[0][1..], ["14", "4"], "{hottest:?}");
    }
}

/// The cells of a table, row by row.
fn cells(browser: &Browser, within: &str) -> Vec<Vec<String>> {
    let script = "
        return [...document.querySelectorAll(`${arguments[0]} tbody tr`)]
            .map((row) => [...row.cells].map((cell) => cell.textContent))";
    let cells = browser.run_with(script, &[json!(within)]);
    serde_json::from_value(cells).unwrap()
}

/// What shadow mode lets pass is marked and counted apart, in the tree and among the hottest.
#[test]
fn shadow_mode_denies_nothing_on_the_page() {
    let rules = "
domain: shop
descriptors:
  - {key: ghost, shadow_mode: true, rate_limit: {unit: day, requests_per_unit: 2}}
";
    let [backend, _] = stores();
    let server = server(rules, &backend, &[]);
    let browser = visit("shadow", &server, "rules");
    browser.wait_for_text("#rules-count", "1 rule");
    let traffic = Traffic::start(&server, "shop", &["ghost=x"]);
    browser.wait("document.querySelector('#rules-tree .mark')?.textContent === '✕ would deny'");
    browser.wait("!document.querySelector('#rules-tree .mark.denying')");
    drop(traffic);
    let path = json!(["shop", "ghost"]).to_string();
    let shown = |term: &str| fact(&browser, &path, term).replace(',', "");
    assert_eq!(shown("Denied"), "0");
    assert_ne!(shown("Would be denied without shadow mode"), "0");
    assert!(shown("When hits are charged").starts_with("hits: auto (prepaid"));
    go(&browser, "top");
    browser.wait("document.querySelector('#top-would-deny tbody tr')");
    assert!(browser.text("#top-denied").contains("No hits were denied"));
    assert!(
        browser
            .text("#top-total")
            .contains("0 of them denied; shadow mode allowed")
    );
    browser.picture("shadow");
    go(&browser, "overview");
    browser
        .wait("document.getElementById('most-denied').textContent.includes('No hits were denied')");
    is_silent(&browser);
}

#[test]
fn rates_and_marks_live() {
    let [backend, _] = stores();
    let server = server(RULES, &backend, &[]);
    let browser = visit("live", &server, "overview");
    browser.wait_for_text("#rate-admitted", "0");
    let traffic = Traffic::start(&server, "shop", &["plenty=1", "plenty=2", "client=alice"]);
    for rate in ["#rate-admitted", "#rate-denied"] {
        browser.wait(&format!(
            "Number(document.querySelector('{rate}').textContent.replaceAll(',', '')) > 0"
        ));
    }
    let told = "document.querySelector('.tile.admitted svg').getAttribute('aria-label')";
    browser.wait(&format!(
        "/^Allowed in the last 1 min: between 0 and .* per second/.test({told})"
    ));
    browser.wait("/M.*L/.test(document.querySelector('.tile.denied .line').getAttribute('d'))");
    browser.picture("overview");

    go(&browser, "rules");
    browser
        .wait("document.querySelector('#rules-tree .mark.denying')?.textContent === '✕ denying'");
    browser.wait(
        "[...document.querySelectorAll('#rules-tree .spark polyline')]
            .some((line) => line.getAttribute('points').includes(' '))",
    );
    browser.wait(
        "[...document.querySelectorAll('#rules-tree .rate')]
            .some((rate) => /admitted \\([0-9.,]+\\/s\\)/.test(rate.textContent))",
    );
    drop(traffic);
    go(&browser, "overview");
    browser.wait_for_text("#rate-admitted", "0");

    // Another client comes near the limit, and nobody goes beyond.
    go(&browser, "rules");
    browser
        .wait("![...document.querySelectorAll('#rules-tree .mark')].some((mark) => !mark.hidden)");
    send(&server, &[("client=bob", 9)]);
    browser.wait("document.querySelector('#rules-tree .mark').textContent === '▲ near limit'");
    browser.picture("rules");
    is_silent(&browser);
}

/// Asks for each so many times, until all are answered.
pub(super) fn send(server: &Ratekeeper, asked: &[(&str, u32)]) {
    for &(descriptor, times) in asked {
        for _ in 0..times {
            let _ = server.ask(ask("shop", &[descriptor])).unwrap();
        }
    }
}

#[test]
fn the_page_begins_anew_with_another_process() {
    let [backend, _] = stores();
    let first = server(RULES, &backend, &[]);
    let address = first.debug().address();
    send(&first, &[("plenty=1", 20)]);
    let browser = visit("anew", &first, "overview");
    browser.wait_for_text("#total-admitted", "20");
    drop(first);
    browser.wait("document.getElementById('banner').textContent.includes('does not respond')");
    let port = address.port().to_string();
    let mut second = None;
    eventually("the port is free again", || {
        second = std::net::TcpListener::bind(address).ok();
        second.is_some()
    });
    drop(second);
    let second = server(RULES, &backend, &[("DEBUG_PORT", &port)]);
    send(&second, &[("plenty=1", 3)]);
    browser.wait_for_text("#total-admitted", "3");
    browser.wait("document.getElementById('banner').textContent === ''");
    // A line into the negative would be a rate that never was.
    let told = "document.querySelector('.tile.admitted svg').getAttribute('aria-label')";
    browser.wait(&format!("!{told}.includes('-')"));
}
