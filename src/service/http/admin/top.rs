//! `/top`: buckets with the most hits, and with the most hits that were denied or that shadow mode allowed.

use axum::http::StatusCode;

use super::parameters::Parameters;
use super::types::{DeniedBucket, HotBucket, Top};
use super::{ApiError, ServerView};
use crate::limiter::top::{self, Hot, Window};

/// Default and maximum number of buckets in each list.
const DEFAULT_BUCKETS: usize = 20;
const MAX_BUCKETS: usize = 100;

pub(super) fn top(view: &ServerView, parameters: &Parameters) -> Result<Top, ApiError> {
    let window = match parameters.get("window") {
        None | Some("minute") => Window::Minute,
        Some("hour") => Window::Hour,
        Some(other) => {
            return Err(ApiError::bad_request(format!(
                "window={other:?} is unknown; use minute or hour"
            )));
        }
    };
    let limit = parameters.number("limit", DEFAULT_BUCKETS, MAX_BUCKETS)?;
    let Some(hot) = view.top.hot(window, limit) else {
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "hits are not counted by bucket, because TOP_SIZE is 0",
        ));
    };
    let Hot {
        seconds,
        total_hits,
        total_denied,
        total_would_deny,
        error,
        hottest,
        denied,
        would_deny,
    } = hot;
    Ok(Top {
        now_us: view.now(),
        window: window.name().into(),
        seconds,
        total_hits,
        total_denied,
        total_would_deny,
        error,
        hottest: hottest.into_iter().map(hot_bucket).collect(),
        denied: denied.into_iter().map(denied_bucket).collect(),
        would_deny: would_deny.into_iter().map(denied_bucket).collect(),
    })
}

fn hot_bucket(bucket: top::HotBucket) -> HotBucket {
    HotBucket {
        key: bucket.key,
        rule: bucket.rule,
        hits: bucket.hits,
        denied: bucket.denied,
        would_deny: bucket.would_deny,
    }
}

fn denied_bucket(mut bucket: top::HotBucket) -> DeniedBucket {
    let (last_denied_us, request) = match bucket.last.take() {
        Some(denial) => (Some(denial.at), Some(denial.request)),
        None => (None, None),
    };
    DeniedBucket {
        bucket: hot_bucket(bucket),
        last_denied_us,
        request,
    }
}
