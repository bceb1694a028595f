//! Response headers with a limit, what remains of it, and when it resets.

use super::pb::HeaderValue;
use crate::limiter::{Code, Status};

/// Names of the response headers.
#[derive(Debug, Clone)]
pub(crate) struct HeaderNames {
    /// Name of the header with `requests_per_unit`.
    pub limit: String,
    /// Name of the header with the number of whole tokens left.
    pub remaining: String,
    /// Name of the header with the seconds until reset.
    pub reset: String,
}

impl HeaderNames {
    /// Returns the headers for the [reported status](reported_status).
    pub(super) fn headers(&self, status: &Status) -> Vec<HeaderValue> {
        let limit = status
            .limit
            .as_ref()
            .map_or(0, |limit| limit.requests_per_unit);
        let remaining = status.remaining_for_clients();
        let reset = status.reset_seconds.unwrap_or(status.renewal_seconds);
        vec![
            number_header(&self.limit, u64::from(limit)),
            number_header(&self.remaining, u64::from(remaining)),
            number_header(&self.reset, reset),
        ]
    }
}

/// Returns the status that headers describe: the last one that is denied by a limit that is not a quota, else the first
/// one with the least remaining. `None` if no limit applies.
pub(super) fn reported_status(statuses: &[Status]) -> Option<&Status> {
    let limited = || statuses.iter().filter(|status| status.limit.is_some());
    limited()
        .rfind(|status| status.code == Code::OverLimit && !status.is_quota)
        .or_else(|| limited().min_by_key(|status| status.remaining_for_clients()))
}

pub(super) fn number_header(name: &str, value: u64) -> HeaderValue {
    text_header(name, value.to_string())
}

pub(super) fn text_header(name: &str, value: String) -> HeaderValue {
    HeaderValue {
        key: name.to_owned(),
        value,
        raw_value: Vec::new(),
    }
}
