//! The admin API, asked of the real server. Every answer is also held to the API's own description.

mod access;
mod rules;
mod status;
mod stores;
mod top;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::support::{Api, Ratekeeper, ask, check, on_every_store, times};

const RULES: &str = r#"
domain: shop
descriptors:
  - {key: client, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: window, rate_limit: {unit: year, requests_per_unit: 10, algorithm: fixed_window}}
  - key: both
    rate_limit:
      - {unit: day, requests_per_unit: 5, name: short}
      - {unit: year, requests_per_unit: 100, algorithm: fixed_window, name: long}
  - {key: tokens, rate_limit: {unit: year, requests_per_unit: 100, hits: postpaid, max_debt: 50}}
  - {key: files, value: "a/*/b*", share_threshold: true, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: "x*", share_threshold: true, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: free, rate_limit: {unlimited: true}}
  - {key: none, rate_limit: {unit: year, requests_per_unit: 0}}
  - key: path
    value: /cart
    descriptors:
      - {key: user, detailed_metric: true, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: tenant, value_to_metric: true, rate_limit: {unit: year, requests_per_unit: 3}}
"#;

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn of(descriptor: &str) -> String {
    format!("/buckets?domain=shop&descriptor={}", encoded(descriptor))
}

fn by_key(key: &str) -> String {
    format!("/buckets?key={}", encoded(key))
}

fn whose(descriptor: &str) -> Value {
    json!({"domain": "shop", "descriptor": descriptor})
}

fn set(descriptor: &str, tokens: i64) -> Value {
    json!({"domain": "shop", "descriptor": descriptor, "tokens": tokens})
}

/// What of a bucket is told that depends on no time.
fn shown(bucket: &Value) -> String {
    let [capacity, remaining, debt] =
        ["capacity", "remaining", "debt"].map(|name| bucket[name].as_u64().unwrap());
    let debt = if debt > 0 {
        format!(" debt {debt}")
    } else {
        String::new()
    };
    format!(
        "{} of {capacity}{debt} by {}",
        remaining,
        bucket["decided_by"].as_str().unwrap()
    )
}

fn peek(api: &Api, descriptor: &str) -> Vec<String> {
    let answer = api.get(&of(descriptor));
    answer["buckets"]
        .as_array()
        .unwrap()
        .iter()
        .map(shown)
        .collect()
}

// --- Buckets ---

#[test]
fn buckets_are_looked_at_filled_and_set_on_every_store() {
    on_every_store(RULES, &[Api::environment()], |server, store| {
        let api = Api::of(server);
        for descriptor in [
            "client=a",
            "window=a",
            "files=a/1/b2",
            "x1=a",
            "path=/cart,user=7",
        ] {
            let row = format!("{store} {descriptor}");
            assert_eq!(peek(&api, descriptor), ["10 of 10 by buckets"], "{row}");
            check(
                server,
                &row,
                times(4, ask("shop", &[descriptor])),
                "OK: OK 6 of 10/year",
            );
            // Looking takes nothing, however often.
            for _ in 0..3 {
                assert_eq!(peek(&api, descriptor), ["6 of 10 by buckets"], "{row}");
            }
            let changed = api.post("/buckets/set", &set(descriptor, 1));
            assert_eq!(shown(Api::bucket(&changed)), "1 of 10 by buckets", "{row}");
            check(
                server,
                &row,
                ask("shop", &[descriptor]),
                "OK: OK 0 of 10/year",
            );
            check(
                server,
                &row,
                ask("shop", &[descriptor]),
                "OVER: OVER 0 of 10/year",
            );
            // A denial is remembered where buckets are in Redis; a look sees through it, a reset ends it.
            assert_eq!(peek(&api, descriptor), ["0 of 10 by buckets"], "{row}");
            let changed = api.post("/buckets/reset", &whose(descriptor));
            assert_eq!(shown(Api::bucket(&changed)), "10 of 10 by buckets", "{row}");
            check(
                server,
                &row,
                ask("shop", &[descriptor]),
                "OK: OK 9 of 10/year",
            );
            let changed = api.post("/buckets/set", &set(descriptor, 10));
            assert_eq!(shown(Api::bucket(&changed)), "10 of 10 by buckets", "{row}");
            // By the key that it has, whatever that looks like.
            let key = Api::bucket(&changed)["key"].as_str().unwrap().to_owned();
            check(
                server,
                &row,
                ask("shop", &[descriptor]),
                "OK: OK 9 of 10/year",
            );
            let found = api.get(&by_key(&key));
            assert_eq!(
                shown(Api::bucket(&found)),
                "9 of 10 by buckets",
                "{row} {key}"
            );
            let changed = api.post("/buckets/set", &json!({"key": key, "tokens": 3}));
            assert_eq!(
                shown(Api::bucket(&changed)),
                "3 of 10 by buckets",
                "{row} {key}"
            );
            let changed = api.post("/buckets/reset", &json!({"key": key}));
            assert_eq!(
                shown(Api::bucket(&changed)),
                "10 of 10 by buckets",
                "{row} {key}"
            );
        }
    });
}

#[test]
fn a_rule_with_several_limits_has_several_buckets() {
    on_every_store(RULES, &[Api::environment()], |server, store| {
        let api = Api::of(server);
        check(
            server,
            store,
            times(5, ask("shop", &["both=a"])),
            "OK: OK 0 of 5/day (short)",
        );
        let all = ["0 of 5 by buckets", "95 of 100 by buckets"];
        assert_eq!(peek(&api, "both=a"), all, "{store}");
        let found = api.get(&of("both=a"));
        let keys: Vec<&str> = (0..2)
            .map(|i| found["buckets"][i]["key"].as_str().unwrap())
            .collect();
        let windows: Vec<bool> = (0..2)
            .map(|i| found["buckets"][i]["window"].as_bool().unwrap())
            .collect();
        assert_eq!(windows, [false, true]);
        // One number for both would mean nothing.
        let (status, why) = api.try_post("/buckets/set", &set("both=a", 5));
        assert_eq!(status, 400);
        assert!(
            keys.iter()
                .all(|key| why["error"].as_str().unwrap().contains(key)),
            "{why}"
        );
        let changed = api.post("/buckets/set", &json!({"key": keys[1], "tokens": 50}));
        assert_eq!(shown(Api::bucket(&changed)), "50 of 100 by buckets");
        assert_eq!(
            peek(&api, "both=a"),
            ["0 of 5 by buckets", "50 of 100 by buckets"]
        );
        api.post("/buckets/reset", &whose("both=a"));
        assert_eq!(
            peek(&api, "both=a"),
            ["5 of 5 by buckets", "100 of 100 by buckets"]
        );
    });
}

#[test]
fn debt_is_told_and_can_be_set() {
    on_every_store(RULES, &[Api::environment()], |server, store| {
        let api = Api::of(server);
        check(
            server,
            store,
            times(120, ask("shop", &["tokens=a"])),
            "OVER: OVER 0 of 100/year never",
        );
        assert_eq!(
            peek(&api, "tokens=a"),
            ["0 of 100 debt 20 by buckets"],
            "{store}"
        );
        for (tokens, expected) in [
            (-50, "0 of 100 debt 50 by buckets"),
            (-1, "0 of 100 debt 1 by buckets"),
            (0, "0 of 100 by buckets"),
            (100, "100 of 100 by buckets"),
            (-7, "0 of 100 debt 7 by buckets"),
        ] {
            let changed = api.post("/buckets/set", &set("tokens=a", tokens));
            assert_eq!(shown(Api::bucket(&changed)), expected, "{store}");
        }
        for tokens in [-51, 101, i64::MAX, i64::MIN] {
            let (status, why) = api.try_post("/buckets/set", &set("tokens=a", tokens));
            assert_eq!(status, 400);
            assert!(
                why["error"].as_str().unwrap().contains("set -50 to 100"),
                "{why}"
            );
        }
        api.post("/buckets/reset", &whose("tokens=a"));
        assert_eq!(peek(&api, "tokens=a"), ["100 of 100 by buckets"], "{store}");
    });
}

#[test]
fn times_are_told_from_the_bucket() {
    let rules = "{domain: d, descriptors: [{key: k, rate_limit: {unit: second, unit_multiplier: 1000, requests_per_unit: 10, burst: 20}}, \
        {key: never, rate_limit: {unit: day, requests_per_unit: 0}}]}";
    let server = Ratekeeper::start(rules, [("ADMIN_TOKEN", Api::environment().1.to_owned())]);
    let api = Api::of(&server);
    let body = json!({"domain": "d", "descriptor": "k=1", "tokens": 0});
    let changed = api.post("/buckets/set", &body);
    let bucket = Api::bucket(&changed);
    assert_eq!(bucket["refill_per_second"], 0.01);
    assert_eq!(bucket["full_in_us"], 2_000_000_000_u64);
    assert_eq!(bucket["retry_in_us"], 100_000_000);
    let found = api.get("/buckets?domain=d&descriptor=never%3D1");
    assert_eq!(Api::bucket(&found)["retry_in_us"], Value::Null);
}

#[test]
fn what_is_no_bucket_is_refused_with_a_sentence() {
    let server = Ratekeeper::start(RULES, [("ADMIN_TOKEN", Api::environment().1.to_owned())]);
    let api = Api::of(&server);
    let long = format!("client={}", "x".repeat(300));
    let hashed = api.get(&of(&long));
    let hashed = Api::bucket(&hashed)["key"].as_str().unwrap().to_owned();
    for (path, status, expected) in [
        (of("nothing=1"), 404, "no rule applies"),
        (of("free=1"), 404, "unlimited"),
        (of("client"), 400, "key=value"),
        (of(&"client=a,".repeat(500)), 400, "key=value"),
        (
            of(&vec!["client=a"; 500].join(",")),
            400,
            "MAX_DESCRIPTOR_ENTRIES",
        ),
        ("/buckets".to_owned(), 400, "by key"),
        ("/buckets?domain=shop".to_owned(), 400, "by key"),
        (
            "/buckets?key=rk%3Ashop&domain=shop".to_owned(),
            400,
            "by key",
        ),
        (
            "/buckets?kye=rk%3Ashop".to_owned(),
            400,
            "unknown parameter \"kye\"",
        ),
        ("/buckets?key=a&key=b".to_owned(), 400, "twice"),
        (by_key("shop|client=a"), 400, "CACHE_KEY_PREFIX"),
        (by_key("rk:shop"), 400, "not a bucket key"),
        (by_key(&hashed), 400, "shortened to a hash"),
        (
            by_key("rk:shop|client=a#override-1-day"),
            400,
            "part of a request",
        ),
        (
            by_key("rk:shop|client=a#window"),
            404,
            "is now \"rk:shop|client=a\"",
        ),
        (by_key("rk:shop|client=a#1"), 404, "is now"),
        (by_key("rk:shop|both=a#7"), 404, "is now"),
        (
            by_key("rk:shop|nothing=a"),
            404,
            "no rule of the configuration",
        ),
        (
            by_key("rk:shop|free=a"),
            404,
            "no rule of the configuration",
        ),
        (
            by_key("rk:shop|files=a/1/b2"),
            404,
            "is now \"rk:shop|files=a/*/b*\"",
        ),
        (
            by_key("rk:elsewhere|client=a"),
            404,
            "no rule of the configuration",
        ),
    ] {
        let (found, why) = api.ask(&path);
        assert_eq!(found, status, "{path}: {why}");
        assert!(
            why["error"].as_str().unwrap().contains(expected),
            "{path}: {why}"
        );
    }
    for (body, status, expected) in [
        (
            json!({"domain": "shop", "descriptor": "client=a"}),
            400,
            "tokens is missing",
        ),
        (
            json!({"domain": "shop", "descriptor": "client=a", "tokens": "5"}),
            400,
            "whole number",
        ),
        (
            json!({"domain": "shop", "descriptor": "client=a", "tokens": 1.5}),
            400,
            "whole number",
        ),
        (
            json!({"domain": 1, "descriptor": "client=a", "tokens": 5}),
            400,
            "domain must be a string",
        ),
        (
            json!({"domain": "shop", "descriptor": "client=a", "token": 5}),
            400,
            "unknown field \"token\"",
        ),
        (set("free=1", 5), 404, "unlimited"),
        (set("none=1", 1), 400, "set 0 to 0"),
        (json!([]), 400, "JSON object"),
    ] {
        let (found, why) = api.try_post("/buckets/set", &body);
        assert_eq!(found, status, "{body}: {why}");
        assert!(
            why["error"].as_str().unwrap().contains(expected),
            "{body}: {why}"
        );
    }
}
