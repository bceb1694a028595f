//! What the limiter remembers between requests. How it decides is tested through gRPC, in `tests/`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
        default_hits: Hits::Auto,
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
async fn a_rule_that_is_asked_takes_the_cost_afterwards_also_after_a_reload() {
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

proptest! {
    /// Whatever is denied, in whatever order requests end: once a rule is given hits back, a bucket has what is open and
    /// what was cost.
    #[test]
    fn what_is_given_back_was_taken(
        is_postpaid in any::<bool>(),
        steps in vec((0..3_u8, 0..8_usize, 1..=90_u64, proptest::option::of(0..15_u64)), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let hits = if is_postpaid { "postpaid" } else { "auto" };
        let limiter = Limiter {
            store: MemoryStore::new(1_000, Arc::new(|| 1_800_000_000_000_000)),
            ..limiter()
        };
        limiter.rules.install(rules(&format!(
            "domain: d\ndescriptors: [{{key: a, rate_limit: {{unit: year, requests_per_unit: 100, hits: {hits}}}}}]"
        )));
        let call = |calls: &[(i64, bool)]| {
            let descriptors = calls.iter().map(|&(hits, is_back)| Descriptor {
                is_negative_hits: is_back,
                ..request("a", hits.unsigned_abs()).descriptors.remove(0)
            });
            let request = Request { descriptors: descriptors.collect(), ..request("a", 0) };
            runtime.block_on(limiter.decide(&request, None)).unwrap();
        };
        // Requests that pass and end, by which the pattern is seen.
        for _ in 0..3 {
            call(&[(1, false)]);
            call(&[(1, true)]);
        }
        let (mut open, mut cost) = (Vec::new(), 0);
        for (kind, which, estimate, real) in steps {
            let estimate = i64::try_from(estimate).unwrap();
            if kind > 0 && open.len() < 8 {
                call(&[(estimate, false)]);
                open.push(estimate);
            } else if !open.is_empty() {
                let estimate = open.swap_remove(which % open.len());
                let real = real.map(|real| i64::try_from(real).unwrap());
                let ends = [Some((estimate, true)), real.map(|real| (real, false))];
                call(&ends.into_iter().flatten().collect::<Vec<_>>());
                cost += real.unwrap_or_default();
            }
            let taken = taken(&limiter);
            prop_assert_eq!(taken, u64::try_from(open.iter().sum::<i64>() + cost).unwrap(), "{:?}", open);
        }
    }
}

/// What is taken from the bucket of the rule `a`.
fn taken(limiter: &Limiter<MemoryStore>) -> u64 {
    let snapshot = limiter.rules.snapshot().unwrap();
    let descriptor = &request("a", 0).descriptors[0];
    let key = bucket_keys(&snapshot.rules, &limiter.keys, "d", descriptor).remove(0);
    let Limits::Limited(limits) = &snapshot.rules.rules()[0].limits else {
        panic!("it has a limit");
    };
    let charge = Charge {
        key,
        terms: snapshot.call_counts(0).pattern().terms(&limits[0]),
        hits: 0,
        payment: crate::store::Payment::Question,
        part: crate::store::Part::Must,
        on_failure: None,
    };
    let decision = limiter
        .store
        .decide_on(&[charge], |_| crate::store::memory::BucketBasis::Stored);
    decision.outcomes[0].state.used()
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
