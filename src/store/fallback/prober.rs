//! Looks after a store that nobody asks: finds out when it answers again, and tells people.
//!
//! One for each server, beside the threads that serve, with a way of its own to the store.

mod spell;

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
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
use crate::store::{Charge, Part, Payment, Store, StoreError};
use spell::{Spell, Subject};

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
pub struct Prober<S> {
    store: S,
    standby: Standby,
    breaker: Breaker,
    probe: Probe,
    subject: Subject,
    /// How many requests it did not decide.
    decided: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Takes something, so that the store has to write: one that can only be read, or where we may only read, is
    /// none.
    taking: Arc<[Charge]>,
    states: watch::Receiver<BreakerState>,
    /// The last time that it opened.
    spell: Option<Spell>,
    random: Xoshiro256PlusPlus,
}

impl<S: fmt::Debug> fmt::Debug for Prober<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prober")
            .field("store", &self.store)
            .field("probe", &self.probe)
            .finish_non_exhaustive()
    }
}

/// A charge on a bucket that is full again at once.
fn charge(key: BucketKey) -> Charge {
    Charge {
        key,
        terms: Terms::token_bucket(1_000_000, 1_000_000, 1_000_000, 0),
        hits: 1,
        payment: Payment::Prepaid,
        part: Part::Must,
        on_failure: None,
    }
}

impl Probe {
    /// A bucket that is probed, by its number from 1, as these keys call it: one that no request can name, as none is in
    /// the domain without a name.
    pub(crate) fn key(keys: &KeyFormat, number: u32) -> BucketKey {
        let tag = LimitTag {
            index: 0,
            is_window: false,
            override_period: None,
        };
        let number = number.to_string();
        let entries = [(&b"probe"[..], Segment::Value(number.as_bytes()))];
        keys.key(&keys.stem("", entries), tag)
    }
}

impl<S: Store> Prober<S> {
    /// Probes `store`, which nobody else may use, for all that `standby` stands by for.
    #[must_use]
    pub fn new(store: S, standby: Standby, probe: Probe) -> Self {
        let of_all = standby.clone();
        Self {
            taking: [charge(Probe::key(&probe.keys, 1))].into(),
            states: standby.breaker().watch(),
            breaker: standby.breaker().clone(),
            subject: Subject::Redis,
            decided: Box::new(move || of_all.decided()),
            spell: None,
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

    /// The same for a node of a store, with the breaker of that; `decided` tells how many requests for it it did not
    /// decide, and what `is_told` of why it fails is told elsewhere. It is probed as soon as a call of it fails: a
    /// node has few of them, and while it hangs each takes its time.
    #[must_use]
    pub fn of_node(
        self,
        breaker: Breaker,
        decided: impl Fn() -> u64 + Send + Sync + 'static,
        is_told: fn(&StoreError) -> bool,
    ) -> Self {
        Self {
            subject: Subject::Node { is_told },
            decided: Box::new(decided),
            ..self.watching(breaker)
        }
    }

    /// Probes the store, from now on. Ends only when it is dropped.
    pub async fn run(mut self) -> Infallible {
        if let Err(error) = self.ask().await {
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
        let is_node = matches!(self.subject, Subject::Node { .. });
        let forget = async {
            loop {
                sleep(FORGET_EVERY).await;
                if !is_node {
                    self.standby.0.buckets.forget_full();
                }
            }
        };
        let trouble = async {
            loop {
                self.breaker.trouble().await;
                if is_node && let Err(error) = self.ask().await {
                    self.breaker.failed(&error);
                }
            }
        };
        let watch = async {
            loop {
                sleep(WATCH_EVERY).await;
                if !self.probe.always {
                    continue;
                }
                match self.ask().await {
                    Ok(()) => self.breaker.succeeded(),
                    Err(error) => self.breaker.failed(&error),
                }
            }
        };
        let calm = async {
            if let Some(spell) = &self.spell {
                spell.calms_down(&self.address(), &self.decided).await;
            }
            pending().await
        };
        tokio::select! {
            // An error would say that the breaker is gone, but this has one of it.
            _ = opened => {}
            () = calm => {}
            () = forget => {}
            () = watch => {}
            () = trouble => {}
        }
    }

    /// Until the breaker is closed, which this does.
    async fn watch_open(&mut self) {
        let breaker = self.breaker.clone();
        let mut spell = Spell::opens(self.spell.take(), self.subject, (self.decided)());
        if let Some(error) = breaker.last_failure() {
            spell.tell_opening(&error, self.standby.0.settings.mode.name());
        }
        let (mut wait, longest) = spell.waits();
        loop {
            let wait_now = wait.mul_f64(self.random.random_range(0.5..1.0));
            sleep(wait_now).await;
            breaker.half_open();
            match self.ask().await {
                Ok(()) => break,
                Err(error) => {
                    spell.tell_cause(&error);
                    breaker.open(&error);
                }
            }
            wait = (wait * 2).min(longest);
        }
        breaker.close();
        spell.closes(&self.address(), (self.decided)());
        self.spell = Some(spell);
    }

    /// Where the store is, by what it last failed with.
    fn address(&self) -> String {
        let failure = self.breaker.last_failure();
        failure.map_or_else(String::new, |error| error.address().to_owned())
    }

    async fn ask(&self) -> Result<(), StoreError> {
        let deadline = Instant::now() + self.probe.timeout;
        let asked = self.store.decide(Arc::clone(&self.taking), deadline);
        asked.await.map(|_| ())
    }
}
