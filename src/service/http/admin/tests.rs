//! `openapi.json` describes exactly the fields of the types, in the same order.

use ratekeeper_api::admin::{
    Breaker, Bucket, Buckets, Candidate, Configuration, ConfigurationSummary, Denial, DeniedBucket,
    Distribution, DistributionBucket, Error, ExplainedLimit, Explanation, FallbackDecisions, File,
    Hits, HotBucket, Limit, RedisServer, Rejected, Rule, Rules, Source, Status, Step, Store, Top,
    Usage,
};
use serde::Serialize;
use serde_json::Value;

use super::OPENAPI;

/// Checks that a document has the fields that a schema requires, and no others.
///
/// The document must have no empty lists and no absent values, so that all of its schema is checked.
fn check(openapi: &Value, schema: &Value, value: &Value, path: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let referenced = openapi.pointer(&reference[1..]).unwrap();
        return check(openapi, referenced, value, path);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        return check(openapi, &choices[0], value, path);
    }
    match value {
        Value::Object(fields) => {
            let described: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
            let found: Vec<_> = fields.keys().collect();
            assert_eq!(found, described, "{path}");
            let required = schema["required"].as_array().unwrap().iter();
            let required: Vec<_> = required.map(|name| name.as_str().unwrap()).collect();
            assert_eq!(found, required, "{path}");
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                check(openapi, &schema["properties"][name], value, &path);
            }
        }
        Value::Array(items) => {
            assert!(!items.is_empty(), "{path} is empty");
            let item = &schema["items"];
            if item["$ref"].is_string() || item["properties"].is_object() {
                items
                    .iter()
                    .for_each(|value| check(openapi, item, value, path));
            }
        }
        Value::Null => panic!("{path} is null"),
        _ => {}
    }
}

fn check_document(name: &str, document: &impl Serialize) {
    let openapi: Value = serde_json::from_str(OPENAPI).unwrap();
    let value = serde_json::to_value(document).unwrap();
    check(
        &openapi,
        &openapi["components"]["schemas"][name],
        &value,
        name,
    );
    let mut schema = openapi["components"]["schemas"][name].clone();
    schema["components"] = openapi["components"].clone();
    let result = jsonschema::validate(&schema, &value);
    assert!(result.is_ok(), "{name}: {result:?}");
}

fn text() -> String {
    "text".to_owned()
}

fn rejected() -> Option<Rejected> {
    Some(Rejected {
        mistakes: vec![text()],
        ..Rejected::default()
    })
}

fn distribution() -> Distribution {
    Distribution {
        buckets: vec![DistributionBucket::default()],
        ..Distribution::default()
    }
}

#[test]
fn status_and_configuration_are_described() {
    let breaker = Breaker {
        state: "half_open".into(),
        server: Some(RedisServer {
            version: Some(text()),
            protocol: 3,
        }),
        last_failure: Some(text()),
        ..Breaker::default()
    };
    check_document(
        "Status",
        &Status {
            store: Store {
                kind: "redis".into(),
                buckets: Some(1),
                max_buckets: Some(1),
                failure_mode: Some("local".into()),
                breakers: vec![breaker],
                latency: Some(distribution()),
                ..Store::default()
            },
            answers: distribution(),
            fallback_decisions: Some(FallbackDecisions::default()),
            source: Source {
                kind: "xds".into(),
                origin: text(),
                connected: Some(true),
            },
            configuration: ConfigurationSummary {
                version: Some(text()),
                loaded_us: Some(1),
                rejected: rejected(),
                ..ConfigurationSummary::default()
            },
            ..Status::default()
        },
    );
    check_document(
        "Configuration",
        &Configuration {
            version: Some(text()),
            files: vec![File::default()],
            rejected: rejected(),
            ..Configuration::default()
        },
    );
    check_document("Error", &Error::default());
}

#[test]
fn rules_and_explanations_are_described() {
    let rule = Rule {
        segments: vec![text()],
        entries: vec![(text(), Some(text())), (text(), None)],
        limits: vec![Limit {
            unit: "week".into(),
            unit_multiplier: 1,
            algorithm: "fixed_window".into(),
            hits: "auto".into(),
            ..Limit::default()
        }],
        on_store_failure: Some("allow".into()),
        hits: Hits {
            would_deny: Some(0),
            ..Hits::default()
        },
        usage: Some(Usage {
            hits: "prepaid".into(),
            ..Usage::default()
        }),
        candidate: Some(Candidate::default()),
        ..Rule::default()
    };
    check_document(
        "Rules",
        &Rules {
            rules: vec![rule],
            ..Rules::default()
        },
    );
    check_document(
        "Explanation",
        &Explanation {
            descriptor: vec![(text(), text())],
            rule: Some(text()),
            limits: vec![ExplainedLimit::default()],
            steps: vec![Step {
                passed_over: vec![text()],
                ..Step::default()
            }],
            hints: vec![text()],
            ..Explanation::default()
        },
    );
}

#[test]
fn buckets_are_described() {
    let bucket = Bucket {
        retry_in_us: Some(1),
        decided_by: "fallback_local".into(),
        last_denied: Some(Denial::default()),
        ..Bucket::default()
    };
    check_document(
        "Buckets",
        &Buckets {
            buckets: vec![bucket],
            ..Buckets::default()
        },
    );
    let hot = HotBucket {
        hits: Some(1),
        ..HotBucket::default()
    };
    let denied = DeniedBucket {
        bucket: hot.clone(),
        last_denied_us: Some(1),
        request: Some(text()),
    };
    check_document(
        "Top",
        &Top {
            window: "hour".into(),
            hottest: vec![hot],
            denied: vec![denied.clone()],
            would_deny: vec![denied],
            ..Top::default()
        },
    );
}
