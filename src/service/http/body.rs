//! Reads the bodies of requests, bounded in size and time.

use axum::body::Body;
use axum::http::StatusCode;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;

use super::BODY_TIMEOUT;

/// Maximum number of bytes that are read from a body that is too large.
const MAX_DISCARDED: usize = 8 << 20;

/// A body that cannot be used: a status and a sentence.
#[derive(Debug)]
pub(super) struct BodyError {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl BodyError {
    fn bad_request(message: String) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message,
        }
    }
}

/// Reads a body of at most `max_bytes`.
///
/// A larger body is read, too, up to a bound, and discarded: a client that is still sending would not receive the
/// response.
pub(super) async fn read_body(body: Body, max_bytes: usize) -> Result<Vec<u8>, BodyError> {
    timeout(BODY_TIMEOUT, read(body, max_bytes))
        .await
        .map_err(|_| BodyError::bad_request("the body did not arrive in time".to_owned()))?
}

async fn read(body: Body, max_bytes: usize) -> Result<Vec<u8>, BodyError> {
    let mut chunks = body.into_data_stream();
    let (mut whole, mut size) = (Vec::new(), 0_usize);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk
            .map_err(|error| BodyError::bad_request(format!("the body cannot be read: {error}")))?;
        size = size.saturating_add(chunk.len());
        if size <= max_bytes {
            whole.extend_from_slice(&chunk);
        } else if size > MAX_DISCARDED.max(max_bytes) {
            break;
        }
    }
    if size > max_bytes {
        return Err(BodyError {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            message: format!("the body has more than {max_bytes} bytes"),
        });
    }
    Ok(whole)
}
