//! `EXPLAIN_HEADERS`: which rule decided, what is left and when to come again, through gRPC and `/json`, on every
//! store. What Envoy makes of it is in `tests/envoy.rs`.

use std::collections::BTreeMap;

use ratekeeper::service::pb::RateLimitResponse;
use serde_json::{Value, json};

use crate::support::{Ratekeeper, TIMEOUT, ask, free_port, json_of, on_every_store, times};

const RULES: &str = "
domain: d
descriptors:
  - {key: named, rate_limit: {name: per-client, unit: hour, requests_per_unit: 3600}}
  - {key: path, value: /cart, rate_limit: {unit: day, requests_per_unit: 1}}
  - {key: week, rate_limit: {unit: week, requests_per_unit: 1}}
  - {key: shadow, shadow_mode: true, rate_limit: {unit: year, requests_per_unit: 1}}
  - {key: zero, rate_limit: {unit: day, requests_per_unit: 0}}
  - {key: free, rate_limit: {unlimited: true}}
  - {key: odd, rate_limit: {name: \"a\\r\\nx-evil: 50% \\u00fc\", unit: day, requests_per_unit: 5}}
";

/// The headers of an answer, by name.
fn headers(answer: &RateLimitResponse) -> BTreeMap<&str, &str> {
    let headers = answer.response_headers_to_add.iter();
    headers
        .map(|header| (header.key.as_str(), header.value.as_str()))
        .collect()
}

fn explained<'a>(rule: &'a str, remaining: &'a str) -> BTreeMap<&'a str, &'a str> {
    BTreeMap::from([
        ("x-ratekeeper-rule", rule),
        ("x-ratekeeper-remaining", remaining),
        ("x-ratekeeper-decided-by", "buckets"),
        ("x-ratekeeper-retry-after-us", "0"),
    ])
}

#[test]
fn answers_tell_which_rule_decided() {
    let explain = [("EXPLAIN_HEADERS", "true")];
    on_every_store(RULES, &explain, |server, store| {
        let send = |descriptors: &[&str]| server.ask(ask("d", descriptors)).unwrap();
        let row = |descriptors: &[&str], rule, remaining| {
            let answer = send(descriptors);
            assert_eq!(
                headers(&answer),
                explained(rule, remaining),
                "{descriptors:?} on {store}"
            );
        };
        row(&["named=a"], "per-client", "3599");
        row(&["named=a", "path=/cart"], "d.path_/cart", "0");
        row(&["shadow=a"], "d.shadow", "0");
        row(&["odd=a"], "a%0D%0Ax-evil: 50%25 %C3%BC", "4");
        row(&["named=a limit=7/day"], "override", "6");
        row(&["free=a", "named=b"], "per-client", "3599");
        for nothing in ["free=a", "unknown=a"] {
            assert_eq!(
                headers(&send(&[nothing])),
                BTreeMap::new(),
                "{nothing} on {store}"
            );
        }
        // Denied: the rule that does so for longest, wherever it stands.
        send(&["week=a"]);
        for descriptors in [["path=/cart", "week=a"], ["week=a", "path=/cart"]] {
            let answer = send(&descriptors);
            let headers = headers(&answer);
            assert_eq!(headers["x-ratekeeper-rule"], "d.week", "{store}");
            assert_eq!(headers["x-ratekeeper-remaining"], "0");
            let micros: u64 = headers["x-ratekeeper-retry-after-us"].parse().unwrap();
            assert!((1..=7 * 86_400_000_000).contains(&micros), "{micros} us");
            assert!(micros > 86_400_000_000, "{micros} us");
            let seconds: u64 = headers["retry-after"].parse().unwrap();
            assert_eq!(seconds, micros.div_ceil(1_000_000), "{store}");
        }
        // What passes has no retry-after, even where the rule in shadow mode says when it would have been for it.
        let answer = send(&["shadow=a"]);
        assert!(!headers(&answer).contains_key("retry-after"), "{store}");
        assert_ne!(headers(&answer)["x-ratekeeper-retry-after-us"], "0");
        // What never passes is told no time.
        for never in [ask("d", &["zero=a"]), times(4_000, ask("d", &["named=a"]))] {
            let answer = server.ask(never).unwrap();
            assert_eq!(headers(&answer).len(), 3, "{store}: {answer:?}");
        }
    });
}

#[test]
fn the_same_is_in_the_metadata_when_both_are_asked_for() {
    let both = [
        ("EXPLAIN_HEADERS", "true"),
        ("RESPONSE_DYNAMIC_METADATA", "true"),
    ];
    let metadata = |server: &Ratekeeper, descriptor: &str| {
        let answer = server.ask(ask("d", &[descriptor])).unwrap();
        json_of(&answer.dynamic_metadata.unwrap())
    };
    on_every_store(RULES, &both, |server, store| {
        let decision = &metadata(server, "named=a")["decision"];
        let expected = json!({
            "rule": "per-client", "remaining": 3599.0, "decidedBy": "buckets", "retryAfterMicros": 0.0,
        });
        assert_eq!(*decision, expected, "{store}");
        assert_eq!(
            metadata(server, "zero=a")["decision"].get("retryAfterMicros"),
            None
        );
        assert_eq!(metadata(server, "free=a").get("decision"), None);
    });
    // Without the one, the other is what it always was.
    for off in [vec![both[1]], vec![both[1], ("EXPLAIN_HEADERS", "false")]] {
        on_every_store(RULES, &off, |server, store| {
            let expected = json!({"domain": "d", "descriptors": [{"entries": ["named=a"]}]});
            assert_eq!(metadata(server, "named=a"), expected, "{store}");
            let answer = server.ask(ask("d", &["zero=a"])).unwrap();
            assert_eq!(headers(&answer), BTreeMap::new());
        });
    }
}

#[test]
fn what_decides_without_redis_is_told() {
    let nobody = format!("127.0.0.1:{}", free_port());
    for (mode, told) in [
        ("local", "fallback_local"),
        ("allow", "fallback_allow"),
        ("deny", "fallback_deny"),
    ] {
        let environment = [
            ("REDIS_URL", nobody.clone()),
            ("REDIS_TIMEOUT", "10s".to_owned()),
            ("STORE_FAILURE_MODE", mode.to_owned()),
            ("EXPLAIN_HEADERS", "true".to_owned()),
        ];
        let server = Ratekeeper::start(RULES, environment);
        let answer = server.ask(ask("d", &["named=a"])).unwrap();
        let headers = headers(&answer);
        assert_eq!(headers["x-ratekeeper-decided-by"], told);
        assert_eq!(headers["x-ratekeeper-rule"], "per-client");
        // Whoever is denied for want of Redis may come again when it is probed again.
        let retry_after = headers.get("retry-after").copied();
        assert_eq!(retry_after, (mode == "deny").then_some("1"), "{mode}");
    }
}

#[test]
fn json_answers_carry_the_headers_themselves() {
    let environment = [("EXPLAIN_HEADERS", "true".to_owned())];
    let server = Ratekeeper::start(RULES, environment);
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_global(Some(TIMEOUT))
        .build()
        .into();
    let url = format!("http://{}/json", server.http().address());
    let ask = |key: &str, value: &str| {
        let entry = json!({"key": key, "value": value});
        let body = json!({"domain": "d", "descriptors": [{"entries": [entry]}]});
        agent.post(&url).send(body.to_string()).unwrap()
    };
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let mut answer = ask("path", "/cart");
        let body: Value =
            serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        let in_body = body["responseHeadersToAdd"].as_array().unwrap();
        for header in in_body {
            let name = header["key"].as_str().unwrap();
            assert_eq!(answer.headers()[name], header["value"].as_str().unwrap());
        }
        assert_eq!(answer.headers()["x-ratekeeper-rule"], "d.path_/cart");
        statuses.push((
            answer.status().as_u16(),
            answer.headers().contains_key("retry-after"),
        ));
    }
    assert_eq!(statuses, [(200, false), (429, true)]);
    let odd = ask("odd", "a");
    assert_eq!(
        odd.headers()["x-ratekeeper-rule"],
        "a%0D%0Ax-evil: 50%25 %C3%BC"
    );
    assert!(!odd.headers().contains_key("x-evil"));
}
