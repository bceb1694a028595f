//! The wire, compared with a client that shares no code with ours: the messages that Envoy publishes,
//! compiled by others, on another gRPC implementation.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{Debug, Write as _};
use std::process::Command;

use prost::Message;
use prost_types::value::Kind;
use prost_types::{Duration, FileDescriptorProto, ListValue, Struct, Value as StructValue};
use ratekeeper::service::pb::rate_limit_descriptor::{Entry, RateLimitOverride};
use ratekeeper::service::pb::rate_limit_response::rate_limit::Unit;
use ratekeeper::service::pb::rate_limit_response::{Code, DescriptorStatus, RateLimit};
use ratekeeper::service::pb::{
    HeaderValue, RateLimitDescriptor, RateLimitRequest, RateLimitResponse,
};
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::support::{Process, Ratekeeper, client, root, tool};

const RULES: &str = "
domain: wire
descriptors:
  - key: account
    descriptors:
      - key: user
        metadata: {tier: gold}
        rate_limit: {name: per-user, unit: hour, requests_per_unit: 10, burst: 20}
  - key: quarter
    rate_limit: {unit: month, unit_multiplier: 3, requests_per_unit: 90}
  - key: weekly
    rate_limit: {name: weekly, unit: week, requests_per_unit: 7}
  - key: free
    rate_limit: {unlimited: true}
";

fn start(environment: &[(&'static str, &str)]) -> Ratekeeper {
    let environment = environment
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    Ratekeeper::start(RULES, environment)
}

/// What the independent client gets for a request.
fn call(server: &Ratekeeper, request: &Value) -> Value {
    client(["call", &server.address().to_string(), &request.to_string()])
}

// --- Calls ---

#[test]
fn every_field_of_an_answer_arrives() {
    let server = start(&[
        ("LIMIT_RESPONSE_HEADERS_ENABLED", "true"),
        ("RESPONSE_DYNAMIC_METADATA", "true"),
    ]);
    let answer = call(&server, &one_descriptor_of_each_kind());
    assert_eq!(answer["overallCode"], "OK");
    assert_eq!(answer["statuses"], statuses_of_each_kind());

    // The status with the least left is the one of the last descriptor.
    let headers: BTreeMap<&str, &str> = answer["responseHeadersToAdd"]
        .as_array()
        .unwrap()
        .iter()
        .map(|header| {
            (
                header["key"].as_str().unwrap(),
                header["value"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("RateLimit-Limit", "6"),
        ("RateLimit-Remaining", "4"),
        ("RateLimit-Reset", "20"),
    ];
    assert_eq!(headers, BTreeMap::from(expected));

    let metadata = &answer["dynamicMetadata"];
    assert_eq!(metadata["domain"], "wire");
    assert_eq!(metadata["hitsAddend"], 2.0);
    assert_eq!(metadata["metadata"], json!({"tier": "gold"}));
    assert_eq!(
        metadata["descriptors"][0],
        json!({"entries": ["account=a", "user=u"]})
    );
    assert_eq!(
        metadata["descriptors"][1],
        json!({"entries": ["quarter=q"], "hitsAddend": 9.0})
    );
    assert_eq!(
        answer.as_object().unwrap().len(),
        4,
        "nothing else is said: {answer}"
    );
}

/// A request that meets every kind of rule.
fn one_descriptor_of_each_kind() -> Value {
    let entry = |key: &str, value: &str| json!({"key": key, "value": value});
    json!({
        "domain": "wire",
        "hitsAddend": 2,
        "descriptors": [
            {"entries": [entry("account", "a"), entry("user", "u")]},
            {"entries": [entry("quarter", "q")], "hitsAddend": "9"},
            {"entries": [entry("weekly", "w")]},
            {"entries": [entry("free", "")]},
            {"entries": [entry("unknown", "x")]},
            {
                "entries": [entry("unknown", "y")],
                "limit": {"requestsPerUnit": 6, "unit": "MINUTE"},
            },
        ],
    })
}

/// The statuses that it gets. A bucket is full again when what was taken has come back: 2 of 10 an
/// hour take 720 s, 9 of 90 in three months of 30 days take nine of those days.
fn statuses_of_each_kind() -> Value {
    json!([
        {
            "code": "OK",
            "currentLimit": {"requestsPerUnit": 10, "unit": "HOUR", "name": "per-user"},
            "limitRemaining": 18,
            "durationUntilReset": "720s",
        },
        {
            "code": "OK",
            "currentLimit": {"requestsPerUnit": 90, "unit": "MONTH", "unitMultiplier": 3},
            "limitRemaining": 81,
            "durationUntilReset": "777600s",
        },
        {
            "code": "OK",
            "currentLimit": {"requestsPerUnit": 7, "unit": "WEEK", "name": "weekly"},
            "limitRemaining": 5,
            "durationUntilReset": "172800s",
        },
        {"code": "OK", "limitRemaining": u32::MAX},
        {"code": "OK"},
        {
            "code": "OK",
            "currentLimit": {"requestsPerUnit": 6, "unit": "MINUTE"},
            "limitRemaining": 4,
            "durationUntilReset": "20s",
        },
    ])
}

#[test]
fn every_field_of_a_request_counts() {
    let server = start(&[("DEFAULT_HITS", "prepaid")]);
    let entries = json!([{"key": "weekly", "value": "w"}]);
    let ask = |request_hits: u32, fields: Value| {
        let mut descriptor = fields;
        descriptor["entries"] = entries.clone();
        let request =
            json!({"domain": "wire", "hitsAddend": request_hits, "descriptors": [descriptor]});
        let answer = call(&server, &request);
        let left = answer["statuses"][0]["limitRemaining"]
            .as_u64()
            .unwrap_or(0);
        (answer["overallCode"].as_str().unwrap().to_owned(), left)
    };
    let answer = |code: &str, left| (code.to_owned(), left);
    // Nothing said means one hit; the descriptor's own number wins over the request's.
    assert_eq!(ask(0, json!({})), answer("OK", 6));
    assert_eq!(ask(2, json!({})), answer("OK", 4));
    assert_eq!(ask(2, json!({"hitsAddend": "3"})), answer("OK", 1));
    assert_eq!(ask(2, json!({})).0, "OVER_LIMIT");
    assert_eq!(ask(0, json!({})), answer("OK", 0));
    assert_eq!(ask(2, json!({"hitsAddend": "0"})), answer("OVER_LIMIT", 0));
    // Given back, and never more than there is room for.
    assert_eq!(
        ask(0, json!({"hitsAddend": "4", "isNegativeHits": true})),
        answer("OK", 4)
    );
    assert_eq!(ask(9, json!({"isNegativeHits": true})), answer("OK", 7));
    // An override has a bucket of its own.
    let limit = |multiplier: u32| {
        json!({"limit": {
            "requestsPerUnit": 3, "unit": "HOUR", "unitMultiplier": multiplier,
        }})
    };
    assert_eq!(ask(3, limit(2)), answer("OK", 0));
    assert_eq!(ask(1, limit(2)), answer("OVER_LIMIT", 0));
}

#[test]
fn a_bad_request_is_told_what_is_wrong() {
    let server = start(&[]);
    for request in [
        json!({"descriptors": [{"entries": [{"key": "weekly", "value": "w"}]}]}),
        json!({"domain": "wire"}),
    ] {
        let answer = call(&server, &request);
        assert_eq!(answer["code"], "INVALID_ARGUMENT", "{request}");
        assert!(
            answer["details"].as_str().unwrap().contains(' '),
            "{answer}"
        );
    }
    // What clients of Envoy can bring about is decided: an error would let them pass.
    let without_unit = json!({"domain": "wire", "descriptors": [{
        "entries": [{"key": "weekly", "value": "w"}],
        "limit": {"requestsPerUnit": 1},
    }]});
    assert_eq!(
        call(&server, &without_unit),
        json!({"overallCode": "OVER_LIMIT"})
    );
}

// --- Bytes ---

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

/// The same values in our message and in JSON are the same bytes for both, in both directions.
fn assert_same_bytes<M: Message + Default + PartialEq + Debug>(
    name: &str,
    message: &M,
    json: &Value,
) {
    let ours = message.encode_to_vec();
    let theirs = client(["encode", name, &json.to_string()]);
    assert_eq!(hex(&ours), theirs);
    assert_eq!(
        M::decode(bytes(theirs.as_str().unwrap()).as_slice()).unwrap(),
        *message
    );
    assert_eq!(client(["decode", name, &hex(&ours)]), *json);
}

#[test]
fn requests_are_the_same_bytes() {
    let message = RateLimitRequest {
        domain: "d\u{e9}".into(),
        hits_addend: 300,
        descriptors: vec![
            RateLimitDescriptor {
                entries: vec![
                    Entry {
                        key: "k".into(),
                        value: "v".into(),
                    },
                    Entry {
                        key: "only".into(),
                        value: Vec::new(),
                    },
                ],
                limit: Some(RateLimitOverride {
                    requests_per_unit: u32::MAX,
                    unit: 6,
                    unit_multiplier: Some(4),
                }),
                hits_addend: Some(0),
                is_negative_hits: true,
            },
            RateLimitDescriptor {
                hits_addend: Some(u64::MAX),
                ..RateLimitDescriptor::default()
            },
        ],
    };
    assert_same_bytes(
        "RateLimitRequest",
        &message,
        &json!({
            "domain": "d\u{e9}",
            "hitsAddend": 300,
            "descriptors": [
                {
                    "entries": [{"key": "k", "value": "v"}, {"key": "only"}],
                    "limit": {"requestsPerUnit": u32::MAX, "unit": "YEAR", "unitMultiplier": 4},
                    "hitsAddend": "0",
                    "isNegativeHits": true,
                },
                {"hitsAddend": u64::MAX.to_string()},
            ],
        }),
    );
}

#[test]
fn responses_are_the_same_bytes() {
    let json = json!({
        "overallCode": "OVER_LIMIT",
        "statuses": [
            {
                "code": "OK",
                "currentLimit": {
                    "requestsPerUnit": 5, "unit": "WEEK", "name": "n", "unitMultiplier": 2,
                },
                "limitRemaining": u32::MAX,
                "durationUntilReset": "3000000000s",
            },
            {},
        ],
        "responseHeadersToAdd": [{"key": "a", "value": "v"}],
        "requestHeadersToAdd": [{"key": "b", "rawValue": "/w=="}],
        "rawBody": "Ym9keQ==",
        "dynamicMetadata": {"a": "t", "b": ["x", null]},
    });
    assert_same_bytes("RateLimitResponse", &response_with_every_field(), &json);
}

fn response_with_every_field() -> RateLimitResponse {
    let value = |kind| StructValue { kind: Some(kind) };
    let text = |text: &str| value(Kind::StringValue(text.to_owned()));
    let list = ListValue {
        values: vec![text("x"), value(Kind::NullValue(0))],
    };
    let metadata = [
        ("a".to_owned(), text("t")),
        ("b".to_owned(), value(Kind::ListValue(list))),
    ];
    let status = DescriptorStatus {
        code: Code::Ok.into(),
        current_limit: Some(RateLimit {
            requests_per_unit: 5,
            unit: Unit::Week.into(),
            name: "n".to_owned(),
            unit_multiplier: Some(2),
        }),
        limit_remaining: u32::MAX,
        duration_until_reset: Some(Duration {
            seconds: 3_000_000_000,
            nanos: 0,
        }),
    };
    let header = |key: &str, value: &str, raw_value: &[u8]| HeaderValue {
        key: key.to_owned(),
        value: value.to_owned(),
        raw_value: raw_value.to_vec(),
    };
    RateLimitResponse {
        overall_code: Code::OverLimit.into(),
        statuses: vec![status, DescriptorStatus::default()],
        response_headers_to_add: vec![header("a", "v", b"")],
        request_headers_to_add: vec![header("b", "", &[0xff])],
        raw_body: b"body".to_vec(),
        dynamic_metadata: Some(Struct {
            fields: metadata.into(),
        }),
    }
}

// --- Health and reflection ---

#[test]
fn health_names_the_server_and_the_service() {
    let server = start(&[]);
    let health = |service: &str| client(["health", &server.address().to_string(), service]);
    assert_eq!(health(""), "SERVING");
    assert_eq!(health("ratelimit"), "SERVING");
    assert_eq!(
        health("envoy.service.ratelimit.v3.RateLimitService"),
        "SERVING"
    );
    assert_eq!(health("nobody"), "NOT_FOUND");
    let all = client(["list", &server.address().to_string()]);
    let expected = json!({
        "": "SERVING",
        "ratelimit": "SERVING",
        "envoy.service.ratelimit.v3.RateLimitService": "SERVING",
    });
    assert_eq!(all, expected);
}

/// As grpc-go does it: a name that is unknown is reported as that, and the stream stays open.
#[test]
fn health_is_watched_under_known_and_unknown_names() {
    let server = start(&[]);
    let watch = |service: &str| {
        let script = root().join("tests/wire/client.py");
        let address = server.address().to_string();
        let mut process = Process::start(
            "the client",
            Command::new(tool("python"))
                .arg("-I")
                .arg(script)
                .args(["watch", &address, service]),
        );
        process
            .wait_for("it heard a status", |line| Some(line.to_owned()))
            .map(|line| (process, line))
            .unwrap_or_else(|ended| panic!("{}", ended.report))
    };
    let (mut known, first) = watch("ratelimit");
    assert_eq!(first, "SERVING");
    let (unknown, first) = watch("nobody");
    assert_eq!(first, "SERVICE_UNKNOWN");
    server.signal("TERM");
    known
        .wait_for("it heard a change", |line| {
            (line == "NOT_SERVING").then_some(())
        })
        .unwrap_or_else(|ended| panic!("{}", ended.report));
    // Both streams end in the same way, and hold the server up no longer.
    for process in [known, unknown] {
        let (_, printed) = process.ended();
        assert_eq!(printed.lines().last(), Some("\"OK\""), "{printed}");
    }
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("every request was answered"), "{log}");
}

// --- Compression ---

#[test]
fn a_compressed_request_is_decided_like_any_other() {
    let server = start(&[]);
    let address = server.address().to_string();
    let request = json!({
        "domain": "wire",
        "descriptors": [{"entries": [{"key": "weekly", "value": "x".repeat(500)}]}],
    });
    let request = request.to_string();
    let ask = |command: &str| client([command, &address, &request]);
    let remaining = |answer: Value| answer["statuses"][0]["limitRemaining"].clone();
    assert_eq!(remaining(ask("call")), 6);
    assert_eq!(remaining(ask("compressed")), 5);
}

/// A request that is small, and very large once it is decompressed.
#[test]
fn a_request_is_not_decompressed_beyond_the_bound_of_requests() {
    let server = start(&[]);
    let address = server.address().to_string();
    let before = server.peak_memory();
    let answer = client(["bomb", &address, "40"]);
    // As any request that is too large.
    let is_rejected =
        answer["code"] == "RESOURCE_EXHAUSTED" || answer["overallCode"] == "OVER_LIMIT";
    assert!(is_rejected, "{answer}");
    let grown = server.peak_memory() - before;
    assert!(grown < 24, "{grown} MiB more");
}

/// What grpcurl does with the older version of the protocol; the messages are compared field by field
/// with those that Envoy speaks.
#[test]
fn reflection_serves_the_messages_of_envoy() {
    let server = start(&[]);
    let found = client(["reflect", &server.address().to_string()]);
    let services: Vec<&str> = found["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    for service in [
        "envoy.service.ratelimit.v3.RateLimitService",
        "grpc.health.v1.Health",
    ] {
        assert!(services.contains(&service), "{services:?}");
    }
    assert_eq!(found["different"], json!([]));
    // The number that envoyproxy/ratelimit and our overrides use for a week.
    assert_eq!(found["added"], json!(["envoy.type.v3.RateLimitUnit:7"]));
    // Quotas that Envoy declares and does not implement.
    let quota = "envoy.service.ratelimit.v3.RateLimitResponse";
    let missing = ["Quota:1", "Quota:2", "Quota:3", "DescriptorStatus:5"];
    let missing: BTreeSet<String> = missing
        .iter()
        .map(|field| format!("{quota}.{field}"))
        .chain([format!("{quota}:7")])
        .collect();
    let lacking: BTreeSet<String> = found["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(lacking, missing);
    assert!(found["same"].as_array().unwrap().len() > 40, "{found}");
}

/// What grpcurl does with the newer version of the protocol: it looks a symbol up and follows the
/// imports of the file, one by one.
#[tokio::test]
async fn reflection_resolves_a_message_with_its_imports() {
    let server = start(&[]);
    let endpoint = Endpoint::try_from(format!("http://{}", server.address())).unwrap();
    let mut reflection = ServerReflectionClient::new(endpoint.connect().await.unwrap());
    let symbol = "envoy.service.ratelimit.v3.RateLimitRequest".to_owned();
    let mut wanted = VecDeque::from([MessageRequest::FileContainingSymbol(symbol)]);
    let mut files = BTreeMap::new();
    while let Some(request) = wanted.pop_front() {
        for file in files_of(&mut reflection, request).await {
            let imports = file
                .dependency
                .iter()
                .filter(|name| !files.contains_key(*name));
            wanted.extend(imports.cloned().map(MessageRequest::FileByFilename));
            files.insert(file.name().to_owned(), file);
        }
    }
    let messages: Vec<String> = files
        .values()
        .flat_map(|file| {
            file.message_type
                .iter()
                .map(|m| format!("{}.{}", file.package(), m.name()))
        })
        .collect();
    for name in [
        "envoy.service.ratelimit.v3.RateLimitRequest",
        "envoy.extensions.common.ratelimit.v3.RateLimitDescriptor",
        "google.protobuf.UInt64Value",
        "google.protobuf.Struct",
    ] {
        assert!(
            messages.iter().any(|message| message == name),
            "{name} is not in {messages:?}"
        );
    }
}

/// The files with which reflection answers one question.
async fn files_of(
    reflection: &mut ServerReflectionClient<Channel>,
    question: MessageRequest,
) -> Vec<FileDescriptorProto> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question.clone()),
    };
    let mut answers = reflection
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::FileDescriptorResponse(found)) = answer else {
        panic!("{question:?} was answered with {answer:?}");
    };
    found
        .file_descriptor_proto
        .iter()
        .map(|bytes| FileDescriptorProto::decode(bytes.as_slice()).unwrap())
        .collect()
}
