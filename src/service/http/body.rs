//! Bodies of requests, bounded in bytes and time.

use axum::body::Body;
use axum::http::StatusCode;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;

use super::BODY_TIME;

/// How much of a body that is too large is taken in.
const MAX_FORGOTTEN: usize = 8 << 20;

/// Why there is no body: a status, and a sentence.
pub(super) type NoBody = (StatusCode, String);

/// All of a body of at most so many bytes.
///
/// What is too large is taken in, too, and forgotten: a client that is still sending would not hear the
/// refusal. But not without a bound.
pub(super) async fn whole(body: Body, max_bytes: usize) -> Result<Vec<u8>, NoBody> {
    let late = |_| {
        (
            StatusCode::BAD_REQUEST,
            "the body did not come in time".to_owned(),
        )
    };
    timeout(BODY_TIME, read(body, max_bytes))
        .await
        .map_err(late)?
}

async fn read(body: Body, max_bytes: usize) -> Result<Vec<u8>, NoBody> {
    let mut chunks = body.into_data_stream();
    let (mut whole, mut size) = (Vec::new(), 0_usize);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            let why = format!("the body cannot be read: {error}");
            (StatusCode::BAD_REQUEST, why)
        })?;
        size = size.saturating_add(chunk.len());
        if size <= max_bytes {
            whole.extend_from_slice(&chunk);
        } else if size > MAX_FORGOTTEN.max(max_bytes) {
            break;
        }
    }
    if size > max_bytes {
        let why = format!("the body has more than {max_bytes} bytes");
        return Err((StatusCode::PAYLOAD_TOO_LARGE, why));
    }
    Ok(whole)
}
