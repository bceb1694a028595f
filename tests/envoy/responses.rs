//! What reaches the client of Envoy.

use serde_json::{Value, json};

use super::{DAY, generic_key, on_every_store, plan};
use crate::support::{Plan, Reply, Route, ask};

#[test]
fn status_body_and_headers_of_a_denial_are_envoys_to_choose() {
    let plan = Plan {
        filter: json!({
            "rate_limited_status": {"code": "ServiceUnavailable"},
            "response_headers_to_add": [{"header": {"key": "x-why", "value": "too fast"}}],
        }),
        manager: json!({"local_reply_config": {"mappers": [{
            "filter": {"response_flag_filter": {"flags": ["RL"]}},
            "body_format_override": {"text_format_source": {"inline_string": "slow down"}},
        }]}}),
        ..plan("/", json!([{"actions": [generic_key("plan", "free")]}]))
    };
    on_every_store(&[], &plan, |mesh| {
        assert_eq!(mesh.envoy.statuses(3, "/", &[]), [200; 3]);
        let reply = mesh.envoy.get("/", &[]);
        assert_eq!((reply.status, reply.body.as_str()), (503, "slow down"));
        assert_eq!(reply.header("x-why"), "too fast");
    });
}

/// Envoy shows the first of the statuses with the least left. Here a limit that allows the request has less left than
/// the one that denies it, or as little.
#[test]
fn what_denied_a_request_is_what_its_client_sees() {
    let user = json!({"request_headers": {"header_name": "x-user", "descriptor_key": "user"}});
    let work = |hits: u32| json!({"actions": [generic_key("work", "all")], "hits_addend": {"number": hits}});
    let trial = json!({"actions": [generic_key("trial", "x")]});
    let plan = Plan {
        routes: vec![
            Route::new("/few", json!([{"actions": [user]}, work(4)])),
            Route::new("/none", json!([trial, work(4)])),
        ],
        ..Plan::default()
    };
    let shown = |reply: &Reply| {
        ["limit", "remaining"].map(|name| reply.header(&format!("x-ratelimit-{name}")).to_owned())
    };
    on_every_store(
        &[("LIMIT_RESPONSE_HEADERS_ENABLED", "true")],
        &plan,
        |mesh| {
            for (user, status) in [("ann", 200), ("ben", 200), ("ben", 429)] {
                let reply = mesh.envoy.get("/few", &[("x-user", user)]);
                assert_eq!(reply.status, status, "{reply:?}");
                if status == 429 {
                    // Two of the four hits are there, and one of Ben's two.
                    let limit = "10, 2;w=86400;name=\"per-user\", 10;w=86400;name=\"work\"";
                    assert_eq!(shown(&reply), [limit, "0"].map(str::to_owned));
                    let reset: u64 = reply.header("x-ratelimit-reset").parse().unwrap();
                    assert!(
                        (1..=DAY / 5).contains(&reset),
                        "{reset} s until two are back"
                    );
                    assert_eq!(reply.header("ratelimit-limit"), "10");
                    assert_eq!(reply.header("ratelimit-remaining"), "0");
                }
            }
            // A limit in shadow mode that has nothing left, before the one that denies.
            let trial = ask("mesh", &["trial=x"]);
            mesh.ratekeeper.ask(trial).unwrap();
            let reply = mesh.envoy.get("/none", &[]);
            let limit = "10, 1;w=86400;name=\"trial\", 10;w=86400;name=\"work\"";
            assert_eq!(
                (reply.status, shown(&reply)),
                (429, [limit, "0"].map(str::to_owned))
            );
        },
    );
}

#[test]
fn headers_of_the_server_reach_the_client() {
    let environment = [
        ("LIMIT_RESPONSE_HEADERS_ENABLED", "true"),
        ("LIMIT_REMAINING_HEADER", "x-left"),
    ];
    let plan = Plan {
        filter: json!({"enable_x_ratelimit_headers": "OFF"}),
        ..plan("/", json!([{"actions": [generic_key("plan", "free")]}]))
    };
    on_every_store(&environment, &plan, |mesh| {
        for (status, left) in [(200, "2"), (200, "1"), (200, "0"), (429, "0")] {
            let reply = mesh.envoy.get("/", &[]);
            assert_eq!((reply.status, reply.header("x-left")), (status, left));
            assert_eq!(reply.header("ratelimit-limit"), "3");
            let reset: u64 = reply.header("ratelimit-reset").parse().unwrap();
            assert!((1..=DAY).contains(&reset), "{reset} s");
        }
    });
}

#[test]
fn which_rule_decided_reaches_the_client_of_envoy() {
    let explain = [("EXPLAIN_HEADERS", "true")];
    let limits = json!([{"actions": [generic_key("plan", "free")]}]);
    for own in [false, true] {
        // With Envoy's own header of that name, and without.
        let plan = Plan {
            filter: json!({"enable_retry_after_header": own}),
            ..plan("/", limits.clone())
        };
        on_every_store(&explain, &plan, |mesh| {
            for left in ["2", "1", "0"] {
                let reply = mesh.envoy.get("/", &[]);
                assert_eq!(reply.status, 200);
                assert_eq!(reply.header("x-ratekeeper-rule"), "free");
                assert_eq!(reply.header("x-ratekeeper-remaining"), left);
                assert_eq!(reply.header("x-ratekeeper-retry-after-us"), "0");
                assert_eq!(reply.header("x-ratekeeper-decided-by"), "buckets");
                assert_eq!(reply.header("retry-after"), "");
            }
            let reply = mesh.envoy.get("/", &[]);
            assert_eq!(
                (reply.status, reply.header("x-ratekeeper-rule")),
                (429, "free")
            );
            let micros: u64 = reply.header("x-ratekeeper-retry-after-us").parse().unwrap();
            let seconds: u64 = reply.header("retry-after").parse().unwrap();
            assert_eq!(seconds, micros.div_ceil(1_000_000), "{own}");
            assert!((1..=DAY / 3).contains(&seconds), "{seconds} s");
        });
    }
}

#[test]
fn dynamic_metadata_reaches_the_filters_of_envoy() {
    let mut route = Route::new("/", json!([{"actions": [generic_key("known", "x")]}]));
    route.response_headers = vec![(
        "x-metadata",
        "%DYNAMIC_METADATA(envoy.filters.http.ratelimit)%",
    )];
    let plan = Plan {
        routes: vec![route],
        ..Plan::default()
    };
    on_every_store(&[("RESPONSE_DYNAMIC_METADATA", "true")], &plan, |mesh| {
        let metadata: Value =
            serde_json::from_str(mesh.envoy.get("/", &[]).header("x-metadata")).unwrap();
        let expected = json!({
            "domain": "mesh",
            "descriptors": [{"entries": ["known=x"]}],
            "metadata": {"tier": "gold", "owner": {"team": "checkout"}},
        });
        assert_eq!(metadata, expected);
    });
}
