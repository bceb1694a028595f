//! Requests over several partitions: if nothing interleaves, their decisions and the buckets afterwards are those of one store,
//! to the last field.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use ratekeeper::key::Placement;
use ratekeeper::store::denied::RememberedDenials;
use ratekeeper::store::memory::MemoryStore;
use ratekeeper::store::split::{PartitionedStore, PerSecond, Split, SplitContext};
use ratekeeper::store::{Basis, Cause, Charge, Decision, Outcome, Store, StoreError};
use ratekeeper::time::Micros;
use tokio::runtime;
use tokio::time::Duration;

use crate::stores::{InMemory, START, Subject, calls, in_order, part, payment};

/// A store with two partitions.
struct TwoPartitions([MemoryStore; 2]);

impl Store for TwoPartitions {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        let partition = self.partition(&charges[0]);
        let other = charges
            .iter()
            .find(|charge| self.partition(charge) != partition);
        assert_eq!(other, None, "a call has charges of two partitions");
        self.0[partition as usize].decide(charges, deadline).await
    }
}

impl PartitionedStore for TwoPartitions {
    fn partition(&self, charge: &Charge) -> u32 {
        u32::from(charge.key.as_str().as_bytes().last().unwrap() % 2)
    }
}

/// A store with four partitions: two for limits per second and two for others. The runtime's clock is paused and follows the
/// clock of the stores.
struct Apart<S> {
    store: S,
    now: Arc<AtomicU64>,
    context: SplitContext,
}

type Four = Split<PerSecond<TwoPartitions>>;

impl Apart<Four> {
    fn new() -> Self {
        let now = Arc::new(AtomicU64::new(START));
        let store = || {
            let clock = Arc::clone(&now);
            MemoryStore::new(1_000_000, Arc::new(move || clock.load(Ordering::SeqCst)))
        };
        let partitions = || TwoPartitions([store(), store()]);
        let context = SplitContext::default();
        let store = PerSecond {
            seconds: partitions(),
            others: partitions(),
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

/// Makes the same calls to a store with several partitions and to one without.
async fn compare<S: Store>(
    mut apart: Apart<S>,
    calls: Vec<(i64, Vec<Vec<Charge>>)>,
) -> Result<(), TestCaseError> {
    let mut one = InMemory::new();
    let mut now = START;
    for (step, requests) in calls {
        // A refund writes the time of the bucket, so a clock that is set back would find a later time than in the store that
        // wrote nothing.
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
    assert!(given > 100, "only {given} refunds");
    assert_eq!(remembered > 100, is_remembering, "{remembered}");
}

#[test]
fn several_partitions_decide_as_one() {
    check(false);
}

/// Remembered denials change the calls but no decision.
#[test]
fn several_partitions_decide_as_one_with_remembered_denials() {
    check(true);
}
