//! Requests over several places of which some are unavailable: what the others decide stands, and policies decide the
//! rest, all or nothing over both.

use std::sync::Arc;
use std::sync::Mutex;

use tokio::time::{Duration, Instant, sleep_until};

use super::super::{Places, Split, SplitContext};
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

/// How a place is unavailable.
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

/// A place for each bucket; some may be in trouble.
#[derive(Clone)]
struct Frail {
    buckets: Arc<MemoryStore>,
    troubles: Arc<Mutex<Vec<(u32, Trouble)>>>,
}

fn failure() -> StoreError {
    StoreError::Timeout {
        address: "a place".to_owned(),
    }
}

impl Frail {
    fn trouble(&self, charge: &Charge) -> Option<Trouble> {
        let troubles = self.troubles.lock().unwrap();
        let of_place = troubles
            .iter()
            .find(|(place, _)| *place == self.place(charge));
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
            Some(Trouble::Known) => unreachable!("it is not to be asked"),
            Some(Trouble::Refuses) => Err(failure()),
            Some(Trouble::Hangs) => {
                sleep_until(Instant::from_std(deadline)).await;
                Err(failure())
            }
        }
    }
}

impl Places for Frail {
    fn place(&self, charge: &Charge) -> u32 {
        charge.key.as_str().parse().unwrap()
    }

    fn turns_away(&self, charge: &Charge) -> Option<StoreError> {
        (self.trouble(charge) == Some(Trouble::Known)).then(failure)
    }
}

/// A server whose buckets are in places that may be in trouble.
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

    /// The same, with its second place in trouble.
    fn troubled(mode: OnStoreFailure, trouble: Trouble) -> Self {
        let server = Self::new(mode);
        server.is(&[(1, trouble)]);
        server
    }

    fn is(&self, troubles: &[(u32, Trouble)]) {
        *self.frail.troubles.lock().unwrap() = troubles.to_vec();
    }

    async fn ask(&self, charges: &[Charge]) -> Result<Decision, StoreError> {
        let deadline = Instant::now() + Duration::from_millis(20);
        self.store.decide(charges.into(), deadline.into_std()).await
    }

    /// Admitted or not, what decided, and what is left of each.
    async fn told(&self, charges: &[Charge]) -> Option<(bool, Cause, Vec<u32>)> {
        let decision = self.ask(charges).await.ok()?;
        let left = decision.outcomes.iter().map(|outcome| outcome.remaining);
        Some((decision.admitted, decision.cause, left.collect()))
    }

    /// What is left of a bucket in its place, whoever is in trouble.
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

/// Hits of a bucket that holds ten, of which nothing comes back here.
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

/// Each policy, for each kind of trouble.
fn cases() -> impl Iterator<Item = (OnStoreFailure, Trouble)> {
    let with = |trouble| OnStoreFailure::ALL.map(|mode| (mode, trouble));
    TROUBLES.into_iter().flat_map(with)
}

#[tokio::test(start_paused = true)]
async fn a_denial_that_is_known_stands_whatever_the_policy() {
    for (mode, trouble) in cases() {
        let server = Server::troubled(mode, trouble);
        assert!(server.ask(&[limited(0, 10)]).await.unwrap().admitted);
        for _ in 0..3 {
            let (admitted, cause, left) =
                server.told(&[limited(0, 1), limited(1, 1)]).await.unwrap();
            assert_eq!((admitted, left[0]), (false, 0), "{mode:?} {trouble:?}");
            assert_eq!(cause, Cause::Buckets, "{mode:?} {trouble:?}");
        }
        assert_eq!(server.standby.decided(), 0, "{mode:?} {trouble:?}");
        // What was taken locally, if anything, was given back.
        let (_, _, left) = server.told(&[limited(0, 1), limited(1, 1)]).await.unwrap();
        let expected = match mode {
            Local => 5,
            Deny => 0,
            Allow | Error => 5,
        };
        assert_eq!(left[1], expected, "{mode:?} {trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn policies_decide_what_the_other_places_admit() {
    for (mode, trouble) in cases() {
        let server = Server::troubled(mode, trouble);
        let both = [limited(0, 1), limited(1, 1)];
        let mut told = Vec::new();
        for _ in 0..6 {
            told.push(server.told(&both).await);
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
        assert_eq!(told, expected, "{mode:?} {trouble:?}");
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
async fn parts_count_as_they_always_do() {
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
            "and is no error",
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
            "where one place denies, it depends on the other",
            vec![quota(0, limited(0, 11)), quota(1, by(Allow, limited(1, 1)))],
            Some(true),
            Cause::Policy(Allow),
        ),
        (
            "and is an error if that is to be one",
            vec![quota(0, limited(0, 11)), quota(1, by(Error, limited(1, 1)))],
            None,
            Cause::Buckets,
        ),
        (
            "of several that are away, the strictest says what decided",
            vec![
                limited(0, 1),
                by(Allow, limited(1, 1)),
                by(Deny, limited(2, 1)),
            ],
            Some(false),
            Cause::Policy(Deny),
        ),
        (
            "more than the bucket can ever hold is denied by what is known of it",
            vec![limited(0, 11), by(Error, limited(1, 1))],
            Some(false),
            Cause::Buckets,
        ),
        (
            "what is reported counts where its place is",
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
            let decision = server.ask(&charges).await.ok();
            let told = decision.as_ref().map(|decision| decision.admitted);
            assert_eq!(told, admitted, "{row}, {trouble:?}");
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
async fn candidates_whose_place_is_away_are_left_out() {
    for trouble in TROUBLES {
        let server = Server::troubled(Local, trouble);
        let candidate = |bucket| in_part(Part::Candidate { from: 0, to: 1 }, limited(bucket, 1));
        let decision = server
            .ask(&[limited(0, 1), candidate(2), candidate(1)])
            .await
            .unwrap();
        assert_eq!((decision.admitted, decision.cause), (true, Cause::Buckets));
        assert_eq!(decision.outcomes.len(), 2, "{trouble:?}");
        assert_eq!(server.left(2).await, 9, "{trouble:?}");
        assert_eq!(server.standby.buckets(), 0, "{trouble:?}");
    }
}

/// What a policy says is no news of the bucket.
#[tokio::test(start_paused = true)]
async fn what_a_policy_said_is_not_remembered() {
    for trouble in TROUBLES {
        let server = Server::troubled(Deny, trouble);
        let both = [limited(0, 1), limited(1, 1)];
        let denied = server.ask(&both).await.unwrap();
        assert!(!denied.admitted);
        assert_eq!(denied.outcomes[1].basis, Basis::Policy);
        assert_eq!(
            server.denials.buckets(),
            1,
            "that of the other place, {trouble:?}"
        );
        server.is(&[]);
        let (admitted, cause, left) = server.told(&both).await.unwrap();
        assert_eq!((admitted, cause, left), (true, Cause::Buckets, vec![9, 9]));
    }
}

/// A bucket that denied a moment ago still does when its place is gone.
#[tokio::test(start_paused = true)]
async fn a_remembered_denial_outlives_its_place() {
    for trouble in TROUBLES {
        let server = Server::new(Allow);
        assert!(server.ask(&[limited(1, 10)]).await.unwrap().admitted);
        assert!(!server.ask(&[limited(1, 1)]).await.unwrap().admitted);
        server.is(&[(1, trouble)]);
        let (admitted, cause, left) = server.told(&[limited(0, 1), limited(1, 1)]).await.unwrap();
        assert_eq!(
            (admitted, cause, left),
            (false, Cause::Buckets, vec![10, 0])
        );
    }
}

/// An answer comes by the deadline, and a place that hangs costs the others nothing once that is known.
#[tokio::test(start_paused = true)]
async fn a_place_that_hangs_takes_no_longer_than_the_deadline() {
    let server = Server::troubled(Local, Trouble::Hangs);
    for _ in 0..3 {
        let begin = Instant::now();
        let decision = server.ask(&[limited(0, 1), limited(1, 1)]).await.unwrap();
        assert!(decision.admitted);
        assert!(
            begin.elapsed() <= Duration::from_millis(21),
            "{:?}",
            begin.elapsed()
        );
    }
    assert_eq!(server.left(0).await, 7, "its own place counts on");
}
