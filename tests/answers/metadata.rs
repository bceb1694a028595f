//! Dynamic metadata of responses.

use ratekeeper::service::pb::RateLimitRequest;
use serde_json::{Value, json};

use crate::support::{Ratekeeper, ask, json_of, on_every_store, times};

const METADATA: &str = "
domain: d
descriptors:
  - key: a
    metadata: {owner: one, deep: {left: 1, both: [true, null]}, list: [1, 2]}
    rate_limit: {unit: year, requests_per_unit: 1}
  - key: b
    metadata: {owner: two, deep: {right: 1.5, both: other}, more: text}
    rate_limit: {unit: year, requests_per_unit: 1}
  - {key: plain, rate_limit: {unit: year, requests_per_unit: 1}}
  - {key: free, metadata: {free: true}, rate_limit: {unlimited: true}}
  - {key: unlimited-not, metadata: {none: true}}
  - {key: shadow, shadow_mode: true, metadata: {shadow: true}, rate_limit: {unit: year, requests_per_unit: 0}}
  - key: child
    metadata: {parent: true}
    descriptors: [{key: a, detailed_metric: true, metadata: {leaf: true}, rate_limit: {unit: year, requests_per_unit: 9}}]
  - {key: c, value: x*, share_threshold: true, value_to_metric: true, metadata: {c: 1}, rate_limit: {unit: year, requests_per_unit: 9}}
";

#[test]
fn dynamic_metadata_tells_what_was_asked_and_by_whose_leave() {
    let environment = [("RESPONSE_DYNAMIC_METADATA", "true")];
    on_every_store(METADATA, &environment, |server, store| {
        let row = |request: RateLimitRequest, expected: Value| {
            let shown = format!("{request:?} on {store}");
            let response = server.ask(request).unwrap();
            let metadata = json_of(
                response
                    .dynamic_metadata
                    .as_ref()
                    .expect("it was asked for"),
            );
            assert_eq!(metadata, expected, "{shown}");
        };
        let entries = |entries: &[&str]| json!({"entries": entries});
        // Maps are united, and of one name the first value stays.
        row(
            ask("d", &["a=1", "b=2"]),
            json!({
                "domain": "d",
                "descriptors": [entries(&["a=1"]), entries(&["b=2"])],
                "metadata": {
                    "owner": "one",
                    "deep": {"left": 1.0, "right": 1.5, "both": [true, null]},
                    "list": [1.0, 2.0],
                    "more": "text",
                },
            }),
        );
        // Only those that pass bring theirs, and only with a limit.
        row(
            ask("d", &["a=1", "free=f", "unlimited-not=n", "none=n", ""]),
            json!({
                "domain": "d",
                "descriptors": [
                    entries(&["a=1"]), entries(&["free=f"]), entries(&["unlimited-not=n"]),
                    entries(&["none=n"]), entries(&[]),
                ],
            }),
        );
        row(
            ask("d", &["a=1", "shadow=s"]),
            json!({
                "domain": "d",
                "descriptors": [entries(&["a=1"]), entries(&["shadow=s"])],
                "metadata": {"shadow": true},
            }),
        );
        // Only the rule's own, whatever its metrics show (the reference loses it then).
        row(
            ask("d", &["child=x,a=y", "c=xy"]),
            json!({
                "domain": "d",
                "descriptors": [entries(&["child=x", "a=y"]), entries(&["c=xy"])],
                "metadata": {"leaf": true, "c": 1.0},
            }),
        );
        row(
            times(
                3,
                ask(
                    "d",
                    &["plain=p x0", "a=2 limit=9/hour", "plain=q limit=9/2day x2"],
                ),
            ),
            json!({
                "domain": "d",
                "hitsAddend": 3.0,
                "descriptors": [
                    {"entries": ["plain=p"], "hitsAddend": 0.0},
                    {"entries": ["a=2"], "limit": "requests_per_unit:9 unit:HOUR"},
                    {
                        "entries": ["plain=q"],
                        "limit": "requests_per_unit:9 unit:DAY unit_multiplier:{value:2}",
                        "hitsAddend": 2.0,
                    },
                ],
            }),
        );
        row(
            ask("nowhere", &["a=1"]),
            json!({"domain": "nowhere", "descriptors": [entries(&["a=1"])]}),
        );
    });
}

#[test]
fn no_dynamic_metadata_unless_asked_for() {
    let server = Ratekeeper::start(METADATA, []);
    assert_eq!(
        server.ask(ask("d", &["a=1"])).unwrap().dynamic_metadata,
        None
    );
}
