//! The admin API below `/api/v1`: JSON documents for tools. `openapi.json` describes all of them.
//!
//! Every client that reaches the port can read. Changes need the admin token, which pages of other origins do not have,
//! and a media type that browsers only send to other origins after a CORS preflight, which is never granted. Changes
//! are logged with the address of the client.

mod authorization;
mod buckets;
mod configuration;
mod parameters;
mod response;
mod rules;
mod server_view;
mod status;
mod token;
mod top;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, Request, State};
use axum::http::StatusCode;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, any, get, post};
use axum::{Extension, Router};
use tokio::sync::OwnedSemaphorePermit;

use super::Peer;
use crate::limiter::inspect::Inspector;
use crate::store::Store;

pub(crate) use server_view::{ServerView, SourceView, StoreView};
pub(crate) use token::AdminToken;

use ratekeeper_api::admin as types;

use parameters::{Parameters, body};
use response::{ApiError, Document, DocumentResult, api_headers};

/// The OpenAPI document of the API.
const OPENAPI: &str = include_str!("admin/openapi.json");

/// What the admin API reads and changes.
#[derive(Debug)]
pub(crate) struct Admin<S> {
    /// Reads and changes buckets.
    pub inspector: Inspector<S>,
    /// State of the server.
    pub view: ServerView,
    /// Token that changes need; `None` makes the API read-only.
    pub token: Option<AdminToken>,
}

/// Returns the routes of the admin API.
pub(crate) fn admin<S: Store>(admin: Admin<S>) -> Router {
    let api = Router::new()
        .route("/openapi.json", only(get(openapi), "GET"))
        .route("/status", only(get(status::<S>), "GET"))
        .route("/configuration", only(get(configuration::<S>), "GET"))
        .route("/rules", only(get(list_rules::<S>), "GET"))
        .route("/explain", only(get(explain::<S>), "GET"))
        .route("/buckets", only(get(peek::<S>), "GET"))
        .route("/top", only(get(top_buckets::<S>), "GET"))
        .route("/buckets/reset", only(post(reset::<S>), "POST"))
        .route("/buckets/set", only(post(set::<S>), "POST"))
        .fallback(any(not_found))
        .with_state(Arc::new(admin));
    Router::new()
        .nest("/api/v1", api)
        .route("/api/v1/", any(not_found))
}

/// Rejects other methods than the one of the route, with an error that names it.
fn only<S: Clone + Send + Sync + 'static>(
    route: MethodRouter<S>,
    method: &'static str,
) -> MethodRouter<S> {
    route.fallback(async move || {
        let error = ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("this path only supports {method}; see /api/v1/openapi.json"),
        );
        ([(header::ALLOW, method)], error)
    })
}

async fn not_found() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "no such path; see /api/v1/openapi.json",
    )
}

async fn openapi() -> Response {
    (api_headers(), OPENAPI).into_response()
}

// --- Reading ---

type AdminState<S> = State<Arc<Admin<S>>>;

async fn status<S: Store>(
    State(admin): AdminState<S>,
    RawQuery(query): RawQuery,
) -> DocumentResult {
    blocking(move || {
        Parameters::read(query.as_deref(), &[])?;
        let status = status::status(&admin.view, admin.token.is_some());
        Ok(Document::new(&status))
    })
    .await
}

/// The active configuration with its text, which can have many megabytes. The number of concurrent readers is limited.
async fn configuration<S: Store>(
    State(admin): AdminState<S>,
    RawQuery(query): RawQuery,
) -> DocumentResult {
    let reader = Arc::clone(&admin.view.readers).try_acquire_owned();
    let reader = reader.map_err(|_| {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many clients are reading the configuration; try again in a moment",
        )
    })?;
    let Document(text) = blocking(move || {
        Parameters::read(query.as_deref(), &[])?;
        Ok(Document::new(&configuration::configuration(&admin.view)))
    })
    .await?;
    let text = ReadByClient {
        text,
        _reader: reader,
    };
    Ok(Document(Bytes::from_owner(text)))
}

/// A text that holds the permit of its reader until it is sent.
struct ReadByClient {
    text: Bytes,
    _reader: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for ReadByClient {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

async fn list_rules<S: Store>(
    State(admin): AdminState<S>,
    RawQuery(query): RawQuery,
) -> DocumentResult {
    blocking(move || {
        let parameters = Parameters::read(query.as_deref(), &["search", "offset", "limit"])?;
        Ok(Document::new(&rules::list(&admin.view, &parameters)?))
    })
    .await
}

async fn explain<S: Store>(
    State(admin): AdminState<S>,
    RawQuery(query): RawQuery,
) -> DocumentResult {
    blocking(move || {
        let parameters = Parameters::read(query.as_deref(), &["domain", "descriptor"])?;
        let explanation = rules::explain(&admin.inspector, &parameters)?;
        Ok(Document::new(&explanation))
    })
    .await
}

async fn top_buckets<S: Store>(
    State(admin): AdminState<S>,
    RawQuery(query): RawQuery,
) -> DocumentResult {
    blocking(move || {
        let parameters = Parameters::read(query.as_deref(), &["window", "limit"])?;
        Ok(Document::new(&top::top(&admin.view, &parameters)?))
    })
    .await
}

async fn peek<S: Store>(State(admin): AdminState<S>, RawQuery(query): RawQuery) -> DocumentResult {
    let parameters = Parameters::read(query.as_deref(), &["domain", "descriptor", "key"])?;
    let buckets = buckets::peek(&admin, &parameters).await?;
    Ok(Document::new(&buckets))
}

/// Runs a request on a blocking thread: with many rules it takes long, and must not delay other requests.
async fn blocking(respond: impl FnOnce() -> DocumentResult + Send + 'static) -> DocumentResult {
    let document = tokio::task::spawn_blocking(respond).await;
    document.unwrap_or_else(|_| Err(ApiError::panicked()))
}

// --- Changing ---

async fn reset<S: Store>(
    State(admin): AdminState<S>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> DocumentResult {
    admin.authorize(request.headers(), &peer).await?;
    let body = body(request, &["domain", "descriptor", "key"]).await?;
    let buckets = buckets::reset(&admin, &body, &peer).await?;
    Ok(Document::new(&buckets))
}

async fn set<S: Store>(
    State(admin): AdminState<S>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> DocumentResult {
    admin.authorize(request.headers(), &peer).await?;
    let body = body(request, &["domain", "descriptor", "key", "tokens"]).await?;
    let buckets = buckets::set(&admin, &body, &peer).await?;
    Ok(Document::new(&buckets))
}

#[cfg(test)]
mod tests;
