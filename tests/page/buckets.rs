//! A bucket is seen filling and draining, and is changed by whoever has the token.

use serde_json::json;

use super::numbers::send;
use super::{go, is_silent, server, stores, visit};
use crate::support::{Backend, Browser, ask, times};

const RULES: &str = "
domain: shop
descriptors:
  - key: client
    rate_limit: {unit: day, requests_per_unit: 10}
  - key: quick
    rate_limit: {unit: minute, requests_per_unit: 120, burst: 1000}
";

const TOKEN: &str = "swordfish-3000";

/// How many tokens are shown.
const SHOWN: &str =
    "Number(document.querySelector('#buckets .number')?.textContent.replaceAll(',', ''))";

#[test]
fn a_bucket_drains_and_fills() {
    for backend in stores() {
        let server = server(RULES, &backend, &[]);
        let browser = visit("bucket", &server, "bucket");
        browser.fill("#bucket-domain", "shop");
        browser.fill("#bucket-descriptor", "quick=alice");
        browser.click("#bucket-form button");
        browser.wait(&format!("{SHOWN} === 1000"));
        let _ = server
            .ask(times(900, ask("shop", &["quick=alice"])))
            .unwrap();
        browser.wait(&format!("{SHOWN} < 900"));
        // Two tokens a second: whenever it is looked at, and between the answers of the server.
        let low = browser.run(&format!("return {SHOWN}")).as_f64().unwrap();
        browser.wait(&format!("{SHOWN} > {low}"));
        let tale = "document.querySelector('#buckets .chart').getAttribute('aria-label')";
        browser.wait(&format!(
            "/between [0-9,]+ and 1,000, [0-9,]+ now/.test({tale})"
        ));
        browser.wait("document.querySelector('#buckets [role=meter]').getAttribute('aria-valuemax') === '1000'");
        browser.wait(
            "document.querySelector('#buckets .line').getAttribute('d').split('L').length > 4",
        );
        browser.picture("filling");

        // The address says what is watched, so that it can be sent to others.
        let address = browser.run("return location.hash");
        assert_eq!(address, "#bucket?domain=shop&descriptor=quick%3Dalice");
        browser.open("about:blank");
        browser.open(&format!(
            "http://{}/{}",
            server.debug().address(),
            address.as_str().unwrap()
        ));
        browser.wait(&format!("{SHOWN} > {low}"));
        is_silent(&browser);
    }
}

#[test]
fn it_flows_between_two_answers() {
    let server = server(RULES, &Backend::Memory, &[]);
    let _ = server
        .ask(times(900, ask("shop", &["quick=alice"])))
        .unwrap();
    let browser = visit(
        "flow",
        &server,
        "bucket?domain=shop&descriptor=quick%3Dalice",
    );
    browser.wait(&format!("{SHOWN} < 900"));
    // The page is told nothing for as long as this looks, and yet the number grows.
    let grew = browser.run_until_called(&format!(
        "const done = arguments[0];
         const shown = () => {SHOWN};
         let first = null;
         const real = window.fetch;
         let left = 2000;
         window.fetch = () => new Promise((resolve) => {{ first ??= shown(); }});
         const look = () => {{
             if (first !== null && shown() > first) {{
                 window.fetch = real;
                 return done(true);
             }}
             if (left-- === 0) return done(false);
             requestAnimationFrame(look);
         }};
         look();"
    ));
    assert_eq!(grew, true);
}

#[test]
fn a_bucket_is_changed_with_the_token() {
    for backend in stores() {
        let server = server(RULES, &backend, &[("ADMIN_TOKEN", TOKEN)]);
        send(&server, &[("client=alice", 12)]);
        let browser = visit(
            "change",
            &server,
            "bucket?domain=shop&descriptor=client%3Dalice",
        );
        browser.wait(&format!("{SHOWN} === 0"));
        browser.wait("document.querySelector('#buckets dl').textContent.includes('client=alice')");

        browser.click("#buckets .change button[type=button]");
        told(&browser, "Enter the ADMIN_TOKEN first.");
        browser.type_text("wrong");
        browser.click("#buckets .change button[type=button]");
        browser.wait("/token/i.test(document.querySelector('#buckets [role=status]').textContent)");
        browser.wait(&format!("{SHOWN} === 0"));

        browser.fill("#token", TOKEN);
        browser.click("#buckets .change button[type=button]");
        told(&browser, "The bucket was reset.");
        browser.wait(&format!("{SHOWN} === 10"));
        browser.fill("#buckets .change input", "4");
        browser.click("#buckets .change button[type=submit]");
        told(&browser, "The bucket was set to 4 tokens.");
        browser.wait(&format!("{SHOWN} === 4"));
        browser.picture("changed");

        // It is kept nowhere.
        let kept =
            "return JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])";
        let kept = browser.run(kept);
        assert!(!kept.to_string().contains(TOKEN), "{kept}");
        // What the server refused is a line in the console, which the browser writes itself.
        let refused = browser.complaints();
        assert!(
            refused.iter().all(|line| line.contains("401")),
            "{refused:?}"
        );
    }
}

fn told(browser: &Browser, text: &str) {
    browser.wait_for_text("#buckets [role=status]", text);
}

#[test]
fn without_a_token_there_is_nothing_to_press() {
    let server = server(RULES, &Backend::Memory, &[]);
    let browser = visit(
        "readonly",
        &server,
        "bucket?domain=shop&descriptor=client%3Dalice",
    );
    browser.wait(&format!("{SHOWN} === 10"));
    browser.wait(
        "document.getElementById('bucket-change').textContent.includes('has an ADMIN_TOKEN')",
    );
    let buttons = browser.run("return document.querySelectorAll('#buckets button, #token').length");
    assert_eq!(buttons, json!(0));
    // A descriptor that nothing limits, and a domain that is not there, are told in words.
    for wrong in [
        "domain=shop&descriptor=nothing%3D1",
        "domain=elsewhere&descriptor=a%3D1",
        "key=nonsense",
    ] {
        go(&browser, &format!("bucket?{wrong}"));
        browser.wait("document.getElementById('bucket-error').textContent.length > 10");
        assert_eq!(
            browser.run("return document.querySelectorAll('#buckets .tile').length"),
            json!(0)
        );
    }
}

#[test]
fn a_descriptor_is_explained() {
    let server = server(RULES, &Backend::Memory, &[]);
    let browser = visit("explain", &server, "explain");
    browser.fill("#explain-domain", "shop");
    browser.fill("#explain-descriptor", "client=alice");
    browser.click("#explain-form button");
    browser.wait("document.querySelector('#explanation h3')?.textContent === 'Rule shop.client'");
    browser
        .wait("document.querySelector('#explanation .steps').textContent.includes('client=alice')");
    browser.picture("explained");
    // From the explanation to the bucket that it names.
    browser.click("#explanation .limits a");
    browser.wait(&format!("{SHOWN} === 10"));

    go(&browser, "explain?domain=shop&descriptor=nothing%3D1");
    browser.wait("document.querySelector('#explanation h3')?.textContent === 'No rule applies'");
    is_silent(&browser);
    go(&browser, "explain?domain=shop&descriptor=nonsense");
    browser.wait("document.getElementById('explain-error').textContent.length > 10");
}
