//! The hottest buckets, the most denied ones, and those that would be but for shadow mode.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::parameters::Parameters;
use super::{Answer, Refusal, ServerView};
use crate::limiter::top::{Denial, Hot, HotBucket, Window};

/// How many buckets are told, unless more are asked for, and the most.
const SOME: usize = 20;
const MOST: usize = 100;

pub(super) fn top(seen: &ServerView, parameters: &Parameters) -> Answer {
    let window = match parameters.get("window") {
        None | Some("minute") => Window::Minute,
        Some("hour") => Window::Hour,
        Some(other) => {
            return Err(Refusal::bad(format!(
                "window={other:?}: write minute or hour"
            )));
        }
    };
    let limit = parameters.number("limit", SOME, MOST)?;
    let Some(hot) = seen.top.hot(window, limit) else {
        return Err(Refusal(
            StatusCode::NOT_FOUND,
            "nothing is counted by bucket: TOP_SIZE is 0".to_owned(),
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
    Ok(json!({
        "now_us": seen.now(),
        "window": window.name(),
        "seconds": seconds,
        "total_hits": total_hits,
        "total_denied": total_denied,
        "total_would_deny": total_would_deny,
        "error": error,
        "hottest": hottest.iter().map(hottest_bucket).collect::<Vec<_>>(),
        "denied": denied.iter().map(denied_bucket).collect::<Vec<_>>(),
        "would_deny": would_deny.iter().map(denied_bucket).collect::<Vec<_>>(),
    }))
}

fn hottest_bucket(bucket: &HotBucket) -> Value {
    json!({
        "key": bucket.key,
        "rule": bucket.rule,
        "hits": bucket.hits,
        "denied": bucket.denied,
        "would_deny": bucket.would_deny,
    })
}

fn denied_bucket(bucket: &HotBucket) -> Value {
    let last = bucket.last.as_ref();
    json!({
        "key": bucket.key,
        "rule": bucket.rule,
        "hits": bucket.hits,
        "denied": bucket.denied,
        "would_deny": bucket.would_deny,
        "last_denied_us": last.map(|denial| denial.at),
        "request": last.map(|denial| &denial.request),
    })
}

/// The last denial of a bucket of this rule.
pub(super) fn denial(rule: &str, denial: &Denial) -> Value {
    json!({
        "at_us": denial.at,
        "hits": denial.hits,
        "rule": rule,
        "request": denial.request,
    })
}
