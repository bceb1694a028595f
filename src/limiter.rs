//! The use case: match every descriptor of a request, ask the store once, and say what the
//! request gets.
//!
//! Knows no wire format and no Redis. What a verdict is made of follows envoyproxy/ratelimit, except
//! where a token bucket or "all or nothing" must answer otherwise.

mod charges;
mod explain;
pub mod inspect;
mod names;
mod plan;
mod record;
mod request;
mod tally;
pub mod top;
mod usage;
mod verdict;

use std::collections::HashMap;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use siphasher::sip::SipHasher13;
use thiserror::Error;

use crate::key::KeyFormat;
use crate::rules::{Algorithm, Domain, Hits, Limit, Limits, Match, RuleSet};
use crate::store::{Cause, Charge, Decision, Store, StoreError};
use crate::telemetry::Throttle;
use crate::telemetry::metrics::{Metrics, Recorder, Series};
use crate::time::Micros;

pub use explain::{Explanation, explain};
pub use ratekeeper_core::descriptor::Typed;
pub use record::{Record, Sample};
pub use request::{BadRequest, Bounds, Descriptor, Entry, Override, Request};
pub use usage::{CallCounts, Pattern};
pub use verdict::{Code, ShownLimit, Status, Verdict};

#[cfg(feature = "tools")]
pub(crate) use plan::charged_keys;
pub use plan::{bucket_keys, candidate_keys};

use plan::Plan;
use tally::{RuleSeries, Tally};
use top::{Decided, Noter};
use usage::Usage;

/// How the limiter decides, apart from the rules.
#[derive(Debug, Clone)]
pub struct LimiterSettings {
    /// What buckets are called.
    pub keys: KeyFormat,
    /// How large a request may be.
    pub bounds: Bounds,
    /// The algorithm of limits that requests bring themselves.
    pub default_algorithm: Algorithm,
    /// When the hits of such limits are taken.
    pub default_hits: Hits,
    /// Every request is told that it passes, whatever its descriptors get.
    pub shadow_mode: bool,
    /// Every limit counts as if its rule were in quota mode.
    pub quota_mode: bool,
}

/// Decides requests by the rules in force, on the buckets of one store.
#[derive(Debug)]
pub struct Limiter<S> {
    store: S,
    rules: Arc<InForce>,
    keys: KeyFormat,
    settings: LimiterSettings,
    /// How long the store may take for a decision.
    timeout: Option<Duration>,
    /// When this limiter was made: the deadline where none is needed.
    made: Instant,
    recorder: Recorder,
    noter: Noter,
    record: Option<Record>,
}

/// The version of the lines of a [`Record`].
pub const RECORD_VERSION: u32 = 1;

/// Why a request got no verdict.
#[derive(Debug, Error)]
pub enum LimitError {
    /// The request cannot be decided, now or ever.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// No configuration has been loaded yet.
    #[error("no rate limit configuration loaded")]
    NotLoaded,
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The rules in force, for all limiters of a server.
#[derive(Debug, Default)]
pub struct InForce(ArcSwapOption<Snapshot>);

impl InForce {
    /// Puts rules in force, for all requests that come in from now on. Until then there are none, and
    /// nothing is decided.
    pub fn install(&self, rules: RuleSet) {
        let before = self.0.load();
        self.0
            .store(Some(Arc::new(Snapshot::new(rules, before.as_deref()))));
    }

    /// The rules in force.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.0.load_full()
    }
}

impl<S: Store> Limiter<S> {
    /// A limiter by these rules, whose decisions nobody counts.
    #[must_use]
    pub fn new(store: S, rules: Arc<InForce>, settings: LimiterSettings) -> Self {
        Self {
            store,
            rules,
            keys: settings.keys.clone(),
            settings,
            timeout: None,
            made: Instant::now(),
            recorder: Recorder::default(),
            noter: Noter::default(),
            record: None,
        }
    }

    /// The same, where the store may take so long for a decision. By default it is one that waits for
    /// nothing, and requests do not even look at the clock.
    #[must_use]
    pub fn with_timeout(self, timeout: Option<Duration>) -> Self {
        Self { timeout, ..self }
    }

    /// Has its decisions counted.
    #[must_use]
    pub fn counted_by(self, recorder: Recorder) -> Self {
        Self { recorder, ..self }
    }

    /// Has its decisions noted by bucket.
    #[must_use]
    pub fn noted_by(self, noter: Noter) -> Self {
        Self { noter, ..self }
    }

    /// Has its decisions recorded, if that is wanted.
    #[must_use]
    pub fn recorded_by(self, record: Option<Record>) -> Self {
        Self { record, ..self }
    }

    /// Decides a request and takes what it takes. The caller waits so long at most, if it says so.
    ///
    /// # Errors
    /// When the request is malformed, there are no rules yet, or the store cannot be asked.
    pub async fn decide(
        &self,
        request: &Request,
        patience: Option<Duration>,
    ) -> Result<Verdict, LimitError> {
        request.check(&self.settings.bounds)?;
        let snapshot = self.rules.snapshot().ok_or(LimitError::NotLoaded)?;
        let mut plan = Plan::new(&snapshot, request, &self.keys, &self.settings);
        let charges: Arc<[Charge]> = plan.take_charges().into();
        let is_free = plan.is_free();
        let decision = if charges.is_empty() {
            Decision {
                admitted: true,
                outcomes: Vec::new(),
                cause: Cause::Buckets,
            }
        } else {
            let deadline = self.deadline(patience);
            self.store.decide(Arc::clone(&charges), deadline).await?
        };
        let tally = Tally {
            recorder: &self.recorder,
            series: &snapshot.series,
            request,
            decision: &decision,
            is_shadow: self.settings.shadow_mode,
        };
        let (code, statuses) = plan.answer(&tally);
        let noted = Decided {
            charges: &charges,
            decision: &decision,
            is_shadow: self.settings.shadow_mode,
        };
        self.noter
            .note(&noted, request, |place| plan.rule_of(place));
        let now = decision.outcomes.first().map(|outcome| outcome.decided);
        plan.uses
            .count(code == Code::Ok, &snapshot.usage, |slot, counts| {
                snapshot.log_change(slot, counts, now.unwrap_or_default());
            });
        drop(plan);
        let verdict = Verdict {
            code,
            statuses,
            cause: decision.cause,
            is_free,
            snapshot,
        };
        self.count(request, decision.admitted, &verdict);
        if let Some(record) = &self.record {
            record.keep(request, &decision.outcomes, &verdict);
        }
        Ok(verdict)
    }
}

impl<S> Limiter<S> {
    /// What counts its decisions.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Counts a decision as a whole.
    fn count(&self, request: &Request, is_admitted: bool, verdict: &Verdict) {
        let rules = &verdict.snapshot.rules;
        if verdict.is_free && rules.domain(&request.domain).is_none() {
            self.recorder.unknown_domain(request.descriptors.len());
        }
        if !is_admitted && verdict.code == Code::Ok {
            self.recorder.let_pass();
        }
        self.recorder.decided(verdict.told(), verdict.decided_by());
    }

    /// Whether the caller's patience matters to the store.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.timeout.is_some()
    }

    fn deadline(&self, patience: Option<Duration>) -> Instant {
        let Some(timeout) = self.timeout else {
            return self.made;
        };
        Instant::now() + patience.map_or(timeout, |patience| patience.min(timeout))
    }
}

/// The rules in force and what was learnt while they were.
#[derive(Debug)]
pub struct Snapshot {
    /// The rules.
    pub rules: RuleSet,
    /// Per [`Slot`]: how it is used, which says when its hits are taken (`hits: auto`).
    usage: Box<[Usage]>,
    /// Per [`Slot`]: when the log may say again that this has changed.
    changes: Box<[Throttle]>,
    /// Per [`Slot`]: a number that its limits have under every configuration.
    numbers: Box<[u32]>,
    /// Per rule: its counters.
    series: Box<[RuleSeries]>,
}

impl Snapshot {
    fn new(rules: RuleSet, before: Option<&Self>) -> Self {
        let known: HashMap<Slot<'_>, (&Usage, &Throttle)> = before
            .map(|before| {
                let learnt = before.usage.iter().zip(&before.changes);
                before.slots().zip(learnt).collect()
            })
            .unwrap_or_default();
        let counted: HashMap<Slot<'_>, &RuleSeries> = before
            .map(|before| before.slots().zip(&before.series).collect())
            .unwrap_or_default();
        let series = rules.rules().iter().map(|rule| {
            let before = counted.get(&Slot::Rule(&rule.path));
            before.map_or_else(RuleSeries::default, |before| before.next())
        });
        let mut snapshot = Self {
            series: series.collect(),
            rules,
            usage: Box::default(),
            changes: Box::default(),
            numbers: Box::default(),
        };
        snapshot.numbers = snapshot.slots().map(Slot::number).collect();
        let learnt = snapshot.slots().map(|slot| match known.get(&slot) {
            Some((usage, change)) => (Usage::new(usage.counts()), (*change).clone()),
            None => (Usage::default(), Throttle::every(LOG_CHANGE_EVERY)),
        });
        let (usage, changes): (Vec<_>, Vec<_>) = learnt.unzip();
        (snapshot.usage, snapshot.changes) = (usage.into(), changes.into());
        snapshot
    }

    /// What counts all hits of a rule in these metrics, if there were any.
    #[must_use]
    pub fn series(
        &self,
        metrics: &Metrics,
        domain: &str,
        found: &Match<'_>,
    ) -> Option<Arc<Series>> {
        self.series[found.rule.id].found(metrics, domain, found)
    }

    /// The rules whose calls are counted, in the order of `usage`.
    fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        let rules = self.rules.rules().iter();
        let domains = self.rules.domains().map(|domain| domain.name());
        rules
            .map(|rule| Slot::Rule(&rule.path))
            .chain(domains.map(Slot::Domain))
    }

    /// The number of a limit: a store without room for all buckets counts them by it.
    fn limit_number(&self, slot: usize, index: usize) -> u32 {
        // 0 is the number of none.
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        self.numbers[slot]
            .wrapping_add(index.wrapping_mul(0x9E37_79B1))
            .max(1)
    }

    /// How the rule at this place is used.
    #[must_use]
    pub fn call_counts(&self, rule: usize) -> CallCounts {
        self.usage[rule].counts()
    }

    /// The slot of what a descriptor is charged under in a domain: a rule, or a limit of its own.
    fn slot(&self, domain: &Domain, found: Option<&Match<'_>>) -> usize {
        let own = self.rules.rules().len() + domain.id();
        found.map_or(own, |found| found.rule.id)
    }

    /// Logs that a rule is used in another way now, if that changes when its hits are taken.
    fn log_change(&self, slot: usize, counts: CallCounts, now: Micros) {
        let is_auto = |limit: &Limit| limit.hits == Hits::Auto;
        let (rule, matters) = match self.rules.rules().get(slot) {
            Some(rule) => {
                let limits = match &rule.limits {
                    Limits::Limited(limits) => limits.as_slice(),
                    Limits::Unlimited { .. } => &[],
                };
                (rule.path.as_str(), limits.iter().any(is_auto))
            }
            None => ("override", true),
        };
        if matters && self.changes[slot].passes(now) {
            tracing::info!(rule, "hits: auto is now {counts}");
        }
    }
}

/// The shortest time between two log lines about the use of one rule.
const LOG_CHANGE_EVERY: Micros = 600_000_000;

/// Whose calls are counted, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Slot<'a> {
    /// The limits of the rule with that path.
    Rule(&'a str),
    /// The limits that requests bring to that domain.
    Domain(&'a str),
}

impl Slot<'_> {
    /// A hash of the name, the same in every process.
    fn number(self) -> u32 {
        let mut hasher = SipHasher13::new();
        self.hash(&mut hasher);
        u32::try_from(hasher.finish() >> 32).expect("32 bits are left")
    }
}

#[cfg(test)]
mod tests;
