//! `/buckets`: reads, resets and sets single buckets.

use axum::http::StatusCode;

use super::parameters::{Body, Parameters};
use super::types::{self, Buckets, Denial};
use super::{Admin, ApiError};
use crate::limiter::inspect::{Bucket, InspectError};
use crate::limiter::top::Top;
use crate::store::Store;

pub(super) async fn peek<S: Store>(
    admin: &Admin<S>,
    parameters: &Parameters,
) -> Result<Buckets, ApiError> {
    let buckets = admin.inspector.peek(&parameters.which()?).await?;
    Ok(document(admin, &buckets))
}

pub(super) async fn reset<S: Store>(
    admin: &Admin<S>,
    body: &Body,
    peer: &str,
) -> Result<Buckets, ApiError> {
    let buckets = admin.inspector.reset(&body.which()?).await?;
    for bucket in &buckets {
        let (key, decided_by) = (bucket.key.as_str(), bucket.decided_by.name());
        tracing::info!(%peer, ?key, decided_by, "admin API reset a bucket");
    }
    Ok(document(admin, &buckets))
}

pub(super) async fn set<S: Store>(
    admin: &Admin<S>,
    body: &Body,
    peer: &str,
) -> Result<Buckets, ApiError> {
    let tokens = body.tokens()?;
    let buckets = admin.inspector.set(&body.which()?, tokens).await?;
    for bucket in &buckets {
        let (key, decided_by) = (bucket.key.as_str(), bucket.decided_by.name());
        tracing::info!(%peer, ?key, tokens, decided_by, "admin API set a bucket");
    }
    Ok(document(admin, &buckets))
}

fn document<S>(admin: &Admin<S>, buckets: &[Bucket]) -> Buckets {
    let buckets = buckets.iter();
    Buckets {
        now_us: admin.view.now(),
        buckets: buckets
            .map(|bucket| described(&admin.view.top, bucket))
            .collect(),
    }
}

fn described(top: &Top, bucket: &Bucket) -> types::Bucket {
    let last_denied = top.last_denied(bucket.key.hash());
    types::Bucket {
        key: bucket.key.as_str().to_owned(),
        rule: bucket.rule.clone(),
        limit: bucket.limit.to_string(),
        capacity: bucket.capacity(),
        remaining: bucket.remaining(),
        debt: bucket.debt(),
        full_in_us: bucket.full_in(),
        retry_in_us: bucket.retry_in(),
        refill_per_second: bucket.refill_per_second(),
        window: bucket.is_window(),
        decided_by: bucket.decided_by.name().into(),
        last_denied: last_denied.map(|denial| Denial {
            at_us: denial.at,
            hits: denial.hits,
            rule: bucket.rule.clone(),
            request: denial.request,
        }),
    }
}

impl From<InspectError> for ApiError {
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
        Self::new(status, error.to_string())
    }
}
