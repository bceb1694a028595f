//! Where buckets live. A store has one duty: to decide the charges of a request, atomically.
//!
//! [`memory`] and [`redis`] give the same answers to the same calls at the same times, because both
//! leave the answer to [`settle()`].

pub mod breaker;
pub mod denied;
pub mod fallback;
pub mod memory;
pub mod redis;
mod server_info;
pub mod split;

use std::future::Future;
use std::sync::Arc;

use thiserror::Error;
use tokio::time::Instant;

pub use ratekeeper_core::charge::{
    Basis, Cause, Charge, Decision, MAX_HITS, OnStoreFailure, Outcome, Part, Payment,
    without_candidates,
};
pub use ratekeeper_core::settle::{self, Settled, settle};
pub use server_info::ServerInfo;

/// Decides the charges of a request, all together or not at all.
pub trait Store: Send + Sync + 'static {
    /// Decides one request and takes what it takes. The answer, or that there is none, comes by the deadline;
    /// what waits for its turn until then is never asked for.
    ///
    /// No two charges may have the same key. The outcomes are in the order of the charges.
    ///
    /// # Errors
    /// When the store cannot be asked; then it is unknown whether anything was taken.
    fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Decision, StoreError>> + Send;
}

impl<S: Store> Store for Arc<S> {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: Instant,
    ) -> Result<Decision, StoreError> {
        (**self).decide(charges, deadline).await
    }
}

/// Why a store could not decide.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// No connection could be had, or it broke.
    #[error("Redis at {address} cannot be reached: {cause}")]
    Unreachable {
        /// Where it should be, without credentials.
        address: String,
        /// What the network said.
        cause: String,
    },
    /// There was no answer in time.
    #[error("Redis at {address} did not answer in time")]
    Timeout {
        /// Where it is, without credentials.
        address: String,
    },
    /// More requests wait for it than are let wait.
    #[error("Redis at {address} is too slow: {waiting} requests wait for it already")]
    Overloaded {
        /// Where it is, without credentials.
        address: String,
        /// How many wait.
        waiting: usize,
    },
    /// There was an answer: that it serves nobody for now.
    #[error("Redis at {address} cannot serve: {cause}")]
    Unfit {
        /// Where it is, without credentials.
        address: String,
        /// What it said.
        cause: String,
    },
    /// There was an answer, but not one to work with. Others may fare better.
    #[error("Redis at {address} answered: {cause}")]
    Refused {
        /// Where it is, without credentials.
        address: String,
        /// What it said.
        cause: String,
    },
}

/// Kinds of [`StoreError`], as they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum FailureKind {
    /// [`StoreError::Unreachable`]
    Unreachable,
    /// [`StoreError::Timeout`]
    Timeout,
    /// [`StoreError::Overloaded`]
    Overloaded,
    /// [`StoreError::Unfit`]
    Unfit,
    /// [`StoreError::Refused`]
    Refused,
}

impl FailureKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Unreachable,
        Self::Timeout,
        Self::Overloaded,
        Self::Unfit,
        Self::Refused,
    ];

    /// Its name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::Unfit => "unfit",
            Self::Refused => "refused",
        }
    }
}

impl StoreError {
    /// Where the store is, without credentials.
    #[must_use]
    pub fn address(&self) -> &str {
        match self {
            Self::Unreachable { address, .. }
            | Self::Timeout { address }
            | Self::Overloaded { address, .. }
            | Self::Unfit { address, .. }
            | Self::Refused { address, .. } => address,
        }
    }

    /// How it is counted.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Unreachable { .. } => FailureKind::Unreachable,
            Self::Timeout { .. } => FailureKind::Timeout,
            Self::Overloaded { .. } => FailureKind::Overloaded,
            Self::Unfit { .. } => FailureKind::Unfit,
            Self::Refused { .. } => FailureKind::Refused,
        }
    }
}
