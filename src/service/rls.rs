//! `RateLimitService`: decode, ask the limiter, encode. The only place where an error becomes a
//! gRPC status.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tonic::{Request as Call, Response, Status as Failure};

use super::bad_requests::BadRequests;
use super::convert::statuses;
use super::explanation::Explanation;
use super::grpc_timeout;
use super::metadata::dynamic_metadata;
use super::pb::rate_limit_response::Code as WireCode;
use super::pb::rate_limit_service_server::RateLimitService;
use super::pb::{HeaderValue, RateLimitRequest, RateLimitResponse};
use crate::limiter::{Code, LimitError, Limiter, Request, Status, Verdict};
use crate::store::Store;
use crate::telemetry::metrics::Method;
use crate::telemetry::traces::{CallSpan, Tracing};
use crate::text::truncated;

/// The most bytes of what a client sent that logs and traces show.
const MAX_SHOWN: usize = 1_024;

/// What responses carry beside the verdict.
#[derive(Debug, Clone, Default)]
pub struct ResponseSettings {
    /// Headers for Envoy to add to its response, under these names; `None` for no headers.
    pub headers: Option<HeaderNames>,
    /// Headers that tell which rule decided, what is left and when to come again; the same in the dynamic
    /// metadata, if that is sent.
    pub explain: bool,
    /// What requests get that cannot be decided.
    pub bad_requests: BadRequests,
    /// Dynamic metadata: what was asked, and the metadata of the rules that let it pass.
    pub dynamic_metadata: bool,
}

/// The names of the response headers.
#[derive(Debug, Clone)]
pub struct HeaderNames {
    /// Carries `requests_per_unit`.
    pub limit: String,
    /// Carries the whole tokens left.
    pub remaining: String,
    /// Carries the seconds until reset.
    pub reset: String,
}

/// The service over one limiter.
pub struct RateLimit<S> {
    limiter: Limiter<S>,
    settings: ResponseSettings,
    /// The least time for a decision, whatever the caller says.
    least_patience: Duration,
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
    /// Serves the limiter's verdicts.
    #[must_use]
    pub fn new(limiter: Limiter<S>, settings: ResponseSettings) -> Self {
        Self {
            limiter,
            settings,
            least_patience: Duration::ZERO,
            tracing: Tracing::default(),
        }
    }

    /// Gives decisions at least this much time, also when callers allow less.
    #[must_use]
    pub fn patient_for(self, least: Duration) -> Self {
        Self {
            least_patience: least,
            ..self
        }
    }

    /// Has its calls traced.
    #[must_use]
    pub fn traced_by(self, tracing: Tracing) -> Self {
        Self { tracing, ..self }
    }

    fn panicked(&self) -> Failure {
        self.limiter.recorder().service_failed();
        Failure::internal("ratekeeper panicked; its log says where")
    }

    fn failure(&self, error: &LimitError) -> Failure {
        let recorder = self.limiter.recorder();
        match error {
            LimitError::BadRequest(_) | LimitError::NotLoaded => recorder.service_failed(),
            LimitError::Store(_) => recorder.store_failed(),
        }
        match error {
            LimitError::BadRequest(error) => Failure::invalid_argument(error.to_string()),
            LimitError::NotLoaded | LimitError::Store(_) => Failure::unavailable(error.to_string()),
        }
    }

    fn response(&self, request: &Request, verdict: &Verdict) -> RateLimitResponse {
        let names = self.settings.headers.as_ref();
        let headers = names.and_then(|names| Some(headers_of(names, shown(&verdict.statuses)?)));
        let mut headers = headers.unwrap_or_default();
        let explanation = match self.settings.explain {
            true => Explanation::of(verdict),
            false => None,
        };
        headers.extend(explanation.iter().flat_map(Explanation::headers));
        RateLimitResponse {
            overall_code: WireCode::from(verdict.code).into(),
            statuses: statuses(verdict),
            response_headers_to_add: headers,
            request_headers_to_add: Vec::new(),
            raw_body: Vec::new(),
            dynamic_metadata: self
                .settings
                .dynamic_metadata
                .then(|| dynamic_metadata(request, verdict, explanation.as_ref())),
        }
    }
}

#[tonic::async_trait]
impl<S: Store> RateLimitService for RateLimit<S> {
    async fn should_rate_limit(
        &self,
        call: Call<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Failure> {
        let began = Instant::now();
        let span = self.tracing.call(call.metadata().as_ref());
        let answer = match &span {
            None => self.answer(call, None).await,
            Some(span) => span.within(self.answer(call, Some(span))).await,
        };
        if let (Some(span), Err(failure)) = (&span, &answer) {
            span.failed(failure.code().into(), failure.message());
        }
        let recorder = self.limiter.recorder();
        recorder.answered(Method::ShouldRateLimit, began.elapsed());
        answer
    }
}

impl<S: Store> RateLimit<S> {
    /// The answer to a request that got no verdict.
    fn undecided(
        &self,
        error: &LimitError,
        span: Option<&CallSpan>,
    ) -> Result<Response<RateLimitResponse>, Failure> {
        let answer = match error {
            LimitError::BadRequest(bad) if bad.is_by_content() => {
                let recorder = self.limiter.recorder();
                self.settings.bad_requests.answer(recorder, bad)
            }
            _ => None,
        };
        let Some(answer) = answer else {
            return Err(self.failure(error));
        };
        if let Some(span) = span {
            let name = answer.overall_code().as_str_name().to_ascii_lowercase();
            span.not_decided(name, error);
        }
        Ok(Response::new(answer))
    }

    async fn answer(
        &self,
        call: Call<RateLimitRequest>,
        span: Option<&CallSpan>,
    ) -> Result<Response<RateLimitResponse>, Failure> {
        let patience = match self.limiter.waits() {
            true => grpc_timeout::of(call.metadata(), self.least_patience),
            false => None,
        };
        let request = match Request::try_from(call.into_inner()) {
            Ok(request) => request,
            Err(error) => return self.undecided(&error.into(), span),
        };
        tracing::debug!(request = request.shown(MAX_SHOWN), "asked");
        if let Some(span) = span {
            let domain = request.domain.readable();
            span.asked(truncated(&domain, MAX_SHOWN), request.descriptors.len());
        }
        // A panic is a mistake of ours; it must not look like a network's. What it leaves half done is
        // this request alone.
        let deciding = AssertUnwindSafe(self.limiter.decide(&request, patience)).catch_unwind();
        let verdict = match deciding.await.map_err(|_| self.panicked())? {
            Ok(verdict) => verdict,
            Err(error) => return self.undecided(&error, span),
        };
        tracing::debug!(code = ?verdict.code, statuses = ?verdict.statuses, "answered");
        if let Some(span) = span {
            let rules = verdict
                .statuses
                .iter()
                .filter_map(|status| verdict.rule(status));
            let rules = rules.map(|rule| rule.path.as_str());
            span.answered(verdict.told().name(), verdict.decided_by().name(), rules);
        }
        Ok(Response::new(self.response(&request, &verdict)))
    }
}

/// The status that the headers tell of: the last that is over a limit that is no quota, else the
/// first with the least left. `None` when no limit applied.
pub(super) fn shown(statuses: &[Status]) -> Option<&Status> {
    let limited = || statuses.iter().filter(|status| status.limit.is_some());
    limited()
        .rfind(|status| status.code == Code::OverLimit && !status.is_quota)
        .or_else(|| limited().min_by_key(|status| status.remaining_for_clients()))
}

fn headers_of(names: &HeaderNames, status: &Status) -> Vec<HeaderValue> {
    let limit = status
        .limit
        .as_ref()
        .map_or(0, |limit| limit.requests_per_unit);
    let remaining = status.remaining_for_clients();
    let reset = status.reset_seconds.unwrap_or(status.renewal_seconds);
    vec![
        header(&names.limit, u64::from(limit)),
        header(&names.remaining, u64::from(remaining)),
        header(&names.reset, reset),
    ]
}

pub(super) fn header(name: &str, value: u64) -> HeaderValue {
    HeaderValue {
        key: name.to_owned(),
        value: value.to_string(),
        raw_value: Vec::new(),
    }
}
