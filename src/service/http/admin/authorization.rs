//! Which requests may change something: those with the admin token that do not come from a page of another origin.

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, StatusCode};

use super::{Admin, ApiError};

const TOKEN_REQUIRED: &str = "changes need the header Authorization: Bearer ADMIN_TOKEN";

impl<S> Admin<S> {
    /// Checks that a request may change something, and logs if it may not.
    pub(super) async fn authorize(&self, headers: &HeaderMap, peer: &str) -> Result<(), ApiError> {
        let authorized = self.is_authorized(headers).await;
        if let Err(ApiError { status, message }) = &authorized
            && self.view.may_log_rejection()
        {
            tracing::warn!(%peer, %status, reason = message, "admin API rejected a change");
        }
        authorized
    }

    async fn is_authorized(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(token) = &self.token else {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "the admin API is read-only; set ADMIN_TOKEN or ADMIN_TOKEN_FILE on the server to allow changes",
            ));
        };
        check_origin(headers)?;
        let sent = headers.get(AUTHORIZATION).and_then(bearer);
        let Some(sent) = sent.map(<[u8]>::to_vec) else {
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, TOKEN_REQUIRED));
        };
        // The token can be in a file, so checking it can block.
        let token = token.clone();
        let matches = tokio::task::spawn_blocking(move || token.matches(&sent)).await;
        match matches {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                format!("the token is not ADMIN_TOKEN; {TOKEN_REQUIRED}"),
            )),
            Ok(Err(error)) => Err(ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                error.to_string(),
            )),
            Err(_) => Err(ApiError::panicked()),
        }
    }
}

/// Checks that a request comes from a tool or from a page of this server.
///
/// Browsers send this media type to another origin only after a preflight, which fails here, and they name the origin
/// of the page.
fn check_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let kind = headers
        .get(CONTENT_TYPE)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default();
    if !kind.trim_ascii().eq_ignore_ascii_case(b"application/json") {
        return Err(ApiError::bad_request(
            "send a body with Content-Type: application/json",
        ));
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(());
    };
    let origin = origin.as_bytes();
    let authority = origin
        .strip_prefix(b"http://")
        .or_else(|| origin.strip_prefix(b"https://"));
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    match authority.is_some() && authority == host {
        true => Ok(()),
        false => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "pages of other origins cannot change anything here",
        )),
    }
}

/// Returns the token of an `Authorization` header.
fn bearer(header: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = header.as_bytes().split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}
