//! Responses of `ShouldRateLimit`: the verdict, and the headers and metadata that the settings ask for.

use super::bad_requests::BadRequests;
use super::convert::statuses;
use super::explanation::Explanation;
use super::headers::{HeaderNames, reported_status};
use super::metadata::dynamic_metadata;
use super::pb::RateLimitResponse;
use super::pb::rate_limit_response::Code as WireCode;
use crate::limiter::{Request, Verdict};

/// What responses contain in addition to the verdict.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResponseSettings {
    /// Names of headers that Envoy adds to its response; `None` for no headers.
    pub headers: Option<HeaderNames>,
    /// Whether headers, and dynamic metadata if it is sent, explain the decision: the rule, what remains, and when to
    /// retry.
    pub explain: bool,
    /// Responses to invalid requests.
    pub bad_requests: BadRequests,
    /// Whether dynamic metadata has the request, and the metadata of the rules that allowed it.
    pub dynamic_metadata: bool,
}

impl ResponseSettings {
    /// Returns the response to a request with this verdict.
    pub(super) fn response(&self, request: &Request, verdict: &Verdict) -> RateLimitResponse {
        let reported = || reported_status(&verdict.statuses);
        let headers = self
            .headers
            .as_ref()
            .and_then(|names| Some(names.headers(reported()?)));
        let mut headers = headers.unwrap_or_default();
        let explanation = match self.explain {
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
                .dynamic_metadata
                .then(|| dynamic_metadata(request, verdict, explanation.as_ref())),
        }
    }
}
