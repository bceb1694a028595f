//! Requests over several partitions of which some are unavailable: the decisions of the others stand, and policies decide
//! the rest, all or nothing over both.

use std::sync::Arc;
use std::sync::Mutex;

use tokio::time::{Duration, Instant, sleep_until};

use super::super::{PartitionedStore, Split, SplitContext};
use super::{SECOND, START, charge};
use crate::bucket::Terms;
use crate::store::breaker::Breaker;
use crate::store::denied::{Denials, RememberedDenials};
use crate::store::fallback::{Fallback, FallbackSettings, Standby};
use crate::store::memory::MemoryStore;
use crate::store::{
    Basis, Cause, Charge, Decision, OnStoreFailure, Part, Payment, Store, StoreError,
};

use OnStoreFailure::{Allow, Deny, Error, Local};

/// Why a partition is unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// Its breaker is open.
    Known,
    /// It refuses connections.
    Refuses,
    /// It does not answer.
    Hangs,
}

const TROUBLES: [Trouble; 3] = [Trouble::Known, Trouble::Refuses, Trouble::Hangs];

/// A store with a partition per bucket. Some can be unavailable.
#[derive(Clone)]
struct Frail {
    buckets: Arc<MemoryStore>,
    troubles: Arc<Mutex<Vec<(u32, Trouble)>>>,
}

fn failure() -> StoreError {
    StoreError::Timeout {
        address: "a partition".to_owned(),
    }
}

impl Frail {
    fn trouble(&self, charge: &Charge) -> Option<Trouble> {
        let troubles = self.troubles.lock().unwrap();
        let of_place = troubles
            .iter()
            .find(|(partition, _)| *partition == self.partition(charge));
        of_place.map(|(_, trouble)| *trouble)
    }
}

impl Store for Frail {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        match self.trouble(&charges[0]) {
            None if Instant::now().into_std() >= deadline => Err(failure()),
            None => self.buckets.decide(charges, deadline).await,
            Some(Trouble::Known) => unreachable!("its breaker is open"),
            Some(Trouble::Refuses) => Err(failure()),
            Some(Trouble::Hangs) => {
                sleep_until(Instant::from_std(deadline)).await;
                Err(failure())
            }
        }
    }
}

impl PartitionedStore for Frail {
    fn partition(&self, charge: &Charge) -> u32 {
        charge.key.as_str().parse().unwrap()
    }

    fn unavailable(&self, charge: &Charge) -> Option<StoreError> {
        (self.trouble(charge) == Some(Trouble::Known)).then(failure)
    }
}

/// A server with partitions that can be unavailable.
struct Server {
    frail: Frail,
    store: Fallback<RememberedDenials<Split<Frail>>>,
    standby: Standby,
    denials: Arc<Denials>,
}

impl Server {
    fn new(mode: OnStoreFailure) -> Self {
        let frail = Frail {
            buckets: Arc::new(MemoryStore::new(1_000, Arc::new(|| START))),
            troubles: Arc::default(),
        };
        let settings = FallbackSettings {
            mode,
            share: "0.5".parse().unwrap(),
            max_buckets: 1_000,
        };
        let breakers = vec![Breaker::default(); 2];
        let standby = Standby::over(settings, Arc::new(|| START), breakers);
        let denials = Arc::<Denials>::default();
        let context = SplitContext {
            denials: Arc::clone(&denials),
            standby: Some(standby.clone()),
            ..SplitContext::default()
        };
        let store = Split::new(frail.clone(), context);
        let store = RememberedDenials::new(store, Arc::clone(&denials));
        Self {
            store: Fallback::new(store, standby.clone()),
            frail,
            standby,
            denials,
        }
    }

    /// Creates a server whose second partition is unavailable.
    fn troubled(mode: OnStoreFailure, trouble: Trouble) -> Self {
        let server = Self::new(mode);
        server.is(&[(1, trouble)]);
        server
    }

    fn is(&self, troubles: &[(u32, Trouble)]) {
        *self.frail.troubles.lock().unwrap() = troubles.to_vec();
    }

    async fn decide(&self, charges: &[Charge]) -> Result<Decision, StoreError> {
        let deadline = Instant::now() + Duration::from_millis(20);
        self.store.decide(charges.into(), deadline.into_std()).await
    }

    /// Returns whether a request is admitted, the cause, and the remaining tokens of each charge.
    async fn summary(&self, charges: &[Charge]) -> Option<(bool, Cause, Vec<u32>)> {
        let decision = self.decide(charges).await.ok()?;
        let left = decision.outcomes.iter().map(|outcome| outcome.remaining);
        Some((decision.admitted, decision.cause, left.collect()))
    }

    /// Returns the remaining tokens of a bucket in its partition, even if that is unavailable.
    async fn left(&self, bucket: usize) -> u32 {
        let question = Charge {
            payment: Payment::Question,
            ..limited(bucket, 0)
        };
        let asked = self
            .frail
            .buckets
            .decide([question].into(), Instant::now().into_std());
        asked.await.unwrap().outcomes[0].remaining
    }
}

/// Returns a charge on a bucket of ten tokens with a slow refill.
fn limited(bucket: usize, hits: i64) -> Charge {
    Charge {
        terms: Terms::token_bucket(10, 86_400 * SECOND, 10, 0),
        ..charge(bucket, hits)
    }
}

fn in_part(part: Part, charge: Charge) -> Charge {
    Charge { part, ..charge }
}

fn by(policy: OnStoreFailure, charge: Charge) -> Charge {
    Charge {
        on_failure: Some(policy),
        ..charge
    }
}

/// Returns each policy with each kind of trouble.
fn cases() -> impl Iterator<Item = (OnStoreFailure, Trouble)> {
    let with = |trouble| OnStoreFailure::ALL.map(|mode| (mode, trouble));
    TROUBLES.into_iter().flat_map(with)
}

#[tokio::test(start_paused = true)]
async fn a_denial_by_an_available_partition_stands_under_each_policy() {
    for (mode, trouble) in cases() {
        let server = Server::troubled(mode, trouble);
        assert!(server.decide(&[limited(0, 10)]).await.unwrap().admitted);
        for _ in 0..3 {
            let (admitted, cause, left) = server
                .summary(&[limited(0, 1), limited(1, 1)])
                .await
                .unwrap();
            assert_eq!((admitted, left[0]), (false, 0), "{mode:?} {trouble:?}");
            assert_eq!(cause, Cause::Buckets, "{mode:?} {trouble:?}");
        }
        assert_eq!(server.standby.decided(), 0, "{mode:?} {trouble:?}");
        // Hits taken from local buckets were given back.
        let (_, _, left) = server
            .summary(&[limited(0, 1), limited(1, 1)])
            .await
            .unwrap();
        let expected = match mode {
            Local => 5,
            Deny => 0,
            Allow | Error => 5,
        };
        assert_eq!(left[1], expected, "{mode:?} {trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn policies_decide_requests_that_the_other_partitions_admit() {
    for (mode, trouble) in cases() {
        let server = Server::troubled(mode, trouble);
        let both = [limited(0, 1), limited(1, 1)];
        let mut summaries = Vec::new();
        for _ in 0..6 {
            summaries.push(server.summary(&both).await);
        }
        let by_policy = Cause::Policy(mode);
        let expected: Vec<_> = match mode {
            // Half of ten.
            Local => (0..6)
                .map(|i| match i {
                    5 => Some((false, by_policy, vec![5, 0])),
                    i => Some((true, by_policy, vec![9 - i, 4 - i])),
                })
                .collect(),
            Allow => (0..6)
                .map(|i| Some((true, by_policy, vec![9 - i, 4])))
                .collect(),
            Deny => vec![Some((false, by_policy, vec![10, 0])); 6],
            Error => vec![None; 6],
        };
        assert_eq!(summaries, expected, "{mode:?} {trouble:?}");
        assert_eq!(server.standby.requests(mode), 6, "{mode:?} {trouble:?}");
        // All or nothing over both.
        let taken = match mode {
            Local => 5,
            Allow => 6,
            Deny | Error => 0,
        };
        assert_eq!(server.left(0).await, 10 - taken, "{mode:?} {trouble:?}");
        assert_eq!(server.left(1).await, 10, "{mode:?} {trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
#[expect(
    clippy::too_many_lines,
    reason = "a table of cases is as long as it is"
)]
async fn quotas_and_shadow_limits_count_as_usual() {
    let quota = |group, charge| in_part(Part::Quota(group), charge);
    let shadow = |charge| in_part(Part::Shadow, charge);
    for (row, charges, admitted, cause) in [
        (
            "a limit in shadow mode decides nothing",
            vec![limited(0, 1), shadow(by(Deny, limited(1, 1)))],
            Some(true),
            Cause::Buckets,
        ),
        (
            "and does not fail the request",
            vec![limited(0, 1), shadow(by(Error, limited(1, 1)))],
            Some(true),
            Cause::Buckets,
        ),
        (
            "a quota that admits is enough",
            vec![quota(0, limited(0, 1)), quota(1, by(Error, limited(1, 1)))],
            Some(true),
            Cause::Buckets,
        ),
        (
            "if one partition denies, the request depends on the other",
            vec![quota(0, limited(0, 11)), quota(1, by(Allow, limited(1, 1)))],
            Some(true),
            Cause::Policy(Allow),
        ),
        (
            "and fails if that has the policy error",
            vec![quota(0, limited(0, 11)), quota(1, by(Error, limited(1, 1)))],
            None,
            Cause::Buckets,
        ),
        (
            "of several policies, the strictest is the cause",
            vec![
                limited(0, 1),
                by(Allow, limited(1, 1)),
                by(Deny, limited(2, 1)),
            ],
            Some(false),
            Cause::Policy(Deny),
        ),
        (
            "more hits than the capacity are denied",
            vec![limited(0, 11), by(Error, limited(1, 1))],
            Some(false),
            Cause::Buckets,
        ),
        (
            "postpaid hits are counted in their partition",
            vec![
                Charge {
                    payment: Payment::Postpaid,
                    ..limited(0, 3)
                },
                by(Deny, limited(1, 1)),
            ],
            Some(false),
            Cause::Policy(Deny),
        ),
    ] {
        for trouble in TROUBLES {
            let server = Server::new(Local);
            server.is(&[(1, trouble), (2, trouble)]);
            let decision = server.decide(&charges).await.ok();
            let is_admitted = decision.as_ref().map(|decision| decision.admitted);
            assert_eq!(is_admitted, admitted, "{row}, {trouble:?}");
            let Some(decision) = decision else { continue };
            assert_eq!(decision.cause, cause, "{row}, {trouble:?}");
            assert_eq!(decision.outcomes.len(), charges.len(), "{row}, {trouble:?}");
            let is_report = charges[0].payment == Payment::Postpaid;
            let taken = if is_report {
                3
            } else {
                u32::from(decision.outcomes[0].admitted && decision.admitted)
            };
            assert_eq!(server.left(0).await, 10 - taken, "{row}, {trouble:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn candidates_in_an_unavailable_partition_are_left_out() {
    for trouble in TROUBLES {
        let server = Server::troubled(Local, trouble);
        let candidate = |bucket| in_part(Part::Candidate { from: 0, to: 1 }, limited(bucket, 1));
        let decision = server
            .decide(&[limited(0, 1), candidate(2), candidate(1)])
            .await
            .unwrap();
        assert_eq!((decision.admitted, decision.cause), (true, Cause::Buckets));
        assert_eq!(decision.outcomes.len(), 2, "{trouble:?}");
        assert_eq!(server.left(2).await, 9, "{trouble:?}");
        assert_eq!(server.standby.buckets(), 0, "{trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn denials_by_policy_are_not_remembered() {
    for trouble in TROUBLES {
        let server = Server::troubled(Deny, trouble);
        let both = [limited(0, 1), limited(1, 1)];
        let denied = server.decide(&both).await.unwrap();
        assert!(!denied.admitted);
        assert_eq!(denied.outcomes[1].basis, Basis::Policy);
        assert_eq!(
            server.denials.buckets(),
            1,
            "that of the other partition, {trouble:?}"
        );
        server.is(&[]);
        let (admitted, cause, left) = server.summary(&both).await.unwrap();
        assert_eq!((admitted, cause, left), (true, Cause::Buckets, vec![9, 9]));
    }
}

/// A remembered denial is used although the bucket's partition is unavailable.
#[tokio::test(start_paused = true)]
async fn a_remembered_denial_holds_while_its_partition_is_unavailable() {
    for trouble in TROUBLES {
        let server = Server::new(Allow);
        assert!(server.decide(&[limited(1, 10)]).await.unwrap().admitted);
        assert!(!server.decide(&[limited(1, 1)]).await.unwrap().admitted);
        server.is(&[(1, trouble)]);
        let (admitted, cause, left) = server
            .summary(&[limited(0, 1), limited(1, 1)])
            .await
            .unwrap();
        assert_eq!(
            (admitted, cause, left),
            (false, Cause::Buckets, vec![10, 0])
        );
    }
}

/// Requests are decided by the deadline, and are still charged in the available partition.
#[tokio::test(start_paused = true)]
async fn a_partition_that_hangs_delays_requests_until_their_deadline_only() {
    let server = Server::troubled(Local, Trouble::Hangs);
    for _ in 0..3 {
        let begin = Instant::now();
        let decision = server
            .decide(&[limited(0, 1), limited(1, 1)])
            .await
            .unwrap();
        assert!(decision.admitted);
        assert!(
            begin.elapsed() <= Duration::from_millis(21),
            "{:?}",
            begin.elapsed()
        );
    }
    assert_eq!(server.left(0).await, 7, "the available partition counts");
}
