//! Responses to invalid requests that a client of Envoy can cause: they are too large, or bring a limit without a
//! usable unit.
//!
//! By default, Envoy allows a request if the rate limit service returns an error. An error for such requests would thus
//! allow clients to bypass every limit.

use std::fmt::Display;

use super::pb::RateLimitResponse;
use super::pb::rate_limit_response::Code;
use crate::clock;
use crate::telemetry::Throttle;
use crate::telemetry::metrics::Recorder;
use crate::time::Micros;

/// Minimum time between two log events about invalid requests.
const WARN_EVERY: Micros = 10_000_000;

/// How invalid requests are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum BadRequestMode {
    /// `OVER_LIMIT`, without statuses.
    #[default]
    Deny,
    /// `OK`, without statuses.
    Allow,
    /// An error, which leaves the decision to Envoy's `failure_mode_deny`.
    Error,
}

/// Responds to invalid requests, counts them, and logs some of them.
#[derive(Debug, Clone)]
pub(crate) struct BadRequests {
    mode: BadRequestMode,
    warning: Throttle,
}

impl Default for BadRequests {
    fn default() -> Self {
        Self::new(BadRequestMode::default())
    }
}

impl BadRequests {
    /// Creates a responder. All clones together log once per ten seconds.
    #[must_use]
    pub(crate) fn new(mode: BadRequestMode) -> Self {
        Self {
            mode,
            warning: Throttle::every(WARN_EVERY),
        }
    }

    /// Returns the response to a request with this error; `None` if the response is the error.
    pub(super) fn respond(
        &self,
        recorder: &Recorder,
        error: &dyn Display,
    ) -> Option<RateLimitResponse> {
        recorder.bad_request();
        let (mode, code) = match self.mode {
            BadRequestMode::Deny => ("deny", Some(Code::OverLimit)),
            BadRequestMode::Allow => ("allow", Some(Code::Ok)),
            BadRequestMode::Error => ("error", None),
        };
        if self.warning.passes((clock::system())()) {
            tracing::warn!(%error, mode, "invalid request, applying BAD_REQUEST_MODE");
        }
        Some(RateLimitResponse {
            overall_code: code?.into(),
            ..RateLimitResponse::default()
        })
    }
}
