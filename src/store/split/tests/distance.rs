//! Partitions with a latency of milliseconds, and callers with deadlines: how much of their limits the buckets allow. The
//! tests use tokio's paused clock.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep, timeout_at};

use super::super::{GiveBacks, PartitionedStore, Split, SplitContext};
use super::{SECOND, START, charge};
use crate::bucket::Terms;
use crate::clock::Clock;
use crate::store::breaker::Breaker;
use crate::store::denied::{Denials, RememberedDenials};
use crate::store::fallback::{Fallback, FallbackSettings, Standby};
use crate::store::memory::MemoryStore;
use crate::store::{Cause, Charge, Decision, OnStoreFailure, Store, StoreError};

/// Requests per second, and the number of seconds.
const ASKED: u64 = 250;
const SECONDS: u64 = 10;

/// Burst and rate per second of a limit.
const RATE: u64 = 100;

/// Number of servers that share the buckets.
const SERVERS: usize = 2;

fn clock() -> Clock {
    let start = Instant::now();
    Arc::new(move || START + u64::try_from(start.elapsed().as_micros()).unwrap())
}

/// A store with a partition per bucket and a round-trip time in milliseconds.
#[derive(Clone)]
struct Far {
    buckets: Arc<MemoryStore>,
    trip: u64,
}

impl Store for Far {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        let timeout = || StoreError::Timeout {
            address: "a partition".to_owned(),
        };
        if Instant::now().into_std() >= deadline {
            // The request is never sent.
            return Err(timeout());
        }
        let (buckets, trip) = (Arc::clone(&self.buckets), self.trip);
        // A call that was sent is executed even if its caller has gone away.
        let call = tokio::spawn(async move {
            sleep(Duration::from_millis(trip / 2)).await;
            let decision = buckets.decide(charges, deadline).await;
            sleep(Duration::from_millis(trip - trip / 2)).await;
            decision
        });
        match timeout_at(Instant::from_std(deadline), call).await {
            Ok(decision) => decision.unwrap(),
            Err(_) => Err(timeout()),
        }
    }
}

impl PartitionedStore for Far {
    fn partition(&self, charge: &Charge) -> u32 {
        charge.key.as_str().parse().unwrap()
    }
}

/// Results of a load.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    admitted: u64,
    denied: u64,
    by_policy: u64,
    late: u64,
    given_back: u64,
    lost: u64,
}

impl Counts {
    /// Returns the share of admitted requests, in percent of what one store would have admitted.
    fn of_the_bound(&self) -> u64 {
        100 * self.admitted / (RATE + RATE * SECONDS)
    }
}

/// Servers with the failure policy `deny`.
struct Servers {
    stores: Vec<Arc<Fallback<RememberedDenials<Split<Far>>>>>,
    give_backs: GiveBacks,
}

impl Servers {
    fn new(trip: u64) -> Self {
        let far = Far {
            buckets: Arc::new(MemoryStore::new(1_000, clock())),
            trip,
        };
        let give_backs = GiveBacks::default();
        let stores = (0..SERVERS).map(|_| {
            let settings = FallbackSettings {
                mode: OnStoreFailure::Deny,
                share: "1".parse().unwrap(),
                max_buckets: 1_000,
            };
            let standby = Standby::over(settings, clock(), vec![Breaker::default(); 2]);
            let denials = Arc::<Denials>::default();
            let context = SplitContext {
                give_backs: give_backs.clone(),
                denials: Arc::clone(&denials),
                standby: Some(standby.clone()),
            };
            let store = RememberedDenials::new(Split::new(far.clone(), context), denials);
            Arc::new(Fallback::new(store, standby))
        });
        Self {
            stores: stores.collect(),
            give_backs,
        }
    }

    /// Sends the charges repeatedly to each server in turn, with a deadline of `budget` milliseconds.
    async fn load(&self, budget: u64, charges: &[Charge]) -> Counts {
        let mut calls = JoinSet::new();
        let begin = Instant::now();
        for number in 0..ASKED * SECONDS {
            let store = &self.stores[usize::try_from(number).unwrap() % SERVERS];
            let (store, charges) = (Arc::clone(store), Arc::from(charges));
            tokio::time::sleep_until(begin + Duration::from_micros(number * SECOND / ASKED)).await;
            let deadline = Instant::now() + Duration::from_millis(budget);
            calls.spawn(async move {
                let decision = store.decide(charges, deadline.into_std()).await.unwrap();
                // Timers of the runtime are up to a millisecond late.
                let is_late = Instant::now() > deadline + Duration::from_millis(1);
                (decision, is_late)
            });
        }
        let mut counts = Counts::default();
        while let Some(ended) = calls.join_next().await {
            let (decision, is_late) = ended.unwrap();
            counts.admitted += u64::from(decision.admitted);
            counts.denied += u64::from(!decision.admitted);
            counts.by_policy += u64::from(matches!(decision.cause, Cause::Policy(_)));
            counts.late += u64::from(is_late);
        }
        counts.given_back = self.give_backs.given();
        counts.lost = self.give_backs.lost();
        counts
    }
}

/// Returns charges on limits with these rates per second, each in a partition of its own.
fn charges(rates: &[u64]) -> Vec<Charge> {
    let limited = |(bucket, &rate): (usize, &u64)| {
        let rate = u32::try_from(rate).unwrap();
        Charge {
            terms: Terms::token_bucket(rate, SECOND, rate, 0),
            ..charge(bucket, 1)
        }
    };
    rates.iter().enumerate().map(limited).collect()
}

/// Returns kinds of requests, and the minimum share that is admitted with time for one round trip, in percent. If another limit
/// is hardly higher, refunds are missing there.
fn kinds() -> [(&'static str, Vec<Charge>, u64); 4] {
    let five = charges(&[RATE + 20, RATE, RATE, 10_000, RATE + 1]);
    [
        ("plenty elsewhere", charges(&[RATE, 10_000]), 97),
        ("hardly more elsewhere", charges(&[RATE, RATE + 20]), 15),
        ("as much elsewhere", charges(&[RATE, RATE]), 97),
        ("in five places", five, 15),
    ]
}

#[tokio::test(start_paused = true)]
async fn with_time_for_two_round_trips_nearly_all_is_admitted() {
    for (budget, trip) in [(16, 0), (16, 3), (16, 6), (80, 20), (80, 38)] {
        for (kind, charges, _) in kinds() {
            let counts = Servers::new(trip).load(budget, &charges).await;
            let row = format!("{trip} of {budget} ms, {kind}: {counts:?}");
            assert!(counts.admitted <= RATE + RATE * SECONDS, "{row}");
            assert!(counts.of_the_bound() >= 97, "{row}");
            assert_eq!((counts.late, counts.lost), (0, 0), "{row}");
            assert_eq!(counts.by_policy, 0, "{row}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_time_for_one_round_trip_the_limit_and_the_deadline_hold() {
    for (budget, trip) in [(16, 8), (16, 14), (80, 45), (80, 75)] {
        for (kind, charges, least) in kinds() {
            let counts = Servers::new(trip).load(budget, &charges).await;
            let row = format!("{trip} of {budget} ms, {kind}: {counts:?}");
            assert!(counts.admitted <= RATE + RATE * SECONDS, "{row}");
            assert!(counts.of_the_bound() >= least, "{row}");
            assert_eq!((counts.late, counts.lost), (0, 0), "{row}");
            assert_eq!(counts.by_policy, 0, "{row}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn beyond_one_round_trip_policies_decide_and_are_counted() {
    for (budget, trip) in [(16, 18), (80, 100)] {
        let (_, charges, _) = &kinds()[0];
        let counts = Servers::new(trip).load(budget, charges).await;
        assert_eq!((counts.admitted, counts.late), (0, 0), "{counts:?}");
        assert_eq!(counts.by_policy, ASKED * SECONDS, "{counts:?}");
    }
}

/// Returns whether a request is admitted, and the number of round trips it takes.
async fn trips(store: &impl Store, charges: &[Charge], trip: Duration) -> (bool, u128) {
    let begin = Instant::now();
    let deadline = begin + 10 * trip;
    let decision = store
        .decide(charges.into(), deadline.into_std())
        .await
        .unwrap();
    let trips = begin.elapsed().as_millis() / trip.as_millis();
    (decision.admitted, trips)
}

#[tokio::test(start_paused = true)]
async fn a_denial_does_not_make_those_after_it_slower() {
    let trip = Duration::from_millis(100);
    let servers = Servers::new(100);
    let [store, _] = &servers.stores[..] else {
        unreachable!("there are two")
    };
    let plenty = |bucket| Charge {
        terms: Terms::token_bucket(1_000, SECOND, 1_000, 0),
        ..charge(bucket, 1)
    };
    let scarce = |hits| Charge {
        terms: Terms::token_bucket(2, SECOND, 10, 0),
        ..charge(1, hits)
    };
    for (row, wait, charges, expected) in [
        ("nothing is known", 0, [plenty(0), scarce(10)], (true, 1)),
        (
            "it turns out to be empty",
            0,
            [plenty(0), scarce(1)],
            (false, 1),
        ),
        ("both are known", 0, [plenty(0), scarce(1)], (false, 0)),
        (
            "it is known to be empty",
            0,
            [plenty(2), scarce(1)],
            (false, 1),
        ),
        ("one is left", 250, [plenty(0), scarce(1)], (true, 2)),
        ("none is left", 0, [plenty(0), scarce(1)], (false, 1)),
        (
            "it was too long ago",
            1_000,
            [plenty(0), scarce(1)],
            (true, 1),
        ),
        ("one is left again", 0, [plenty(0), scarce(1)], (true, 2)),
        ("two are left", 700, [plenty(0), scarce(1)], (true, 1)),
    ] {
        sleep(Duration::from_millis(wait)).await;
        assert_eq!(trips(&**store, &charges, trip).await, expected, "{row}");
    }
    assert_eq!(servers.give_backs.given(), 1);
}
