//! Where token buckets are stored, and the [`Store`] trait that decides charges on them.
//!
//! [`memory`] and [`redis`] return the same decisions for the same calls at the same times, because both compute them
//! with [`settle()`].

pub mod breaker;
pub mod denied;
pub mod fallback;
mod full_warning;
pub mod memory;
mod probe;
pub mod redis;
mod server_info;
pub mod split;

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;

pub(crate) use full_warning::full_warning;
pub use probe::{ChargingProbe, Probe};
pub(crate) use probe::{probe_charge, probe_key};
pub use ratekeeper_core::charge::{
    Basis, Cause, Charge, Decision, MAX_HITS, OnStoreFailure, Outcome, Part, Payment,
    without_candidates,
};
pub use ratekeeper_core::settle::{self, Settled, settle};
pub use server_info::ServerInfo;

/// Decides the charges of a request, all or nothing.
pub trait Store: Send + Sync + 'static {
    /// Decides one request and takes the hits of the charges that are admitted.
    ///
    /// Completes by the deadline, with a decision or an error. A request that is still queued then is dropped without
    /// being sent.
    ///
    /// No two charges may have the same key. The outcomes are in the order of the charges.
    ///
    /// # Errors
    /// If the store is unavailable; then it is unknown whether any hits were taken.
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

/// An error of a store that could not decide a request.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// No connection could be established, or the connection was closed.
    #[error("Redis at {address} cannot be reached: {cause}")]
    Unreachable {
        /// Address of the server, without credentials.
        address: String,
        /// The network error.
        cause: String,
    },
    /// The server did not answer before the deadline.
    #[error("Redis at {address} did not answer in time")]
    Timeout {
        /// Address of the server, without credentials.
        address: String,
    },
    /// The queue of requests for the server is full.
    #[error("Redis at {address} is too slow: {waiting} requests wait for it already")]
    Overloaded {
        /// Address of the server, without credentials.
        address: String,
        /// Number of requests in the queue.
        waiting: usize,
    },
    /// The server answered that it cannot serve any request at present, as a replica or a server that is loading does.
    #[error("Redis at {address} cannot serve: {cause}")]
    Unfit {
        /// Address of the server, without credentials.
        address: String,
        /// The error in the reply.
        cause: String,
    },
    /// The server answered this request with an error. Other requests may succeed.
    #[error("Redis at {address} answered: {cause}")]
    Refused {
        /// Address of the server, without credentials.
        address: String,
        /// The error in the reply.
        cause: String,
    },
}

/// The kind of a [`StoreError`]: a label of metrics.
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
    /// Every kind, in the order of the discriminants.
    pub const ALL: [Self; 5] = [
        Self::Unreachable,
        Self::Timeout,
        Self::Overloaded,
        Self::Unfit,
        Self::Refused,
    ];

    /// Returns the name in lower case.
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
    /// Returns the address of the server, without credentials.
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

    /// Returns the kind, by which errors are counted.
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
