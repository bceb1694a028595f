//! The answer to requests that cannot be decided although a client of Envoy can cause them: they are too large, or
//! bring a limit without a usable unit.
//!
//! Envoy lets a request pass when it gets an error for it. So an error here would be a way around every limit.

use std::fmt::Display;

use super::pb::RateLimitResponse;
use super::pb::rate_limit_response::Code;
use crate::clock;
use crate::telemetry::Throttle;
use crate::telemetry::metrics::Recorder;
use crate::time::Micros;

/// The shortest time between two warnings.
const WARN_EVERY: Micros = 10_000_000;

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BadRequestMode {
    /// `OVER_LIMIT`, without statuses.
    #[default]
    Deny,
    /// `OK`, without statuses.
    Allow,
    /// An error, which leaves the decision to Envoy's `failure_mode_deny`.
    Error,
}

/// Answers such requests, counts them, and logs some of them.
#[derive(Debug, Clone)]
pub struct BadRequests {
    mode: BadRequestMode,
    warning: Throttle,
}

impl Default for BadRequests {
    fn default() -> Self {
        Self::new(BadRequestMode::default())
    }
}

impl BadRequests {
    /// Answers in one way. All clones together log once per ten seconds.
    #[must_use]
    pub fn new(mode: BadRequestMode) -> Self {
        Self {
            mode,
            warning: Throttle::every(WARN_EVERY),
        }
    }

    /// The answer to a request that has this error; `None` where the error is the answer.
    pub(super) fn answer(
        &self,
        recorder: &Recorder,
        error: &dyn Display,
    ) -> Option<RateLimitResponse> {
        recorder.bad_request();
        let (answer, code) = match self.mode {
            BadRequestMode::Deny => ("deny", Some(Code::OverLimit)),
            BadRequestMode::Allow => ("allow", Some(Code::Ok)),
            BadRequestMode::Error => ("error", None),
        };
        if self.warning.passes((clock::system())()) {
            tracing::warn!(%error, answer, "request cannot be decided, applying BAD_REQUEST_MODE");
        }
        Some(RateLimitResponse {
            overall_code: code?.into(),
            ..RateLimitResponse::default()
        })
    }
}
