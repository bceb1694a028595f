//! Whatever comes in: an answer or a clean error, the server lives, and other clients notice nothing.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _};
use prost::encoding::encode_varint;
use ratekeeper::service::pb::rate_limit_descriptor::{Entry, RateLimitOverride};
use ratekeeper::service::pb::rate_limit_response::DescriptorStatus;
use ratekeeper::service::pb::{RateLimitDescriptor, RateLimitRequest};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Endpoint;
use tonic::{Code as Failure, Status};

use bytes::Bytes;
use h2::client::handshake;

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
            _ => (Failure::OutOfRange, "decoded at most"),
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

#[test]
fn bytes_that_are_no_call_harm_nobody() {
    let server = Ratekeeper::start(RULES, []);
    let settled = [PREFACE, SETTINGS].concat();
    let call = [settled.clone(), frame(1, 4, 1, &headers())].concat();
    let message = |bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        frame(0, 1, 1, &[&[0][..], &length, bytes].concat())
    };
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()[3]
    })
    .take(100_000)
    .collect();
    for (row, bytes) in [
        ("nothing", Vec::new()),
        ("noise", noise.clone()),
        ("noise after the preface", [PREFACE, &noise].concat()),
        ("noise after the settings", [&settled, &noise[..]].concat()),
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (
            "TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        ),
        ("half a preface", PREFACE[..10].to_vec()),
        (
            "headers without an end",
            [settled.clone(), frame(1, 0, 1, &headers())].concat(),
        ),
        (
            "an unfinished message",
            [call.clone(), frame(0, 0, 1, &[0, 0, 0, 1, 0])].concat(),
        ),
        (
            "a compressed message",
            [call.clone(), frame(0, 1, 1, &[1, 0, 0, 0, 0])].concat(),
        ),
        (
            "a length of 4 GiB",
            [call.clone(), frame(0, 1, 1, &[0, 255, 255, 255, 255])].concat(),
        ),
        (
            "no protobuf",
            [call.clone(), message(&noise[..500])].concat(),
        ),
        (
            "invalid UTF-8",
            [call.clone(), message(&[0x0a, 2, 0xff, 0xfe])].concat(),
        ),
    ] {
        send(&server, &bytes);
        well_behaved(&server, row);
    }
    assert_eq!(server.stop().code(), Some(0));
}

/// Sends the bytes of a message as they are.
#[derive(Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, bytes: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&bytes);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        from.advance(from.remaining());
        Ok(Some(()))
    }
}

#[test]
fn messages_that_are_no_request_are_errors_of_their_calls_alone() {
    let server = Ratekeeper::start(RULES, []);
    let address = format!("http://{}", server.address());
    Runtime::new().unwrap().block_on(async {
        let channel = Endpoint::from_shared(address)
            .unwrap()
            .connect()
            .await
            .unwrap();
        let mut client = Grpc::new(channel);
        for (row, path, bytes, code) in [
            (
                "no descriptors",
                CALL,
                &[0x0a, 2, 0xff, 0xfe][..],
                Failure::InvalidArgument,
            ),
            ("cut off", CALL, &[0x0a, 200], Failure::Internal),
            ("another type", CALL, &[0x08, 1], Failure::Internal),
            ("nothing", CALL, &[], Failure::InvalidArgument),
            (
                "unknown fields",
                CALL,
                &[0xf8, 0x07, 1],
                Failure::InvalidArgument,
            ),
            (
                "no such method",
                "/envoy.service.ratelimit.v3.RateLimitService/No",
                &[],
                Failure::Unimplemented,
            ),
            ("no such service", "/No/No", &[], Failure::Unimplemented),
        ] {
            client.ready().await.unwrap();
            let call = tonic::Request::new(bytes.to_vec());
            let failure = client
                .unary(call, path.parse().unwrap(), Raw)
                .await
                .expect_err(row);
            assert_eq!(failure.code(), code, "{row}: {failure}");
        }
    });
    well_behaved(&server, "afterwards");
}

// --- Whatever protobuf can decode ---

/// A field of protobuf: its number, its wire type, its bytes.
fn field(number: u32, wire_type: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    encode_varint(u64::from(number << 3 | u32::from(wire_type)), &mut field);
    if wire_type == 2 {
        encode_varint(bytes.len() as u64, &mut field);
    }
    field.extend_from_slice(bytes);
    field
}

fn varint(number: u32, value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_varint(value, &mut bytes);
    field(number, 0, &bytes)
}

/// Fields that no version of the message has, groups among them.
fn unknown() -> impl Strategy<Value = Vec<u8>> {
    (20..9_000_u32, 0..5_u8, any::<[u8; 8]>()).prop_map(|(number, kind, bytes)| match kind {
        0 => varint(number, u64::from_le_bytes(bytes)),
        1 => field(number, 1, &bytes),
        2 => field(number, 2, &bytes),
        3 => field(number, 5, &bytes[..4]),
        _ => [field(number, 3, &[]), varint(1, 7), field(number, 4, &[])].concat(),
    })
}

/// A message of any number of fields in any order: such as these, and unknown ones.
fn message(
    fields: impl Strategy<Value = Vec<u8>> + 'static,
    most: usize,
) -> impl Strategy<Value = Vec<u8>> {
    let fields = prop_oneof![4 => fields.boxed(), 1 => unknown().boxed()];
    prop::collection::vec(fields, 0..most).prop_map(|fields| fields.concat())
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"k".to_vec()),
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 0..40),
        // As long as headers can be, in many places.
        (any::<u8>(), 0..20_000_usize).prop_map(|(byte, count)| vec![byte; count]),
    ]
}

/// A wrapper of a number, as it may be written.
fn wrapper(number: u32) -> impl Strategy<Value = Vec<u8>> {
    let value = any::<u64>().prop_map(|value| varint(1, value));
    message(value, 3).prop_map(move |bytes| field(number, 2, &bytes))
}

fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let entry = (1..3_u32, any_bytes()).prop_map(|(number, bytes)| field(number, 2, &bytes));
    let entry = message(entry, 4).prop_map(|bytes| field(1, 2, &bytes));
    let limit = prop_oneof![
        any::<u64>().prop_map(|value| varint(1, value)),
        prop_oneof![0..9_u64, any::<u64>()].prop_map(|value| varint(2, value)),
        wrapper(3),
    ];
    let limit = message(limit, 5).prop_map(|bytes| field(2, 2, &bytes));
    let negative = any::<u64>().prop_map(|value| varint(4, value));
    let descriptor = prop_oneof![5 => entry.boxed(), 1 => limit.boxed(), 1 => wrapper(3).boxed(), 1 => negative.boxed()];
    let descriptor = message(descriptor, 6).prop_map(|bytes| field(2, 2, &bytes));
    let domain = any_bytes().prop_map(|bytes| field(1, 2, &bytes));
    let hits = any::<u64>().prop_map(|value| varint(3, value));
    let request = prop_oneof![5 => descriptor.boxed(), 1 => domain.boxed(), 1 => hits.boxed()];
    // In the end, there is a domain that is not empty, and a descriptor: Envoy sends both in any case.
    message(request, 8).prop_map(|bytes| [bytes, field(2, 2, &[]), field(1, 2, b"d")].concat())
}

#[test]
fn whatever_can_be_decoded_is_decided() {
    for backend in [Backend::Memory, Backend::Redis(Redis::start())] {
        let server = Ratekeeper::start(RULES, backend.environment());
        let runtime = Runtime::new().unwrap();
        let channel = Endpoint::from_shared(format!("http://{}", server.address())).unwrap();
        let client = Grpc::new(runtime.block_on(channel.connect()).unwrap());
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 300,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let checked = runner.run(&any_request(), |bytes| {
            prop_assert!(RateLimitRequest::decode(&bytes[..]).is_ok());
            let mut client = client.clone();
            let answer = runtime.block_on(async {
                client.ready().await.unwrap();
                let call = tonic::Request::new(bytes);
                client.unary(call, CALL.parse().unwrap(), Raw).await
            });
            prop_assert!(answer.is_ok(), "{:?}", answer);
            Ok(())
        });
        checked.unwrap();
        well_behaved(&server, "afterwards");
    }
}

#[test]
fn connections_that_do_nothing_are_in_nobodys_way() {
    let server = Ratekeeper::start(RULES, []);
    let half_open: Vec<TcpStream> = (0..200)
        .map(|i| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            let call = [PREFACE, SETTINGS, &frame(1, 0, 1, &headers())].concat();
            let begun = [
                0,
                10,
                PREFACE.len(),
                PREFACE.len() + SETTINGS.len(),
                call.len(),
            ][i % 5];
            stream.write_all(&call[..begun]).unwrap();
            stream
        })
        .collect();
    for i in 0..20 {
        well_behaved(&server, &i.to_string());
    }
    drop(half_open);
    assert_eq!(server.stop().code(), Some(0));
}

/// Calls whose answers nobody reads: in time the server reads no more of them, and it keeps little of what it has.
#[test]
fn who_never_reads_answers_does_not_fill_the_memory() {
    let server = Ratekeeper::start(RULES, []);
    well_behaved(&server, "before");
    let before = server.peak_memory();
    let message = ask("d", &["k=slow"; 100]).encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let message = [&[0][..], &length, &message].concat();
    // One lets the server send no more than 64 KiB by the rules of HTTP/2, one all that the socket takes.
    let open = frame(8, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    let mut deaf = Vec::new();
    for (name, window) in [("a closed window", &[][..]), ("an open one", &open[..])] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream
            .set_write_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        stream
            .write_all(&[PREFACE, SETTINGS, window].concat())
            .unwrap();
        let mut sent = 0;
        for call in 0..40_000 {
            let call = 2 * call + 1;
            let bytes = [frame(1, 4, call, &headers()), frame(0, 1, call, &message)].concat();
            // It takes no more, or has closed.
            if stream.write_all(&bytes).is_err() {
                break;
            }
            sent += 1;
        }
        assert!(sent > 100, "{name}: {sent} calls");
        well_behaved(&server, name);
        deaf.push(stream);
    }
    let grown = server.peak_memory() - before;
    assert!(grown < 48, "{grown} MiB more");
    drop(deaf);
    well_behaved(&server, "afterwards");
}

/// Begins many large requests and never ends them: they are refused before they fill the memory, and
/// nobody else notices.
#[test]
fn requests_that_are_never_complete_do_not_fill_the_memory() {
    let mode = ("BAD_REQUEST_MODE", "error".to_owned());
    let server = Ratekeeper::start(RULES, [mode]);
    let before = server.peak_memory();
    let runtime = Runtime::new().unwrap();
    let held = runtime.block_on(async {
        // A message of 400,000 bytes, of which the last never come.
        let mut message = vec![0; 400_000];
        message[..5].copy_from_slice(&[0, 0, 6, 0x1a, 0x80]);
        let message = Bytes::from(message);
        let mut calls = JoinSet::new();
        // Few on each connection, since the server ends those on which it refuses too much.
        for _ in 0..14 {
            let socket = tokio::net::TcpStream::connect(server.address());
            let (mut client, connection) = handshake(socket.await.unwrap()).await.unwrap();
            tokio::spawn(connection);
            for _ in 0..50 {
                client = client.ready().await.unwrap();
                let request = http::Request::post(format!("http://{}{CALL}", server.address()))
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .body(())
                    .unwrap();
                let (response, mut body) = client.send_request(request, false).unwrap();
                // It fails where the server has refused the call already.
                let _ = body.send_data(message.clone(), false);
                let client = client.clone();
                calls.spawn(async move { (response.await, (body, client)) });
            }
        }
        // There is room for some of them, but not for most.
        for _ in 0..400 {
            let (response, _) = calls.join_next().await.unwrap().unwrap();
            let response = response.unwrap();
            let status = response.headers().get("grpc-status");
            assert!(
                status.is_some_and(|status| status == "8"),
                "{response:?} is not RESOURCE_EXHAUSTED"
            );
        }
        calls
    });
    well_behaved(&server, "meanwhile");
    let grown = server.peak_memory() - before;
    assert!(grown < 200, "{grown} MiB more");
    drop(held);
    drop(runtime);
    well_behaved(&server, "afterwards");
}
