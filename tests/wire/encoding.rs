//! Messages have the bytes that an independent implementation writes.

use std::fmt::{Debug, Write as _};

use prost::Message;
use prost_types::value::Kind;
use prost_types::{Duration, ListValue, Struct, Value as StructValue};
use ratekeeper::service::pb::rate_limit_descriptor::{Entry, RateLimitOverride};
use ratekeeper::service::pb::rate_limit_response::rate_limit::Unit;
use ratekeeper::service::pb::rate_limit_response::{Code, DescriptorStatus, RateLimit};
use ratekeeper::service::pb::{
    HeaderValue, RateLimitDescriptor, RateLimitRequest, RateLimitResponse,
};
use serde_json::{Value, json};

use crate::support::client;

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
