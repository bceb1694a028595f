//! Decides requests with one configuration: the server's limiter on a memory store whose clock shows the recorded
//! times.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;

use super::recorded::Recorded;
use crate::clock::Clock;
use crate::limiter::{
    Code, InForce, LimitError, Limiter, LimiterSettings, Pattern, Verdict, charged_keys,
};
use crate::rules::RuleSet;
use crate::store::memory::{BucketBasis, MemoryStore};
use crate::store::{Charge, Decision, Payment, Store, StoreError};
use crate::time::Micros;

/// The limiter of one configuration, on a clock that shows the recorded times.
pub(super) struct Rehearsal {
    limiter: Limiter<Arc<Buckets>>,
    settings: LimiterSettings,
    buckets: Arc<Buckets>,
    rules: Arc<InForce>,
    now: Arc<AtomicU64>,
}

/// The buckets. A bucket whose requests are not all recorded is set to full or empty, so that it answers as recorded.
struct Buckets {
    memory: MemoryStore,
    bases: Mutex<Vec<(u128, BucketBasis)>>,
}

impl Store for Buckets {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        _deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        let bases = self.bases.lock().unwrap_or_else(PoisonError::into_inner);
        let basis = |charge: &Charge| {
            let known = bases.iter().find(|(hash, _)| *hash == charge.key.hash());
            known.map_or(BucketBasis::Stored, |&(_, basis)| basis)
        };
        // The answer of a bucket that is only sampled is the recorded one, whatever the hits are.
        let charges: Vec<Charge> = charges
            .iter()
            .map(|charge| match basis(charge) {
                BucketBasis::Stored => charge.clone(),
                BucketBasis::Full => forced_charge(charge, -1),
                BucketBasis::Empty => forced_charge(charge, 1),
            })
            .collect();
        Ok(self.memory.decide_on(&charges, basis))
    }
}

/// Returns a charge with a certain result: a refund, which a full bucket allows, or a hit, which an empty one denies.
fn forced_charge(charge: &Charge, hits: i64) -> Charge {
    Charge {
        hits,
        payment: Payment::Prepaid,
        ..charge.clone()
    }
}

impl Rehearsal {
    /// Starts with full buckets.
    pub(super) fn new(rules: RuleSet, settings: LimiterSettings, max_buckets: usize) -> Self {
        let now = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&now);
        let clock: Clock = Arc::new(move || shown.load(Ordering::Relaxed));
        let buckets = Arc::new(Buckets {
            memory: MemoryStore::new(max_buckets, clock),
            bases: Mutex::default(),
        });
        let in_force = Arc::new(InForce::default());
        in_force.install(rules);
        Self {
            limiter: Limiter::new(
                Arc::clone(&buckets),
                Arc::clone(&in_force),
                settings.clone(),
            ),
            settings,
            buckets,
            rules: in_force,
            now,
        }
    }

    /// Decides a recorded request.
    ///
    /// # Errors
    /// If the limiter cannot decide it.
    pub(super) fn play(&self, recorded: &Recorded) -> Result<Verdict, LimitError> {
        self.now.store(recorded.time, Ordering::Relaxed);
        self.apply_recorded_state(recorded);
        let deciding = self.limiter.decide(&recorded.request, None);
        deciding.now_or_never().expect("memory waits for nothing")
    }

    /// Applies recorded state that this replay cannot derive: how rules were used, and buckets that are only sampled.
    fn apply_recorded_state(&self, recorded: &Recorded) {
        let mut bases = self
            .buckets
            .bases
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        bases.clear();
        let Some(snapshot) = self.rules.snapshot() else {
            return;
        };
        let request = &recorded.request;
        let marked = || recorded.marks.iter().zip(&request.descriptors);
        // If descriptors share a rule, the last one wins, so a refund pattern must come last.
        for is_last in [false, true] {
            for (mark, descriptor) in marked() {
                if (mark.pattern == Some(Pattern::Refunded)) == is_last {
                    snapshot.assume(&request.domain, descriptor, mark.pattern);
                }
            }
        }
        for (mark, descriptor) in marked() {
            if !mark.is_sampled {
                let basis = match mark.code {
                    Code::Ok => BucketBasis::Full,
                    Code::OverLimit => BucketBasis::Empty,
                };
                let keys =
                    charged_keys(&snapshot.rules, &self.settings, &request.domain, descriptor);
                bases.extend(keys.iter().map(|key| (key.hash(), basis)));
            }
        }
    }

    /// Number of buckets that were dropped because the store was full.
    pub(super) fn dropped(&self) -> u64 {
        self.buckets.memory.dropped()
    }

    /// The current time of the replay.
    pub(super) fn now(&self) -> Micros {
        self.now.load(Ordering::Relaxed)
    }

    /// The rules of this configuration.
    pub(super) fn rules(&self) -> Arc<crate::limiter::Snapshot> {
        self.rules.snapshot().expect("rules were installed")
    }
}

impl std::fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rehearsal")
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}
