//! `RateLimitService`: decode, ask the limiter, encode. The only place where an error becomes a
//! gRPC status.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tonic::{Request as Call, Response, Status as Failure};

use super::metadata::dynamic_metadata;
use super::patience;
use super::pb::rate_limit_response::Code as WireCode;
use super::pb::rate_limit_service_server::RateLimitService;
use super::pb::{HeaderValue, RateLimitRequest, RateLimitResponse};
use crate::limiter::{Code, LimitError, Limiter, Request, Status, Verdict};
use crate::store::Store;

/// What responses carry beside the verdict.
#[derive(Debug, Clone, Default)]
pub struct ResponseSettings {
    /// Headers for Envoy to add to its response, under these names; `None` for no headers.
    pub headers: Option<HeaderNames>,
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
}

impl<S> std::fmt::Debug for RateLimit<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RateLimit")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl<S> RateLimit<S> {
    /// Serves the limiter's verdicts.
    #[must_use]
    pub fn new(limiter: Limiter<S>, settings: ResponseSettings) -> Self {
        Self { limiter, settings }
    }

    fn failure(error: &LimitError) -> Failure {
        match error {
            LimitError::BadRequest(error) => Failure::invalid_argument(error.to_string()),
            LimitError::NotLoaded | LimitError::Store(_) => Failure::unavailable(error.to_string()),
        }
    }

    fn response(&self, request: &Request, verdict: &Verdict) -> RateLimitResponse {
        let headers = self.settings.headers.as_ref();
        RateLimitResponse {
            overall_code: WireCode::from(verdict.code).into(),
            statuses: verdict.statuses.iter().map(Into::into).collect(),
            response_headers_to_add: headers
                .and_then(|names| Some(headers_of(names, shown(&verdict.statuses)?)))
                .unwrap_or_default(),
            request_headers_to_add: Vec::new(),
            raw_body: Vec::new(),
            dynamic_metadata: self
                .settings
                .dynamic_metadata
                .then(|| dynamic_metadata(request, verdict)),
        }
    }
}

#[tonic::async_trait]
impl<S: Store> RateLimitService for RateLimit<S> {
    async fn should_rate_limit(
        &self,
        call: Call<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Failure> {
        let patience = match self.limiter.waits() {
            true => patience::of(call.metadata()),
            false => None,
        };
        let request = Request::try_from(call.into_inner())
            .map_err(|error| Self::failure(&LimitError::BadRequest(error)))?;
        tracing::debug!(?request, "asked");
        // A panic is a mistake of ours; it must not look like a network's. What it leaves half done is
        // this request alone.
        let deciding = AssertUnwindSafe(self.limiter.decide(&request, patience)).catch_unwind();
        let verdict = deciding
            .await
            .map_err(|_| Failure::internal("ratekeeper panicked; its log says where"))?
            .map_err(|error| Self::failure(&error))?;
        tracing::debug!(code = ?verdict.code, statuses = ?verdict.statuses, "answered");
        Ok(Response::new(self.response(&request, &verdict)))
    }
}

/// The status that the headers tell of: the last that is over a limit that is no quota, else the
/// first with the least left. `None` when no limit applied.
fn shown(statuses: &[Status]) -> Option<&Status> {
    let limited = || statuses.iter().filter(|status| status.limit.is_some());
    limited()
        .rfind(|status| status.code == Code::OverLimit && !status.is_quota)
        .or_else(|| limited().min_by_key(|status| status.remaining))
}

fn headers_of(names: &HeaderNames, status: &Status) -> Vec<HeaderValue> {
    let limit = status
        .limit
        .as_ref()
        .map_or(0, |limit| limit.requests_per_unit);
    let mut headers = vec![
        header(&names.limit, u64::from(limit)),
        header(&names.remaining, u64::from(status.remaining)),
    ];
    headers.extend(
        status
            .reset_seconds
            .map(|seconds| header(&names.reset, seconds)),
    );
    headers
}

fn header(name: &str, value: u64) -> HeaderValue {
    HeaderValue {
        key: name.to_owned(),
        value: value.to_string(),
        raw_value: Vec::new(),
    }
}
