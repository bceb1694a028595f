//! The schema agrees with the server.

use serde_json::{Value, json};

use super::schema;
use crate::vocabulary::{KEYS, Place};
use crate::{LoadOptions, RuleSet, SourceFile};

/// A file that uses every key there is, some in two ways.
fn full() -> Value {
    json!({
        "domain": "d",
        "descriptors": [
            {
                "key": "a",
                "value": "b*",
                "shadow_mode": true,
                "quota_mode": false,
                "detailed_metric": true,
                "value_to_metric": true,
                "share_threshold": true,
                "on_store_failure": "deny",
                "metadata": { "anything": [1, null, { "at": "all" }] },
                "rate_limit": {
                    "unit": "mInUtE", "requests_per_unit": 5, "unit_multiplier": 2, "burst": 9,
                    "algorithm": "token_bucket", "hits": "postpaid", "max_debt": 3, "name": "n",
                    "unlimited": false, "replaces": [{ "name": "m" }],
                },
                "candidate": { "unit": "hour", "requests_per_unit": 4, "burst": 2, "name": "next" },
                "descriptors": [{ "key": 7, "value": true, "descriptors": null }],
            },
            { "key": "l", "rate_limit": [{ "unit": "day" }, { "unit": "week" }] },
            {
                "key": "u",
                "rate_limit": { "unlimited": true },
                "candidate": [{ "unit": "day" }, { "unit": "week" }],
            },
        ],
    })
}

fn is_valid(file: &Value) -> bool {
    jsonschema::validator_for(&schema()).unwrap().is_valid(file)
}

/// JSON is YAML, so the server can read it, too.
fn loads(file: &Value) -> bool {
    let file = SourceFile {
        name: "a.json".into(),
        text: file.to_string(),
    };
    let strict = LoadOptions {
        strict: true,
        ..LoadOptions::default()
    };
    RuleSet::load(&[file], strict).is_ok()
}

#[test]
fn the_schema_is_one() {
    assert!(jsonschema::meta::is_valid(&schema()));
}

/// The parser panics for a key that is in no schema, and reading `full` shows that
/// it reads every key of the table.
#[test]
fn every_key_is_in_the_schema_and_read() {
    assert!(is_valid(&full()) && loads(&full()));
    let text = full().to_string();
    for key in KEYS {
        assert!(
            text.contains(&format!("\"{}\":", key.name)),
            "{} is not in the sample",
            key.name
        );
    }
    let schema = schema();
    for (place, properties) in [
        (Place::File, &schema["properties"]),
        (
            Place::Descriptor,
            &schema["$defs"]["descriptor"]["properties"],
        ),
        (
            Place::RateLimit,
            &schema["$defs"]["rate_limit"]["properties"],
        ),
        (
            Place::Candidate,
            &schema["$defs"]["candidate"]["properties"],
        ),
        (Place::Replaces, &schema["$defs"]["replaces"]["properties"]),
    ] {
        let known: Vec<_> = place.keys().map(|key| key.name).collect();
        let described: Vec<_> = properties.as_object().unwrap().keys().collect();
        assert_eq!(known, described);
    }
}

#[test]
fn a_key_misspelt_or_misplaced_is_invalid_for_both() {
    for (place, path) in [
        (Place::File, ""),
        (Place::Descriptor, "/descriptors/0"),
        (Place::RateLimit, "/descriptors/0/rate_limit"),
        (Place::Candidate, "/descriptors/0/candidate"),
        (Place::Replaces, "/descriptors/0/rate_limit/replaces/0"),
    ] {
        for key in KEYS {
            let mut names = vec![format!("{}s", key.name), key.name.to_uppercase()];
            if place.keys().all(|known| known.name != key.name) {
                names.push(key.name.to_owned());
            }
            for name in names
                .into_iter()
                .filter(|n| place.keys().all(|known| known.name != n))
            {
                let mut file = full();
                file.pointer_mut(path).unwrap()[&name] = json!(null);
                assert!(!is_valid(&file), "{name} in {path}");
                assert!(!loads(&file), "{name} in {path}");
            }
        }
    }
}

#[test]
fn wrong_values_are_invalid_for_both() {
    let limit = "/descriptors/0/rate_limit";
    for (path, key, value) in [
        ("", "domain", json!("")),
        ("", "domain", json!(null)),
        ("", "domain", json!(1.5)),
        ("", "descriptors", json!({})),
        ("", "descriptors", json!(["a"])),
        ("/descriptors/0", "key", json!("")),
        ("/descriptors/0", "key", json!(null)),
        ("/descriptors/0", "value", json!(1.5)),
        ("/descriptors/0", "shadow_mode", json!("maybe")),
        ("/descriptors/0", "shadow_mode", json!(1)),
        ("/descriptors/0", "metadata", json!([])),
        ("/descriptors/0", "on_store_failure", json!("open")),
        ("/descriptors/0", "rate_limit", json!([])),
        ("/descriptors/0", "rate_limit", json!(5)),
        ("/descriptors/0", "candidate", json!([])),
        ("/descriptors/0", "candidate", json!("5/minute")),
        ("/descriptors/0/candidate", "unit", json!("fortnight")),
        ("/descriptors/0/candidate", "replaces", json!([])),
        (limit, "unit", json!("fortnight")),
        (limit, "unit", json!("minutes")),
        (limit, "requests_per_unit", json!(-1)),
        (limit, "requests_per_unit", json!("5")),
        (limit, "requests_per_unit", json!(4_294_967_296_u64)),
        (limit, "unit_multiplier", json!(0)),
        (limit, "burst", json!(0)),
        (limit, "algorithm", json!("leaky")),
        (limit, "hits", json!("never")),
        (limit, "unlimited", json!("x")),
        (limit, "name", json!([])),
        (limit, "replaces", json!([{ "name": "" }])),
        (limit, "replaces", json!([{}])),
    ] {
        let mut file = full();
        file.pointer_mut(path).unwrap()[key] = value.clone();
        assert!(!is_valid(&file), "{path} {key}: {value}");
        assert!(!loads(&file), "{path} {key}: {value}");
    }
}
