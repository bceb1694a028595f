//! Denials are remembered exactly as long as they hold, on the runtime's own clock.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::bucket::Terms;
use crate::clock::Clock;
use crate::key::{KeyFormat, LimitTag};
use crate::store::memory::MemoryStore;
use crate::store::{Part, Payment};

const SECOND: Micros = 1_000_000;

/// A store that counts how often it is asked.
struct Counted {
    store: MemoryStore,
    asked: AtomicUsize,
}

impl Store for Counted {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.store.decide(charges, deadline).await
    }
}

/// A clock that goes with the runtime's, which the tests stop and advance.
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
        asked: AtomicUsize::new(0),
    };
    RememberedDenials::new(store, Arc::default())
}

impl RememberedDenials<Counted> {
    async fn ask(&self, charges: &[Charge]) -> Decision {
        self.decide(charges.into(), Instant::now().into_std())
            .await
            .unwrap()
    }

    fn asked(&self) -> usize {
        self.store.asked.load(Ordering::SeqCst)
    }
}

/// Tokens per second, and room for so many.
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
async fn a_flood_is_denied_without_the_store_until_a_token_is_back() {
    let subject = subject();
    assert!(subject.ask(&[charge("a", 10, 10)]).await.admitted);
    assert!(!subject.ask(&[charge("a", 10, 1)]).await.admitted);
    assert_eq!(subject.asked(), 2);
    pass(SECOND / 10 - 1).await;
    for hits in [1, 1, 5, 0] {
        let denied = subject.ask(&[charge("a", 10, hits)]).await;
        assert!(!denied.admitted);
        let wait = 1 + u64::try_from(hits.max(1) - 1).unwrap() * SECOND / 10;
        assert_eq!(denied.outcomes[0].retry_in, Some(wait));
    }
    assert_eq!(subject.asked(), 2);
    pass(1).await;
    assert!(subject.ask(&[charge("a", 10, 1)]).await.admitted);
    assert_eq!(subject.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn fewer_hits_may_pass_where_more_did_not() {
    let subject = subject();
    assert!(subject.ask(&[charge("a", 10, 7)]).await.admitted);
    assert!(!subject.ask(&[charge("a", 10, 5)]).await.admitted);
    assert!(subject.ask(&[charge("a", 10, 3)]).await.admitted);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_remembered_longer_than_a_second() {
    let subject = subject();
    let never = [charge("a", 10, 11)];
    assert!(!subject.ask(&never).await.admitted);
    pass(SECOND - 1).await;
    assert!(!subject.ask(&never).await.admitted);
    assert_eq!(subject.asked(), 1);
    pass(1).await;
    assert!(!subject.ask(&never).await.admitted);
    assert_eq!(subject.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn reports_and_refunds_always_reach_the_store() {
    let subject = subject();
    subject.ask(&[charge("a", 10, 10)]).await;
    subject.ask(&[charge("a", 10, 1)]).await;
    let report = Charge {
        payment: Payment::Postpaid,
        ..charge("a", 10, 3)
    };
    subject.ask(&[report]).await;
    assert_eq!(subject.asked(), 3);
    subject.ask(&[charge("a", 10, -10)]).await;
    assert!(subject.ask(&[charge("a", 10, 1)]).await.admitted);
}

#[tokio::test(start_paused = true)]
async fn other_charges_of_a_denied_request_are_untouched() {
    let subject = subject();
    subject.ask(&[charge("a", 10, 10)]).await;
    subject.ask(&[charge("b", 10, 4)]).await;
    for _ in 0..3 {
        let denied = subject.ask(&[charge("a", 10, 1), charge("b", 10, 1)]).await;
        assert!(!denied.admitted && denied.outcomes[1].admitted);
        assert_eq!(denied.outcomes[1].remaining, 6);
        assert_eq!(subject.asked(), 3);
    }
    // What is taken from them meanwhile is not forgotten.
    subject.ask(&[charge("b", 10, 6)]).await;
    let denied = subject.ask(&[charge("a", 10, 1), charge("b", 10, 1)]).await;
    assert!(!denied.outcomes[1].admitted);
    assert_eq!(subject.asked(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_did_not_deny_is_asked_for() {
    let subject = subject();
    subject.ask(&[charge("a", 10, 10)]).await;
    let both = [charge("a", 10, 1), charge("b", 10, 1)];
    assert!(!subject.ask(&both).await.admitted);
    assert!(subject.ask(&both[1..]).await.admitted);
    let shadow = Charge {
        part: Part::Shadow,
        ..charge("a", 10, 1)
    };
    assert!(subject.ask(&[shadow, charge("b", 10, 1)]).await.admitted);
    assert_eq!(subject.asked(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_would_be_taken_is() {
    let subject = subject();
    let tried = |tokens| Charge {
        part: Part::Candidate { from: 0, to: 1 },
        ..charge("tried", tokens, 1)
    };
    let request = [charge("a", 2, 1), tried(5)];
    let mut admitted = Vec::new();
    for _ in 0..9 {
        let decision = subject.ask(&request).await;
        admitted.push([decision.admitted, decision.outcomes[1].admitted]);
    }
    let expected = [
        vec![[true, true]; 2],
        vec![[false, true]; 3],
        vec![[false; 2]; 4],
    ];
    assert_eq!(admitted, expected.concat());
    // Then both are known to be empty.
    assert_eq!(subject.asked(), 5);
}

#[tokio::test(start_paused = true)]
async fn another_limit_is_asked_for() {
    let subject = subject();
    subject.ask(&[charge("a", 10, 10)]).await;
    assert!(!subject.ask(&[charge("a", 10, 1)]).await.admitted);
    assert!(subject.ask(&[charge("a", 20, 1)]).await.admitted);
}

#[tokio::test(start_paused = true)]
async fn denials_are_bounded() {
    let subject = subject();
    for i in 0..2 * SHARDS * SHARD_BOUND {
        subject.ask(&[charge(&i.to_string(), 1, 2)]).await;
    }
    let held: usize = subject
        .denials
        .shards
        .iter()
        .map(|s| s.lock().unwrap().buckets.len())
        .sum();
    assert!(held <= SHARDS * SHARD_BOUND, "{held}");
}

/// A decision as if nothing of it were remembered.
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
    /// Every answer is the one that the store alone would have given.
    #[test]
    fn remembering_changes_no_answer(
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
                let answer = subject.ask(&charges).await;
                // Whatever decides, the answer is the same.
                prop_assert_eq!(as_from_the_store(answer), expected);
            }
            Ok(())
        })?;
    }
}
