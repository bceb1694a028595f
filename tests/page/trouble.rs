//! What is wrong is said in red, at once, and no longer than it is so.

use std::fs;

use super::{DESK, PHONE, Traffic, go, is_silent, server, stores, visit};
use crate::support::{Backend, Browser, Ratekeeper, Redis, eventually};

const RULES: &str = "
domain: shop
descriptors:
  - key: client
    rate_limit: {unit: day, requests_per_unit: 4000000000}
";

/// Waits until the banner says this, or nothing.
fn banner(browser: &Browser, text: &str) {
    let is = match text {
        "" => "=== ''".to_owned(),
        text => format!(".includes({text:?})"),
    };
    browser.wait(&format!(
        "document.getElementById('banner').textContent{is}"
    ));
}

#[test]
fn a_store_that_fails_is_told_until_it_is_back() {
    let redis = Redis::start();
    let environment = [
        ("REDIS_URL", redis.url()),
        ("REDIS_TIMEOUT", "100ms".to_owned()),
    ];
    let server = Ratekeeper::start(RULES, environment);
    let _traffic = Traffic::start(&server, "shop", &["client=alice", "client=bob"]);
    let browser = visit("degraded", &server, "overview");
    browser.wait("document.getElementById('who').textContent.includes('healthy')");
    banner(&browser, "");
    redis.pause();
    banner(&browser, "Redis is unavailable");
    browser.wait(
        "Number(document.getElementById('rate-fallback').textContent.replaceAll(',', '')) > 0",
    );
    for (name, (width, height), scheme) in [("desk", DESK, "light"), ("phone", PHONE, "dark")] {
        browser.resize(width, height);
        browser.prefer(&[("prefers-color-scheme", scheme)]);
        browser.picture(name);
    }
    // It is announced politely, and in sight.
    let colour =
        browser.run("return getComputedStyle(document.getElementById('banner')).backgroundColor");
    assert_eq!(colour, "rgb(163, 22, 26)");
    redis.resume();
    banner(&browser, "");
    is_silent(&browser);
}

#[test]
fn a_rejected_configuration_is_told_with_its_mistakes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.yaml");
    fs::write(&file, RULES).unwrap();
    let flags = ["--config", directory.path().to_str().unwrap()];
    let server = Ratekeeper::start_with(flags, [("BACKEND_TYPE", "memory".to_owned())]);
    let browser = visit("rejected", &server, "overview");
    browser.wait("document.getElementById('who').textContent.includes('healthy')");
    banner(&browser, "");
    let version = "document.querySelector('#active dd').textContent";
    browser.wait(&format!("{version} !== ''"));
    let first = browser.run(&format!("return {version}"));

    let wrong = RULES.replace("requests_per_unit", "requests_per_unti")
        + "<img src=x onerror=alert(1)>: 1\n";
    fs::write(&file, wrong).unwrap();
    banner(&browser, "was rejected for");
    browser.click("#banner a");
    browser.wait("!document.getElementById('configuration').hidden");
    let mistakes = browser.text("#mistakes");
    assert!(mistakes.contains("shop.yaml:5:"), "{mistakes}");
    assert!(mistakes.contains("requests_per_unti"), "{mistakes}");
    assert!(
        mistakes.contains("<img src=x onerror=alert(1)>"),
        "{mistakes}"
    );
    browser.wait("document.getElementById('limits').textContent.includes('shop.client')");
    assert_eq!(browser.run(&format!("return {version}")), first);
    browser.picture("mistakes");

    fs::write(&file, RULES.replace("4000000000", "17")).unwrap();
    banner(&browser, "");
    browser.wait("document.getElementById('rejected').hidden");
    browser.wait("document.getElementById('limits').textContent.includes('requests_per_unit=17')");
    assert_ne!(browser.run(&format!("return {version}")), first);
    is_silent(&browser);
}

/// Counts what is asked and not answered yet, by path.
const COUNT_REQUESTS: &str = "
    const real = window.fetch;
    window.asked = {};
    window.most = 0;
    const open = new Map();
    window.fetch = async (...rest) => {
        const path = String(rest[0]).split('?')[0];
        window.asked[path] = (window.asked[path] ?? 0) + 1;
        open.set(path, (open.get(path) ?? 0) + 1);
        window.most = Math.max(window.most, ...open.values());
        try {
            return await real(...rest);
        } finally {
            open.set(path, open.get(path) - 1);
        }
    };";

#[test]
fn a_server_that_is_slow_is_told_and_not_asked_more() {
    let [backend, _] = stores();
    let server = server(RULES, &backend, &[]);
    let browser = visit("slow", &server, "rules");
    browser.wait_for_text("#rules-count", "1 rule");
    browser.run(COUNT_REQUESTS);
    server.signal("STOP");
    banner(
        &browser,
        "The server does not respond. The page shows the state of ",
    );
    browser.wait_for_text("#rules-error", "The server does not respond.");
    browser.picture("banner");
    server.signal("CONT");
    banner(&browser, "");
    browser.wait_for_text("#rules-error", "");
    assert_eq!(browser.run("return window.most"), 1);
}

#[test]
fn nobody_asks_for_a_page_that_nobody_sees() {
    let server = server(RULES, &Backend::Memory, &[]);
    let browser = visit("hidden", &server, "rules");
    browser.wait_for_text("#rules-count", "1 rule");
    browser.run(COUNT_REQUESTS);
    browser.wait("window.asked['api/v1/status'] > 1 && window.asked['api/v1/rules'] > 0");
    browser.minimize();
    browser.wait("document.hidden");
    let before = browser.run("return window.asked");
    // The server's own clock goes on, as others see it.
    let uptime = || {
        let status = server.debug().get("/api/v1/status").body;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["uptime_seconds"].as_f64().unwrap()
    };
    let begun = uptime();
    eventually("four seconds go by", || uptime() > begun + 4.0);
    assert_eq!(browser.run("return window.asked"), before);
    browser.restore();
    browser.wait(&format!(
        "!document.hidden && window.asked['api/v1/status'] > {}",
        before["api/v1/status"]
    ));
    go(&browser, "overview");
    is_silent(&browser);
}
