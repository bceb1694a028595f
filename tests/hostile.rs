//! Whatever comes in: an answer or a clean error, the server lives, and other clients notice nothing.

mod connections;
mod raw_bytes;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use ratekeeper::service::pb::rate_limit_descriptor::{Entry, RateLimitOverride};
use ratekeeper::service::pb::rate_limit_response::DescriptorStatus;
use ratekeeper::service::pb::{RateLimitDescriptor, RateLimitRequest};
use tokio::runtime::Runtime;
use tonic::Code as Failure;

use crate::support::{
    Backend, Ratekeeper, Redis, ask, check, free_port, json_of, on_every_store, times,
};

const RULES: &str = "
domain: d
descriptors:
  - {key: k, rate_limit: {unit: year, requests_per_unit: 5}}
  - {key: k2, rate_limit: {unit: year, requests_per_unit: 5}}
  - key: a
    descriptors: [{key: b, rate_limit: {unit: year, requests_per_unit: 5}}]
";

/// What a client that minds its own business asks; passes once per name.
fn well_behaved(server: &Ratekeeper, name: &str) {
    let row = format!("k=good-{}", name.replace(' ', "-"));
    check(server, name, ask("d", &[&row]), "OK: OK 4 of 5/year");
}

fn entry(key: &str, value: &str) -> Entry {
    Entry {
        key: key.into(),
        value: value.into(),
    }
}

fn request(entries: Vec<Entry>) -> RateLimitRequest {
    RateLimitRequest {
        domain: "d".into(),
        descriptors: vec![RateLimitDescriptor {
            entries,
            ..RateLimitDescriptor::default()
        }],
        hits_addend: 0,
    }
}

/// Every kind of request that is larger than what is decided.
fn excessive() -> Vec<(&'static str, RateLimitRequest)> {
    let domain = RateLimitRequest {
        domain: "x".repeat(70_000).into(),
        ..request(vec![entry("k", &"x".repeat(4_130_000))])
    };
    let many = |count| RateLimitRequest {
        descriptors: vec![request(vec![entry("k", "x")]).descriptors[0].clone(); count],
        ..request(Vec::new())
    };
    let empty = |descriptors, entries| RateLimitRequest {
        descriptors: vec![
            request(vec![Entry::default(); entries]).descriptors[0].clone();
            descriptors
        ],
        ..request(Vec::new())
    };
    vec![
        ("many", many(1_025)),
        ("deep", request(vec![entry("a", "b"); 257])),
        ("vast", request(vec![entry("k", &"x".repeat(5_000_000))])),
        ("domain", domain),
        // Within 4 MiB; decoded, each would take up a hundred.
        ("empty descriptors", empty(1_000_000, 0)),
        ("empty entries", empty(1, 1_000_000)),
    ]
}

#[test]
fn requests_that_are_too_large_are_denied() {
    on_every_store(RULES, &[], |server, store| {
        for (row, request) in excessive() {
            check(server, &format!("{row} on {store}"), request, "OVER: ");
            well_behaved(server, row);
        }
        assert!(server.peak_memory() < 250, "{} MiB", server.peak_memory());
    });
}

#[test]
fn requests_that_are_too_large_are_errors_where_that_is_wanted() {
    let mode = ("BAD_REQUEST_MODE", "error".to_owned());
    let server = Ratekeeper::start(RULES, [mode]);
    for (row, request) in excessive() {
        let failure = server.ask(request).expect_err(row);
        let (code, text) = match row {
            "many" => (Failure::InvalidArgument, "MAX_DESCRIPTORS=1024"),
            "deep" => (Failure::InvalidArgument, "MAX_DESCRIPTOR_ENTRIES=256"),
            "vast" | "domain" => (Failure::OutOfRange, "too large"),
            _ => (Failure::OutOfRange, "the maximum is"),
        };
        assert_eq!(failure.code(), code, "{row}: {failure}");
        assert!(failure.message().contains(text), "{row}: {failure}");
        well_behaved(&server, row);
    }
}

#[test]
fn all_that_fits_into_a_message_is_decided() {
    on_every_store(RULES, &[], |server, store| {
        let vast = "x".repeat(4_194_000);
        for left in [4, 3] {
            let answer = server.ask(request(vec![entry("k", &vast)])).unwrap();
            assert_eq!(answer.statuses[0].limit_remaining, left, "{store}");
        }
        let most = RateLimitRequest {
            descriptors: (0..1_024)
                .map(|i| {
                    request(vec![entry("k", &i.to_string())])
                        .descriptors
                        .remove(0)
                })
                .collect(),
            ..request(Vec::new())
        };
        for left in [4, 3] {
            let answer = server.ask(most.clone()).unwrap();
            assert_eq!(answer.statuses.len(), 1_024);
            let is_as_expected = |status: &DescriptorStatus| status.limit_remaining == left;
            assert!(answer.statuses.iter().all(is_as_expected), "{store}");
        }
    });
}

#[test]
fn a_long_value_within_the_bounds_has_a_bucket_of_its_own() {
    on_every_store(RULES, &[], |server, store| {
        let (one, other) = ("x".repeat(60_000), "x".repeat(60_001));
        for (left, value) in [(4, &one), (4, &other), (3, &one), (3, &other)] {
            let response = server.ask(request(vec![entry("k", value)])).unwrap();
            assert_eq!(response.statuses[0].limit_remaining, left, "{store}");
        }
    });
}

#[test]
fn bytes_that_are_no_text_have_buckets_of_their_own() {
    let values: [&[u8]; 9] = [
        b"caf\xe9",
        b"caf\xe8",
        "caf\u{e9}".as_bytes(),
        b"caf%E9",
        b"caf\\xE9",
        b"\xff\xfe",
        b"\xff",
        b"\xe2\x82",
        "\u{fffd}".as_bytes(),
    ];
    on_every_store(
        RULES,
        &[("RESPONSE_DYNAMIC_METADATA", "true")],
        |server, store| {
            for left in [4, 3] {
                for value in values {
                    let mut single = request(vec![entry("k", "")]);
                    single.descriptors[0].entries[0].value = value.to_vec();
                    let answer = server.ask(single).unwrap();
                    assert_eq!(
                        answer.statuses[0].limit_remaining, left,
                        "{value:?} on {store}"
                    );
                    let metadata = json_of(&answer.dynamic_metadata.unwrap());
                    let shown = match std::str::from_utf8(value) {
                        Ok(text) => text.to_owned(),
                        Err(_) => value.escape_ascii().to_string().to_uppercase(),
                    };
                    let entry = metadata["descriptors"][0]["entries"][0].as_str().unwrap();
                    let entry = entry.strip_prefix("k=").unwrap();
                    assert!(entry.eq_ignore_ascii_case(&shown), "{metadata}");
                }
            }
            // As a key or a domain they are unknown.
            let mut unknown = request(vec![entry("k", "x")]);
            unknown.descriptors[0].entries[0].key = b"k\xff".to_vec();
            check(server, store, unknown, "OK: OK");
            let mut elsewhere = request(vec![entry("k", "x")]);
            elsewhere.domain = b"d\xff".to_vec();
            check(server, store, elsewhere, "OK: OK");
        },
    );
}

/// Texts that mean something to Redis, to terminals, to keys or to protocols.
const STRANGE: [&str; 14] = [
    "",
    " ",
    "\0",
    "\r\n",
    "{",
    "}",
    "{}",
    "{a}",
    "|",
    "=",
    "#1",
    "%7B",
    "*",
    "\u{202e}é\u{1f980}",
];

#[test]
fn strange_texts_never_share_a_bucket() {
    let backend = Backend::Redis(Redis::start());
    let environment = || {
        backend
            .environment()
            .into_iter()
            .chain([("REDIS_TIMEOUT", "10s".to_owned())])
    };
    for server in [
        Ratekeeper::start(RULES, environment()),
        Ratekeeper::start(RULES, []),
    ] {
        for (i, first) in STRANGE.iter().enumerate() {
            let response = server.ask(request(vec![entry("k", first)])).unwrap();
            assert_eq!(response.statuses[0].limit_remaining, 4, "{first:?}");
            for second in STRANGE {
                let response = server.ask(request(vec![entry("a", first), entry("b", second)]));
                assert_eq!(
                    response.unwrap().statuses[0].limit_remaining,
                    4,
                    "{first:?} {second:?}"
                );
            }
            // As a key or a domain it is simply unknown.
            assert!(server.ask(request(vec![entry(first, "x")])).is_ok());
            let elsewhere = RateLimitRequest {
                domain: format!("{i}{first}").into(),
                ..request(vec![entry("k", "x")])
            };
            assert!(server.ask(elsewhere).is_ok());
        }
    }
    let Backend::Redis(redis) = &backend else {
        unreachable!("made above")
    };
    // All but the one that the server itself probes Redis with, which has no domain.
    let keys = redis.run(&["KEYS", "rk:[^|]*"]);
    let keys: Vec<String> = Runtime::new().unwrap().block_on(keys);
    assert_eq!(keys.len(), STRANGE.len() * (STRANGE.len() + 1));
    let unsafe_in_keys = |c: char| c.is_ascii_control() || " {}".contains(c);
    assert!(
        !keys.iter().any(|key| key.contains(unsafe_in_keys)),
        "{keys:?}"
    );
}

#[test]
fn extreme_hits_and_limits_are_answered() {
    // What is given back here is given back in turn with hits, which `auto` would take for a pattern.
    on_every_store(RULES, &[("DEFAULT_HITS", "prepaid")], |server, store| {
        let row = |text: &str, expected: &str| check(server, store, ask("d", &[text]), expected);
        for (is_negative_hits, expected) in [
            (false, "OVER: OVER 0 of 5/year never"),
            (true, "OK: OK 5 of 5/year"),
            (
                false,
                "OVER: OVER 0 of 5/year never | OVER 0 of 5/year never",
            ),
        ] {
            let mut request = request(vec![entry("k", "1")]);
            request.descriptors[0].hits_addend = Some(u64::MAX);
            request.descriptors[0].is_negative_hits = is_negative_hits;
            if expected.contains('|') {
                request.descriptors.push(request.descriptors[0].clone());
            }
            check(server, store, request, expected);
        }
        row("k=1 x4294967295", "OVER: OVER 0 of 5/year never");
        row("k=1 x5", "OK: OK 0 of 5/year");
        row(
            "k=2 x5 limit=4294967295/year",
            "OK: OK 4294967290 of 4294967295/year",
        );
        row("k=3 limit=0/second", "OVER: OVER 0 of 0/second never");
    });
}

/// A flood of keys under one limit, scaled down: four times as many as the store holds, of which none is full for long.
/// The buckets of another limit stay exhausted, in memory and in what decides while Redis is away.
#[test]
fn keys_of_one_limit_push_out_no_bucket_of_another() {
    let rules = "
domain: d
descriptors:
  - {key: victim, rate_limit: {unit: hour, requests_per_unit: 5}}
  - {key: flood, rate_limit: {unit: year, requests_per_unit: 1000}}
";
    let unavailable = format!("127.0.0.1:{}", free_port());
    for away in [None, Some(unavailable)] {
        let store = away.as_ref().map_or("memory", |_| "local");
        let environment = away.map(|address| ("REDIS_URL", address)).into_iter();
        let bound = ("MEMORY_MAX_BUCKETS", "9000".to_owned());
        let server = Ratekeeper::start(rules, environment.chain([bound]));
        let victims = |hits: u32, expected: &str| {
            for i in 0..40 {
                let victim = format!("victim={i}");
                check(&server, store, times(hits, ask("d", &[&victim])), expected);
            }
        };
        victims(5, "OK: OK 0 of 5/hour");
        for request in 0..180 {
            let keys: Vec<String> = (0..200).map(|i| format!("flood={request}-{i}")).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            assert_eq!(server.ask(ask("d", &keys)).unwrap().overall_code, 1);
        }
        victims(1, "OVER: OVER 0 of 5/hour");
    }
}

#[test]
fn limits_without_a_usable_unit_are_denied() {
    let server = Ratekeeper::start(RULES, []);
    for (unit, unit_multiplier) in [
        (0, None),
        (8, None),
        (99, None),
        (-1, None),
        (i32::MIN, None),
        (6, Some(0)),
        (6, Some(u32::MAX)),
    ] {
        let mut request = request(vec![entry("k", "x")]);
        request.descriptors[0].limit = Some(RateLimitOverride {
            requests_per_unit: 1,
            unit,
            unit_multiplier,
        });
        check(
            &server,
            &format!("{unit} x {unit_multiplier:?}"),
            request,
            "OVER: ",
        );
        well_behaved(&server, &format!("unit {unit} {unit_multiplier:?}"));
    }
}

#[test]
fn a_flood_of_keys_is_bounded_and_told() {
    let mut server = Ratekeeper::start(RULES, [("MEMORY_MAX_BUCKETS", "100".to_owned())]);
    Runtime::new().unwrap().block_on(async {
        let mut client = server.client().await;
        let hot = ask("d", &["k=hot x5"]);
        client.should_rate_limit(hot).await.unwrap();
        for i in 0..5_000 {
            let request = ask("d", &[&format!("k=flood-{i}")]);
            assert!(client.should_rate_limit(request).await.is_ok());
        }
        // It was the furthest from full.
        let denied = client
            .should_rate_limit(ask("d", &["k=hot"]))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(denied.statuses[0].limit_remaining, 0);
    });
    server.wait_for_log("MEMORY_MAX_BUCKETS");
}

// --- What is no gRPC at all ---

/// The path of the one method.
const CALL: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// An HTTP/2 frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The headers of a call, as HPACK literals without an index.
fn headers() -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", CALL),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// Sends bytes and reads until the server has nothing more to say, or says something.
fn send(server: &Ratekeeper, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    // The server may close while we still write: that is an answer, too.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}
