//! Through a real Envoy, on every store: what a mesh sends is decided, and what is decided arrives.

mod costs;
mod responses;
mod rules;

use ratekeeper::service::pb::rate_limit_descriptor::Entry;
use ratekeeper::service::pb::rate_limit_response::DescriptorStatus;
use ratekeeper::service::pb::{RateLimitDescriptor, RateLimitRequest};
use serde_json::{Value, json};

use crate::support::{Backend, Envoy, Plan, Ratekeeper, Route, eventually};

/// Rules for everything that the tests below ask; all in the domain that the filter names.
const RULES: &str = "
domain: mesh
descriptors:
  - key: plan
    value: free
    rate_limit: {name: free, unit: day, requests_per_unit: 3}
  - key: user
    rate_limit: {name: per-user, unit: day, requests_per_unit: 2}
  - key: remote_address
    rate_limit: {name: per-address, unit: day, requests_per_unit: 2}
  - key: remote_address
    value: 192.0.2.66
    rate_limit: {name: banned, unit: day, requests_per_unit: 0}
  - key: header_match
    value: writes
    rate_limit: {name: writes, unit: day, requests_per_unit: 1}
  - key: work
    rate_limit: {name: work, unit: day, requests_per_unit: 10}
  - key: twice
    rate_limit:
      - {name: hourly, unit: hour, requests_per_unit: 2}
      - {name: daily, unit: day, requests_per_unit: 250}
  - key: rhythm
    rate_limit: {name: rhythm, unit: hour, unit_multiplier: 6, requests_per_unit: 4}
  - key: tokens
    rate_limit: {name: tokens, unit: day, requests_per_unit: 100}
  - key: credit
    rate_limit: {name: credit, unit: day, requests_per_unit: 1, burst: 100}
  - key: backend_name
    value: openai
    descriptors:
      - key: model_name_override
        quota_mode: true
        rate_limit: {name: quota, unit: hour, requests_per_unit: 10}
  - key: trial
    shadow_mode: true
    rate_limit: {name: trial, unit: day, requests_per_unit: 1}
  - key: banned
    rate_limit: {name: ban, unit: day, requests_per_unit: 0}
  - key: pardon
    rate_limit: {name: pardon, unit: day, requests_per_unit: 2, replaces: [{name: ban}]}
  - key: quota
    value: small
    quota_mode: true
    rate_limit: {name: small, unit: day, requests_per_unit: 1}
  - key: quota
    value: large
    quota_mode: true
    rate_limit: {name: large, unit: day, requests_per_unit: 2}
  - key: known
    metadata: {tier: gold, owner: {team: checkout}}
    rate_limit: {name: known, unit: day, requests_per_unit: 5}
";

/// A day in seconds.
const DAY: u64 = 86_400;

/// A ratekeeper with the rules above and an Envoy in front of it.
#[derive(Debug)]
struct Mesh {
    envoy: Envoy,
    ratekeeper: Ratekeeper,
    /// Stopped last.
    _backend: Backend,
}

/// Runs a test on every store, each time with processes of its own.
fn on_every_store(environment: &[(&str, &str)], plan: &Plan, test: impl Fn(Mesh)) {
    for backend in Backend::all() {
        let environment = environment
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        let ratekeeper =
            Ratekeeper::start(RULES, backend.environment().into_iter().chain(environment));
        let envoy = Envoy::start(ratekeeper.address(), plan);
        test(Mesh {
            envoy,
            ratekeeper,
            _backend: backend,
        });
    }
}

/// A plan of one route, with a rate limit entry that has one action and perhaps more fields.
fn plan(path: &'static str, rate_limits: Value) -> Plan {
    Plan {
        routes: vec![Route::new(path, rate_limits)],
        ..Plan::default()
    }
}

/// The action that sends a fixed entry.
fn generic_key(key: &str, value: &str) -> Value {
    json!({"generic_key": {"descriptor_key": key, "descriptor_value": value}})
}

// --- Connections ---

/// Envoy sends the name of its cluster as `:authority` unless it is configured otherwise. Istio's names are no authorities.
#[test]
fn a_cluster_with_the_name_that_istio_gives_it_is_served() {
    const NAME: &str = "outbound|8081||ratelimit.default.svc.cluster.local";
    let plan = Plan {
        routes: vec![Route::new(
            "/",
            json!([{"actions": [generic_key("plan", "free")]}]),
        )],
        cluster: json!({"name": NAME}),
        filter: json!({"rate_limit_service": {
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": NAME}},
        }}),
        ..Plan::default()
    };
    on_every_store(&[], &plan, |mesh| {
        assert_eq!(mesh.envoy.statuses(5, "/", &[]), [200, 200, 200, 429, 429]);
    });
}

/// While this server stands still, Envoy's calls time out, and Envoy resets them. The connection outlives that.
#[test]
fn the_connection_outlives_a_stall_that_is_longer_than_the_timeout() {
    let plan = Plan {
        routes: vec![Route::new(
            "/",
            json!([{"actions": [generic_key("plan", "free")]}]),
        )],
        filter: json!({"timeout": "0.05s", "failure_mode_deny": false}),
        ..Plan::default()
    };
    let ratekeeper = Ratekeeper::start(RULES, []);
    let envoy = Envoy::start(ratekeeper.address(), &plan);
    let accepted = || {
        let stats = ratekeeper.debug().get("/stats").body;
        let count = stats
            .lines()
            .find_map(|line| line.strip_prefix("grpc.connections.accepted: "));
        count.unwrap().parse::<u64>().unwrap()
    };
    eventually("the rule is exhausted", || {
        envoy.get("/", &[]).status == 429
    });
    let before = accepted();
    ratekeeper.signal("STOP");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                assert_eq!(envoy.statuses(25, "/", &[]), [200; 25], "Envoy fails open");
            });
        }
    });
    ratekeeper.signal("CONT");
    eventually("it decides again", || envoy.get("/", &[]).status == 429);
    assert_eq!(accepted(), before);
}

// --- Actions ---

#[test]
fn generic_key_spends_one_bucket_and_is_then_denied() {
    let limits = json!([{"actions": [generic_key("plan", "free")]}]);
    on_every_store(&[], &plan("/", limits), |mesh| {
        for (remaining, reset) in [("2", DAY / 3), ("1", 2 * DAY / 3), ("0", DAY)] {
            let reply = mesh.envoy.get("/", &[]);
            assert_eq!((reply.status, reply.body.as_str()), (200, "hello"));
            assert_eq!(
                reply.header("x-ratelimit-limit"),
                "3, 3;w=86400;name=\"free\""
            );
            assert_eq!(reply.header("x-ratelimit-remaining"), remaining);
            // Until the bucket is full again: a third of a day for each token taken.
            let told: u64 = reply.header("x-ratelimit-reset").parse().unwrap();
            assert!(
                told <= reset && told > reset - DAY / 3,
                "{told} s, expected {reset} s"
            );
        }
        for _ in 0..2 {
            let reply = mesh.envoy.get("/", &[]);
            assert_eq!((reply.status, reply.body.as_str()), (429, ""));
            assert_eq!(reply.header("x-envoy-ratelimited"), "true");
            assert_eq!(
                reply.header("x-ratelimit-limit"),
                "3, 3;w=86400;name=\"free\""
            );
            assert_eq!(reply.header("x-ratelimit-remaining"), "0");
            // Until one token is back.
            assert_eq!(
                reply.header("retry-after"),
                reply.header("x-ratelimit-reset")
            );
            let told: u64 = reply.header("x-ratelimit-reset").parse().unwrap();
            assert!((1..=DAY / 3).contains(&told), "{told} s");
        }
    });
}

#[test]
fn request_headers_give_every_value_a_bucket_of_its_own() {
    let action = json!({"request_headers": {"header_name": "x-user", "descriptor_key": "user"}});
    on_every_store(&[], &plan("/", json!([{"actions": [action]}])), |mesh| {
        assert_eq!(
            mesh.envoy.statuses(3, "/", &[("x-user", "ann")]),
            [200, 200, 429]
        );
        assert_eq!(
            mesh.envoy.statuses(3, "/", &[("x-user", "ben")]),
            [200, 200, 429]
        );
        // Without the header there is no descriptor, and nothing to limit.
        assert_eq!(mesh.envoy.statuses(4, "/", &[]), [200; 4]);
    });
}

#[test]
fn remote_address_limits_clients_by_address() {
    let limits = json!([{"actions": [{"remote_address": {}}]}]);
    on_every_store(&[], &plan("/", limits), |mesh| {
        for address in ["192.0.2.1", "2001:db8::1"] {
            let from = [("x-forwarded-for", address)];
            assert_eq!(
                mesh.envoy.statuses(3, "/", &from),
                [200, 200, 429],
                "{address}"
            );
        }
        assert_eq!(
            mesh.envoy
                .get("/", &[("x-forwarded-for", "192.0.2.66")])
                .status,
            429
        );
        // Without the header it is the address of the connection, 127.0.0.1.
        assert_eq!(mesh.envoy.statuses(3, "/", &[]), [200, 200, 429]);
    });
}

#[test]
fn header_value_match_limits_what_matches() {
    let writes = json!({"header_value_match": {
        "descriptor_value": "writes",
        "headers": [{"name": ":method", "string_match": {"exact": "POST"}}],
    }});
    on_every_store(&[], &plan("/", json!([{"actions": [writes]}])), |mesh| {
        assert_eq!(mesh.envoy.send("POST", "/", &[]).status, 200);
        assert_eq!(mesh.envoy.send("POST", "/", &[]).status, 429);
        assert_eq!(mesh.envoy.get("/", &[]).status, 200);
    });
}

// --- Hits ---

/// The status of a check with zero hits, straight from the server.
fn check(ratekeeper: &Ratekeeper, key: &str, value: &str) -> DescriptorStatus {
    checked(ratekeeper, &[(key, value)])
}

fn checked(ratekeeper: &Ratekeeper, entries: &[(&str, &str)]) -> DescriptorStatus {
    let entry = |&(key, value): &(&str, &str)| Entry {
        key: key.into(),
        value: value.into(),
    };
    let descriptor = RateLimitDescriptor {
        entries: entries.iter().map(entry).collect(),
        hits_addend: Some(0),
        ..RateLimitDescriptor::default()
    };
    let request = RateLimitRequest {
        domain: "mesh".into(),
        descriptors: vec![descriptor],
        ..RateLimitRequest::default()
    };
    ratekeeper.ask(request).unwrap().statuses.remove(0)
}

// --- What clients of Envoy put into requests ---

/// Envoy fails open here, as it does by default: an error of the server would be a 200.
fn failing_open(routes: Vec<Route>) -> Plan {
    Plan {
        routes,
        filter: json!({"failure_mode_deny": false}),
        ..Plan::default()
    }
}

fn user_header() -> Value {
    json!({"request_headers": {"header_name": "x-user", "descriptor_key": "user"}})
}

#[test]
fn long_paths_and_headers_are_limited_as_short_ones() {
    let path = json!({"request_headers": {"header_name": ":path", "descriptor_key": "user"}});
    let twice = json!([{"actions": [path]}, {"actions": [path, generic_key("plan", "free")]}]);
    let user = json!([{"actions": [user_header()]}]);
    let plan = failing_open(vec![
        Route::new("/path*", twice),
        Route::new("/header", user),
    ]);
    let environment = [
        ("EXPLAIN_HEADERS", "true"),
        ("RESPONSE_DYNAMIC_METADATA", "true"),
    ];
    on_every_store(&environment, &plan, |mesh| {
        let long = format!("/path?{}", "q".repeat(35_000));
        assert_eq!(mesh.envoy.statuses(4, &long, &[]), [200, 200, 429, 429]);
        // Nearly all that Envoy takes: 60 KiB of headers.
        for last in ["a", "b"] {
            let value = "x".repeat(60_000) + last;
            let header = [("x-user", value.as_str())];
            assert_eq!(
                mesh.envoy.statuses(4, "/header", &header),
                [200, 200, 429, 429]
            );
        }
    });
}

#[test]
fn header_bytes_that_are_no_text_are_limited_as_text() {
    let plan = failing_open(vec![Route::new("/", json!([{"actions": [user_header()]}]))]);
    on_every_store(&[("RESPONSE_DYNAMIC_METADATA", "true")], &plan, |mesh| {
        for value in [&b"caf\xe9"[..], b"\xff", b"a\xffb", "caf\u{e9}".as_bytes()] {
            let statuses = [200, 200, 429, 429];
            let send = || mesh.envoy.get_bytes("/", ("x-user", value)).status;
            assert_eq!(statuses.map(|_| send()), statuses, "{value:?}");
        }
    });
}

/// A header that is repeated in so many descriptors is more than gRPC reads by its defaults.
#[test]
fn messages_that_are_too_large_are_denied() {
    let many = Value::Array(vec![json!({"actions": [user_header()]}); 80]);
    let plan = failing_open(vec![Route::new("/", many)]);
    on_every_store(&[], &plan, |mesh| {
        let large = "x".repeat(60_000);
        for _ in 0..3 {
            assert_eq!(mesh.envoy.statuses(2, "/", &[("x-user", &large)]), [429; 2]);
            // All the same bucket, of which two hits fit.
            assert_eq!(mesh.envoy.get("/", &[("x-user", "short")]).status, 429);
            assert_eq!(mesh.envoy.get("/", &[]).status, 200);
        }
    });
}

// --- Several limits ---

#[test]
fn a_request_takes_from_all_of_its_buckets_or_from_none() {
    let user = json!({"request_headers": {"header_name": "x-user", "descriptor_key": "user"}});
    let limits = json!([{"actions": [generic_key("work", "all")]}, {"actions": [user]}]);
    on_every_store(&[], &plan("/", limits), |mesh| {
        let reply = mesh.envoy.get("/", &[("x-user", "ann")]);
        let policies = "2, 10;w=86400;name=\"work\", 2;w=86400;name=\"per-user\"";
        assert_eq!(reply.header("x-ratelimit-limit"), policies);
        assert_eq!(reply.header("x-ratelimit-remaining"), "1");

        assert_eq!(
            mesh.envoy.statuses(5, "/", &[("x-user", "ann")]),
            [200, 429, 429, 429, 429]
        );
        // Ann took two of the ten, though she asked six times.
        assert_eq!(check(&mesh.ratekeeper, "work", "all").limit_remaining, 8);
    });
}

// --- Without a server ---

#[test]
fn envoy_decides_when_the_server_is_stopped() {
    let limits = json!([{"actions": [generic_key("work", "x")]}]);
    for (deny, status) in [(true, 500), (false, 200)] {
        let plan = Plan {
            filter: json!({"failure_mode_deny": deny}),
            ..plan("/", limits.clone())
        };
        on_every_store(&[], &plan, |mesh| {
            assert_eq!(mesh.envoy.get("/", &[]).status, 200);
            assert_eq!(mesh.ratekeeper.stop().code(), Some(0));
            let reply = mesh.envoy.get("/", &[]);
            assert_eq!(
                (reply.status, reply.header("x-ratelimit-limit")),
                (status, "")
            );
        });
    }
}
