//! What a request gets: an overall code, and a status for each of its descriptors.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Snapshot;
use super::plan::{Applied, Ask, Limited, Plan};
use super::tally::Tally;
use super::usage::Pattern;
use crate::rules::{Algorithm, Limit, Rule, Unit};
use crate::store::{Cause, OnStoreFailure, Outcome};
use crate::telemetry::metrics::{DecidedBy, Told};
use crate::time::Micros;

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Whether the request passes.
    pub code: Code,
    /// One status per descriptor, in their order.
    pub statuses: Vec<Status>,
    /// What decided: buckets, or what stands in for them.
    pub cause: Cause,
    /// No limit applies, and nothing was asked of the store.
    pub(super) is_free: bool,
    /// What it was decided by.
    pub(super) snapshot: Arc<Snapshot>,
}

/// Whether something passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// It passes.
    Ok,
    /// A limit denies it.
    OverLimit,
}

/// What a descriptor gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What its own limits say; in shadow mode always [`Code::Ok`].
    pub code: Code,
    /// The limit that tells most: the one that denied with the longest wait, else the one with
    /// the least left. `None` when no limit applies.
    pub limit: Option<ShownLimit>,
    /// Whole tokens left under that limit; `u32::MAX` for a rule without a limit.
    pub remaining: u32,
    /// Whole seconds, rounded up: when admitted, until the bucket is full (or its window ends);
    /// when denied, until the same hits would be admitted. `None` when that will never be.
    pub reset_seconds: Option<u64>,
    /// Whole seconds, rounded up, until the limit has had the time to renew itself: until its window ends, or for a
    /// period at least. For headers that must name a time also where hits can never pass.
    pub renewal_seconds: u64,
    /// Microseconds until the same hits would be admitted: 0 when they were, `None` when they never will be, or
    /// no limit applies.
    pub retry_in: Option<Micros>,
    /// Whether its own limits deny it, in shadow mode too.
    pub is_over: bool,
    /// Whether the descriptor's rule is a quota.
    pub is_quota: bool,
    /// How its rule is used, which says when its hits are taken unless its limits do.
    pub pattern: Pattern,
    /// The rule that decided, by its place in the rule set; `None` for a limit of the request's own.
    pub rule: Option<usize>,
}

impl Status {
    /// The tokens left as clients see them: none where the descriptor is denied, although there may be too few.
    #[must_use]
    pub fn remaining_for_clients(&self) -> u32 {
        match self.code {
            Code::Ok => self.remaining,
            Code::OverLimit => 0,
        }
    }
}

/// A limit as responses show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownLimit {
    /// The configured name; may be empty.
    pub name: String,
    /// As configured.
    pub requests_per_unit: u32,
    /// As configured.
    pub unit: Unit,
    /// As configured.
    pub unit_multiplier: u32,
}

impl Verdict {
    /// The code, as metrics and traces tell it.
    #[must_use]
    pub fn told(&self) -> Told {
        match self.code {
            Code::Ok => Told::Ok,
            Code::OverLimit => Told::OverLimit,
        }
    }

    /// What decided, as metrics and traces tell it.
    #[must_use]
    pub fn decided_by(&self) -> DecidedBy {
        match self.is_free {
            true => DecidedBy::NoLimit,
            false => decided_by(self.cause),
        }
    }

    /// The rule that decided a descriptor.
    #[must_use]
    pub fn rule(&self, status: &Status) -> Option<&Rule> {
        status.rule.map(|id| &*self.snapshot.rules.rules()[id])
    }

    /// The metadata that a status brings into the response: that of its rule, if it passed.
    #[must_use]
    pub fn metadata(&self, status: &Status) -> Option<&Map<String, Value>> {
        let passed = status.code == Code::Ok && status.limit.is_some();
        self.rule(status).filter(|_| passed)?.metadata.as_ref()
    }
}

/// What decided, of what limits apply to.
pub(super) fn decided_by(cause: Cause) -> DecidedBy {
    match cause {
        Cause::Buckets => DecidedBy::Buckets,
        Cause::RememberedDenial => DecidedBy::RememberedDenial,
        Cause::Policy(OnStoreFailure::Local) => DecidedBy::FallbackLocal,
        Cause::Policy(OnStoreFailure::Allow) => DecidedBy::FallbackAllow,
        // `Error` decides nothing.
        Cause::Policy(OnStoreFailure::Deny | OnStoreFailure::Error) => DecidedBy::FallbackDeny,
    }
}

impl Plan<'_> {
    /// What the store's decision means for the request; counts it, too.
    pub(super) fn answer(&self, tally: &Tally<'_>) -> (Code, Vec<Status>) {
        let decision = tally.decision;
        let code = if decision.admitted || self.shadow_mode {
            Code::Ok
        } else {
            Code::OverLimit
        };
        let asks = self.asks.iter().zip(&tally.request.descriptors);
        let statuses = asks
            .map(|(ask, descriptor)| match ask {
                Ask::Free => Status::without_limit(0),
                Ask::Unlimited { .. } => Status::without_limit(u32::MAX),
                Ask::Limited(limited) => {
                    let (applied, outcome) = self.telling(limited, &decision.outcomes);
                    tally.count(descriptor, limited, (applied, outcome));
                    Status {
                        pattern: applied.pattern,
                        ..Status::of(limited, &applied.limit, outcome)
                    }
                }
            })
            .collect();
        self.count_candidates(tally);
        (code, statuses)
    }

    /// Counts what became of what was tried, unless the store failed.
    fn count_candidates(&self, tally: &Tally<'_>) {
        let of_descriptors = self
            .candidates
            .chunk_by(|one, next| one.descriptor == next.descriptor);
        for candidates in of_descriptors {
            let outcomes = candidates
                .iter()
                .map(|candidate| tally.decision.outcomes.get(candidate.charge));
            let Some(outcomes) = outcomes.collect::<Option<Vec<_>>>() else {
                continue;
            };
            let at = candidates[0].descriptor;
            if let Some(found) = self.asks[at].tried() {
                let fits = outcomes.iter().all(|outcome| outcome.admitted);
                tally.count_candidate(&tally.request.descriptors[at], &found, fits);
            }
        }
    }

    /// The limit of a descriptor that tells most, and its outcome; of equals, the first.
    fn telling<'p>(
        &'p self,
        limited: &Limited<'_>,
        outcomes: &'p [Outcome],
    ) -> (&'p Applied<'p>, &'p Outcome) {
        // Smaller is more telling: denied before admitted; the longer wait, never being the longest;
        // the less left.
        let rank = |outcome: &Outcome| {
            let patience = Micros::MAX - outcome.retry_in.unwrap_or(Micros::MAX);
            (outcome.admitted, patience, outcome.remaining)
        };
        self.limits(limited)
            .map(|applied| (applied, &outcomes[applied.charge]))
            .min_by_key(|(_, outcome)| rank(outcome))
            .expect("a limited descriptor has a limit")
    }
}

impl Status {
    fn of(limited: &Limited<'_>, limit: &Limit, outcome: &Outcome) -> Self {
        let wait = if outcome.admitted {
            Some(outcome.full_in)
        } else {
            outcome.retry_in
        };
        let period = limit.period();
        let renewal = match limit.algorithm {
            Algorithm::FixedWindow => period - outcome.decided % period,
            Algorithm::TokenBucket => outcome.full_in.max(period),
        };
        Self {
            code: if outcome.admitted || limited.is_shadow {
                Code::Ok
            } else {
                Code::OverLimit
            },
            limit: Some(ShownLimit {
                name: limit.name.clone(),
                requests_per_unit: limit.requests_per_unit,
                unit: limit.unit,
                unit_multiplier: limit.unit_multiplier,
            }),
            remaining: outcome.remaining,
            reset_seconds: wait.map(|micros| micros.div_ceil(1_000_000)),
            renewal_seconds: renewal.div_ceil(1_000_000),
            retry_in: outcome.retry_in,
            is_over: !outcome.admitted,
            is_quota: limited.is_quota,
            pattern: Pattern::Prepaid,
            rule: limited.rule().map(|rule| rule.id),
        }
    }

    fn without_limit(remaining: u32) -> Self {
        Self {
            code: Code::Ok,
            limit: None,
            remaining,
            reset_seconds: None,
            renewal_seconds: 0,
            retry_in: None,
            is_over: false,
            is_quota: false,
            pattern: Pattern::Prepaid,
            rule: None,
        }
    }
}
