//! One configuration, rehearsed: the limiter of the server on a memory store, whose clock shows the times of the
//! recording.

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

/// A configuration that requests are played against.
pub(super) struct Rehearsal {
    limiter: Limiter<Arc<Buckets>>,
    settings: LimiterSettings,
    buckets: Arc<Buckets>,
    rules: Arc<InForce>,
    now: Arc<AtomicU64>,
}

/// The buckets. Some of a request may stand as they are said to, because not all that was asked of them is known.
struct Buckets {
    memory: MemoryStore,
    stands: Mutex<Vec<(u128, BucketBasis)>>,
}

impl Store for Buckets {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        _deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        let stands = self.stands.lock().unwrap_or_else(PoisonError::into_inner);
        let stand = |charge: &Charge| {
            let said = stands.iter().find(|(hash, _)| *hash == charge.key.hash());
            said.map_or(BucketBasis::Stored, |&(_, stand)| stand)
        };
        // Whatever was asked of a bucket that is not recorded whole, its answer is the recorded one.
        let charges: Vec<Charge> = charges
            .iter()
            .map(|charge| match stand(charge) {
                BucketBasis::Stored => charge.clone(),
                BucketBasis::Full => certain(charge, -1),
                BucketBasis::Empty => certain(charge, 1),
            })
            .collect();
        Ok(self.memory.decide_on(&charges, stand))
    }
}

/// A charge that a full bucket allows for certain (hits given back), or an empty one denies (a hit).
fn certain(charge: &Charge, hits: i64) -> Charge {
    Charge {
        hits,
        payment: Payment::Prepaid,
        ..charge.clone()
    }
}

impl Rehearsal {
    /// Nothing has been taken yet.
    pub(super) fn new(rules: RuleSet, settings: LimiterSettings, max_buckets: usize) -> Self {
        let now = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&now);
        let clock: Clock = Arc::new(move || shown.load(Ordering::Relaxed));
        let buckets = Arc::new(Buckets {
            memory: MemoryStore::new(max_buckets, clock),
            stands: Mutex::default(),
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

    /// What the request gets.
    ///
    /// # Errors
    /// When it cannot be decided, now or ever.
    pub(super) fn play(&self, recorded: &Recorded) -> Result<Verdict, LimitError> {
        self.now.store(recorded.time, Ordering::Relaxed);
        self.take_as_they_were(recorded);
        let deciding = self.limiter.decide(&recorded.request, None);
        deciding.now_or_never().expect("memory waits for nothing")
    }

    /// Has what is known from elsewhere be so: how rules were used, buckets that are not recorded whole.
    fn take_as_they_were(&self, recorded: &Recorded) {
        let mut stands = self
            .buckets
            .stands
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        stands.clear();
        let Some(snapshot) = self.rules.snapshot() else {
            return;
        };
        let request = &recorded.request;
        let marked = || recorded.marks.iter().zip(&request.descriptors);
        // Where descriptors share a rule, the one that says most is the last.
        for is_last in [false, true] {
            for (mark, descriptor) in marked() {
                if (mark.pattern == Some(Pattern::Refunded)) == is_last {
                    snapshot.assume(&request.domain, descriptor, mark.pattern);
                }
            }
        }
        for (mark, descriptor) in marked() {
            if !mark.is_sampled {
                let stand = match mark.code {
                    Code::Ok => BucketBasis::Full,
                    Code::OverLimit => BucketBasis::Empty,
                };
                let keys =
                    charged_keys(&snapshot.rules, &self.settings, &request.domain, descriptor);
                stands.extend(keys.iter().map(|key| (key.hash(), stand)));
            }
        }
    }

    /// Buckets that had to go for others, and would not have with more room.
    pub(super) fn dropped(&self) -> u64 {
        self.buckets.memory.dropped()
    }

    /// When it is.
    pub(super) fn now(&self) -> Micros {
        self.now.load(Ordering::Relaxed)
    }

    /// The rules.
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
