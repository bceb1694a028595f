//! The `RateLimitService`: converts a request, has the limiter decide it, and converts the verdict. Only here, an error
//! becomes a gRPC status.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tonic::{Request as Call, Response, Status as GrpcStatus};

use super::grpc_timeout::decision_time;
use super::pb::rate_limit_service_server::RateLimitService;
use super::pb::{RateLimitRequest, RateLimitResponse};
use super::response::ResponseSettings;
use crate::limiter::{LimitError, Limiter, Request};
use crate::store::Store;
use crate::telemetry::metrics::Method;
use crate::telemetry::traces::{CallSpan, Tracing};
use crate::text::truncated;

/// Maximum number of bytes of a request that logs and traces contain.
const MAX_SHOWN: usize = 1_024;

/// The service of one limiter.
pub(crate) struct RateLimit<S> {
    limiter: Limiter<S>,
    settings: ResponseSettings,
    /// Minimum time for a decision, whatever the deadline of the caller.
    min_timeout: Duration,
    tracing: Tracing,
}

impl<S> std::fmt::Debug for RateLimit<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RateLimit")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl<S: Store> RateLimit<S> {
    /// Creates a service without tracing and without a minimum time for decisions.
    #[must_use]
    pub(crate) fn new(limiter: Limiter<S>, settings: ResponseSettings) -> Self {
        Self {
            limiter,
            settings,
            min_timeout: Duration::ZERO,
            tracing: Tracing::default(),
        }
    }

    /// Sets the minimum time for a decision, which also applies to callers with an earlier deadline.
    #[must_use]
    pub(crate) fn with_min_timeout(self, min_timeout: Duration) -> Self {
        Self {
            min_timeout,
            ..self
        }
    }

    /// Traces calls.
    #[must_use]
    pub(crate) fn traced_by(self, tracing: Tracing) -> Self {
        Self { tracing, ..self }
    }
}

#[tonic::async_trait]
impl<S: Store> RateLimitService for RateLimit<S> {
    async fn should_rate_limit(
        &self,
        call: Call<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, GrpcStatus> {
        let began = Instant::now();
        let span = self.tracing.call(call.metadata().as_ref());
        let response = match &span {
            None => self.respond(call, None).await,
            Some(span) => span.within(self.respond(call, Some(span))).await,
        };
        if let (Some(span), Err(status)) = (&span, &response) {
            span.failed(status.code().into(), status.message());
        }
        let recorder = self.limiter.recorder();
        recorder.answered(Method::ShouldRateLimit, began.elapsed());
        response
    }
}

impl<S: Store> RateLimit<S> {
    async fn respond(
        &self,
        call: Call<RateLimitRequest>,
        span: Option<&CallSpan>,
    ) -> Result<Response<RateLimitResponse>, GrpcStatus> {
        let time = match self.limiter.waits() {
            true => decision_time(call.metadata(), self.min_timeout),
            false => None,
        };
        let request = match Request::try_from(call.into_inner()) {
            Ok(request) => request,
            Err(error) => return self.undecided(&error.into(), span),
        };
        tracing::debug!(request = request.shown(MAX_SHOWN), "request received");
        if let Some(span) = span {
            let domain = request.domain.readable();
            span.asked(truncated(&domain, MAX_SHOWN), request.descriptors.len());
        }
        // A panic is a bug of the server, which must not look like a network error. It leaves only this request half
        // done.
        let deciding = AssertUnwindSafe(self.limiter.decide(&request, time)).catch_unwind();
        let verdict = match deciding.await.map_err(|_| self.panicked())? {
            Ok(verdict) => verdict,
            Err(error) => return self.undecided(&error, span),
        };
        tracing::debug!(code = ?verdict.code, statuses = ?verdict.statuses, "request decided");
        if let Some(span) = span {
            let rules = verdict
                .statuses
                .iter()
                .filter_map(|status| verdict.rule(status));
            let rules = rules.map(|rule| rule.path.as_str());
            span.answered(verdict.told().name(), verdict.decided_by().name(), rules);
        }
        Ok(Response::new(self.settings.response(&request, &verdict)))
    }

    /// Returns the response to a request without a verdict.
    fn undecided(
        &self,
        error: &LimitError,
        span: Option<&CallSpan>,
    ) -> Result<Response<RateLimitResponse>, GrpcStatus> {
        let response = match error {
            LimitError::BadRequest(bad) if bad.is_by_content() => {
                let recorder = self.limiter.recorder();
                self.settings.bad_requests.respond(recorder, bad)
            }
            _ => None,
        };
        let Some(response) = response else {
            return Err(self.failed(error));
        };
        if let Some(span) = span {
            let name = response.overall_code().as_str_name().to_ascii_lowercase();
            span.not_decided(name, error);
        }
        Ok(Response::new(response))
    }

    fn failed(&self, error: &LimitError) -> GrpcStatus {
        let recorder = self.limiter.recorder();
        match error {
            LimitError::BadRequest(_) | LimitError::NotLoaded => recorder.service_failed(),
            LimitError::Store(_) => recorder.store_failed(),
        }
        match error {
            LimitError::BadRequest(error) => GrpcStatus::invalid_argument(error.to_string()),
            LimitError::NotLoaded | LimitError::Store(_) => {
                GrpcStatus::unavailable(error.to_string())
            }
        }
    }

    fn panicked(&self) -> GrpcStatus {
        self.limiter.recorder().service_failed();
        GrpcStatus::internal("ratekeeper panicked; the log has the location")
    }
}
