//! What the failure policy decides, and when the store is used again. The tests use tokio's paused clock.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::bucket::Terms;
use crate::key::{KeyFormat, LimitTag};
use crate::store::breaker::BreakerState;
use crate::store::{ChargingProbe, Outcome, Payment};

const SECOND: Micros = 1_000_000;
const START: Micros = 1_790_000_000 * SECOND;

/// A memory store that can be made to fail. It reports its calls to the breaker.
#[derive(Clone)]
struct Frail(Arc<FrailInner>);

struct FrailInner {
    buckets: MemoryStore,
    breaker: Breaker,
    failure: Mutex<Option<StoreError>>,
    calls: AtomicUsize,
}

impl Store for Frail {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let failure = self.0.failure.lock().unwrap().clone();
        match failure {
            None => {
                self.0.breaker.succeeded();
                self.0.buckets.decide(charges, deadline).await
            }
            Some(error) => {
                if matches!(error, StoreError::Timeout { .. }) {
                    tokio::time::sleep_until(Instant::from_std(deadline)).await;
                }
                self.0.breaker.failed(&error);
                Err(error)
            }
        }
    }
}

/// Returns a clock that follows tokio's.
fn clock() -> Clock {
    let start = Instant::now();
    Arc::new(move || START + u64::try_from(start.elapsed().as_micros()).unwrap())
}

struct Subject {
    store: Frail,
    fallback: Fallback<Frail>,
    standby: Standby,
}

impl Subject {
    fn new(mode: OnStoreFailure, share: &str) -> Self {
        let settings = FallbackSettings {
            mode,
            share: share.parse().unwrap(),
            max_buckets: 100_000,
        };
        let standby = Standby::new(settings, clock());
        let store = Frail(Arc::new(FrailInner {
            buckets: MemoryStore::new(100_000, clock()),
            breaker: standby.breaker().clone(),
            failure: Mutex::new(None),
            calls: AtomicUsize::new(0),
        }));
        Self {
            fallback: Fallback::new(store.clone(), standby.clone()),
            store,
            standby,
        }
    }

    /// Creates a subject whose store fails.
    fn failing(mode: OnStoreFailure, share: &str) -> Self {
        let subject = Self::new(mode, share);
        subject.fail(Some(timeout()));
        subject
    }

    fn fail(&self, failure: Option<StoreError>) {
        *self.store.0.failure.lock().unwrap() = failure;
    }

    async fn try_decide(&self, charges: &[Charge]) -> Result<Decision, StoreError> {
        let deadline = Instant::now() + Duration::from_millis(20);
        self.fallback
            .decide(charges.into(), deadline.into_std())
            .await
    }

    async fn decide(&self, charges: &[Charge]) -> Decision {
        self.try_decide(charges).await.unwrap()
    }

    fn calls(&self) -> usize {
        self.store.0.calls.load(Ordering::SeqCst)
    }

    /// Starts to probe the store.
    fn probe(&self, always: bool) -> tokio::task::JoinHandle<std::convert::Infallible> {
        let keys = KeyFormat::new("p:");
        let probe = ChargingProbe::new(self.store.clone(), &keys);
        let settings = ProbeSettings {
            keys,
            timeout: Duration::from_millis(100),
            always,
            seed: 1,
        };
        tokio::spawn(Prober::new(probe, self.standby.clone(), settings).run())
    }
}

fn timeout() -> StoreError {
    StoreError::Timeout {
        address: "there".to_owned(),
    }
}

/// Returns a charge on a limit of `tokens` per hour with as much debt.
fn charge(name: &str, tokens: u32, hits: i64) -> Charge {
    let keys = KeyFormat::new("");
    let tag = LimitTag {
        index: 0,
        is_window: false,
        override_period: None,
    };
    Charge {
        key: keys.key(&keys.stem(name, []), tag),
        terms: Terms::token_bucket(tokens, 3_600 * SECOND, tokens, tokens),
        hits,
        payment: Payment::Prepaid,
        part: Part::Must,
        on_failure: None,
    }
}

fn by(policy: OnStoreFailure, charge: Charge) -> Charge {
    Charge {
        on_failure: Some(policy),
        ..charge
    }
}

fn left(decision: &Decision) -> Vec<u32> {
    let outcomes = decision.outcomes.iter();
    outcomes
        .map(|outcome: &Outcome| outcome.remaining)
        .collect()
}

use OnStoreFailure::{Allow, Deny, Error, Local};

#[tokio::test(start_paused = true)]
async fn an_available_store_decides() {
    let subject = Subject::new(Deny, "1");
    let decision = subject.decide(&[charge("a", 10, 1)]).await;
    assert_eq!((decision.admitted, decision.cause), (true, Cause::Buckets));
    assert_eq!(subject.standby.buckets(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_mode_decides() {
    for (mode, admitted) in [(Local, true), (Allow, true), (Deny, false)] {
        let subject = Subject::failing(mode, "1");
        let decision = subject.decide(&[charge("a", 10, 1)]).await;
        assert_eq!(
            (decision.admitted, decision.cause),
            (admitted, Cause::Policy(mode))
        );
        assert_eq!(subject.standby.requests(mode), 1);
        assert_eq!(subject.standby.buckets(), usize::from(mode == Local));
    }
    let subject = Subject::failing(Error, "1");
    assert!(subject.try_decide(&[charge("a", 10, 1)]).await.is_err());
    assert_eq!(subject.standby.requests(Error), 1);
}

#[tokio::test(start_paused = true)]
async fn local_buckets_have_their_share() {
    let subject = Subject::failing(Local, "0.3");
    let mut admitted = 0;
    for _ in 0..10 {
        admitted += u32::from(subject.decide(&[charge("a", 10, 1)]).await.admitted);
    }
    assert_eq!(admitted, 3);
    // Three tokens are refilled per hour.
    tokio::time::advance(Duration::from_secs(20 * 60 - 1)).await;
    assert!(!subject.decide(&[charge("a", 10, 1)]).await.admitted);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(subject.decide(&[charge("a", 10, 1)]).await.admitted);
}

#[tokio::test(start_paused = true)]
async fn reports_and_refunds_count_locally() {
    let subject = Subject::failing(Local, "0.5");
    let report = |hits| Charge {
        payment: Payment::Postpaid,
        ..charge("a", 10, hits)
    };
    // Five tokens and as much debt.
    assert_eq!(left(&subject.decide(&[report(2)]).await), [3]);
    assert!(!subject.decide(&[report(7)]).await.admitted);
    assert!(!subject.decide(&[charge("a", 10, 0)]).await.admitted);
    assert_eq!(left(&subject.decide(&[charge("a", 10, -6)]).await), [2]);
}

#[tokio::test(start_paused = true)]
#[expect(
    clippy::too_many_lines,
    reason = "a table of cases is as long as it is"
)]
async fn policies_of_a_request_are_combined() {
    // Each row continues from the one before.
    let subject = Subject::failing(Local, "1");
    for (name, charges, admitted, cause, remaining) in [
        (
            "allowed as by a full bucket, however often",
            vec![by(Allow, charge("a", 10, 10)), charge("b", 10, 1)],
            true,
            Local,
            vec![0, 9],
        ),
        (
            "more than it holds is not allowed",
            vec![by(Allow, charge("a", 10, 11)), charge("b", 10, 1)],
            false,
            Local,
            vec![10, 9],
        ),
        (
            "one that denies vetoes, and nothing is taken",
            vec![by(Deny, charge("a", 10, 1)), charge("b", 10, 1)],
            false,
            Deny,
            vec![0, 9],
        ),
        (
            "in shadow mode it does not",
            vec![
                Charge {
                    part: Part::Shadow,
                    ..by(Deny, charge("a", 10, 1))
                },
                charge("b", 10, 1),
            ],
            true,
            Deny,
            vec![0, 8],
        ),
        (
            "an error in shadow mode is none",
            vec![
                Charge {
                    part: Part::Shadow,
                    ..by(Error, charge("a", 10, 1))
                },
                charge("b", 10, 1),
            ],
            true,
            Local,
            vec![9, 7],
        ),
        (
            "a quota that allows is enough",
            vec![
                Charge {
                    part: Part::Quota(0),
                    ..by(Deny, charge("a", 10, 1))
                },
                Charge {
                    part: Part::Quota(1),
                    ..by(Allow, charge("b", 10, 1))
                },
            ],
            true,
            Deny,
            vec![0, 9],
        ),
        (
            "a limit of none allows none",
            vec![by(Allow, charge("none", 0, 1))],
            false,
            Allow,
            vec![0],
        ),
    ] {
        let decision = subject.decide(&charges).await;
        assert_eq!(decision.admitted, admitted, "{name}");
        assert_eq!(decision.cause, Cause::Policy(cause), "{name}");
        assert_eq!(left(&decision), remaining, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_policy_error_of_one_limit_fails_the_request() {
    let subject = Subject::failing(Local, "1");
    let error = by(Error, charge("a", 10, 1));
    assert!(
        subject
            .try_decide(&[charge("b", 10, 1), error])
            .await
            .is_err()
    );
    assert_eq!(subject.standby.buckets(), 0, "nothing was taken");
}

#[tokio::test(start_paused = true)]
async fn denials_by_policy_have_a_short_retry_after() {
    let subject = Subject::failing(Deny, "1");
    let wait = |decision: Decision| decision.outcomes[0].retry_in;
    let once = subject.decide(&[charge("a", 1, 1)]).await;
    assert_eq!(wait(once), Some(RETRY_IN));
    let never = subject.decide(&[charge("a", 1, 2)]).await;
    assert_eq!(wait(never), None);
}

#[tokio::test(start_paused = true)]
async fn no_request_waits_while_the_breaker_is_open() {
    let subject = Subject::failing(Local, "1");
    let mut waits = Vec::new();
    for _ in 0..6 {
        let begin = Instant::now();
        subject.decide(&[charge("a", 10, 1)]).await;
        waits.push(begin.elapsed().as_millis());
    }
    assert_eq!(waits, [20, 20, 20, 0, 0, 0]);
    assert_eq!(subject.calls(), 3);
    assert_eq!(subject.standby.breaker().state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn the_store_is_used_within_a_second_of_its_return() {
    for outage in [10, 300, 60_000, 3_600_000] {
        let subject = Subject::new(Local, "1");
        let prober = subject.probe(false);
        subject.decide(&[charge("a", 10, 2)]).await;
        subject.fail(Some(timeout()));
        for _ in 0..5 {
            subject.decide(&[charge("a", 10, 1)]).await;
        }
        tokio::time::sleep(Duration::from_millis(outage)).await;
        assert!(subject.standby.breaker().is_open(), "after {outage} ms");
        subject.fail(None);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(subject.standby.breaker().state(), BreakerState::Closed);
        let decision = subject.decide(&[charge("b", 10, 1)]).await;
        assert_eq!(decision.cause, Cause::Buckets);
        // Hits taken from local buckets are not taken from the store's.
        let decision = subject.decide(&[charge("a", 10, 0)]).await;
        let back = u32::try_from(outage / 360_000).unwrap().min(2);
        assert_eq!(left(&decision), [8 + back]);
        prober.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_unavailable_at_the_start_delays_no_request() {
    let subject = Subject::failing(Local, "1");
    let prober = subject.probe(false);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let probes = subject.calls();
    let begin = Instant::now();
    subject.decide(&[charge("a", 10, 1)]).await;
    assert_eq!((begin.elapsed(), subject.calls()), (Duration::ZERO, probes));
    prober.abort();
}

#[tokio::test(start_paused = true)]
async fn an_idle_store_is_probed_if_its_health_matters() {
    for always in [false, true] {
        let subject = Subject::new(Local, "1");
        let prober = subject.probe(always);
        tokio::time::sleep(Duration::from_secs(1)).await;
        subject.fail(Some(timeout()));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(subject.standby.breaker().is_open(), always);
        prober.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn full_local_buckets_are_dropped() {
    let subject = Subject::failing(Local, "1");
    for i in 0..1_000 {
        subject.decide(&[charge(&i.to_string(), 10, 1)]).await;
    }
    assert_eq!(subject.standby.buckets(), 1_000);
    subject.fail(None);
    let prober = subject.probe(false);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(subject.standby.buckets(), 1_000, "no token is refilled yet");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(subject.standby.buckets(), 0);
    prober.abort();
}
