//! What a bucket says to people, and whether it can be changed.

use super::InspectError;
use crate::bucket::{State, Terms};
use crate::key::BucketKey;
use crate::rules::Limit;
use crate::store::{MAX_HITS, OnStoreFailure};
use crate::telemetry::metrics::DecidedBy;
use crate::time::Micros;

/// A bucket, as it was found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// What it is called.
    pub key: BucketKey,
    /// The path of its rule.
    pub rule: String,
    /// Its limit.
    pub limit: Limit,
    /// What decided: the store, or what stands in for it.
    pub decided_by: DecidedBy,
    /// The limit as it was reckoned with: while the store fails, a share of it.
    pub(super) terms: Terms,
    pub(super) state: State,
    pub(super) at: Micros,
}

impl Bucket {
    /// Tokens when it is full.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.terms.capacity()
    }

    /// Whole tokens left.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.state.remaining(&self.terms)
    }

    /// Tokens that must come back before there are any.
    #[must_use]
    pub fn debt(&self) -> u64 {
        self.state.used().saturating_sub(self.capacity().into())
    }

    /// Whole tokens left, or (negative) what it is in debt.
    pub(super) fn tokens(&self) -> i64 {
        let debt = i64::try_from(self.debt()).unwrap_or(MAX_HITS);
        i64::from(self.remaining()) - debt
    }

    /// Microseconds until it is full, or its window ends, if nothing more is taken.
    #[must_use]
    pub fn full_in(&self) -> Micros {
        self.state.full_in(self.at)
    }

    /// Microseconds until it would admit one hit; `None` when it never will.
    #[must_use]
    pub fn retry_in(&self) -> Option<Micros> {
        self.state.retry_in(&self.terms, 1, self.at)
    }

    /// Whether it forgets everything at once.
    #[must_use]
    pub fn is_window(&self) -> bool {
        self.terms.refill() == 0
    }

    /// Tokens that come back in a second; 0 for a window.
    #[must_use]
    pub fn refill_per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "it is for people")]
        let seconds = self.terms.period() as f64 / 1e6;
        f64::from(self.terms.refill()) / seconds
    }

    /// The bucket, if there is one that could be changed.
    pub(super) fn changed(self) -> Result<Self, InspectError> {
        match self.decided_by {
            DecidedBy::FallbackAllow => Err(InspectError::NoBucket(OnStoreFailure::Allow.name())),
            DecidedBy::FallbackDeny => Err(InspectError::NoBucket(OnStoreFailure::Deny.name())),
            _ => Ok(self),
        }
    }

    pub(super) fn check(&self, tokens: i64) -> Result<(), InspectError> {
        let most = i64::from(self.capacity());
        let least = most - i64::try_from(self.terms.ceiling()).unwrap_or(MAX_HITS);
        match (least..=most).contains(&tokens) {
            true => Ok(()),
            false => Err(InspectError::OutOfRange {
                tokens,
                limit: self.limit.to_string(),
                least,
                most,
            }),
        }
    }
}
