//! Decides requests by the failure policy while the store is unavailable, within the caller's deadline. The policy is
//! configured for the server and can be overridden by rules.
//!
//! Nothing that was decided locally is replayed when the store is available again.

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

/// Minimum time between two log lines about failed requests.
const WARN_EVERY: Micros = 10_000_000;

/// Maximum retry-after of a request that is denied by the policy `deny`. The store is probed more often than that.
const RETRY_IN: Micros = 1_000_000;

/// Settings of the failure policy.
#[derive(Debug, Clone, Copy)]
pub struct FallbackSettings {
    /// Policy of limits without one of their own.
    pub mode: OnStoreFailure,
    /// Share of each limit that the local buckets of this instance have.
    pub share: Share,
    /// Maximum number of local buckets.
    pub max_buckets: usize,
}

/// The failure policy with its local buckets, the breakers of the store, and counters. Shared by all threads of a server;
/// clones share the state.
#[derive(Debug, Clone)]
pub struct Standby(Arc<Inner>);

struct Inner {
    settings: FallbackSettings,
    /// One breaker per Redis, at least one.
    breakers: Vec<Breaker>,
    buckets: MemoryStore,
    clock: Clock,
    warning: Throttle,
    /// Number of failed requests since the last warning.
    unlogged: AtomicU64,
    /// Number of requests that each policy decided, [`OnStoreFailure::Error`] included.
    requests: [AtomicU64; OnStoreFailure::ALL.len()],
    /// Number of requests that the store decided, by [`Fallback`].
    by_store: Mutex<Vec<Arc<AtomicU64>>>,
    /// Whether policies decide too many requests although no breaker is open.
    is_short: AtomicBool,
    /// The error of the latest logged request.
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
    /// Creates a standby with one closed breaker.
    #[must_use]
    pub fn new(settings: FallbackSettings, clock: Clock) -> Self {
        Self::over(settings, clock, vec![Breaker::default()])
    }

    /// Creates a standby for a store over several servers with a breaker each. There must be at least one.
    #[must_use]
    pub fn over(settings: FallbackSettings, clock: Clock, breakers: Vec<Breaker>) -> Self {
        Self(Arc::new(Inner {
            settings,
            breakers,
            buckets: MemoryStore::new(settings.max_buckets, Arc::clone(&clock))
                .on_dropped(full_warning(settings.max_buckets, Arc::clone(&clock))),
            clock,
            warning: Throttle::every(WARN_EVERY),
            unlogged: AtomicU64::new(0),
            requests: Default::default(),
            by_store: Mutex::default(),
            is_short: AtomicBool::new(false),
            last_miss: Mutex::default(),
        }))
    }

    /// Returns the first breaker. Calls to the store must be reported to it.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.0.breakers[0]
    }

    /// Returns all breakers.
    #[must_use]
    pub fn breakers(&self) -> &[Breaker] {
        &self.0.breakers
    }

    /// Returns the latest error if all breakers are open, so that no request needs the store.
    fn unavailable(&self) -> Option<StoreError> {
        let are_open = self.0.breakers.iter().all(Breaker::is_open);
        are_open.then(|| self.breaker().last_failure())?
    }

    /// Returns the number of requests that a policy decided.
    #[must_use]
    pub fn requests(&self, policy: OnStoreFailure) -> u64 {
        self.0.requests[policy as usize].load(Ordering::Relaxed)
    }

    /// Returns the number of requests that policies decided.
    #[must_use]
    pub fn decided(&self) -> u64 {
        let all = OnStoreFailure::ALL.into_iter();
        all.map(|policy| self.requests(policy)).sum()
    }

    /// Returns the number of local buckets.
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

    /// Returns the policy of a charge.
    fn policy(&self, charge: &Charge) -> OnStoreFailure {
        charge.on_failure.unwrap_or(self.0.settings.mode)
    }

    /// Decides a request that the store failed with `error`, or would fail.
    ///
    /// Returns the error if a charge that can deny the request has the policy `error`. Otherwise the request is decided all
    /// or nothing, with local buckets for `local`, full ones for `allow` and empty ones for `deny`. Candidates are left out,
    /// because their outcomes depend on all earlier requests.
    fn decide(&self, charges: &[Charge], error: StoreError) -> Result<Decision, StoreError> {
        let charges = without_candidates(charges);
        if charges.is_empty() {
            return Ok(Decision {
                admitted: true,
                outcomes: Vec::new(),
                cause: Cause::Buckets,
            });
        }
        let policy = self.decided_for(charges);
        if policy == OnStoreFailure::Error {
            return Err(error);
        }
        Ok(Decision {
            cause: Cause::Policy(policy),
            ..self.stand_in(charges)
        })
    }

    /// Returns whether the policy of a charge fails the request if it depends on the charge.
    pub(super) fn is_error(&self, charge: &Charge) -> bool {
        charge.part != Part::Shadow && self.policy(charge) == OnStoreFailure::Error
    }

    /// Returns whether the policy decides a charge with a local bucket.
    pub(super) fn is_local(&self, charge: &Charge) -> bool {
        self.policy(charge) == OnStoreFailure::Local
    }

    /// Counts a request that the policies of `charges` decided. Returns the strictest of them.
    pub(super) fn decided_for(&self, charges: &[Charge]) -> OnStoreFailure {
        let policy = self.strictest(charges);
        self.0.requests[policy as usize].fetch_add(1, Ordering::Relaxed);
        policy
    }

    /// Decides charges by their policies, all or nothing, and takes their hits from local buckets. Charges with the policy
    /// `error` are admitted as by a full bucket. Does not count the request.
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
            // With the policy `error`, only charges that cannot deny get here.
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

    /// Returns the strictest policy of the charges of a request.
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

    /// Logs at intervals that the store failed requests, unless an outage has been logged.
    pub(super) fn warn(&self, error: &StoreError) {
        // The prober logs that a breaker opened.
        if self.is_degraded() {
            return;
        }
        self.0.unlogged.fetch_add(1, Ordering::Relaxed);
        if self.0.warning.passes((self.0.clock)()) {
            let requests = self.0.unlogged.swap(0, Ordering::Relaxed);
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

/// A store that decides by the failure policy while another store is unavailable.
#[derive(Debug)]
pub struct Fallback<S> {
    store: S,
    standby: Standby,
    /// Number of requests that the store decided. Threads do not share it, so that counting is cheap.
    decided: Arc<AtomicU64>,
}

impl<S: Store> Fallback<S> {
    /// Creates a store that uses `standby` when `store` fails.
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
        if let Some(error) = self.standby.unavailable() {
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
