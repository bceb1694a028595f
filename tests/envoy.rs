//! Through a real Envoy, on every store: what a mesh sends is decided, and what is decided arrives.

use ratekeeper::service::pb::rate_limit_descriptor::Entry;
use ratekeeper::service::pb::rate_limit_response::DescriptorStatus;
use ratekeeper::service::pb::{RateLimitDescriptor, RateLimitRequest};
use serde_json::{Value, json};

use crate::support::{Backend, Envoy, Plan, Ratekeeper, Reply, Route, ask, eventually, extension};

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

#[test]
fn hits_addend_of_a_route_takes_that_many() {
    let work = |value| json!([generic_key("work", value)]);
    let by_number = json!([{"actions": work("number"), "hits_addend": {"number": 4}}]);
    let by_format =
        json!([{"actions": work("format"), "hits_addend": {"format": "%REQ(x-hits)%"}}]);
    let refund = json!([{
        "actions": work("format"),
        "hits_addend": {"number": 5, "is_negative_hits": true},
    }]);
    let plan = Plan {
        routes: vec![
            Route::new("/number", by_number),
            Route::new("/format", by_format),
            Route::new("/refund", refund),
        ],
        ..Plan::default()
    };
    on_every_store(&[], &plan, |mesh| {
        assert_eq!(mesh.envoy.statuses(3, "/number", &[]), [200, 200, 429]);

        // What is denied takes nothing: after 6 of 10, 5 do not fit, and 4 still do.
        let take = |hits| mesh.envoy.get("/format", &[("x-hits", hits)]).status;
        assert_eq!(["6", "5", "4", "1"].map(take), [200, 429, 200, 429]);

        // Five are given back, and are there to be taken again, once.
        assert_eq!(mesh.envoy.get("/refund", &[]).status, 200);
        assert_eq!(["5", "1"].map(take), [200, 429]);
    });
}

/// What clients write into a header that hits are read from is no error, which would be a 500 here.
#[test]
fn hits_that_are_none_are_decided() {
    let limits = json!([{
        "actions": [generic_key("work", "format")],
        "hits_addend": {"format": "%REQ(x-hits)%"},
    }]);
    on_every_store(&[], &plan("/", limits), |mesh| {
        for hits in [
            "18446744073709551615",
            "18446744073709551616",
            "99999999999999999999999",
            "-1",
            "-0",
            "1e9",
            "0x10",
            "1.5",
            "NaN",
            "abc",
            ",",
            "4294967296",
        ] {
            let status = mesh.envoy.get("/", &[("x-hits", hits)]).status;
            assert!([200, 429].contains(&status), "{hits}: {status}");
        }
        // None of them has taken what it did not get, nor made the limit forget what was taken.
        let left = check(&mesh.ratekeeper, "work", "format").limit_remaining;
        let denied = mesh.envoy.get("/", &[("x-hits", "11")]);
        assert_eq!(denied.status, 429);
        assert_eq!(
            check(&mesh.ratekeeper, "work", "format").limit_remaining,
            left
        );
    });
}

/// Envoy's pattern for costs that are known only afterwards (Envoy Gateway's cost by response, tokens
/// of a language model): a request is checked with zero hits, and when its stream is done the true
/// cost is reported. A cost above what is left must count, or the limit would never bite.
#[test]
fn cost_reported_when_the_stream_is_done_holds_the_limit() {
    let actions = json!([generic_key("tokens", "ann")]);
    let limits = json!([
        {"actions": actions, "hits_addend": {"number": 0}},
        {
            "actions": actions,
            "hits_addend": {"format": "%DYNAMIC_METADATA(cost:tokens)%"},
            "apply_on_stream_done": true,
        },
    ]);
    let cost_of_response = extension(
        "envoy.filters.http.header_to_metadata",
        "envoy.extensions.filters.http.header_to_metadata.v3.Config",
        json!({"response_rules": [{
            "header": "x-cost",
            "on_header_present": {"metadata_namespace": "cost", "key": "tokens", "type": "NUMBER"},
        }]}),
    );
    let plan = Plan {
        filters_before: vec![cost_of_response],
        ..plan("/", limits)
    };
    on_every_store(&[], &plan, |mesh| {
        // Envoy reports after it has answered, so the bucket is watched until the report is in.
        let remaining = || check(&mesh.ratekeeper, "tokens", "ann").limit_remaining;
        let spend = |cost| mesh.envoy.get("/", &[("x-cost", cost)]);

        let reply = spend("60");
        assert_eq!((reply.status, reply.header("x-cost")), (200, "60"));
        assert_eq!(reply.header("x-ratelimit-remaining"), "100");
        eventually("60 of 100 are taken", || remaining() == 40);

        // 40 are left, so the check passes; the 100 that it then costs leave a debt of 60.
        assert_eq!(spend("100").status, 200);
        eventually("all are taken", || remaining() == 0);
        for _ in 0..3 {
            let reply = spend("1");
            assert_eq!(
                (reply.status, reply.header("x-ratelimit-remaining")),
                (429, "0")
            );
            // A hundredth of a day for each token of the debt, and for the one to be left then.
            let told: u64 = reply.header("x-ratelimit-reset").parse().unwrap();
            assert!(
                (60 * DAY / 100..=61 * DAY / 100).contains(&told),
                "{told} s"
            );
        }
    });
}

/// Envoy AI Gateway's `QuotaPolicy`: at the request, entries without hits; when the stream is done, the same entries with
/// the tokens that it cost.
#[test]
fn the_tokens_of_the_first_request_are_taken_though_it_only_asked() {
    let actions = json!([
        generic_key("backend_name", "openai"),
        generic_key("model_name_override", "gpt"),
    ]);
    let limits = json!([
        {"actions": actions},
        {"actions": actions, "hits_addend": {"format": "%RESP(x-cost)%"}, "apply_on_stream_done": true},
    ]);
    on_every_store(&[], &plan("/", limits), |mesh| {
        let entries = [("backend_name", "openai"), ("model_name_override", "gpt")];
        let spend = |cost| mesh.envoy.get("/", &[("x-cost", cost)]).status;
        assert_eq!(spend("20"), 200);
        eventually("the report is in", || {
            checked(&mesh.ratekeeper, &entries).limit_remaining == 0
        });
        for _ in 0..5 {
            assert_eq!(spend("5"), 429);
        }
    });
}

/// An estimate at the request; when the stream is done, the estimate back and the cost. A denied request ends, too, and
/// gives its estimate back.
#[test]
fn estimates_of_denied_requests_give_nothing_back() {
    let actions = json!([generic_key("credit", "ann")]);
    let limits = json!([
        {"actions": actions, "hits_addend": {"format": "%REQ(x-estimate)%"}},
        {
            "actions": actions,
            "hits_addend": {"format": "%REQ(x-estimate)%", "is_negative_hits": true},
            "apply_on_stream_done": true,
        },
        {"actions": actions, "hits_addend": {"format": "%RESP(x-cost)%"}, "apply_on_stream_done": true},
    ]);
    on_every_store(&[], &plan("/", limits), |mesh| {
        let statuses = (0..10).map(|_| {
            let headers = [("x-estimate", "100"), ("x-cost", "37")];
            let status = mesh.envoy.get("/", &headers).status;
            eventually("the end of the request is in", || {
                check(&mesh.ratekeeper, "credit", "ann").limit_remaining == 63
            });
            status
        });
        let statuses: Vec<u16> = statuses.collect();
        assert_eq!(statuses, [200, 429, 429, 429, 429, 429, 429, 429, 429, 429]);
    });
}

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

#[test]
fn all_limits_of_a_rule_must_admit() {
    let limits = json!([{"actions": [generic_key("twice", "x")]}]);
    on_every_store(&[], &plan("/", limits), |mesh| {
        assert_eq!(mesh.envoy.statuses(3, "/", &[]), [200, 200, 429]);
        let reply = mesh.envoy.get("/", &[]);
        assert_eq!(
            reply.header("x-ratelimit-limit"),
            "2, 2;w=3600;name=\"hourly\""
        );
    });
}

#[test]
fn the_window_of_a_multiplied_unit_arrives() {
    let limits = json!([{"actions": [generic_key("rhythm", "x")]}]);
    on_every_store(&[], &plan("/", limits), |mesh| {
        let reply = mesh.envoy.get("/", &[]);
        assert_eq!(
            reply.header("x-ratelimit-limit"),
            "4, 4;w=21600;name=\"rhythm\""
        );
        assert_eq!(reply.header("x-ratelimit-reset"), "5400");
    });
}

#[test]
fn a_shadow_rule_never_denies() {
    let limits = json!([{"actions": [generic_key("trial", "x")]}]);
    on_every_store(&[], &plan("/", limits), |mesh| {
        assert_eq!(mesh.envoy.statuses(3, "/", &[]), [200; 3]);
        assert_eq!(
            mesh.envoy.get("/", &[]).header("x-ratelimit-remaining"),
            "0"
        );
    });
}

#[test]
fn a_limit_replaces_another_of_the_same_request() {
    let banned = json!({"actions": [generic_key("banned", "x")]});
    let pardoned = json!({"actions": [generic_key("pardon", "x")]});
    let plan = Plan {
        routes: vec![
            Route::new("/banned", json!([banned])),
            Route::new("/pardoned", json!([banned, pardoned])),
        ],
        ..Plan::default()
    };
    on_every_store(&[], &plan, |mesh| {
        assert_eq!(mesh.envoy.get("/banned", &[]).status, 429);
        assert_eq!(mesh.envoy.statuses(3, "/pardoned", &[]), [200, 200, 429]);
        assert_eq!(mesh.envoy.get("/banned", &[]).status, 429);
    });
}

#[test]
fn quotas_deny_when_all_of_them_are_spent() {
    let limits = json!([
        {"actions": [generic_key("quota", "small")]},
        {"actions": [generic_key("quota", "large")]},
    ]);
    on_every_store(&[], &plan("/", limits), |mesh| {
        assert_eq!(mesh.envoy.statuses(3, "/", &[]), [200, 200, 429]);
    });
}

/// Envoy can bring the limit along: from metadata of the request, or fixed in the route.
#[test]
fn limits_that_envoy_sends_override_the_configured_one() {
    let actions = json!([generic_key("plan", "free")]);
    let from_metadata = json!([{
        "actions": actions,
        "limit": {"dynamic_metadata": {"metadata_key": {"key": "account", "path": [{"key": "limit"}]}}},
    }]);
    let from_route = json!([{
        "actions": actions,
        "limit": {"rate_limit": {"requests_per_unit": 1, "unit": "DAY"}},
    }]);
    let account = extension(
        "envoy.filters.http.set_metadata",
        "envoy.extensions.filters.http.set_metadata.v3.Config",
        json!({"metadata": [{
            "metadata_namespace": "account",
            "value": {"limit": {"requests_per_unit": 4, "unit": "HOUR"}},
        }]}),
    );
    let plan = Plan {
        routes: vec![
            Route::new("/metadata", from_metadata),
            Route::new("/route", from_route),
        ],
        filters_before: vec![account],
        ..Plan::default()
    };
    on_every_store(&[], &plan, |mesh| {
        let reply = mesh.envoy.get("/metadata", &[]);
        assert_eq!(reply.header("x-ratelimit-limit"), "4, 4;w=3600");
        assert_eq!(
            mesh.envoy.statuses(4, "/metadata", &[]),
            [200, 200, 200, 429]
        );
        assert_eq!(mesh.envoy.statuses(2, "/route", &[]), [200, 429]);
    });
}

// --- What the client of Envoy sees ---

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
