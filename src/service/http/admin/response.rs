//! Responses of the admin API: JSON documents and errors, with the headers that all of them have.

use axum::body::Bytes;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::types;
use crate::service::http::body::BodyError;

/// A JSON document.
pub(super) struct Document(pub(super) Bytes);

/// Response of a handler.
pub(super) type DocumentResult = Result<Document, ApiError>;

impl Document {
    /// Encodes one of the [`types`].
    pub(super) fn new(value: &impl Serialize) -> Self {
        let text = serde_json::to_vec(value)
            .expect("the types of the API have no other keys than strings");
        Self(text.into())
    }
}

impl IntoResponse for Document {
    fn into_response(self) -> Response {
        (api_headers(), self.0).into_response()
    }
}

/// An error response: a status and a sentence.
#[derive(Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn panicked() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "ratekeeper panicked; the log has the location",
        )
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        Self::new(error.status, error.message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Document::new(&types::Error {
            error: self.message,
        })
        .into_response();
        *response.status_mut() = self.status;
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"ratekeeper\""),
            );
        }
        response
    }
}

/// Headers of every response: it must not be cached, interpreted as another media type, or embedded by a page of
/// another origin.
pub(super) fn api_headers() -> HeaderMap {
    let all: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, "application/json; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    all.into_iter()
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
        .collect()
}
