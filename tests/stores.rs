//! The contract of a store, the same for every store: named cases, and random calls that memory and
//! Redis must answer alike to the last field.
//!
//! The time is the test's own on both. Redis is real; only the line of the script that reads the clock
//! reads a list instead. That list says a year far off, so that no key expires on Redis's real
//! clock; what is full must then be recognised by the arithmetic alone.

mod cases;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use ratekeeper::bucket::Terms;
use ratekeeper::key::{BucketKey, HashTag, KeyFormat, LimitTag};
use ratekeeper::store::denied::RememberedDenials;
use ratekeeper::store::memory::MemoryStore;
use ratekeeper::store::redis::{RedisSettings, RedisStore, SCRIPT};
use ratekeeper::store::{Cause, Charge, Decision, MAX_HITS, Outcome, Part, Payment, Store};
use ratekeeper::time::Micros;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;

use crate::cluster::InCluster;
use crate::support::{Redis, TIMEOUT, eventually};

const SECOND: Micros = 1_000_000;
const DAY: Micros = 86_400 * SECOND;
const YEAR: Micros = 365 * DAY;

/// Some time in 2109, aligned to a day.
pub(crate) const START: Micros = 4_400_000_000 * SECOND / DAY * DAY;

/// A deadline that nothing here comes near.
pub(crate) fn soon() -> Instant {
    Instant::now() + TIMEOUT
}

// --- Stores whose clock is the test's ---

/// A store, and a hand on its clock.
pub(crate) trait Subject {
    fn set_clock(&mut self, now: Micros) -> impl Future<Output = ()>;
    fn store(&self) -> &impl Store;

    /// Decides requests together; equal ones right after the first of them.
    async fn decide_batch(&mut self, now: Micros, requests: &[Vec<Charge>]) -> Vec<Decision>;

    async fn decide(&mut self, now: Micros, charges: &[Charge]) -> Decision {
        self.set_clock(now).await;
        self.store().decide(charges.into(), soon()).await.unwrap()
    }
}

pub(crate) struct InMemory {
    store: MemoryStore,
    now: Arc<AtomicU64>,
}

impl InMemory {
    pub(crate) fn new() -> Self {
        let now = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&now);
        Self {
            store: MemoryStore::new(1_000_000, Arc::new(move || clock.load(Ordering::SeqCst))),
            now,
        }
    }
}

impl Subject for InMemory {
    async fn set_clock(&mut self, now: Micros) {
        self.now.store(now, Ordering::SeqCst);
    }

    async fn decide_batch(&mut self, now: Micros, requests: &[Vec<Charge>]) -> Vec<Decision> {
        in_order(self, now, requests).await
    }

    fn store(&self) -> &impl Store {
        &self.store
    }
}

/// Decides requests one after the other, in the order of a batch.
pub(crate) async fn in_order(
    subject: &mut impl Subject,
    now: Micros,
    requests: &[Vec<Charge>],
) -> Vec<Decision> {
    let first = |charges| requests.iter().position(|other| other == charges);
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|&i| first(&requests[i]));
    let mut decisions = BTreeMap::new();
    for i in order {
        decisions.insert(i, subject.decide(now, &requests[i]).await);
    }
    decisions.into_values().collect()
}

struct InRedis {
    store: Arc<RedisStore>,
    connection: MultiplexedConnection,
}

impl InRedis {
    async fn new(redis: &Redis) -> Self {
        let reads_clock = "redis.call('TIME')";
        assert_eq!(SCRIPT.matches(reads_clock).count(), 1);
        let source = SCRIPT.replace(reads_clock, "redis.call('LRANGE', 'clock', '0', '1')");
        Self {
            store: Arc::new(RedisStore::with_script(&settings(redis), &source)),
            connection: redis.connect().await,
        }
    }
}

impl Subject for InRedis {
    async fn set_clock(&mut self, now: Micros) {
        redis::pipe()
            .atomic()
            .del("clock")
            .rpush("clock", &[now / SECOND, now % SECOND])
            .exec_async(&mut self.connection)
            .await
            .unwrap();
    }

    async fn decide_batch(&mut self, now: Micros, requests: &[Vec<Charge>]) -> Vec<Decision> {
        self.set_clock(now).await;
        self.store.decide_batch(requests).await.unwrap()
    }

    fn store(&self) -> &impl Store {
        &*self.store
    }
}

/// How to reach a Redis, with time for a slow machine.
fn settings(redis: &Redis) -> RedisSettings {
    RedisSettings {
        pool_size: 4,
        timeout: Duration::from_secs(30),
        ..RedisSettings::parse(&redis.url()).unwrap()
    }
}

/// Runs a case on every store.
macro_rules! on_every_store {
    ($($case:ident),+ $(,)?) => {
        $(
            #[test]
            fn $case() {
                let runtime = Runtime::new().unwrap();
                runtime.block_on(cases::$case(InMemory::new()));
                let redis = Redis::start();
                runtime.block_on(async { cases::$case(InRedis::new(&redis).await).await });
                for hash_tag in [HashTag::Group, HashTag::Domain] {
                    runtime.block_on(async { cases::$case(InCluster::new(hash_tag).await).await });
                }
            }
        )+
    };
}

on_every_store!(
    a_bucket_gives_its_capacity_and_then_its_rate,
    a_denied_request_takes_from_no_bucket,
    a_shadow_charge_never_vetoes,
    quota_charges_veto_only_together,
    a_candidate_neither_vetoes_nor_changes_an_answer,
    reports_count_in_denied_requests_too,
    questions_and_gifts_create_no_bucket,
    debt_denies_until_it_is_paid,
    a_limit_that_changes_keeps_what_was_taken,
    hits_that_never_pass_promise_nothing,
    windows_forget_at_their_end,
    a_full_bucket_is_forgotten_for_good,
    a_clock_that_steps_back_freezes_no_longer_than_the_step,
    a_clock_that_steps_ahead_gives_no_more_than_the_step,
    what_is_taken_while_the_clock_is_behind_stays_taken,
    a_window_outlives_a_step_by_no_more_than_itself,
    every_unit_and_extreme_is_exact,
);

async fn one(subject: &mut impl Subject, now: Micros, charge: Charge) -> Outcome {
    subject.decide(now, &[charge]).await.outcomes[0]
}

fn daily(limit: u32) -> Terms {
    Terms::token_bucket(limit, DAY, limit, limit)
}

fn charge(key: &str, terms: Terms, hits: i64) -> Charge {
    Charge {
        key: bucket_key(key),
        terms,
        hits,
        payment: Payment::Prepaid,
        part: Part::Must,
        on_failure: None,
    }
}

/// The charge as a candidate that stands in for those at these places.
fn candidate(from: u32, to: u32, charge: Charge) -> Charge {
    Charge {
        part: Part::Candidate { from, to },
        ..charge
    }
}

fn postpaid(key: &str, terms: Terms, hits: i64) -> Charge {
    Charge {
        payment: Payment::Postpaid,
        ..charge(key, terms, hits)
    }
}

fn bucket_key(name: &str) -> BucketKey {
    let keys = KeyFormat::new("test:");
    let tag = LimitTag {
        index: 0,
        is_window: false,
        override_period: None,
    };
    keys.key(&keys.stem(name, []), tag)
}

// --- Random calls ---

/// How much later than the one before a batch comes, and what its requests ask.
type Call = (i64, Vec<Vec<Charge>>);

/// A batch: mostly one request, sometimes many, and some of them equal.
fn batch(
    limits: Vec<Terms>,
    kinds: (BoxedStrategy<Payment>, BoxedStrategy<Part>),
) -> impl Strategy<Value = Vec<Vec<Charge>>> {
    let few = prop::collection::vec(charges(limits.clone(), kinds.clone()), 1..4);
    prop_oneof![
        2 => charges(limits, kinds).prop_map(|charges| vec![charges]),
        2 => (few, prop::collection::vec(any::<prop::sample::Index>(), 1..12))
            .prop_map(|(few, picks)| picks.iter().map(|pick| pick.get(&few).clone()).collect()),
    ]
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 1..=10_u32, 2 => 1..=100_000_u32, 1 => any::<u32>(), 1 => Just(u32::MAX)]
}

fn period() -> impl Strategy<Value = Micros> {
    prop_oneof![
        3 => Just(SECOND),
        2 => Just(60 * SECOND),
        1 => Just(DAY),
        1 => Just(30 * DAY),
        1 => Just(100 * YEAR),
        1 => (1..=90_u64).prop_map(|seconds| seconds * SECOND),
        1 => 1..=YEAR,
    ]
}

fn terms() -> impl Strategy<Value = Terms> {
    (number(), period(), number(), number(), 0..6).prop_map(|(rate, period, burst, debt, kind)| {
        match kind {
            0 => Terms::fixed_window(burst, period, debt),
            _ => Terms::token_bucket(rate, period, burst, debt),
        }
    })
}

fn hits() -> impl Strategy<Value = i64> {
    prop_oneof![
        8 => 1..=4_i64,
        2 => Just(0_i64),
        2 => -4..=-1_i64,
        2 => 1..=i64::from(u32::MAX),
        1 => prop_oneof![Just(MAX_HITS), Just(-MAX_HITS)],
    ]
}

pub(crate) fn part() -> BoxedStrategy<Part> {
    let quota = (0..2_u32).prop_map(Part::Quota);
    prop_oneof![5 => Just(Part::Must), 2 => quota, 1 => Just(Part::Shadow)].boxed()
}

/// What a store in one place takes, too.
fn part_apart() -> BoxedStrategy<Part> {
    let candidate = (0..4_u32, 0..5_u32).prop_map(|(from, to)| Part::Candidate { from, to });
    prop_oneof![3 => part(), 1 => candidate].boxed()
}

pub(crate) fn payment() -> BoxedStrategy<Payment> {
    prop_oneof![8 => Just(Payment::Prepaid), 2 => Just(Payment::Postpaid)].boxed()
}

/// What a store over several places says to each of them, too.
fn payment_apart() -> BoxedStrategy<Payment> {
    let ago = prop_oneof![Just(0), 0..=3_000_000_u64];
    let given_back = ago.prop_map(|ago| Payment::GivenBack {
        taken_at: START + 1_000_000 - ago,
    });
    prop_oneof![8 => payment(), 1 => Just(Payment::Question), 1 => given_back].boxed()
}

fn charges(
    limits: Vec<Terms>,
    (payment, part): (BoxedStrategy<Payment>, BoxedStrategy<Part>),
) -> impl Strategy<Value = Vec<Charge>> {
    let count = limits.len();
    // Key i is under limit i, but now and then under another one: limits change.
    let under = prop_oneof![9 => Just(0), 1 => 0..count];
    let one = (0..count, under, hits(), part, payment).prop_map(
        move |(key, shift, hits, part, payment)| {
            let hits = match payment {
                Payment::GivenBack { .. } => -hits.abs(),
                _ => hits,
            };
            Charge {
                payment,
                part,
                ..charge(&key.to_string(), limits[(key + shift) % count], hits)
            }
        },
    );
    prop::collection::vec(one, 1..5).prop_map(|mut charges| {
        charges.sort_by(|a, b| a.key.as_str().cmp(b.key.as_str()));
        charges.dedup_by(|a, b| a.key == b.key);
        charges
    })
}

pub(crate) fn calls(
    payment: BoxedStrategy<Payment>,
    part: BoxedStrategy<Part>,
) -> impl Strategy<Value = Vec<Call>> {
    let step = prop_oneof![
        4 => Just(0_i64),
        2 => 0..=3_i64,
        6 => 0..=2_000_000_i64,
        3 => 0..=200_000_000_i64,
        1 => 0..=10_000_000_000_000_i64,
        2 => -2_000_000..=0_i64,
    ];
    prop::collection::vec(terms(), 4).prop_flat_map(move |limits| {
        prop::collection::vec(
            (step.clone(), batch(limits, (payment.clone(), part.clone()))),
            1..40,
        )
    })
}

/// Knows when buckets are full, so that the clock is only set back where both stores must remember:
/// either may forget a full bucket as soon as it likes.
#[derive(Default)]
struct Fullness {
    latest: Micros,
    full_at: HashMap<BucketKey, Micros>,
}

impl Fullness {
    fn next(&mut self, now: Micros, step: i64) -> Micros {
        let remembered = self.full_at.values().all(|&full_at| full_at > self.latest);
        if step < 0 && !remembered {
            now
        } else {
            now.saturating_add_signed(step)
        }
    }

    fn note(&mut self, now: Micros, charges: &[Charge], decision: &Decision) {
        self.latest = self.latest.max(now);
        for (charge, outcome) in charges.iter().zip(&decision.outcomes) {
            if outcome.full_in == 0 {
                self.full_at.remove(&charge.key);
            } else {
                self.full_at
                    .insert(charge.key.clone(), now.saturating_add(outcome.full_in));
            }
        }
    }
}

#[test]
fn memory_and_redis_answer_alike() {
    let runtime = Runtime::new().unwrap();
    let server = Redis::start();
    let redis = std::cell::RefCell::new(runtime.block_on(InRedis::new(&server)));
    let mut runner = TestRunner::new(ProptestConfig {
        source_file: Some(file!()),
        ..ProptestConfig::with_cases(400)
    });
    runner
        .run(&calls(payment_apart(), part_apart()), |calls| {
            let mut memory = InMemory::new();
            let mut redis = redis.borrow_mut();
            let mut fullness = Fullness::default();
            let mut now = START;
            runtime.block_on(async {
                redis.connection.flushall::<()>().await.unwrap();
                for (step, requests) in calls {
                    now = fullness.next(now, step);
                    let expected = memory.decide_batch(now, &requests).await;
                    let actual = redis.decide_batch(now, &requests).await;
                    prop_assert_eq!(&actual, &expected, "at {} of {:?}", now, &requests);
                    for charges in &requests {
                        // A second look tells how full the buckets are after the whole batch.
                        let questions: Vec<_> = charges
                            .iter()
                            .map(|c| Charge {
                                hits: 0,
                                ..c.clone()
                            })
                            .collect();
                        let after = memory.decide(now, &questions).await;
                        prop_assert_eq!(&redis.decide(now, &questions).await, &after);
                        fullness.note(now, &questions, &after);
                    }
                }
                Ok(())
            })
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// A denial that is remembered holds by this machine's clock, and for a second at most, whatever the store's
/// clock does.
#[test]
fn remembered_denials_outlive_steps_of_the_clock_by_a_second_at_most() {
    let redis = Redis::start();
    let runtime = Runtime::new().unwrap();
    let limit = Terms::token_bucket(1, 3_600 * SECOND, 1, 0);
    for step in [-3_600, -1, 3_600, 86_400] {
        let mut subject = runtime.block_on(InRedis::new(&redis));
        let store = RememberedDenials::new(subject.store.clone(), Arc::default());
        let key = format!("step{step}");
        let ask = || async {
            let charges = [charge(&key, limit, 1)];
            store.decide(charges.into(), soon()).await.unwrap()
        };
        runtime.block_on(async {
            subject.set_clock(START).await;
            assert!(ask().await.admitted);
            let denied = ask().await;
            assert_eq!((denied.admitted, denied.cause), (false, Cause::Buckets));
            assert_eq!(ask().await.cause, Cause::RememberedDenial);
            subject
                .set_clock(START.saturating_add_signed(step * 1_000_000))
                .await;
            assert!(!ask().await.admitted, "not before the store says so");
        });
        eventually("the store is asked again", || {
            let decision = runtime.block_on(ask());
            assert!(!decision.admitted || step >= 3_600, "{step}");
            decision.cause == Cause::Buckets
        });
        // And remembered again, though the store's clock is behind what it was.
        if step < 0 {
            assert_eq!(runtime.block_on(ask()).cause, Cause::RememberedDenial);
        }
    }
}

/// A mistake of ours must not silence the lane that it happens on: hits beyond [`MAX_HITS`] break the
/// contract of a store, which this build checks.
#[test]
#[cfg(debug_assertions)]
fn a_panic_costs_one_batch_and_no_more() {
    let redis = Redis::start();
    Runtime::new().unwrap().block_on(async {
        let store = RedisStore::new(&settings(&redis));
        let good = charge("a", daily(10), 1);
        let bad = charge("a", daily(10), i64::MAX);
        for _ in 0..3 {
            assert!(store.decide([bad.clone()].into(), soon()).await.is_err());
            assert!(
                store
                    .decide([good.clone()].into(), soon())
                    .await
                    .unwrap()
                    .admitted
            );
        }
    });
}
