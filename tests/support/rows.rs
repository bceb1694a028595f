//! Requests and responses as one line of text each, for tables in tests.
//!
//! A descriptor is written `key=value,key2=value2`. Optional parts follow, each after a space: `x3` sets the descriptor's hits
//! (`x0` queries, `x-3` gives back), `limit=10/day` or `limit=10/2day` adds an override. [`answer`] writes responses.

use prost_types::value::Kind;
use prost_types::{Duration, Struct};
use ratekeeper::rules::Unit as RuleUnit;
use ratekeeper::service::pb::rate_limit_descriptor::{Entry, RateLimitOverride};
use ratekeeper::service::pb::rate_limit_response::rate_limit::Unit;
use ratekeeper::service::pb::rate_limit_response::{Code, DescriptorStatus, RateLimit};
use ratekeeper::service::pb::{RateLimitDescriptor, RateLimitRequest, RateLimitResponse};

use serde_json::Value;

use super::{Backend, Ratekeeper};

/// Runs a test on every store, each time with a new server.
pub fn on_every_store(
    rules: &str,
    environment: &[(&'static str, &str)],
    test: impl Fn(&Ratekeeper, &str),
) {
    for backend in Backend::all() {
        let own = environment.iter().map(|&(n, v)| (n, v.to_owned()));
        let server = Ratekeeper::start(rules, own.chain(backend.environment()));
        let store = match backend {
            Backend::Memory => "memory",
            Backend::Redis(_) => "redis",
            Backend::Cluster(_) => "cluster",
        };
        test(&server, store);
    }
}

/// A request for descriptors; each takes one hit unless its text sets hits.
pub fn ask(domain: &str, descriptors: &[&str]) -> RateLimitRequest {
    RateLimitRequest {
        domain: domain.into(),
        descriptors: descriptors.iter().map(|text| descriptor(text)).collect(),
        hits_addend: 0,
    }
}

/// Sets the hits of a request, which apply to the descriptors that have no hits.
pub fn times(hits: u32, request: RateLimitRequest) -> RateLimitRequest {
    RateLimitRequest {
        hits_addend: hits,
        ..request
    }
}

/// Sends a request and compares the response with the expected text; a failure names the row.
///
/// # Panics
/// When the call fails or the response differs.
pub fn check(server: &Ratekeeper, row: &str, request: RateLimitRequest, expected: &str) {
    let shown = format!("{row}: {request:?}");
    let response = server
        .ask(request)
        .unwrap_or_else(|status| panic!("{shown} got {status}"));
    assert_eq!(answer(&response), expected, "{shown}");
}

/// Writes a response as text, the overall code first: `OK: OK 49 of 50/hour | OVER 0 of 1/day (name) | OK`.
///
/// A status without a limit is `OK` or `OK unlimited`. `never` marks a denied status without a reset time; all other statuses with a
/// limit must have a reset time.
///
/// # Panics
/// When the fields of a status contradict each other.
fn answer(response: &RateLimitResponse) -> String {
    let statuses: Vec<String> = response.statuses.iter().map(status).collect();
    format!(
        "{}: {}",
        code(response.overall_code()),
        statuses.join(" | ")
    )
}

fn status(status: &DescriptorStatus) -> String {
    let code = code(status.code());
    let Some(limit) = &status.current_limit else {
        assert_eq!(
            status.duration_until_reset, None,
            "no limit, so no reset: {status:?}"
        );
        return match status.limit_remaining {
            0 => code.to_owned(),
            u32::MAX => format!("{code} unlimited"),
            remaining => panic!("{remaining} remain of no limit"),
        };
    };
    let never = match status.duration_until_reset {
        None => " never",
        Some(Duration { seconds, nanos: 0 }) if seconds >= 0 => "",
        Some(duration) => panic!("{duration:?} is no whole number of seconds to come"),
    };
    let shown = shown_limit(limit);
    format!("{code} {} of {shown}{never}", status.limit_remaining)
}

fn shown_limit(limit: &RateLimit) -> String {
    let multiplier = limit
        .unit_multiplier
        .map_or_else(String::new, |n| n.to_string());
    let unit = limit.unit().as_str_name().to_ascii_lowercase();
    let name = match limit.name.as_str() {
        "" => String::new(),
        name => format!(" ({name})"),
    };
    format!("{}/{multiplier}{unit}{name}", limit.requests_per_unit)
}

fn code(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::OverLimit => "OVER",
        Code::Unknown => "UNKNOWN",
    }
}

// --- Parsing descriptors ---

fn descriptor(text: &str) -> RateLimitDescriptor {
    let mut words = text.split(' ');
    let mut descriptor = RateLimitDescriptor {
        entries: entries(words.next().unwrap_or_default()),
        ..RateLimitDescriptor::default()
    };
    for word in words {
        if let Some(limit) = word.strip_prefix("limit=") {
            descriptor.limit = Some(override_of(limit));
        } else {
            let hits: i64 = word
                .strip_prefix('x')
                .and_then(|hits| hits.parse().ok())
                .unwrap_or_else(|| panic!("{word:?} in {text:?} is nothing known"));
            descriptor.hits_addend = Some(hits.unsigned_abs());
            descriptor.is_negative_hits = hits < 0;
        }
    }
    descriptor
}

fn entries(text: &str) -> Vec<Entry> {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').expect("an entry is key=value");
            Entry {
                key: key.into(),
                value: value.into(),
            }
        })
        .collect()
}

fn override_of(text: &str) -> RateLimitOverride {
    let (requests, period) = text.split_once('/').expect("a limit is requests/unit");
    let unit = period.trim_start_matches(|c: char| c.is_ascii_digit());
    let name = unit.to_ascii_uppercase();
    RateLimitOverride {
        requests_per_unit: requests.parse().unwrap(),
        unit: Unit::from_str_name(&name)
            .expect("a unit of the protocol")
            .into(),
        unit_multiplier: period.strip_suffix(unit).and_then(|n| n.parse().ok()),
    }
}

/// The length of a limit's unit in seconds.
///
/// # Panics
/// When the status has no limit, or the limit has no unit.
pub fn unit_seconds(status: &DescriptorStatus) -> i64 {
    let limit = status
        .current_limit
        .as_ref()
        .expect("a limit that has a unit");
    let name = limit.unit().as_str_name();
    let unit = RuleUnit::from_name(name).unwrap_or_else(|| panic!("{name} is no unit"));
    i64::try_from(unit.seconds()).unwrap()
}

/// Dynamic metadata as JSON.
pub fn json_of(fields: &Struct) -> Value {
    let fields = fields.fields.iter();
    fields
        .map(|(name, value)| (name.clone(), value_of(value)))
        .collect()
}

fn value_of(value: &prost_types::Value) -> Value {
    match value.kind.as_ref().expect("every value has a kind") {
        Kind::NullValue(_) => Value::Null,
        Kind::BoolValue(value) => (*value).into(),
        Kind::NumberValue(value) => (*value).into(),
        Kind::StringValue(value) => value.as_str().into(),
        Kind::ListValue(list) => list.values.iter().map(value_of).collect(),
        Kind::StructValue(fields) => json_of(fields),
    }
}
