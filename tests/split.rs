//! Requests over several places: when nothing interleaves, they are answered as one store answers them, to the
//! last field, and leave the same buckets behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use ratekeeper::key::Placement;
use ratekeeper::store::denied::RememberedDenials;
use ratekeeper::store::memory::MemoryStore;
use ratekeeper::store::split::{PerSecond, Places, Split, SplitContext};
use ratekeeper::store::{Basis, Cause, Charge, Decision, Outcome, Store, StoreError};
use ratekeeper::time::Micros;
use tokio::runtime;
use tokio::time::Duration;

use crate::stores::{InMemory, START, Subject, calls, in_order, part, payment};

/// A place for each of two buckets.
struct TwoPlaces([MemoryStore; 2]);

impl Store for TwoPlaces {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: std::time::Instant,
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

/// Buckets in four places: those of limits of a second apart from the others, and these in two. Time here passes with
/// theirs, on a runtime whose clock is stopped.
struct Apart<S> {
    store: S,
    now: Arc<AtomicU64>,
    context: SplitContext,
}

type Four = Split<PerSecond<TwoPlaces>>;

impl Apart<Four> {
    fn new() -> Self {
        let now = Arc::new(AtomicU64::new(START));
        let store = || {
            let clock = Arc::clone(&now);
            MemoryStore::new(1_000_000, Arc::new(move || clock.load(Ordering::SeqCst)))
        };
        let places = || TwoPlaces([store(), store()]);
        let context = SplitContext::default();
        let store = PerSecond {
            seconds: places(),
            others: places(),
        };
        Self {
            store: Split::new(store, context.clone()),
            now,
            context,
        }
    }

    /// The same, where what denied is remembered.
    fn remembering(self) -> Apart<RememberedDenials<Four>> {
        Apart {
            store: RememberedDenials::new(self.store, Arc::clone(&self.context.denials)),
            now: self.now,
            context: self.context,
        }
    }
}

impl<S: Store> Subject for Apart<S> {
    async fn set_clock(&mut self, now: Micros) {
        let before = self.now.swap(now, Ordering::SeqCst);
        // Nothing is remembered for as long as this.
        let passed = Duration::from_micros(now - before).min(Duration::from_secs(60));
        tokio::time::advance(passed).await;
    }

    fn store(&self) -> &impl Store {
        &self.store
    }

    async fn decide_batch(&mut self, now: Micros, requests: &[Vec<Charge>]) -> Vec<Decision> {
        in_order(self, now, requests).await
    }
}

/// A decision as if nothing of it were remembered.
fn as_from_the_store(decision: Decision) -> Decision {
    let outcomes = decision.outcomes.into_iter().map(|outcome| Outcome {
        basis: Basis::Bucket,
        ..outcome
    });
    Decision {
        cause: Cause::Buckets,
        outcomes: outcomes.collect(),
        ..decision
    }
}

/// One request after the other; limits of the buckets with even names count by the second.
fn of_seconds(requests: Vec<Vec<Charge>>) -> Vec<Vec<Charge>> {
    let mark = |charge: Charge| match charge.key.as_str().ends_with(['0', '1']) {
        true => Charge {
            key: charge.key.placed(Placement::PerSecond),
            ..charge
        },
        false => charge,
    };
    let requests = requests.into_iter();
    requests
        .map(|charges| charges.into_iter().map(mark).collect())
        .collect()
}

/// Makes calls at stores in several places, and at one store.
async fn compare<S: Store>(
    mut apart: Apart<S>,
    calls: Vec<(i64, Vec<Vec<Charge>>)>,
) -> Result<(), TestCaseError> {
    let mut one = InMemory::new();
    let mut now = START;
    for (step, requests) in calls {
        // What is taken and given back is seen, and written, at its time; a clock that steps back
        // would then find the later time where one store has written nothing.
        now = now.saturating_add_signed(step.max(0));
        for charges in of_seconds(requests) {
            let expected = one.decide(now, &charges).await;
            let actual = as_from_the_store(apart.decide(now, &charges).await);
            prop_assert_eq!(&actual, &expected, "at {} of {:?}", now, &charges);
            let question = |charge: &Charge| Charge {
                hits: 0,
                ..charge.clone()
            };
            let questions: Vec<_> = charges.iter().map(question).collect();
            let after = one.decide(now, &questions).await;
            let actual = as_from_the_store(apart.decide(now, &questions).await);
            prop_assert_eq!(&actual, &after, "questions at {} of {:?}", now, &charges);
        }
    }
    Ok(())
}

fn check(is_remembering: bool) {
    let stopped = runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    let runtime = stopped.unwrap();
    let mut runner = TestRunner::new(ProptestConfig {
        source_file: Some(file!()),
        ..ProptestConfig::with_cases(1_000)
    });
    let (given, remembered) = (AtomicU64::new(0), AtomicU64::new(0));
    runner
        .run(&calls(payment(), part()), |calls| {
            runtime.block_on(async {
                let apart = Apart::new();
                let context = apart.context.clone();
                match is_remembering {
                    false => compare(apart, calls).await?,
                    true => compare(apart.remembering(), calls).await?,
                }
                given.fetch_add(context.give_backs.given(), Ordering::SeqCst);
                remembered.fetch_add(context.denials.buckets() as u64, Ordering::SeqCst);
                Ok(())
            })
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    let (given, remembered) = (given.into_inner(), remembered.into_inner());
    assert!(given > 100, "only {given} times was anything given back");
    assert_eq!(remembered > 100, is_remembering, "{remembered}");
}

#[test]
fn several_places_answer_as_one() {
    check(false);
}

/// What is known of buckets that denied changes how a request is decided, and no answer.
#[test]
fn several_places_answer_as_one_whatever_is_known_of_them() {
    check(true);
}
