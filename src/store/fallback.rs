//! Decides when the store in front of the buckets does not: within the caller's deadline, as the operator chose
//! for the server and for single rules. Wraps any store.
//!
//! What is decided here stays here. Nothing is replayed when the store is back: its buckets are the truth
//! again with the next request.

mod prober;
mod shortfall;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::breaker::Breaker;
use super::memory::{BucketBasis, MemoryStore};
use super::{
    Basis, Cause, Charge, Decision, OnStoreFailure, Part, Store, StoreError, full_warning,
    without_candidates,
};
use crate::bucket::Share;
use crate::clock::Clock;
use crate::telemetry::Throttle;
use crate::time::Micros;

pub use prober::{ProbeSettings, Prober};

/// The shortest time between two log lines about requests that the store failed.
const WARN_EVERY: Micros = 10_000_000;

/// The longest that somebody is told to wait who is denied because the store does not answer. It is
/// probed more often than that.
const RETRY_IN: Micros = 1_000_000;

/// What is done while the store does not decide.
#[derive(Debug, Clone, Copy)]
pub struct FallbackSettings {
    /// With charges that say nothing else.
    pub mode: OnStoreFailure,
    /// What buckets of this instance have of each limit.
    pub share: Share,
    /// The most buckets of this instance.
    pub max_buckets: usize,
}

/// What stands by for the store, for all threads of a server: its breaker, the buckets of this instance, and what
/// was decided on them. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Standby(Arc<Inner>);

struct Inner {
    settings: FallbackSettings,
    /// One for each server that the store asks, at least one.
    breakers: Vec<Breaker>,
    buckets: MemoryStore,
    clock: Clock,
    warning: Throttle,
    /// Requests that the next warning is about.
    untold: AtomicU64,
    /// Requests by what was done with them, [`OnStoreFailure::Error`] among them.
    requests: [AtomicU64; OnStoreFailure::ALL.len()],
    /// Requests that the store decided, for each [`Fallback`].
    by_store: Mutex<Vec<Arc<AtomicU64>>>,
    /// Decisions fall back although no breaker is open.
    is_short: AtomicBool,
    /// Why the last of them did.
    last_miss: Mutex<String>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standby")
            .field("settings", &self.settings)
            .field("breakers", &self.breakers)
            .finish_non_exhaustive()
    }
}

impl Standby {
    /// One with a closed breaker and no buckets yet.
    #[must_use]
    pub fn new(settings: FallbackSettings, clock: Clock) -> Self {
        Self::over(settings, clock, vec![Breaker::default()])
    }

    /// One for a store over several servers, each with a breaker; at least one.
    #[must_use]
    pub fn over(settings: FallbackSettings, clock: Clock, breakers: Vec<Breaker>) -> Self {
        Self(Arc::new(Inner {
            settings,
            breakers,
            buckets: MemoryStore::new(settings.max_buckets, Arc::clone(&clock))
                .on_dropped(full_warning(settings.max_buckets, Arc::clone(&clock))),
            clock,
            warning: Throttle::every(WARN_EVERY),
            untold: AtomicU64::new(0),
            requests: Default::default(),
            by_store: Mutex::default(),
            is_short: AtomicBool::new(false),
            last_miss: Mutex::default(),
        }))
    }

    /// Whether the store is asked. Whoever calls it is to tell this. Of several, the first.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.0.breakers[0]
    }

    /// All of them.
    #[must_use]
    pub fn breakers(&self) -> &[Breaker] {
        &self.0.breakers
    }

    /// Why the store need not be asked, whatever for.
    fn is_shut(&self) -> Option<StoreError> {
        let are_open = self.0.breakers.iter().all(Breaker::is_open);
        are_open.then(|| self.breaker().last_failure())?
    }

    /// How many requests the store failed for which this was done.
    #[must_use]
    pub fn requests(&self, done: OnStoreFailure) -> u64 {
        self.0.requests[done as usize].load(Ordering::Relaxed)
    }

    /// How many requests the store did not decide.
    #[must_use]
    pub fn decided(&self) -> u64 {
        let all = OnStoreFailure::ALL.into_iter();
        all.map(|done| self.requests(done)).sum()
    }

    /// How many buckets of this instance there are.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.0.buckets.buckets()
    }

    fn by_store(&self) -> MutexGuard<'_, Vec<Arc<AtomicU64>>> {
        { self.0.by_store.lock() }.unwrap_or_else(PoisonError::into_inner)
    }

    fn last_miss(&self) -> String {
        { self.0.last_miss.lock() }
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What was chosen for a charge.
    fn policy(&self, charge: &Charge) -> OnStoreFailure {
        charge.on_failure.unwrap_or(self.0.settings.mode)
    }

    /// Decides in the place of a store that answered with this error, or was not asked because of it.
    ///
    /// One charge that could deny the request and says `error` is enough for the error. Otherwise the request is
    /// decided as always, all or nothing: on local buckets where charges say so, as if the bucket were full or empty
    /// where they are to be admitted or denied. Candidates wait for better times: what they would do depends on
    /// all that came before.
    fn decide(&self, charges: &[Charge], error: StoreError) -> Result<Decision, StoreError> {
        let charges = without_candidates(charges);
        if charges.is_empty() {
            return Ok(Decision {
                admitted: true,
                outcomes: Vec::new(),
                cause: Cause::Buckets,
            });
        }
        let done = self.decided_for(charges);
        if done == OnStoreFailure::Error {
            return Err(error);
        }
        Ok(Decision {
            cause: Cause::Policy(done),
            ..self.stand_in(charges)
        })
    }

    /// Whether a charge that the store cannot decide leaves its request without a decision, where that depends on it.
    pub(super) fn is_error(&self, charge: &Charge) -> bool {
        charge.part != Part::Shadow && self.policy(charge) == OnStoreFailure::Error
    }

    /// Whether a local bucket decides a charge that the store cannot decide.
    pub(super) fn is_local(&self, charge: &Charge) -> bool {
        self.policy(charge) == OnStoreFailure::Local
    }

    /// Counts a request whose decision depends on these charges, which were decided by their policies. Returns the
    /// policy that stands for all of them.
    pub(super) fn decided_for(&self, charges: &[Charge]) -> OnStoreFailure {
        let done = self.strictest(charges);
        self.0.requests[done as usize].fetch_add(1, Ordering::Relaxed);
        done
    }

    /// Decides charges by their policies, all or nothing, and takes what local buckets have to give. Charges that
    /// say `error` are admitted as by a full bucket. Counts no request.
    pub(super) fn stand_in(&self, charges: &[Charge]) -> Decision {
        let shared: Vec<Charge>;
        let charges = match self.0.settings.share {
            Share::WHOLE => charges,
            share => {
                shared = charges
                    .iter()
                    .map(|charge| at_share(charge, share))
                    .collect();
                &shared
            }
        };
        let basis = |charge: &Charge| match self.policy(charge) {
            OnStoreFailure::Local => BucketBasis::Stored,
            // The charge is one of a limit that cannot deny.
            OnStoreFailure::Allow | OnStoreFailure::Error => BucketBasis::Full,
            OnStoreFailure::Deny => BucketBasis::Empty,
        };
        let mut decision = self.0.buckets.decide_on(charges, basis);
        for (charge, outcome) in charges.iter().zip(&mut decision.outcomes) {
            outcome.basis = Basis::Policy;
            if self.policy(charge) == OnStoreFailure::Deny {
                outcome.retry_in = outcome.retry_in.map(|time| time.min(RETRY_IN));
            }
        }
        decision
    }

    /// What stands for all charges of a request.
    fn strictest(&self, charges: &[Charge]) -> OnStoreFailure {
        use OnStoreFailure::{Allow, Deny, Error, Local};
        let policies = || {
            charges.iter().map(|charge| match self.policy(charge) {
                Error if charge.part == Part::Shadow => Allow,
                policy => policy,
            })
        };
        [Error, Deny, Local]
            .into_iter()
            .find(|&policy| policies().any(|other| other == policy))
            .unwrap_or(Allow)
    }

    /// Logs, now and then, that the store failed a request, unless it is known that it fails.
    pub(super) fn warn(&self, error: &StoreError) {
        // Whether a breaker opens is logged by its prober.
        if self.is_degraded() {
            return;
        }
        self.0.untold.fetch_add(1, Ordering::Relaxed);
        if self.0.warning.passes((self.0.clock)()) {
            let requests = self.0.untold.swap(0, Ordering::Relaxed);
            let mut last = { self.0.last_miss.lock() }.unwrap_or_else(PoisonError::into_inner);
            *last = error.to_string();
            tracing::warn!(%error, requests, "redis failed requests, applying failure policy");
        }
    }
}

fn at_share(charge: &Charge, share: Share) -> Charge {
    Charge {
        terms: charge.terms.shared(share),
        ..charge.clone()
    }
}

/// A store that always decides, unless the policy is not to.
#[derive(Debug)]
pub struct Fallback<S> {
    store: S,
    standby: Standby,
    /// Requests that the store decided. Threads do not share it, so that counting costs them next to nothing.
    decided: Arc<AtomicU64>,
}

impl<S: Store> Fallback<S> {
    /// Has `standby` decide when `store` does not.
    pub fn new(store: S, standby: Standby) -> Self {
        let decided = Arc::default();
        standby.by_store().push(Arc::clone(&decided));
        Self {
            store,
            standby,
            decided,
        }
    }
}

impl<S: Store> Store for Fallback<S> {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: Instant,
    ) -> Result<Decision, StoreError> {
        if let Some(error) = self.standby.is_shut() {
            return self.standby.decide(&charges, error);
        }
        match self.store.decide(Arc::clone(&charges), deadline).await {
            Ok(decision) => {
                if !matches!(decision.cause, Cause::Policy(_)) {
                    self.decided.fetch_add(1, Ordering::Relaxed);
                }
                Ok(decision)
            }
            Err(error) => {
                self.standby.warn(&error);
                self.standby.decide(&charges, error)
            }
        }
    }
}
