//! Rules from a management server: what it sends is in force when it is acknowledged, and what it
//! must not send is refused with all that is wrong.

mod gateways;

use std::collections::BTreeMap;

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use ratekeeper::source::xds::TYPE_URL;
use ratekeeper::source::xds::pb::{
    RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitReplace, RateLimitUnit,
};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::{Api, Management, Ratekeeper, Scrape, ask, check, resource, times, typed};

/// A server that asks this management server, with further environment variables.
fn start(management: &Management, environment: &[(&'static str, &str)]) -> Ratekeeper {
    let address = (
        "CONFIG_GRPC_XDS_SERVER_URL",
        management.address().to_string(),
    );
    let kind = ("CONFIG_TYPE", "GRPC_XDS_SOTW".to_owned());
    let own = environment.iter().map(|&(n, v)| (n, v.to_owned()));
    Ratekeeper::start_with(Vec::<&str>::new(), own.chain([address, kind]))
}

fn config(name: &str, domain: &str, descriptors: &[RateLimitDescriptor]) -> RateLimitConfig {
    RateLimitConfig {
        name: name.to_owned(),
        domain: domain.to_owned(),
        descriptors: descriptors.to_vec(),
    }
}

fn descriptor(key: &str, value: &str, rate_limit: Option<RateLimitPolicy>) -> RateLimitDescriptor {
    RateLimitDescriptor {
        key: key.to_owned(),
        value: value.to_owned(),
        rate_limit,
        ..RateLimitDescriptor::default()
    }
}

fn per(unit: RateLimitUnit, requests_per_unit: u32) -> Option<RateLimitPolicy> {
    Some(RateLimitPolicy {
        unit: unit.into(),
        requests_per_unit,
        ..RateLimitPolicy::default()
    })
}

fn per_year(requests_per_unit: u32) -> Option<RateLimitPolicy> {
    per(RateLimitUnit::Year, requests_per_unit)
}

#[test]
fn snapshots_replace_each_other() {
    let management = Management::start();
    let server = start(&management, &[]);
    let session = management.session();
    session.request();
    assert_eq!(server.health(""), ServingStatus::NotServing);
    server.ask(ask("reload", &["block=foo"])).unwrap_err();

    let block = descriptor("block", "", per_year(0));
    let key = descriptor("key1", "", per_year(50));
    let one = config("reload", "reload", std::slice::from_ref(&block));
    session.accepted("1", &[one]);
    assert_eq!(server.health("ratelimit"), ServingStatus::Serving);
    check(&server, "1", ask("reload", &["key1=foo"]), "OK: OK");
    check(
        &server,
        "1",
        ask("reload", &["block=foo"]),
        "OVER: OVER 0 of 0/year never",
    );

    let two = config("reload", "reload", &[block, key.clone()]);
    let other = config("other", "other", &[key]);
    session.accepted("2", &[two, other.clone()]);
    check(
        &server,
        "2",
        ask("reload", &["key1=foo"]),
        "OK: OK 49 of 50/year",
    );
    check(
        &server,
        "2",
        ask("other", &["key1=foo"]),
        "OK: OK 49 of 50/year",
    );

    // What is not sent any more is gone; what is sent again goes on.
    session.accepted("3", &[other]);
    check(&server, "3", ask("reload", &["block=foo"]), "OK: OK");
    check(
        &server,
        "3",
        ask("other", &["key1=foo"]),
        "OK: OK 48 of 50/year",
    );

    session.accepted("4", &[]);
    check(&server, "4", ask("other", &["key1=foo"]), "OK: OK");
    assert_eq!(server.health(""), ServingStatus::Serving);
    assert!(server.stop().success());
    session.ended();
}

#[test]
fn the_server_says_who_asks_and_for_what() {
    let management = Management::start();
    let environment = [
        ("CONFIG_GRPC_XDS_NODE_ID", "edge-7"),
        ("CONFIG_GRPC_XDS_NODE_METADATA", "zone=a, tier==1"),
        (
            "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS",
            "x-tenant:blue,authorization=Bearer s3cret:1",
        ),
        ("LOG_LEVEL", "trace"),
    ];
    let server = start(&management, &environment);
    let session = management.session();
    let first = session.request();
    assert_eq!(first.type_url, TYPE_URL);
    assert_eq!(first.version_info, "");
    assert_eq!(first.response_nonce, "");
    assert!(first.resource_names.is_empty());
    let text = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let metadata = [("zone", text("a")), ("tier", text("=1"))];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
    let node = first.node.clone().unwrap();
    assert_eq!(node.id, "edge-7");
    assert_eq!(node.metadata.unwrap().fields, BTreeMap::from(metadata));
    assert_eq!(node.user_agent_name, "ratekeeper");
    let header = |name: &str| session.headers.get(name).unwrap().to_str().unwrap();
    assert_eq!(header("x-tenant"), "blue");
    assert_eq!(header("authorization"), "Bearer s3cret:1");
    assert!(header("user-agent").starts_with("ratekeeper/"));

    // The node goes with each request: not every server remembers it.
    session.send("1", &[]);
    assert_eq!(session.request().node, first.node);
    server.signal("TERM");
    let (_, log) = server.ended();
    assert!(!log.contains("s3cret"), "{log}");
}

#[test]
fn all_mistakes_are_told_and_the_old_rules_stay() {
    let management = Management::start();
    let mut server = start(&management, &[]);
    let session = management.session();
    session.request();
    let right = config("a", "shop", &[descriptor("key", "", per_year(50))]);
    session.accepted("1", std::slice::from_ref(&right));

    let replaces_itself = RateLimitPolicy {
        name: "same".to_owned(),
        replaces: vec![
            RateLimitReplace {
                name: "same".to_owned(),
            },
            RateLimitReplace::default(),
        ],
        ..per_year(1).unwrap()
    };
    let unlimited = RateLimitPolicy {
        unlimited: true,
        ..per_year(1).unwrap()
    };
    let unknown_unit = RateLimitPolicy {
        unit: 99,
        ..RateLimitPolicy::default()
    };
    let not_a_number = Value {
        kind: Some(Kind::NumberValue(f64::NAN)),
    };
    let metadata = Struct {
        fields: BTreeMap::from([("ratio".to_owned(), not_a_number)]),
    };
    let below = RateLimitDescriptor {
        share_threshold: true,
        on_store_failure: "panic".to_owned(),
        metadata: Some(metadata),
        ..descriptor("below", "", per(RateLimitUnit::Unknown, 1))
    };
    let wrong = RateLimitConfig {
        descriptors: vec![
            RateLimitDescriptor {
                descriptors: vec![below, descriptor("", "", None)],
                ..descriptor("top", "value", Some(replaces_itself))
            },
            descriptor("key", "", Some(unlimited)),
            descriptor("key", "", Some(unknown_unit)),
        ],
        ..config("b", "wrong", &[])
    };
    let nameless = config("", "", &[]);
    let again = config("d", "shop", &[]);
    session.send("2", &[again, wrong, right.clone(), nameless]);
    let reason = session.refused("2", "1");
    for expected in [
        "resource b: error parsing metadata: NaN is not a JSON number",
        "resource b: wrong.top_value: replaces should not contain name of same descriptor: 'same'",
        "resource b: wrong.top_value: should not have an empty replaces entry",
        "resource b: wrong.top_value.below: invalid rate limit unit ''",
        "resource b: wrong.top_value.below: share_threshold can only be used with wildcard values",
        "resource b: wrong.top_value.below: on_store_failure cannot be 'panic'",
        "resource b: wrong.top_value.[1]: descriptor has empty key",
        "resource b: wrong.key: should not specify rate limit unit when unlimited",
        "resource b: wrong.key[2]: duplicate descriptor composite key 'wrong.key'; it is defined \
         first at resource b: wrong.key;",
        "resource b: wrong.key[2]: invalid rate limit unit '99'",
        "resource #4: ?: config file cannot have empty domain",
        "resource d: shop: duplicate domain 'shop' in config file; it is also the domain of \
         resource a: shop;",
    ] {
        assert!(reason.contains(expected), "{expected}\n{reason}");
    }
    assert_eq!(reason.lines().count(), 12, "{reason}");
    server.wait_for_log("keeping the active configuration");
    server.wait_for_log("resource b: wrong.key[2]");
    check(
        &server,
        "after",
        ask("shop", &["key=a"]),
        "OK: OK 49 of 50/year",
    );

    session.accepted("3", &[right]);
    check(
        &server,
        "at last",
        ask("shop", &["key=a"]),
        "OK: OK 48 of 50/year",
    );
}

#[test]
fn our_own_fields_are_carried() {
    let management = Management::start();
    let server = start(&management, &[]);
    let session = management.session();
    session.request();
    let bursty = RateLimitPolicy {
        burst: Some(30),
        unit_multiplier: Some(2),
        max_debt: Some(0),
        hits: "postpaid".to_owned(),
        ..per_year(10).unwrap()
    };
    let window = RateLimitPolicy {
        algorithm: "fixed_window".to_owned(),
        name: "window".to_owned(),
        ..per_year(7).unwrap()
    };
    let shared = RateLimitDescriptor {
        share_threshold: true,
        value_to_metric: true,
        on_store_failure: "deny".to_owned(),
        ..descriptor("file", "files/*", per_year(3))
    };
    let several = RateLimitDescriptor {
        more_rate_limits: vec![window.clone()],
        candidates: vec![window.clone(), per_year(2).unwrap()],
        ..descriptor("several", "", per_year(20))
    };
    let descriptors = [
        descriptor("bursty", "", Some(bursty)),
        descriptor("window", "", Some(window)),
        shared,
        several,
    ];
    session.accepted("1", &[config("ours", "ours", &descriptors)]);
    let rows = [
        ("bursty=a", "OK: OK 29 of 10/2year"),
        ("window=a", "OK: OK 6 of 7/year (window)"),
        ("file=files/a", "OK: OK 2 of 3/year"),
        ("file=files/b", "OK: OK 1 of 3/year"),
        ("several=a", "OK: OK 6 of 7/year (window)"),
    ];
    for (row, expected) in rows {
        check(&server, row, ask("ours", &[row]), expected);
    }
    let page = server.debug().get("/rlconfig").body;
    let tried = "candidate: (unit=YEAR requests_per_unit=7, algorithm: fixed_window), candidate: \
                 (unit=YEAR requests_per_unit=2)";
    assert!(page.contains(tried), "{page}");
    // Postpaid: more than there is is taken, down to the debt that is allowed.
    let cost = times(50, ask("ours", &["bursty=a"]));
    check(&server, "cost", cost, "OVER: OVER 0 of 10/2year never");
    check(
        &server,
        "then",
        ask("ours", &["bursty=a"]),
        "OVER: OVER 0 of 10/2year",
    );
}

/// Control planes send no `hits`: when they are taken is an option of the server.
#[test]
fn what_comes_without_hits_has_those_of_the_option() {
    for (default, then) in [
        ("postpaid", "OVER: OVER 0 of 10/year"),
        ("prepaid", "OK: OK 9 of 10/year"),
        ("auto", "OK: OK 9 of 10/year"),
    ] {
        let management = Management::start();
        let server = start(&management, &[("DEFAULT_HITS", default)]);
        let session = management.session();
        session.request();
        let own = RateLimitPolicy {
            hits: "prepaid".to_owned(),
            ..per_year(10).unwrap()
        };
        let descriptors = [
            descriptor("plain", "", per_year(10)),
            descriptor("own", "", Some(own)),
        ];
        session.accepted("1", &[config("c", "costs", &descriptors)]);
        for (key, then) in [("plain=a", then), ("own=a", "OK: OK 9 of 10/year")] {
            // A report that no question came before.
            server.ask(ask("costs", &[&format!("{key} x15")])).unwrap();
            check(&server, default, ask("costs", &[key]), then);
        }
    }
}

#[test]
fn resources_share_a_domain_when_they_may() {
    let management = Management::start();
    let server = start(&management, &[("MERGE_DOMAIN_CONFIG", "true")]);
    let session = management.session();
    session.request();
    // Both patterns match; the resource whose name comes first wins, in whatever order they are sent.
    let first = config("a", "shared", &[descriptor("k", "v*", per_year(10))]);
    let second = config("b", "shared", &[descriptor("k", "*w", per_year(20))]);
    session.accepted("1", &[second.clone(), first.clone()]);
    check(
        &server,
        "1",
        ask("shared", &["k=vw"]),
        "OK: OK 9 of 10/year",
    );
    check(
        &server,
        "1",
        ask("shared", &["k=xw"]),
        "OK: OK 19 of 20/year",
    );

    // Two with the same name are told apart by their places.
    let twin = config("a", "shared", &[descriptor("k", "v*", None)]);
    session.send("2", &[first, twin]);
    let reason = session.refused("2", "1");
    let expected = "resource a (#2): shared.k_v*: duplicate descriptor composite key 'shared.k_v*'; \
                    it is defined first at resource a: shared.k_v*;";
    assert!(reason.starts_with(expected), "{reason}");
}

#[test]
fn unknown_fields_are_passed_over() {
    let management = Management::start();
    let server = start(&management, &[]);
    let session = management.session();
    session.request();
    let mut any = resource(&config("a", "d", &[descriptor("k", "", per_year(5))]));
    // Field 900, a text, and field 901, a number.
    any.value
        .extend([0xa2, 0x38, 0x03, b'n', b'e', b'w', 0xa8, 0x38, 0x07]);
    session.send_any("1", vec![any]);
    assert_eq!(session.request().error_detail, None);
    check(&server, "1", ask("d", &["k=a"]), "OK: OK 4 of 5/year");
}

/// What go-control-plane does on a rollback: it sends what was rejected again and again, and then what was there
/// before.
#[test]
fn a_rollback_ends_the_rejection() {
    let management = Management::start();
    let scraped = Scrape::environment();
    let retry = ("CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL", "20ms");
    let mut server = start(&management, &[scraped[0], scraped[1], retry]);
    let api = Api::of(&server);
    let session = management.session();
    session.request();
    let good = config("a", "shop", &[descriptor("key", "", per_year(50))]);
    let bad = config("a", "shop", &[descriptor("", "", per_year(60))]);
    let is_successful =
        |server: &Ratekeeper| Scrape::of(server).value("ratekeeper_config_last_load_successful");
    let loads = |server: &Ratekeeper, end: &str| {
        Scrape::of(server).value(&format!("ratelimit_service_config_load_{end}"))
    };
    session.accepted("1", std::slice::from_ref(&good));
    assert_eq!(is_successful(&server), 1.0);
    for round in 1..=2_u32 {
        for _ in 0..3 {
            let version = format!("bad{round}");
            session.send(&version, std::slice::from_ref(&bad));
            session.refused(&version, if round == 1 { "1" } else { "good1" });
        }
        server.wait_for_log("descriptor has empty key");
        assert_eq!(is_successful(&server), 0.0, "round {round}");
        assert_eq!(
            loads(&server, "error"),
            f64::from(round),
            "each is loaded once"
        );
        let status = api.get("/status");
        assert!(status["configuration"]["rejected"]["mistakes"][0].is_string());

        let version = format!("good{round}");
        session.accepted(&version, std::slice::from_ref(&good));
        server.wait_for_log("configuration loaded");
        assert_eq!(is_successful(&server), 1.0, "round {round}");
        assert_eq!(loads(&server, "success"), 1.0 + f64::from(round));
        let configuration = &api.get("/status")["configuration"];
        assert_eq!(configuration["rejected"], serde_json::Value::Null);
        assert_eq!(configuration["version"], version);
        let address = server.debug().address().to_string();
        let top = typed(["top", "--once", "--address", &address], []);
        assert!(
            !top.stdout.contains("was rejected"),
            "{}{}",
            top.stdout,
            top.stderr
        );
    }
    // What is in force is answered without loading it again.
    session.accepted("again", std::slice::from_ref(&good));
    assert_eq!(loads(&server, "success"), 3.0);
    // Buckets go on where they were.
    check(
        &server,
        "at last",
        ask("shop", &["key=a"]),
        "OK: OK 49 of 50/year",
    );
}

/// What a user of Envoy Gateway can do, who writes no descriptors.
#[test]
fn a_rule_that_is_sent_twice_is_reported_with_what_to_change() {
    let management = Management::start();
    let server = start(&management, &[]);
    let session = management.session();
    session.request();
    let rule = "httproute/default/shop/rule/0/match/-1/*";
    let twice = [
        descriptor(rule, rule, per_year(1)),
        descriptor(rule, rule, per_year(2)),
    ];
    session.send("1", &[config("default/eg/http", "default/eg/http", &twice)]);
    let reason = session.refused("1", "");
    for part in [
        "duplicate descriptor composite key",
        "it is defined first at resource default/eg/http: ",
        "the management server sent both",
        "BackendTrafficPolicies",
    ] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    assert!(!reason.contains("rate_limit list"), "{reason}");
    assert!(server.stop().success());
}
