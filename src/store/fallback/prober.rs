//! Looks after a store that nobody asks: finds out when it answers again, and tells people.
//!
//! One for each server, beside the threads that serve, with a way of its own to the store.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::Standby;
use crate::bucket::Terms;
use crate::key::{BucketKey, KeyFormat, LimitTag, Segment};
use crate::store::breaker::{Breaker, BreakerState};
use crate::store::{Charge, OnStoreFailure, Part, Payment, Store, StoreError};

/// How long after the breaker opened the first probe goes out, and how long after one another the last ones
/// do: each time somewhat less, by chance, so that a fleet does not probe in step. A store is asked again within
/// a second of its return.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// How often a store that is asked by requests is probed as well, where somebody wants to know whether it answers.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// How often the buckets of this instance that are full again are forgotten while the store decides.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// How a store is probed.
#[derive(Debug, Clone)]
pub struct Probe {
    /// What buckets are called.
    pub keys: KeyFormat,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Also while requests ask the store, or while none do.
    pub always: bool,
    /// What chance comes from: one for each server, so that they do not probe in step.
    pub seed: u64,
}

/// Probes a store.
#[derive(Debug)]
pub struct Prober<S> {
    store: S,
    standby: Standby,
    breaker: Breaker,
    probe: Probe,
    /// Takes nothing, so that a store that answers has no more to hold for it.
    question: Arc<[Charge]>,
    /// Takes something, so that the store has to write.
    taking: Arc<[Charge]>,
    states: watch::Receiver<BreakerState>,
    random: Xoshiro256PlusPlus,
}

/// A charge on a bucket that is full again at once.
fn charge(key: BucketKey, hits: i64) -> Charge {
    Charge {
        key,
        terms: Terms::token_bucket(1_000_000, 1_000_000, 1_000_000, 0),
        hits,
        payment: Payment::Prepaid,
        part: Part::Must,
        on_failure: None,
    }
}

impl<S: Store> Prober<S> {
    /// Probes `store`, which nobody else may use, for all that `standby` stands by for.
    #[must_use]
    pub fn new(store: S, standby: Standby, probe: Probe) -> Self {
        let key = Self::key(&probe.keys);
        Self {
            question: [charge(key.clone(), 0)].into(),
            taking: [charge(key, 1)].into(),
            states: standby.breaker().watch(),
            breaker: standby.breaker().clone(),
            random: Xoshiro256PlusPlus::seed_from_u64(probe.seed),
            store,
            standby,
            probe,
        }
    }

    /// The same for a store with another breaker than the first.
    #[must_use]
    pub fn watching(self, breaker: Breaker) -> Self {
        Self {
            states: breaker.watch(),
            breaker,
            ..self
        }
    }

    /// The bucket that is probed, as these keys call it: one that no request can name, as none is in the domain
    /// without a name.
    pub(crate) fn key(keys: &KeyFormat) -> BucketKey {
        let tag = LimitTag {
            index: 0,
            is_window: false,
            override_period: None,
        };
        keys.key(&keys.stem("", [("probe", Segment::Value("1"))]), tag)
    }

    /// Probes the store, from now on. Ends only when it is dropped.
    pub async fn run(mut self) -> Infallible {
        if let Err(error) = self.ask(&self.question).await {
            self.breaker.open(&error);
        }
        loop {
            self.watch_closed().await;
            self.watch_open().await;
        }
    }

    /// Until the breaker opens.
    async fn watch_closed(&mut self) {
        let mut states = self.states.clone();
        let opened = states.wait_for(|state| *state != BreakerState::Closed);
        let forget = async {
            loop {
                sleep(FORGET_EVERY).await;
                self.standby.0.buckets.forget_full();
            }
        };
        let watch = async {
            loop {
                sleep(WATCH_EVERY).await;
                if !self.probe.always {
                    continue;
                }
                match self.ask(&self.question).await {
                    Ok(()) => self.breaker.succeeded(),
                    Err(error) => self.breaker.failed(&error),
                }
            }
        };
        tokio::select! {
            // An error would say that the breaker is gone, but this has one of it.
            _ = opened => {}
            () = forget => {}
            () = watch => {}
        }
    }

    /// Until the breaker is closed, which this does.
    async fn watch_open(&mut self) {
        let breaker = self.breaker.clone();
        let (since, before) = (Instant::now(), self.decided());
        if let Some(error) = breaker.last_failure() {
            let policy = self.standby.0.settings.mode.name();
            tracing::warn!(%error, policy, "Redis does not decide; requests are decided by policy until it does");
        }
        let mut wait = FIRST_WAIT;
        loop {
            let wait_now = wait.mul_f64(self.random.random_range(0.5..1.0));
            sleep(wait_now).await;
            breaker.half_open();
            match self.ask(&self.taking).await {
                Ok(()) => break,
                Err(error) => breaker.open(&error),
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        breaker.close();
        let (after, requests) = (since.elapsed(), self.decided() - before);
        tracing::warn!(
            ?after,
            requests,
            "Redis decides again; requests so far were decided by policy"
        );
    }

    async fn ask(&self, charges: &Arc<[Charge]>) -> Result<(), StoreError> {
        let deadline = Instant::now() + self.probe.timeout;
        let asked = self.store.decide(Arc::clone(charges), deadline);
        asked.await.map(|_| ())
    }

    /// How many requests the store did not decide.
    fn decided(&self) -> u64 {
        let all = OnStoreFailure::ALL.into_iter();
        all.map(|done| self.standby.requests(done)).sum()
    }
}
