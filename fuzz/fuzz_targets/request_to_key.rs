//! Any bytes as a request: a verdict or a sentence, never a panic; and its keys are bounded and safe.
#![no_main]

use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use ratekeeper::clock;
use ratekeeper::key::{KeyFormat, MAX_LEN};
use ratekeeper::limiter::{Bounds, InForce, LimitError, Limiter, LimiterSettings, Request, bucket_keys};
use ratekeeper::rules::{Algorithm, LoadOptions, RuleSet, SourceFile};
use ratekeeper::service::pb::RateLimitRequest;
use ratekeeper::store::memory::MemoryStore;
use tokio::runtime::{Builder, Runtime};

const RULES: &str = "
domain: d
descriptors:
  - key: a
    rate_limit: { unit: second, requests_per_unit: 5 }
    descriptors:
      - key: b
        value: x*y
        share_threshold: true
        rate_limit: [{ unit: second, requests_per_unit: 10 }, { unit: year, requests_per_unit: 9 }]
  - key: k*
    rate_limit: { unit: day, requests_per_unit: 4294967295, algorithm: fixed_window }
  - key: b
    quota_mode: true
    rate_limit: { unit: week, requests_per_unit: 1, name: n, replaces: [{ name: m }] }
";

fn rules() -> RuleSet {
    let file = SourceFile { name: "rules.yaml".to_owned(), text: RULES.to_owned() };
    RuleSet::load(&[file], LoadOptions::default()).expect("the rules are right")
}

fn subject() -> &'static (Runtime, Limiter<MemoryStore>, RuleSet) {
    static SUBJECT: OnceLock<(Runtime, Limiter<MemoryStore>, RuleSet)> = OnceLock::new();
    SUBJECT.get_or_init(|| {
        let in_force = Arc::new(InForce::default());
        in_force.install(rules());
        let limiter = Limiter::new(
            MemoryStore::new(1_000, clock::system()),
            in_force,
            LimiterSettings {
                keys: KeyFormat::new(""),
                bounds: Bounds { descriptors: 100, entries: 20, bytes: 10_000 },
                default_algorithm: Algorithm::TokenBucket,
                default_hits: ratekeeper::rules::Hits::Auto,
                shadow_mode: false,
                quota_mode: false,
            },
        );
        let runtime = Builder::new_current_thread().build().expect("a runtime without drivers");
        (runtime, limiter, rules())
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(wire) = RateLimitRequest::decode(bytes) else { return };
    let Ok(request) = Request::try_from(wire) else { return };
    let (runtime, limiter, rules) = subject();
    match runtime.block_on(limiter.decide(&request, None)) {
        Ok(verdict) => assert_eq!(verdict.statuses.len(), request.descriptors.len()),
        Err(LimitError::BadRequest(error)) => assert!(!error.to_string().is_empty()),
        Err(error) => panic!("{error}"),
    }
    let keys = KeyFormat::new("");
    for descriptor in &request.descriptors {
        for key in bucket_keys(rules, &keys, &request.domain, descriptor) {
            assert!(key.as_str().len() <= MAX_LEN, "{key}");
            assert!(!key.as_str().contains(['{', '}', ' ', '\n', '\r', '\0']), "{key}");
        }
    }
});
