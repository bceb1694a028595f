//! What the limiter remembers between requests. How it decides is tested through gRPC, in `tests/`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use proptest::collection::vec;
use proptest::prelude::*;

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
        domain: "d".into(),
        descriptors: vec![Descriptor {
            entries: vec![Entry {
                key: key.into(),
                value: "x".into(),
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

/// Rules that go together in every way, where the marked places take candidates.
const RULES: &str = "
domain: d
descriptors:
  - {key: must, rate_limit: {unit: minute, requests_per_unit: 5} §}
  - {key: two, rate_limit: [{unit: second, requests_per_unit: 3}, {unit: hour, requests_per_unit: 30}] §}
  - {key: quota, quota_mode: true, rate_limit: {unit: minute, requests_per_unit: 4} §}
  - {key: other, quota_mode: true, rate_limit: {unit: minute, requests_per_unit: 6} §}
  - {key: shadow, shadow_mode: true, rate_limit: {unit: minute, requests_per_unit: 2} §}
  - {key: cost, rate_limit: {unit: minute, requests_per_unit: 9, hits: postpaid} §}
  - {key: old, rate_limit: {name: old, unit: minute, requests_per_unit: 1} §}
  - {key: new, rate_limit: {unit: minute, requests_per_unit: 7, replaces: [{name: old}]} §}
  - {key: free, rate_limit: {unlimited: true} §}
";

const KEYS: [&str; 9] = [
    "must", "two", "quota", "other", "shadow", "cost", "old", "new", "free",
];

/// A limiter by [`RULES`] with these candidates, and a hand on its clock.
fn trying(candidates: &str) -> (Limiter<MemoryStore>, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(1_800_000_000_000_000));
    let clock = Arc::clone(&now);
    let limiter = Limiter {
        store: MemoryStore::new(1_000, Arc::new(move || clock.load(Ordering::Relaxed))),
        ..limiter()
    };
    limiter
        .rules
        .install(rules(&RULES.replace('§', candidates)));
    (limiter, now)
}

proptest! {
    /// Whatever is tried beside rules, they answer as without it.
    #[test]
    fn candidates_change_no_answer(
        limit in 0..12_u32,
        requests in vec((0..20_000_000_u64, vec((0..KEYS.len(), 0..2_u8, -2..7_i64), 1..4)), 1..60),
    ) {
        let candidate = format!(
            ", candidate: [{{unit: minute, requests_per_unit: {limit}}}, {{unit: second, requests_per_unit: 4, \
             hits: postpaid}}]"
        );
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let ((plain, clock), (tried, other_clock)) = (trying(""), trying(&candidate));
        for (later, descriptors) in requests {
            for clock in [&clock, &other_clock] {
                clock.fetch_add(later, Ordering::Relaxed);
            }
            let descriptors = descriptors.into_iter().map(|(key, value, hits)| Descriptor {
                entries: vec![Entry { key: KEYS[key].into(), value: value.to_string().into() }],
                hits_addend: Some(hits.unsigned_abs()),
                is_negative_hits: hits < 0,
                ..Descriptor::default()
            });
            let request = Request {
                domain: "d".into(),
                descriptors: descriptors.collect(),
                hits_addend: 0,
            };
            let decide = |limiter: &Limiter<MemoryStore>| {
                let verdict = runtime.block_on(limiter.decide(&request, None)).unwrap();
                (verdict.code, verdict.decided_by(), verdict.statuses)
            };
            prop_assert_eq!(decide(&tried), decide(&plain), "{:?}", request);
        }
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
