//! Denials are remembered exactly as long as they hold. The tests use tokio's paused clock.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::bucket::Terms;
use crate::clock::Clock;
use crate::key::{KeyFormat, LimitTag};
use crate::store::memory::MemoryStore;
use crate::store::{Part, Payment};

const SECOND: Micros = 1_000_000;

/// A store that counts its calls.
struct Counted {
    store: MemoryStore,
    calls: AtomicUsize,
}

impl Store for Counted {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.store.decide(charges, deadline).await
    }
}

/// Returns a clock that follows tokio's.
fn clock() -> Clock {
    let start = Instant::now();
    Arc::new(move || {
        let passed = (Instant::now() - start).as_micros();
        1_790_000_000 * SECOND + u64::try_from(passed).unwrap()
    })
}

fn subject() -> RememberedDenials<Counted> {
    let store = Counted {
        store: MemoryStore::new(1_000_000, clock()),
        calls: AtomicUsize::new(0),
    };
    RememberedDenials::new(store, Arc::default())
}

impl RememberedDenials<Counted> {
    async fn decided(&self, charges: &[Charge]) -> Decision {
        self.decide(charges.into(), Instant::now().into_std())
            .await
            .unwrap()
    }

    fn calls(&self) -> usize {
        self.store.calls.load(Ordering::SeqCst)
    }
}

/// Returns a charge on a bucket of `tokens` tokens per second and as much burst.
fn charge(name: &str, tokens: u32, hits: i64) -> Charge {
    let keys = KeyFormat::new("");
    let tag = LimitTag {
        index: 0,
        is_window: false,
        override_period: None,
    };
    Charge {
        key: keys.key(&keys.stem(name, []), tag),
        terms: Terms::token_bucket(tokens, SECOND, tokens, tokens),
        hits,
        payment: Payment::Prepaid,
        part: Part::Must,
        on_failure: None,
    }
}

async fn pass(micros: Micros) {
    tokio::time::advance(Duration::from_micros(micros)).await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_denied_without_the_store_until_a_token_is_refilled() {
    let subject = subject();
    assert!(subject.decided(&[charge("a", 10, 10)]).await.admitted);
    assert!(!subject.decided(&[charge("a", 10, 1)]).await.admitted);
    assert_eq!(subject.calls(), 2);
    pass(SECOND / 10 - 1).await;
    for hits in [1, 1, 5, 0] {
        let denied = subject.decided(&[charge("a", 10, hits)]).await;
        assert!(!denied.admitted);
        let wait = 1 + u64::try_from(hits.max(1) - 1).unwrap() * SECOND / 10;
        assert_eq!(denied.outcomes[0].retry_in, Some(wait));
    }
    assert_eq!(subject.calls(), 2);
    pass(1).await;
    assert!(subject.decided(&[charge("a", 10, 1)]).await.admitted);
    assert_eq!(subject.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn fewer_hits_can_be_allowed_after_more_were_denied() {
    let subject = subject();
    assert!(subject.decided(&[charge("a", 10, 7)]).await.admitted);
    assert!(!subject.decided(&[charge("a", 10, 5)]).await.admitted);
    assert!(subject.decided(&[charge("a", 10, 3)]).await.admitted);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_remembered_longer_than_a_second() {
    let subject = subject();
    let never = [charge("a", 10, 11)];
    assert!(!subject.decided(&never).await.admitted);
    pass(SECOND - 1).await;
    assert!(!subject.decided(&never).await.admitted);
    assert_eq!(subject.calls(), 1);
    pass(1).await;
    assert!(!subject.decided(&never).await.admitted);
    assert_eq!(subject.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn reports_and_refunds_always_reach_the_store() {
    let subject = subject();
    subject.decided(&[charge("a", 10, 10)]).await;
    subject.decided(&[charge("a", 10, 1)]).await;
    let report = Charge {
        payment: Payment::Postpaid,
        ..charge("a", 10, 3)
    };
    subject.decided(&[report]).await;
    assert_eq!(subject.calls(), 3);
    subject.decided(&[charge("a", 10, -10)]).await;
    assert!(subject.decided(&[charge("a", 10, 1)]).await.admitted);
}

#[tokio::test(start_paused = true)]
async fn other_charges_of_a_denied_request_are_untouched() {
    let subject = subject();
    subject.decided(&[charge("a", 10, 10)]).await;
    subject.decided(&[charge("b", 10, 4)]).await;
    for _ in 0..3 {
        let denied = subject
            .decided(&[charge("a", 10, 1), charge("b", 10, 1)])
            .await;
        assert!(!denied.admitted && denied.outcomes[1].admitted);
        assert_eq!(denied.outcomes[1].remaining, 6);
        assert_eq!(subject.calls(), 3);
    }
    // Hits that were taken from it since are counted.
    subject.decided(&[charge("b", 10, 6)]).await;
    let denied = subject
        .decided(&[charge("a", 10, 1), charge("b", 10, 1)])
        .await;
    assert!(!denied.outcomes[1].admitted);
    assert_eq!(subject.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn buckets_that_did_not_deny_are_read_again() {
    let subject = subject();
    subject.decided(&[charge("a", 10, 10)]).await;
    let both = [charge("a", 10, 1), charge("b", 10, 1)];
    assert!(!subject.decided(&both).await.admitted);
    assert!(subject.decided(&both[1..]).await.admitted);
    let shadow = Charge {
        part: Part::Shadow,
        ..charge("a", 10, 1)
    };
    assert!(
        subject
            .decided(&[shadow, charge("b", 10, 1)])
            .await
            .admitted
    );
    assert_eq!(subject.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_would_be_taken_is_taken() {
    let subject = subject();
    let tried = |tokens| Charge {
        part: Part::Candidate { from: 0, to: 1 },
        ..charge("tried", tokens, 1)
    };
    let request = [charge("a", 2, 1), tried(5)];
    let mut admitted = Vec::new();
    for _ in 0..9 {
        let decision = subject.decided(&request).await;
        admitted.push([decision.admitted, decision.outcomes[1].admitted]);
    }
    let expected = [
        vec![[true, true]; 2],
        vec![[false, true]; 3],
        vec![[false; 2]; 4],
    ];
    assert_eq!(admitted, expected.concat());
    // Both are known to be empty then.
    assert_eq!(subject.calls(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_changed_limit_is_read_again() {
    let subject = subject();
    subject.decided(&[charge("a", 10, 10)]).await;
    assert!(!subject.decided(&[charge("a", 10, 1)]).await.admitted);
    assert!(subject.decided(&[charge("a", 20, 1)]).await.admitted);
}

#[tokio::test(start_paused = true)]
async fn denials_are_bounded() {
    let subject = subject();
    for i in 0..2 * SHARDS * SHARD_BOUND {
        subject.decided(&[charge(&i.to_string(), 1, 2)]).await;
    }
    let held: usize = subject
        .denials
        .shards
        .iter()
        .map(|s| s.lock().unwrap().buckets.len())
        .sum();
    assert!(held <= SHARDS * SHARD_BOUND, "{held}");
}

/// Returns a decision as if the store had made it.
fn as_from_the_store(decision: Decision) -> Decision {
    let outcomes = decision.outcomes.into_iter();
    let outcomes = outcomes.map(|outcome| Outcome {
        basis: Basis::Bucket,
        ..outcome
    });
    Decision {
        cause: Cause::Buckets,
        outcomes: outcomes.collect(),
        ..decision
    }
}

proptest! {
    /// Every decision equals that of the store alone.
    #[test]
    fn remembering_changes_no_decision(
        calls in prop::collection::vec((0..400_000_u64, 0..3_usize, -3..8_i64, 1..4_usize), 1..60),
        tried in prop::option::of(1..12_u32),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (subject, alone) = (subject(), MemoryStore::new(1_000, clock()));
            for (wait, first, hits, count) in calls {
                pass(wait).await;
                let charges: Vec<Charge> = (first..first + count.min(3 - first))
                    .map(|i| charge(&i.to_string(), [3, 5, 7][i], hits))
                    .chain(tried.map(|tokens| Charge {
                        part: Part::Candidate { from: 0, to: 1 },
                        ..charge("tried", tokens, hits)
                    }))
                    .collect();
                let expected = alone.decide(charges.as_slice().into(), Instant::now().into_std()).await.unwrap();
                let decision = subject.decided(&charges).await;
                prop_assert_eq!(as_from_the_store(decision), expected);
            }
            Ok(())
        })?;
    }
}
