//! Requests over several places: when nothing interleaves, they are answered as one store answers them, to the
//! last field, and leave the same buckets behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use ratekeeper::bucket::Micros;
use ratekeeper::store::memory::MemoryStore;
use ratekeeper::store::split::{GiveBacks, PerSecond, Places, Split};
use ratekeeper::store::{Charge, Decision, Store, StoreError};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::stores::{InMemory, START, Subject, calls, part, payment};

/// A place for each of two buckets.
struct TwoPlaces([MemoryStore; 2]);

impl Store for TwoPlaces {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: Instant,
    ) -> Result<Decision, StoreError> {
        let place = self.place(&charges[0]);
        let elsewhere = charges.iter().find(|charge| self.place(charge) != place);
        assert_eq!(elsewhere, None, "a place is asked for what is elsewhere");
        self.0[place as usize].decide(charges, deadline).await
    }
}

impl Places for TwoPlaces {
    fn place(&self, charge: &Charge) -> u32 {
        u32::from(charge.key.as_str().as_bytes().last().unwrap() % 2)
    }
}

/// Buckets in four places: those of limits of a second apart from the others, and these in two.
struct Apart {
    split: Split<PerSecond<TwoPlaces>>,
    now: Arc<AtomicU64>,
    give_backs: GiveBacks,
}

impl Apart {
    fn new() -> Self {
        let now = Arc::new(AtomicU64::new(0));
        let store = || {
            let clock = Arc::clone(&now);
            MemoryStore::new(1_000_000, Arc::new(move || clock.load(Ordering::SeqCst)))
        };
        let places = || TwoPlaces([store(), store()]);
        let give_backs = GiveBacks::default();
        let store = PerSecond {
            seconds: places(),
            others: places(),
        };
        Self {
            split: Split::new(store, give_backs.clone()),
            now,
            give_backs,
        }
    }
}

impl Subject for Apart {
    async fn set_clock(&mut self, now: Micros) {
        self.now.store(now, Ordering::SeqCst);
    }

    fn store(&self) -> &impl Store {
        &self.split
    }

    async fn decide_batch(&mut self, now: Micros, requests: &[Vec<Charge>]) -> Vec<Decision> {
        let mut decisions = Vec::new();
        for charges in requests {
            decisions.push(self.decide(now, charges).await);
        }
        decisions
    }
}

/// One request after the other; limits of the buckets with even names count by the second.
fn of_seconds(requests: Vec<Vec<Charge>>) -> Vec<Vec<Charge>> {
    let mark = |charge: Charge| match charge.key.as_str().ends_with(['0', '1']) {
        true => Charge {
            terms: charge.terms.per_second(),
            ..charge
        },
        false => charge,
    };
    let requests = requests.into_iter();
    requests
        .map(|charges| charges.into_iter().map(mark).collect())
        .collect()
}

#[test]
fn several_places_answer_as_one() {
    let runtime = Runtime::new().unwrap();
    let mut runner = TestRunner::new(ProptestConfig {
        source_file: Some(file!()),
        ..ProptestConfig::with_cases(1_000)
    });
    let given = AtomicU64::new(0);
    runner
        .run(&calls(payment(), part()), |calls| {
            runtime.block_on(async {
                let (mut one, mut apart) = (InMemory::new(), Apart::new());
                let mut now = START;
                for (step, requests) in calls {
                    // What is taken and given back is seen, and written, at its time; a clock that steps back
                    // would then find the later time where one store has written nothing.
                    now = now.saturating_add_signed(step.max(0));
                    for charges in of_seconds(requests) {
                        let expected = one.decide(now, &charges).await;
                        let actual = apart.decide(now, &charges).await;
                        prop_assert_eq!(&actual, &expected, "at {} of {:?}", now, &charges);
                        let questions: Vec<_> = charges
                            .iter()
                            .map(|charge| Charge {
                                hits: 0,
                                ..charge.clone()
                            })
                            .collect();
                        let after = one.decide(now, &questions).await;
                        prop_assert_eq!(&apart.decide(now, &questions).await, &after);
                    }
                }
                given.fetch_add(apart.give_backs.given(), Ordering::SeqCst);
                Ok(())
            })
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    let given = given.into_inner();
    assert!(given > 100, "only {given} times was anything given back");
}
