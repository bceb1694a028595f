//! The wire, compared with a client that shares no code with ours: the messages that Envoy publishes,
//! compiled by others, on another gRPC implementation.

mod encoding;
mod services;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Ratekeeper, client};

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
