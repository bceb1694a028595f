//! What the parts of a decision cost by themselves: matching, keys, arithmetic, the memory store.
//!
//! `cargo bench --bench core`, with a part of a name to run only some.

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use mimalloc::MiMalloc;
use ratekeeper::bucket::{State, Terms};
use ratekeeper::clock;
use ratekeeper::key::{KeyFormat, LimitTag, Segment};
use ratekeeper::limiter::top::Top;
use ratekeeper::limiter::{Bounds, Descriptor, Entry, InForce, Limiter, LimiterSettings, Request};
use ratekeeper::rules::{Algorithm, LoadOptions, RuleSet, SourceFile};
use ratekeeper::store::memory::MemoryStore;
use ratekeeper::store::{Charge, Part, Payment, Store};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const SECOND: u64 = 1_000_000;
const NOW: u64 = 1_790_000_000 * SECOND;

fn load(text: String) -> RuleSet {
    let file = SourceFile {
        name: "bench.yaml".to_owned(),
        text,
    };
    RuleSet::load(&[file], LoadOptions::default()).expect("the rules are right")
}

/// So many rules next to each other, of which requests meet the last.
fn wide(rules: usize) -> RuleSet {
    let mut text = "domain: d\ndescriptors:\n".to_owned();
    for i in 0..rules {
        text += &format!(
            "  - {{ key: k, value: v{i}, rate_limit: {{ unit: second, requests_per_unit: 1 }} }}\n"
        );
    }
    load(text)
}

/// One rule under so many levels.
fn deep(levels: usize) -> RuleSet {
    let mut text = "domain: d\n".to_owned();
    for level in 0..levels {
        let indent = "  ".repeat(level);
        text += &format!("{indent}descriptors:\n{indent}- key: k{level}\n");
    }
    let indent = "  ".repeat(levels);
    text += &format!("{indent}rate_limit: {{ unit: second, requests_per_unit: 1 }}\n");
    load(text)
}

/// So many patterns for one key, of which requests meet the last.
fn wild(patterns: usize) -> RuleSet {
    let mut text = "domain: d\ndescriptors:\n".to_owned();
    for i in 0..patterns {
        text += &format!(
            "  - {{ key: k, value: \"/p{i}/*\", rate_limit: {{ unit: second, requests_per_unit: 1 }} }}\n"
        );
    }
    load(text)
}

fn matching(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("matching");
    let mut find = |name: BenchmarkId, rules: RuleSet, entries: Vec<(String, String)>| {
        let domain = rules.domain("d").expect("it was loaded");
        let entries: Vec<(&str, &str)> = entries.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert!(domain.find(entries.iter().copied()).is_some());
        group.bench_function(name, |bencher| {
            bencher.iter(|| domain.find(black_box(&entries).iter().copied()).is_some());
        });
    };
    for rules in [10, 1_000, 100_000] {
        let entries = vec![("k".to_owned(), format!("v{}", rules - 1))];
        find(BenchmarkId::new("rules", rules), wide(rules), entries);
    }
    for depth in 1..=6 {
        let entries = (0..depth)
            .map(|i| (format!("k{i}"), "v".to_owned()))
            .collect();
        find(BenchmarkId::new("depth", depth), deep(depth), entries);
    }
    for patterns in [1, 10, 100] {
        let entries = vec![("k".to_owned(), format!("/p{}/x", patterns - 1))];
        find(
            BenchmarkId::new("patterns", patterns),
            wild(patterns),
            entries,
        );
    }
}

fn tag() -> LimitTag<'static> {
    LimitTag {
        index: 0,
        is_window: false,
        override_period: None,
    }
}

fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("key");
    let format = KeyFormat::new("rk:");
    for (name, value) in [
        ("short", "10.1.2.3".to_owned()),
        ("escaped", "/a path?with=what#needs%escaping".to_owned()),
        ("hashed", "x".repeat(300)),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let entries = [(
                    &b"remote_address"[..],
                    Segment::Value(black_box(value.as_bytes())),
                )];
                format.key(&format.stem("envoy", entries), tag())
            });
        });
    }
}

fn bucket(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bucket");
    for (name, rate, period) in [
        ("10 per second", 10, SECOND),
        ("999999937 per year", 999_999_937, 365 * 86_400 * SECOND),
    ] {
        let terms = Terms::token_bucket(rate, period, rate, 0);
        let state = State::full(&terms, NOW).after(&terms, 5);
        group.bench_function(name, |bencher| {
            let mut now = NOW;
            bencher.iter(|| {
                now += 7;
                let state = black_box(state).at(&terms, now);
                let admitted = state.admits(&terms, 1);
                let after = state.after(&terms, 1);
                (admitted, after.remaining(&terms), after.full_in(now))
            });
        });
    }
}

/// A store that holds so many buckets, none of which is full soon, and a charge on each.
fn filled(buckets: usize) -> (MemoryStore, Vec<Arc<[Charge]>>) {
    let store = MemoryStore::new(2 * buckets + 100_000, clock::system());
    let format = KeyFormat::new("rk:");
    // Of many buckets, a sample is charged again; still too many for any cache.
    let sample = buckets.div_ceil(1_000_000);
    let mut charges = Vec::new();
    let deadline = Instant::now();
    for i in 0..buckets {
        let value = i.to_string();
        let charge = Charge {
            key: format.key(
                &format.stem("d", [(&b"user"[..], Segment::Value(value.as_bytes()))]),
                tag(),
            ),
            terms: Terms::token_bucket(1_000_000, 365 * 86_400 * SECOND, 1_000_000, 0),
            hits: 1,
            payment: Payment::Prepaid,
            part: Part::Must,
            on_failure: None,
        };
        let charge: Arc<[Charge]> = [charge].into();
        decide(&store, &charge, deadline);
        if i % sample == 0 {
            charges.push(charge);
        }
    }
    (store, charges)
}

fn decide(store: &MemoryStore, charges: &Arc<[Charge]>, deadline: Instant) {
    let decision = store.decide(Arc::clone(charges), deadline).now_or_never();
    black_box(decision.expect("memory waits for nothing").is_ok());
}

fn memory(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memory");
    group.sample_size(20);
    for buckets in [1_000, 1_000_000, 10_000_000] {
        let (store, charges) = filled(buckets);
        for threads in [1, 2] {
            let name = BenchmarkId::new(format!("{threads} threads"), buckets);
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|count| on_threads(&store, &charges, threads, count));
            });
        }
    }
}

/// How long it takes so many threads to make so many decisions each, each beginning elsewhere and
/// striding so that no cache can guess what comes next.
fn on_threads(
    store: &MemoryStore,
    charges: &[Arc<[Charge]>],
    threads: usize,
    count: u64,
) -> Duration {
    let (begin, deadline) = (Instant::now(), Instant::now());
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let mut place = thread * charges.len() / threads;
                for _ in 0..count {
                    place = (place + 7_919 * 31) % charges.len();
                    decide(store, &charges[place], deadline);
                }
            });
        }
    });
    begin.elapsed()
}

/// A whole decision without the network, where buckets are counted by how hot they are and where they are not.
fn limiter(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("limiter");
    let text = "{ domain: d, descriptors: [{ key: user, rate_limit: { unit: year, requests_per_unit: 1000000 } }] }";
    for (name, size) in [("top off", 0), ("top 256", 256)] {
        for users in [100, 1_000_000] {
            let limiter = deciding(load(text.to_owned()), size);
            let requests: Vec<Request> = (0..users).map(request).collect();
            let mut place = 0;
            group.bench_function(BenchmarkId::new(name, users), |bencher| {
                bencher.iter(|| {
                    place = (place + 7_919 * 31) % requests.len();
                    let verdict = limiter.decide(&requests[place], None).now_or_never();
                    verdict.expect("memory waits for nothing").is_ok()
                });
            });
        }
    }
}

fn deciding(rules: RuleSet, top: usize) -> Limiter<MemoryStore> {
    let in_force = Arc::new(InForce::default());
    in_force.install(rules);
    let settings = LimiterSettings {
        keys: KeyFormat::new("rk:"),
        bounds: Bounds {
            descriptors: 10,
            entries: 10,
            bytes: 1_000,
        },
        default_algorithm: Algorithm::TokenBucket,
        default_hits: ratekeeper::rules::Hits::Auto,
        shadow_mode: false,
        quota_mode: false,
    };
    let store = MemoryStore::new(4_000_000, clock::system());
    Limiter::new(store, in_force, settings).noted_by(Top::new(top).noter())
}

fn request(user: u32) -> Request {
    let entry = Entry {
        key: "user".into(),
        value: user.to_string().into(),
    };
    Request {
        domain: "d".into(),
        descriptors: vec![Descriptor {
            entries: vec![entry],
            ..Descriptor::default()
        }],
        hits_addend: 1,
    }
}

criterion_group!(core, matching, keys, bucket, memory, limiter);
criterion_main!(core);
