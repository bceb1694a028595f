//! Requests that interleave by a seeded schedule: no bucket allows more than its limit, and hits of denied requests are given
//! back.

mod distance;
mod partial;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use tokio::runtime;
use tokio::task::yield_now;
use tokio::time::{Duration, Instant};

use super::{GiveBacks, PartitionedStore, Split, SplitContext};
use crate::bucket::Terms;
use crate::key::{KeyFormat, LimitTag};
use crate::store::memory::MemoryStore;
use crate::store::{Charge, Decision, Part, Payment, Store, StoreError};
use crate::time::Micros;

const SECOND: Micros = 1_000_000;
const START: Micros = 1_800_000_000 * SECOND;

/// The limits of the buckets. Each bucket is a partition.
fn limits() -> [Terms; 5] {
    [
        Terms::token_bucket(1_000, SECOND, 20, 0),
        Terms::token_bucket(10, SECOND, 6, 0),
        Terms::fixed_window(8, SECOND / 100, 0),
        Terms::token_bucket(1, 3_600 * SECOND, 30, 0),
        Terms::token_bucket(1, 3_600 * SECOND, 40, 0),
    ]
}

/// Two of the buckets, which have a slow refill.
const SLOW: [usize; 2] = [3, 4];

fn charge(bucket: usize, hits: i64) -> Charge {
    let keys = KeyFormat::new("");
    let tag = LimitTag {
        index: 0,
        is_window: false,
        override_period: None,
    };
    Charge {
        key: keys.key(&keys.stem(bucket.to_string(), []), tag),
        terms: limits()[bucket],
        hits,
        payment: Payment::Prepaid,
        part: Part::Must,
        on_failure: None,
    }
}

// --- A schedule ---

/// Pseudorandom numbers.
#[derive(Debug)]
struct Dice(AtomicU64);

impl Dice {
    /// Returns a number below `sides`.
    fn roll(&self, sides: u64) -> u64 {
        let step = |state: u64| {
            state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1)
        };
        let state = self.0.load(Ordering::SeqCst);
        self.0.store(step(state), Ordering::SeqCst);
        (step(state) >> 33) % sides
    }
}

/// A store with a partition per bucket that is delayed at random before and after each decision.
struct Slow {
    store: MemoryStore,
    now: Arc<AtomicU64>,
    dice: Arc<Dice>,
    /// One of so many calls fails, before or after its decision. 0: none.
    failing: u64,
}

impl Slow {
    async fn delay(&self) {
        for _ in 0..self.dice.roll(4) {
            self.now.fetch_add(self.dice.roll(300), Ordering::SeqCst);
            yield_now().await;
        }
    }

    fn fails(&self) -> bool {
        self.failing > 0 && self.dice.roll(self.failing) == 0
    }
}

impl Store for Slow {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        let failure = || {
            Err(StoreError::Timeout {
                address: "a partition".to_owned(),
            })
        };
        self.delay().await;
        if self.fails() {
            return failure();
        }
        let decision = self.store.decide(charges, deadline).await;
        self.delay().await;
        if self.fails() { failure() } else { decision }
    }
}

impl PartitionedStore for Slow {
    fn partition(&self, charge: &Charge) -> u32 {
        charge.key.as_str().parse().unwrap()
    }
}

/// A request with its result.
struct Played {
    charges: Vec<Charge>,
    result: Result<Decision, StoreError>,
}

/// Sends random requests from concurrent callers. Returns all results and the store.
async fn play(seed: u64, failing: u64) -> (Vec<Played>, Split<Slow>, GiveBacks) {
    let now = Arc::new(AtomicU64::new(START));
    let clock = Arc::clone(&now);
    let dice = Arc::new(Dice(AtomicU64::new(seed)));
    let slow = Slow {
        store: MemoryStore::new(1_000, Arc::new(move || clock.load(Ordering::SeqCst))),
        now,
        dice: Arc::clone(&dice),
        failing,
    };
    let give_backs = GiveBacks::default();
    let context = SplitContext {
        give_backs: give_backs.clone(),
        ..SplitContext::default()
    };
    let split = Split::new(slow, context);
    let caller = async || {
        let mut played = Vec::new();
        for _ in 0..12 {
            let mut charges: Vec<Charge> = (0..limits().len())
                .filter(|_| dice.roll(2) == 0)
                .map(|bucket| charge(bucket, i64::try_from(dice.roll(4)).unwrap()))
                .collect();
            if charges.is_empty() {
                charges.push(charge(0, 1));
            }
            let deadline = Instant::now() + Duration::from_secs(60);
            let result = split
                .decide(charges.clone().into(), deadline.into_std())
                .await;
            played.push(Played { charges, result });
        }
        played
    };
    let played = join_all((0..10).map(|_| caller())).await;
    (played.into_iter().flatten().collect(), split, give_backs)
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(work)
}

/// Returns the hits that admitted requests took from a bucket, with their times, by time.
fn taken(played: &[Played], bucket: usize) -> Vec<(Micros, u64)> {
    let mut taken = Vec::new();
    for Played { charges, result } in played {
        let Ok(decision) = result else { continue };
        for (charge, outcome) in charges.iter().zip(&decision.outcomes) {
            if decision.admitted && charge.key == super::tests::charge(bucket, 1).key {
                taken.push((outcome.decided, charge.hits.unsigned_abs()));
            }
        }
    }
    taken.sort_unstable();
    taken
}

/// Returns the maximum number of hits that a bucket can allow in a time span.
fn most(terms: &Terms, from: Micros, to: Micros) -> u64 {
    let refill = match terms.refill() {
        0 if to / terms.period() == from / terms.period() => 0,
        // Spans of several windows are not checked.
        0 => return u64::MAX,
        refill => (to - from) * u64::from(refill) / terms.period(),
    };
    u64::from(terms.capacity()) + refill
}

#[test]
fn no_bucket_allows_more_than_its_limit() {
    let (mut admitted, mut denied, mut given) = (0, 0, 0);
    for seed in 0..300 {
        // With and without failures.
        let (played, _split, give_backs) = run(play(seed, seed % 3 * 10));
        for (bucket, terms) in limits().iter().enumerate() {
            let taken = taken(&played, bucket);
            for (i, &(from, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for &(to, hits) in &taken[i..] {
                    sum += hits;
                    let most = most(terms, from, to);
                    assert!(sum <= most, "seed {seed}, bucket {bucket}: {sum} of {most}");
                }
            }
        }
        let decisions = played
            .iter()
            .filter_map(|played| played.result.as_ref().ok());
        for decision in decisions {
            *(if decision.admitted {
                &mut admitted
            } else {
                &mut denied
            }) += 1;
        }
        given += give_backs.given();
    }
    // Check that the schedules cover admissions, denials and refunds.
    assert!(
        admitted > 1_000 && denied > 1_000 && given > 500,
        "{admitted} {denied} {given}"
    );
}

/// Returns the number of whole tokens missing from a bucket.
async fn gone(split: &Split<Slow>, bucket: usize) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(60);
    let question = Arc::from([charge(bucket, 0)]);
    let outcome = split
        .decide(question, deadline.into_std())
        .await
        .unwrap()
        .outcomes[0];
    u64::from(limits()[bucket].capacity() - outcome.remaining)
}

#[test]
fn hits_of_denied_requests_are_given_back() {
    for seed in 0..50 {
        run(async {
            let (played, split, give_backs) = play(seed, 0).await;
            for bucket in SLOW {
                let admitted: u64 = taken(&played, bucket).iter().map(|(_, hits)| hits).sum();
                // A refund is reduced by the refill since, which is less than a token here.
                let or_one_more = [admitted, admitted + 1];
                let mut gone = gone(&split, bucket).await;
                // Responses do not wait for refunds.
                for _ in 0..1_000 {
                    if or_one_more.contains(&gone) {
                        break;
                    }
                    gone = super::tests::gone(&split, bucket).await;
                }
                assert!(
                    or_one_more.contains(&gone),
                    "seed {seed}: {gone}, {admitted}"
                );
            }
            assert_eq!(give_backs.lost(), 0);
        });
    }
}

#[test]
fn an_abandoned_request_takes_in_all_partitions_or_none() {
    run(async {
        let slow = Slow {
            store: MemoryStore::new(1_000, Arc::new(|| START)),
            now: Arc::default(),
            dice: Arc::new(Dice(AtomicU64::new(1))),
            failing: 0,
        };
        let split = Split::new(slow, SplitContext::default());
        for steps in 0..20 {
            let charges = Arc::from(SLOW.map(|bucket| charge(bucket, 1)));
            let decided = split.decide(
                charges,
                (Instant::now() + Duration::from_secs(60)).into_std(),
            );
            let abandoned = async {
                for _ in 0..steps {
                    yield_now().await;
                }
            };
            tokio::select! {
                biased;
                () = abandoned => {}
                _ = decided => {}
            }
        }
        // Wait until all requests are completed.
        while gone(&split, SLOW[0]).await != gone(&split, SLOW[1]).await {
            yield_now().await;
        }
        let gone = gone(&split, SLOW[0]).await;
        assert!((10..=20).contains(&gone), "{gone}");
    });
}
