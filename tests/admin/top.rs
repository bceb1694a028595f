//! The hottest and the most denied buckets.

use serde_json::{Value, json};

use super::{RULES, of};
use crate::support::{Api, Ratekeeper, ask, on_every_store, times};

#[test]
fn the_hottest_and_the_most_denied_are_told() {
    on_every_store(RULES, &[Api::environment()], |server, store| {
        let api = Api::of(server);
        let empty = api.get("/top");
        assert_eq!(
            (&empty["total_hits"], &empty["hottest"]),
            (&json!(0), &json!([]))
        );
        for (requests, descriptors) in [
            (3, &["client=a"][..]),
            (12, &["client=b"]),
            (1, &["client=c", "path=/cart,user=7"]),
            (2, &["none=1"]),
        ] {
            for _ in 0..requests {
                server.ask(ask("shop", descriptors)).unwrap();
            }
        }
        server
            .ask(times(20, ask("shop", &["client=d", "both=\u{202e}<b>"])))
            .unwrap();
        let found = |descriptor: &str| {
            let buckets = api.get(&of(descriptor));
            buckets["buckets"][0]["key"].as_str().unwrap().to_owned()
        };
        for window in ["minute", "hour"] {
            let top = api.get(&format!("/top?window={window}"));
            assert_eq!(top["window"], window);
            assert_eq!(top["error"], 0, "{store}: few buckets are counted exactly");
            assert_eq!(top["total_hits"], 3 + 12 + 2 + 2 + 3 * 20, "{store}");
            assert_eq!(top["total_denied"], 2 + 2 + 2 * 20, "{store}");
            let hottest = top["hottest"].as_array().unwrap();
            let of_key =
                |list: &[Value], key: &str| list.iter().find(|entry| entry["key"] == key).cloned();
            let b = of_key(hottest, &found("client=b")).unwrap();
            assert_eq!(
                (&b["hits"], &b["denied"], &b["rule"]),
                (&json!(12), &json!(2), &json!("shop.client"))
            );
            assert_eq!(hottest[0]["hits"], 20);
            let denied = top["denied"].as_array().unwrap();
            let d = of_key(denied, &found("client=d")).unwrap();
            assert_eq!((&d["hits"], &d["denied"]), (&json!(20), &json!(20)));
            assert_eq!(d["request"], "shop client=d; both=\u{202e}<b>");
            assert!(of_key(denied, &found("client=a")).is_none());
        }
        let limited = api.get("/top?limit=1");
        assert_eq!(limited["hottest"].as_array().unwrap().len(), 1);
        let bucket = api.get(&of("client=d"));
        let last = &Api::bucket(&bucket)["last_denied"];
        assert_eq!(
            (&last["hits"], &last["rule"]),
            (&json!(20), &json!("shop.client"))
        );
        assert_eq!(last["request"], "shop client=d; both=\u{202e}<b>");
        assert_eq!(
            Api::bucket(&api.get(&of("client=a")))["last_denied"],
            Value::Null
        );
        for path in [
            "/top?window=day",
            "/top?limit=101",
            "/top?limit=x",
            "/top?x=1",
        ] {
            assert_eq!(api.ask(path).0, 400, "{path}");
        }
    });
}

#[test]
fn no_client_makes_the_counters_grow() {
    let server = Ratekeeper::start(
        RULES,
        [
            ("TOP_SIZE", "8".to_owned()),
            ("WORKER_THREADS", "1".to_owned()),
        ],
    );
    let api = Api::of(&server);
    for i in 0..200 {
        server.ask(ask("shop", &[&format!("client={i}")])).unwrap();
        if i % 4 == 0 {
            server.ask(ask("shop", &["client=hot"])).unwrap();
        }
    }
    let top = api.get("/top?limit=100");
    let hottest = top["hottest"].as_array().unwrap();
    assert!(hottest.len() <= 8 * 7, "{top:#}");
    assert_eq!(hottest[0]["key"], "rk:shop|client=hot");
    let (hits, error) = (
        hottest[0]["hits"].as_u64().unwrap(),
        top["error"].as_u64().unwrap(),
    );
    assert_eq!(top["total_hits"], 250);
    assert!(error > 0 && error <= 250 / 8, "{error}");
    assert!((50..=50 + error).contains(&hits), "{hits} {error}");
}

#[test]
fn counting_by_bucket_can_be_off() {
    let server = Ratekeeper::start(RULES, [("TOP_SIZE", "0".to_owned())]);
    let api = Api::of(&server);
    server.ask(times(20, ask("shop", &["client=a"]))).unwrap();
    let (status, why) = api.ask("/top");
    assert_eq!(status, 404);
    assert!(why["error"].as_str().unwrap().contains("TOP_SIZE"), "{why}");
    assert_eq!(
        Api::bucket(&api.get(&of("client=a")))["last_denied"],
        Value::Null
    );
}
