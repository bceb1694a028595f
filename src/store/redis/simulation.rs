//! Many short lives of two servers on one Redis that fails in every way it can, each from a seed, on a clock that
//! jumps from event to event: everything is as in production but Redis and the network.
//!
//! What must hold in each: an answer by the deadline; at most one execution of each request, whatever was lost;
//! all charges of it or none; what was told is what was done; no more admitted than Redis and the buckets of each instance
//! have; and Redis decides again within a second of its return. Per bucket, requests are decided in the order of asking. Where
//! something failed while a request was in flight, others that were in flight at the same time may be decided before it, but none
//! that was asked after its answer.
//!
//! A failure names the seed of its history. Such seeds go into [`FAILED_BEFORE`]; they are lived through first.

mod fake;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::DuplexStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use self::fake::Executed;
use super::{Endpoint, RedisSettings, RedisStore};
use crate::bucket::{Share, Terms};
use crate::clock::Clock;
use crate::key::{BucketKey, KeyFormat, LimitTag, Segment};
use crate::store::denied::RememberedDenials;
use crate::store::fallback::{Fallback, FallbackSettings, ProbeSettings, Prober, Standby};
use crate::store::{
    Cause, Charge, ChargingProbe, Decision, OnStoreFailure, Part, Payment, Store, StoreError,
    probe_key,
};
use crate::time::Micros;

use fake::FakeRedis;

/// The host that stands for the Redis of the history that this thread lives through.
const HOST: &str = "simulated";

thread_local! {
    static REDIS: RefCell<Option<FakeRedis>> = const { RefCell::new(None) };
}

/// A connection to the Redis of a history; `None` when another one is meant.
pub(super) fn dial(endpoint: &Endpoint) -> Option<io::Result<DuplexStream>> {
    match endpoint {
        Endpoint::Tcp { host, .. } if host == HOST => {
            REDIS.with_borrow(|redis| redis.as_ref().map(FakeRedis::connect))
        }
        _ => None,
    }
}

/// How many histories there are.
const HISTORIES: u64 = 10_000;

/// Seeds of histories that once failed.
const FAILED_BEFORE: [u64; 0] = [];

const TIMEOUT: Duration = Duration::from_millis(100);
const SECOND: Micros = 1_000_000;
const INSTANCES: u64 = 2;
const KEYS: usize = 4;
const CAPACITY: u32 = 6;

type Stack = Fallback<RememberedDenials<RedisStore>>;

/// A request, and what came of it.
#[derive(Debug, Clone)]
struct Told {
    /// When it was asked, in order.
    turn: u64,
    instance: u64,
    charges: Vec<Charge>,
    asked: Instant,
    deadline: Instant,
    answered: Instant,
    answer: Result<Decision, String>,
}

/// What requests ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Workload {
    /// As many hits as no other request asks, of buckets that have them: an execution names its request.
    Unique,
    /// One hit each of small buckets.
    Few,
}

#[test]
fn promises_hold_in_every_history() {
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().unwrap().get();
    let totals = Mutex::new(Totals::default());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= HISTORIES + FAILED_BEFORE.len() as u64 {
                        return;
                    }
                    let seed = usize::try_from(n).ok().and_then(|n| FAILED_BEFORE.get(n));
                    let seed = seed
                        .copied()
                        .unwrap_or_else(|| n - FAILED_BEFORE.len() as u64);
                    let of_history = history(seed);
                    totals.lock().unwrap().add(&of_history);
                }
            });
        }
    });
    // Histories in which nothing goes wrong would show nothing.
    let totals = totals.into_inner().unwrap();
    assert!(totals.sent > 20 * HISTORIES, "{totals:?}");
    assert!(totals.by_redis > totals.sent / 10, "{totals:?}");
    assert!(totals.by_policy > totals.sent / 10, "{totals:?}");
    assert!(totals.late > HISTORIES / 10, "{totals:?}");
}

/// What becomes of requests at a Redis that is some milliseconds away, and takes some time for a batch of any size. The clock of
/// the runtime counts milliseconds: up to two of them are what it adds to the time between two batches.
#[test]
fn a_redis_that_is_milliseconds_away_decides_all() {
    for (round_trip, patience) in [(0, 16), (4, 16), (12, 16), (20, 100), (60, 100)] {
        for per_second in [10, 100, 3_000] {
            let undecided = of_two_seconds(round_trip, patience, per_second, FakeRedis::is_fast);
            assert_eq!(
                undecided, 0,
                "{round_trip} ms away, {patience} ms of patience, {per_second}/s"
            );
        }
    }
    // This one takes one or two milliseconds for each batch: batches wait for one another until the lane has found out, and
    // lets them grow.
    let undecided = of_two_seconds(4, 16, 3_000, |_| {});
    assert!(undecided < 6_000 / 20, "{undecided}");
}

/// How many requests of two seconds are not decided by a Redis that is made so.
fn of_two_seconds(
    round_trip: u64,
    patience: u64,
    per_second: u64,
    make: impl FnOnce(&FakeRedis),
) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let distance = Duration::from_millis(round_trip) / 2;
        let redis = FakeRedis::new(1, 0.0, distance, (0..KEYS).map(key));
        make(&redis);
        REDIS.set(Some(redis));
        undecided(patience, per_second).await
    })
}

async fn undecided(patience: u64, per_second: u64) -> usize {
    let settings = RedisSettings {
        timeout: TIMEOUT,
        ..RedisSettings::parse(HOST).unwrap()
    };
    let store = Arc::new(RedisStore::new(&settings));
    // Connecting and loading the script take several round trips, more than one call may.
    let first = || {
        store.decide(
            [charge(0, Workload::Unique, 1)].into(),
            (Instant::now() + 10 * TIMEOUT).into_std(),
        )
    };
    let mut is_connected = false;
    for _ in 0..10 {
        is_connected = is_connected || first().await.is_ok();
    }
    assert!(is_connected, "{patience} ms of patience");
    let begin = Instant::now();
    let mut requests = JoinSet::new();
    for number in 0..2 * per_second {
        let store = Arc::clone(&store);
        let asked = begin
            + Duration::from_secs(1) * u32::try_from(number).unwrap()
                / u32::try_from(per_second).unwrap();
        let key = usize::try_from(number).unwrap() % KEYS;
        requests.spawn(async move {
            tokio::time::sleep_until(asked).await;
            let deadline = Instant::now() + Duration::from_millis(patience);
            let charges = [charge(key, Workload::Unique, 1)];
            store
                .decide(charges.into(), deadline.into_std())
                .await
                .is_ok()
        });
    }
    let decided = requests.join_all().await;
    decided.into_iter().filter(|is_decided| !is_decided).count()
}

#[derive(Debug, Default)]
struct Totals {
    sent: u64,
    by_redis: u64,
    by_policy: u64,
    /// Executed by Redis when the caller had another answer already.
    late: u64,
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.by_redis += other.by_redis;
        self.by_policy += other.by_policy;
        self.late += other.late;
    }
}

/// Lives through the history of a seed.
fn history(seed: u64) -> Totals {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(History::new(seed).live())
}

struct History {
    seed: u64,
    random: Xoshiro256PlusPlus,
    ask: Workload,
    redis: FakeRedis,
    begin: Instant,
    turns: Arc<AtomicU64>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let ask = [Workload::Unique, Workload::Few][random.random_range(0..2)];
        let trouble = [0.0, 0.05, 0.3][random.random_range(0..3)];
        let probe = probe_key(&KeyFormat::new("p:"), 1);
        let keys = (0..KEYS).map(key).chain([probe]);
        // There and back, Redis is nearly nothing, a few milliseconds or many away.
        let distance = Duration::from_millis([0, 0, 1, 3, 8][random.random_range(0..5)]);
        let redis = FakeRedis::new(random.random(), trouble, distance, keys);
        REDIS.set(Some(redis.clone()));
        Self {
            redis,
            seed,
            random,
            ask,
            begin: Instant::now(),
            turns: Arc::default(),
        }
    }

    async fn live(mut self) -> Totals {
        let mut probers = JoinSet::new();
        let instances: Vec<Arc<Stack>> = (0..INSTANCES)
            .map(|_| self.instance(&mut probers))
            .collect();
        let mut requests = JoinSet::new();
        let count = self.random.random_range(20..60);
        for number in 0..count {
            let instance = self.random.random_range(0..INSTANCES);
            let store = Arc::clone(&instances[usize::try_from(instance).unwrap()]);
            let request = self.request(store, instance, number);
            requests.spawn(request);
        }
        let end = self.trouble().await;
        let mut told = Vec::new();
        while let Some(request) = requests.join_next().await {
            told.push(request.unwrap());
        }
        assert_eq!(
            told.len(),
            count,
            "seed {}: every request has an answer",
            self.seed
        );
        self.redis.calm();
        self.redis.note(|| "calm".to_owned());
        sleep(Duration::from_secs(1)).await;
        for (instance, store) in instances.iter().enumerate() {
            let question = charge(KEYS - 1, self.ask, 0);
            let answer = store
                .decide([question].into(), (Instant::now() + TIMEOUT).into_std())
                .await;
            let cause = answer.map(|decision| decision.cause);
            self.redis.note(|| format!("{cause:?}: {store:?}"));
            let is_back = matches!(cause, Ok(Cause::Buckets | Cause::RememberedDenial));
            assert!(
                is_back,
                "seed {}: instance {instance} says {cause:?}",
                self.seed
            );
        }
        self.check(&told, end)
    }

    /// A server.
    fn instance(&mut self, probers: &mut JoinSet<std::convert::Infallible>) -> Arc<Stack> {
        let redis = self.redis.clone();
        let clock: Clock = Arc::new(move || redis.now());
        let settings = FallbackSettings {
            mode: OnStoreFailure::Local,
            share: Share::WHOLE,
            max_buckets: 1_000,
        };
        let standby = Standby::new(settings, clock);
        let settings = RedisSettings {
            pool_size: 3,
            timeout: TIMEOUT,
            ..RedisSettings::parse(HOST).unwrap()
        };
        let keys = KeyFormat::new("p:");
        let probe = ChargingProbe::new(RedisStore::new(&settings), &keys);
        let probes = ProbeSettings {
            keys,
            timeout: TIMEOUT,
            always: false,
            seed: self.random.random(),
        };
        probers.spawn(Prober::new(probe, standby.clone(), probes).run());
        let store = RedisStore::with_breaker(&settings, standby.breaker().clone());
        let store = RememberedDenials::new(store, Arc::default());
        Arc::new(Fallback::new(store, standby))
    }

    /// Asks something at some time.
    fn request(
        &mut self,
        store: Arc<Stack>,
        instance: u64,
        number: usize,
    ) -> impl Future<Output = Told> + use<> {
        let wait = Duration::from_micros(self.random.random_range(0..600_000));
        let patience = [1, 5, 16, 100][self.random.random_range(0..4)];
        let hits = match self.ask {
            Workload::Unique => i64::try_from(number).unwrap() + 1,
            Workload::Few => 1,
        };
        let first = self.random.random_range(0..KEYS);
        let count = self.random.random_range(1..=2.min(KEYS - first));
        let keys = first..first + count;
        let charges: Vec<Charge> = keys.map(|key| charge(key, self.ask, hits)).collect();
        let turns = Arc::clone(&self.turns);
        async move {
            sleep(wait).await;
            let asked = Instant::now();
            let deadline = asked + Duration::from_millis(patience);
            let turn = turns.fetch_add(1, Ordering::Relaxed);
            let answer = store
                .decide(charges.clone().into(), deadline.into_std())
                .await;
            Told {
                turn,
                instance,
                charges,
                asked,
                deadline,
                answered: Instant::now(),
                answer: answer.map_err(|error: StoreError| error.to_string()),
            }
        }
    }

    /// What happens to Redis while it is asked; returns when it is over.
    async fn trouble(&mut self) -> Instant {
        for _ in 0..self.random.random_range(0..4) {
            sleep(Duration::from_micros(self.random.random_range(0..200_000))).await;
            let time = Duration::from_micros(self.random.random_range(0..300_000));
            match self.random.random_range(0..5) {
                0 => {
                    self.redis.crash();
                    sleep(time).await;
                    self.redis.restart();
                }
                1 => self.redis.flush_script(),
                2 => self.redis.stall(time),
                kind => {
                    let refusal = ["LOADING Redis is loading", "READONLY You can't write"];
                    self.redis.refuse(Some(refusal[kind - 3]));
                    sleep(time).await;
                    self.redis.refuse(None);
                }
            }
        }
        Instant::now()
    }

    // --- What must have been so ---

    fn check(&self, told: &[Told], _end: Instant) -> Totals {
        let seed = self.seed;
        let executed = self.redis.executed();
        for told in told {
            // The clock of the runtime counts milliseconds.
            let late = told.answered.saturating_duration_since(told.deadline);
            assert!(
                late <= Duration::from_millis(2),
                "seed {seed}: {late:?} late: {told:?}"
            );
            assert!(told.answer.is_ok(), "seed {seed}: no decision: {told:?}");
        }
        let mut totals = Totals {
            sent: told.len() as u64,
            ..Totals::default()
        };
        for told in told {
            match told.cause() {
                Cause::Buckets | Cause::RememberedDenial => totals.by_redis += 1,
                Cause::Policy(_) => totals.by_policy += 1,
            }
        }
        assert_eq!(
            totals.sent,
            totals.by_redis + totals.by_policy,
            "seed {seed}"
        );
        match self.ask {
            Workload::Unique => totals.late = self.check_executions(told, &executed),
            Workload::Few => self.check_admissions(told),
        }
        totals
    }

    /// Each request once at most, as a whole, as told, in order. Returns how many nobody waited for.
    fn check_executions(&self, told: &[Told], executed: &[Executed]) -> u64 {
        let seed = self.seed;
        let mut places: HashMap<i64, usize> = HashMap::new();
        for (place, execution) in executed.iter().enumerate() {
            let hits = execution.charges[0].hits;
            // The probe's, and questions.
            if execution.charges[0].key == probe_key(&KeyFormat::new("p:"), 1) || hits == 0 {
                continue;
            }
            let before = places.insert(hits, place);
            assert_eq!(before, None, "seed {seed}: executed twice: {execution:?}");
        }
        let mut late = 0;
        let mut latest: HashMap<(u64, BucketKey), (usize, &Told)> = HashMap::new();
        let mut in_order: Vec<&Told> = told.iter().collect();
        in_order.sort_by_key(|told| told.turn);
        let all = told;
        for told in in_order {
            let place = places.remove(&told.charges[0].hits);
            if told.cause() != Cause::Buckets {
                late += u64::from(place.is_some());
                continue;
            }
            let place = place.unwrap_or_else(|| panic!("seed {seed}: never executed: {told:?}"));
            let execution = &executed[place];
            assert_eq!(execution.charges, told.charges, "seed {seed}");
            assert_eq!(Ok(&execution.decision), told.answer.as_ref(), "seed {seed}");
            for charge in &told.charges {
                let latest = latest.entry((told.instance, charge.key.clone()));
                let latest = latest.or_insert((place, told));
                assert!(
                    place >= latest.0 || self.may_overtake(told, latest.1, all),
                    "seed {seed}: out of order: {told:?} before {:?}",
                    latest.1
                );
                if place > latest.0 {
                    *latest = (place, told);
                }
            }
        }
        assert!(
            places.is_empty(),
            "seed {seed}: nobody asked for {places:?}"
        );
        late
    }

    /// Whether a request may be decided before one that was asked earlier: both were in flight at the same time, and
    /// something failed while the earlier one was, or one of its instance missed its deadline.
    fn may_overtake(&self, later: &Told, earlier: &Told, all: &[Told]) -> bool {
        let in_flight = earlier.asked..=earlier.answered;
        let missed = |told: &Told| {
            told.instance == earlier.instance
                && told.cause() != Cause::Buckets
                && in_flight.contains(&told.answered)
        };
        later.asked < earlier.answered
            && (self.redis.is_disturbed(in_flight.clone()) || all.iter().any(missed))
    }

    /// Nobody was told of more than there was: by Redis in all of its lives, and by each instance.
    fn check_admissions(&self, told: &[Told]) {
        let passed = self.begin.elapsed().as_secs_f64();
        let admitted = |key: usize, by: &dyn Fn(&Told) -> bool| {
            let key = self::key(key);
            let admitted = told.iter().filter(|told| told.admitted() && by(told));
            let count = admitted.filter(|told| told.charges.iter().any(|charge| charge.key == key));
            f64::from(u32::try_from(count.count()).unwrap())
        };
        // Two come back in a second.
        let bound = |lives: u32| f64::from(lives * CAPACITY) + 2.0 * passed;
        for key in 0..KEYS {
            let by_redis = admitted(key, &|told| told.cause() == Cause::Buckets);
            assert!(
                by_redis <= bound(self.redis.lives()),
                "seed {}: {by_redis}",
                self.seed
            );
            for instance in 0..INSTANCES {
                let is_local = |told: &Told| told.cause() != Cause::Buckets;
                let by_it = admitted(key, &|told| is_local(told) && told.instance == instance);
                assert!(by_it <= bound(1), "seed {}: {by_it}", self.seed);
            }
        }
    }
}

impl Told {
    fn cause(&self) -> Cause {
        self.answer.as_ref().unwrap().cause
    }

    fn admitted(&self) -> bool {
        self.answer.as_ref().unwrap().admitted
    }
}

fn charge(number: usize, ask: Workload, hits: i64) -> Charge {
    let capacity = match ask {
        Workload::Unique => 1_000_000,
        Workload::Few => CAPACITY,
    };
    Charge {
        key: key(number),
        terms: Terms::token_bucket(2, SECOND, capacity, 0),
        hits,
        payment: Payment::Prepaid,
        part: Part::Must,
        on_failure: None,
    }
}

fn key(number: usize) -> BucketKey {
    let keys = KeyFormat::new("s:");
    let tag = LimitTag {
        index: 0,
        is_window: false,
        override_period: None,
    };
    let number = number.to_string();
    keys.key(
        &keys.stem("d", [(&b"k"[..], Segment::Value(number.as_bytes()))]),
        tag,
    )
}
