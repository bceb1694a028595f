//! The contract of a store, the same for every store: named cases, and random calls that memory and
//! Redis must answer alike to the last field.
//!
//! The time is the test's own on both. Redis is real; only the line of the script that reads the clock
//! reads a list instead. That list says a year far off, so that no key expires on Redis's real
//! clock; what is full must then be recognised by the arithmetic alone.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
use tokio::time::Instant;

use crate::cluster::InCluster;
use crate::support::{PATIENCE, Redis, eventually};

const SECOND: Micros = 1_000_000;
const DAY: Micros = 86_400 * SECOND;
const YEAR: Micros = 365 * DAY;

/// Some time in 2109, aligned to a day.
pub(crate) const START: Micros = 4_400_000_000 * SECOND / DAY * DAY;

/// A deadline that nothing here comes near.
pub(crate) fn soon() -> Instant {
    Instant::now() + PATIENCE
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

mod cases {
    use super::*;

    pub(super) async fn a_bucket_gives_its_capacity_and_then_its_rate(mut subject: impl Subject) {
        let limit = Terms::token_bucket(10, 60 * SECOND, 5, 0);
        for left in (0..5).rev() {
            let outcome = one(&mut subject, START, charge("a", limit, 1)).await;
            assert_eq!((outcome.admitted, outcome.remaining), (true, left));
            assert_eq!(outcome.full_in, u64::from(5 - left) * 6 * SECOND);
        }
        let denied = one(&mut subject, START, charge("a", limit, 1)).await;
        assert_eq!(
            (denied.admitted, denied.retry_in),
            (false, Some(6 * SECOND))
        );
        assert!(
            !one(&mut subject, START + 6 * SECOND - 1, charge("a", limit, 1))
                .await
                .admitted
        );
        assert!(
            one(&mut subject, START + 6 * SECOND, charge("a", limit, 1))
                .await
                .admitted
        );
        assert!(
            !one(&mut subject, START + 6 * SECOND, charge("a", limit, 1))
                .await
                .admitted
        );
        let full = one(&mut subject, START + DAY, charge("a", limit, 0)).await;
        assert_eq!((full.remaining, full.full_in), (5, 0));
    }

    pub(super) async fn a_denied_request_takes_from_no_bucket(mut subject: impl Subject) {
        let (wide, narrow) = (daily(10), daily(1));
        let both = [charge("wide", wide, 1), charge("narrow", narrow, 1)];
        assert!(subject.decide(START, &both).await.admitted);
        let denied = subject.decide(START, &both).await;
        assert!(!denied.admitted);
        assert!(
            denied.outcomes[0].admitted,
            "what the charge would have got alone"
        );
        assert_eq!(denied.outcomes[0].remaining, 9, "nothing was taken");
        assert!(!denied.outcomes[1].admitted);
    }

    pub(super) async fn a_shadow_charge_never_vetoes(mut subject: impl Subject) {
        let shadow = Charge {
            part: Part::Shadow,
            ..charge("shadow", daily(1), 1)
        };
        let request = [shadow, charge("real", daily(3), 1)];
        assert!(subject.decide(START, &request).await.admitted);
        let over = subject.decide(START, &request).await;
        assert!(over.admitted && !over.outcomes[0].admitted);
        assert_eq!(
            (over.outcomes[0].remaining, over.outcomes[1].remaining),
            (0, 1)
        );
        assert!(subject.decide(START, &request).await.admitted);
        assert!(
            !subject.decide(START, &request).await.admitted,
            "the real one denies"
        );
    }

    pub(super) async fn quota_charges_veto_only_together(mut subject: impl Subject) {
        let quota = |key, group, limit| Charge {
            part: Part::Quota(group),
            ..charge(key, daily(limit), 1)
        };
        let request = [quota("one", 0, 1), quota("two", 1, 2)];
        assert!(subject.decide(START, &request).await.admitted);
        let second = subject.decide(START, &request).await;
        assert!(second.admitted && !second.outcomes[0].admitted);
        assert!(!subject.decide(START, &request).await.admitted);
        // The charges of one group stand and fall together.
        let group = [quota("narrow", 0, 1), quota("wide", 0, 5)];
        assert!(subject.decide(START, &group).await.admitted);
        let denied = subject.decide(START, &group).await;
        assert!(!denied.admitted && denied.outcomes[1].admitted);
        assert_eq!(denied.outcomes[1].remaining, 4);
        // A must vetoes whatever the quotas say.
        let mixed = [quota("open", 0, 9), charge("narrow", daily(1), 1)];
        assert!(!subject.decide(START, &mixed).await.admitted);
    }

    pub(super) async fn a_candidate_neither_vetoes_nor_changes_an_answer(
        mut subject: impl Subject,
    ) {
        let tried = |key, limit| candidate(0, 1, charge(key, daily(limit), 1));
        let request = [charge("real", daily(3), 1), tried("narrow", 1)];
        let fares = [[true, true], [true, false], [true, false], [false, false]];
        for (turn, expected) in fares.into_iter().enumerate() {
            let decision = subject.decide(START, &request).await;
            assert_eq!(decision.admitted, turn < 3);
            assert_eq!(
                decision
                    .outcomes
                    .iter()
                    .map(|o| o.admitted)
                    .collect::<Vec<_>>(),
                expected
            );
        }
    }

    pub(super) async fn reports_count_in_denied_requests_too(mut subject: impl Subject) {
        one(&mut subject, START, charge("spent", daily(1), 1)).await;
        one(&mut subject, START, charge("refunded", daily(9), 5)).await;
        let request = [
            charge("spent", daily(1), 1),
            postpaid("cost", daily(9), 4),
            charge("refunded", daily(9), -2),
            charge("prepaid", daily(9), 1),
        ];
        let decision = subject.decide(START, &request).await;
        assert!(!decision.admitted);
        let left: Vec<_> = decision
            .outcomes
            .iter()
            .map(|outcome| outcome.remaining)
            .collect();
        assert_eq!(left, [0, 5, 6, 9]);
    }

    pub(super) async fn questions_and_gifts_create_no_bucket(mut subject: impl Subject) {
        let limit = daily(3);
        for hits in [0, -2, 4] {
            one(&mut subject, START, charge("a", limit, hits)).await;
        }
        // Had a bucket been made, its clock would have stood at START.
        let earlier = one(&mut subject, START - DAY, charge("a", limit, 3)).await;
        assert!(earlier.admitted);
        assert_eq!(earlier.full_in, DAY);
        assert!(
            !one(&mut subject, START - DAY, charge("a", limit, 0))
                .await
                .admitted
        );
        let refund = one(&mut subject, START - DAY, charge("a", limit, -MAX_HITS)).await;
        assert_eq!((refund.remaining, refund.full_in), (3, 0));
    }

    pub(super) async fn debt_denies_until_it_is_paid(mut subject: impl Subject) {
        let limit = Terms::token_bucket(1, SECOND, 10, 20);
        assert!(
            one(&mut subject, START, postpaid("a", limit, 10))
                .await
                .admitted
        );
        let over = one(&mut subject, START, postpaid("a", limit, 1_000)).await;
        assert_eq!(
            (over.admitted, over.remaining, over.full_in),
            (false, 0, 30 * SECOND)
        );
        // The debt is bounded when it is run up, not when somebody looks.
        let later = START + 5 * SECOND;
        let question = one(&mut subject, later, charge("a", limit, 0)).await;
        assert_eq!(
            (question.admitted, question.retry_in),
            (false, Some(16 * SECOND))
        );
        assert!(
            !one(&mut subject, START + 21 * SECOND - 1, charge("a", limit, 0))
                .await
                .admitted
        );
        assert!(
            one(&mut subject, START + 21 * SECOND, charge("a", limit, 0))
                .await
                .admitted
        );
    }

    pub(super) async fn a_limit_that_changes_keeps_what_was_taken(mut subject: impl Subject) {
        one(&mut subject, START, charge("a", daily(100), 40)).await;
        let monthly = Terms::token_bucket(1_000, 30 * DAY, 1_000, 0);
        assert_eq!(
            one(&mut subject, START, charge("a", monthly, 0))
                .await
                .remaining,
            960
        );
        assert_eq!(
            one(&mut subject, START, charge("a", daily(50), 0))
                .await
                .remaining,
            10
        );
        let tiny = Terms::token_bucket(5, SECOND, 5, 0);
        let clamped = one(&mut subject, START, charge("a", tiny, 1)).await;
        assert_eq!(
            (clamped.admitted, clamped.retry_in),
            (false, Some(SECOND / 5))
        );
        assert!(
            one(&mut subject, START + SECOND, charge("a", tiny, 5))
                .await
                .admitted
        );
    }

    pub(super) async fn hits_that_never_pass_promise_nothing(mut subject: impl Subject) {
        let nothing = Terms::token_bucket(0, SECOND, 0, 0);
        for (limit, hits) in [
            (daily(5), 6),
            (nothing, 1),
            (nothing, 0),
            (daily(5), MAX_HITS),
        ] {
            let outcome = one(&mut subject, START, charge("a", limit, hits)).await;
            assert_eq!((outcome.admitted, outcome.retry_in), (false, None));
        }
    }

    pub(super) async fn windows_forget_at_their_end(mut subject: impl Subject) {
        let limit = Terms::fixed_window(3, DAY, 0);
        let late = START + DAY - SECOND;
        assert_eq!(
            one(&mut subject, late, charge("a", limit, 2)).await.full_in,
            SECOND
        );
        let denied = one(&mut subject, late, charge("a", limit, 2)).await;
        assert_eq!((denied.admitted, denied.remaining), (false, 1));
        assert_eq!(denied.retry_in, Some(SECOND));
        assert!(
            one(&mut subject, START + DAY, charge("a", limit, 3))
                .await
                .admitted
        );
    }

    pub(super) async fn a_full_bucket_is_forgotten_for_good(mut subject: impl Subject) {
        let limit = Terms::token_bucket(1, SECOND, 10, 0);
        // Whoever sees that it is full, by whatever they ask, sees it for those after a step back, too.
        for hits in [0, 1, 11, -1] {
            let key = format!("a{hits}");
            one(&mut subject, START, charge(&key, limit, 5)).await;
            one(&mut subject, START + 5 * SECOND, charge(&key, limit, hits)).await;
            let back = one(&mut subject, START + SECOND, charge(&key, limit, 0)).await;
            assert_eq!(
                back.remaining,
                if hits == 1 { 9 } else { 10 },
                "{hits} hits"
            );
        }
    }

    // A failover to another Redis steps the clock: it goes on from that one's.

    pub(super) async fn a_clock_that_steps_back_freezes_no_longer_than_the_step(
        mut subject: impl Subject,
    ) {
        let limit = Terms::token_bucket(1, SECOND, 10, 0);
        for step in [1, SECOND, 3_600 * SECOND, DAY] {
            let key = format!("step{step}");
            one(&mut subject, START, charge(&key, limit, 10)).await;
            let behind = START - step;
            let denied = one(&mut subject, behind, charge(&key, limit, 1)).await;
            assert_eq!(
                (denied.admitted, denied.retry_in),
                (false, Some(step + SECOND))
            );
            assert!(
                !one(&mut subject, START, charge(&key, limit, 1))
                    .await
                    .admitted
            );
            let next = one(&mut subject, START + SECOND, charge(&key, limit, 1)).await;
            assert_eq!((next.admitted, next.remaining), (true, 0), "{step}");
        }
    }

    pub(super) async fn a_clock_that_steps_ahead_gives_no_more_than_the_step(
        mut subject: impl Subject,
    ) {
        let limit = Terms::token_bucket(1, SECOND, 10, 0);
        one(&mut subject, START, charge("a", limit, 10)).await;
        let ahead = START + 4 * SECOND;
        assert_eq!(
            one(&mut subject, ahead, charge("a", limit, 3))
                .await
                .remaining,
            1
        );
        // Back to what it was: the time of the step is not given again.
        for now in [START, START + SECOND, START + 4 * SECOND] {
            assert_eq!(
                one(&mut subject, now, charge("a", limit, 0))
                    .await
                    .remaining,
                1
            );
        }
        let after = one(&mut subject, START + 5 * SECOND, charge("a", limit, 0)).await;
        assert_eq!(after.remaining, 2);
    }

    pub(super) async fn what_is_taken_while_the_clock_is_behind_stays_taken(
        mut subject: impl Subject,
    ) {
        let limit = Terms::token_bucket(1, SECOND, 10, 0);
        one(&mut subject, START, charge("a", limit, 4)).await;
        for (behind, left) in [(60, 5), (40, 4), (50, 3), (1, 2), (0, 1)] {
            let now = START - behind * SECOND;
            let taken = one(&mut subject, now, charge("a", limit, 1)).await;
            assert_eq!((taken.admitted, taken.remaining), (true, left));
        }
        let after = one(&mut subject, START + 2 * SECOND, charge("a", limit, 0)).await;
        assert_eq!(after.remaining, 3);
    }

    pub(super) async fn a_window_outlives_a_step_by_no_more_than_itself(mut subject: impl Subject) {
        let limit = Terms::fixed_window(3, DAY, 0);
        one(&mut subject, START, charge("a", limit, 3)).await;
        // The window of before the step goes on until it ends by the new clock.
        for (behind, admitted) in [(SECOND, false), (2 * DAY, false)] {
            let outcome = one(&mut subject, START - behind, charge("a", limit, 1)).await;
            assert_eq!(
                (outcome.admitted, outcome.retry_in),
                (admitted, Some(DAY + behind))
            );
        }
        assert!(
            one(&mut subject, START + DAY, charge("a", limit, 3))
                .await
                .admitted
        );
    }

    pub(super) async fn every_unit_and_extreme_is_exact(mut subject: impl Subject) {
        let max = i64::from(u32::MAX);
        for (i, period) in [SECOND, 60 * SECOND, DAY, 7 * DAY, YEAR, 100 * YEAR]
            .into_iter()
            .enumerate()
        {
            for rate in [1, 7, 999_999_937, u32::MAX] {
                let limit = Terms::token_bucket(rate, period, u32::MAX, 0);
                let key = format!("{i}-{rate}");
                assert!(
                    one(&mut subject, START, charge(&key, limit, max))
                        .await
                        .admitted
                );
                let wait = period.div_ceil(u64::from(rate));
                let early = one(&mut subject, START + wait - 1, charge(&key, limit, 0)).await;
                assert_eq!((early.admitted, early.retry_in), (false, Some(1)), "{key}");
                let now = one(&mut subject, START + wait, charge(&key, limit, 0)).await;
                assert!(now.admitted, "{key}");
                let whole = u64::from(now.remaining);
                assert_eq!(whole, wait * u64::from(rate) / period, "{key}");
            }
        }
    }
}

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
