//! Single buckets: looked at, filled, set.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::parameters::{Body, Parameters};
use super::top::denial;
use super::{Admin, Answer, Refusal};
use crate::limiter::inspect::{Bucket, InspectError};
use crate::limiter::top::Top;
use crate::store::Store;

pub(super) async fn peek<S: Store>(admin: &Admin<S>, query: Option<&str>) -> Answer {
    let parameters = Parameters::read(query, &["domain", "descriptor", "key"])?;
    let buckets = admin.inspector.peek(&parameters.which()?).await?;
    Ok(shown(admin, &buckets))
}

pub(super) async fn reset<S: Store>(admin: &Admin<S>, asked: &Body, peer: &str) -> Answer {
    let buckets = admin.inspector.reset(&asked.which()?).await?;
    for bucket in &buckets {
        let (key, decided_by) = (bucket.key.as_str(), bucket.decided_by.name());
        tracing::info!(%peer, ?key, decided_by, "the admin API reset a bucket");
    }
    Ok(shown(admin, &buckets))
}

pub(super) async fn set<S: Store>(admin: &Admin<S>, asked: &Body, peer: &str) -> Answer {
    let tokens = asked.tokens()?;
    let buckets = admin.inspector.set(&asked.which()?, tokens).await?;
    for bucket in &buckets {
        let (key, decided_by) = (bucket.key.as_str(), bucket.decided_by.name());
        tracing::info!(%peer, ?key, tokens, decided_by, "the admin API set a bucket");
    }
    Ok(shown(admin, &buckets))
}

fn shown<S>(admin: &Admin<S>, buckets: &[Bucket]) -> Value {
    let shown: Vec<Value> = buckets
        .iter()
        .map(|bucket| of_bucket(&admin.seen.top, bucket))
        .collect();
    json!({ "now_us": admin.seen.now(), "buckets": shown })
}

fn of_bucket(top: &Top, bucket: &Bucket) -> Value {
    let last = top.last_denied(bucket.key.hash());
    json!({
        "key": bucket.key.as_str(),
        "rule": bucket.rule,
        "limit": bucket.limit.to_string(),
        "capacity": bucket.capacity(),
        "remaining": bucket.remaining(),
        "debt": bucket.debt(),
        "full_in_us": bucket.full_in(),
        "retry_in_us": bucket.retry_in(),
        "refill_per_second": bucket.refill_per_second(),
        "window": bucket.is_window(),
        "decided_by": bucket.decided_by.name(),
        "last_denied": last.map(|last| denial(&bucket.rule, &last)),
    })
}

impl From<InspectError> for Refusal {
    fn from(error: InspectError) -> Self {
        let status = match &error {
            InspectError::BadRequest(_)
            | InspectError::NotAKey(_)
            | InspectError::Several { .. }
            | InspectError::OutOfRange { .. } => StatusCode::BAD_REQUEST,
            InspectError::NoRule | InspectError::Unlimited(_) | InspectError::UnknownKey(_) => {
                StatusCode::NOT_FOUND
            }
            InspectError::NotLoaded
            | InspectError::NoBucket(_)
            | InspectError::Torn
            | InspectError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.to_string())
    }
}
