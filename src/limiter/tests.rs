//! What the limiter remembers between requests. How it decides is tested through gRPC, in `tests/`.

use std::sync::Arc;

use super::*;
use crate::clock;
use crate::rules::{LoadOptions, SourceFile};
use crate::store::memory::MemoryStore;

fn rules(text: &str) -> RuleSet {
    let file = SourceFile {
        name: "test.yaml".to_owned(),
        text: text.to_owned(),
    };
    RuleSet::load(&[file], LoadOptions::default()).unwrap()
}

fn limiter() -> Limiter<MemoryStore> {
    let settings = LimiterSettings {
        keys: KeyFormat::new(""),
        bounds: Bounds {
            descriptors: 10,
            entries: 10,
            bytes: 1_000,
        },
        default_algorithm: Algorithm::TokenBucket,
        shadow_mode: false,
        quota_mode: false,
    };
    let store = MemoryStore::new(100, clock::system());
    Limiter::new(store, Arc::default(), settings)
}

fn request(key: &str, hits: u64) -> Request {
    Request {
        domain: "d".to_owned(),
        descriptors: vec![Descriptor {
            entries: vec![Entry {
                key: key.to_owned(),
                value: "x".to_owned(),
            }],
            hits_addend: Some(hits),
            ..Descriptor::default()
        }],
        hits_addend: 0,
    }
}

const LIMIT: &str = "rate_limit: { unit: year, requests_per_unit: 10 }";

#[tokio::test]
async fn nothing_is_decided_without_rules() {
    let error = limiter().decide(&request("a", 1), None).await.unwrap_err();
    assert_eq!(error.to_string(), "no rate limit configuration loaded");
}

#[tokio::test]
async fn a_rule_that_was_asked_takes_the_cost_afterwards_also_after_a_reload() {
    let limiter = limiter();
    limiter.rules.install(rules(&format!(
        "domain: d\ndescriptors: [{{ key: a, {LIMIT} }}]"
    )));
    limiter.decide(&request("a", 0), None).await.unwrap();
    // The same rule, now second of two.
    limiter.rules.install(rules(&format!(
        "domain: d\ndescriptors: [{{ key: b, {LIMIT} }}, {{ key: a, {LIMIT} }}]"
    )));
    for (key, left_in_debt) in [("a", Code::OverLimit), ("b", Code::Ok)] {
        limiter.decide(&request(key, 15), None).await.unwrap();
        let verdict = limiter.decide(&request(key, 0), None).await.unwrap();
        assert_eq!(verdict.code, left_in_debt, "{key}");
    }
}

#[tokio::test]
async fn a_snapshot_outlives_its_replacement() {
    let limiter = limiter();
    limiter.rules.install(rules(&format!(
        "domain: d\ndescriptors: [{{ key: a, {LIMIT} }}]"
    )));
    let verdict = limiter.decide(&request("a", 1), None).await.unwrap();
    limiter.rules.install(RuleSet::empty());
    assert_eq!(verdict.rule(&verdict.statuses[0]).unwrap().path, "d.a");
    assert!(Arc::strong_count(&verdict.snapshot) >= 1);
}
