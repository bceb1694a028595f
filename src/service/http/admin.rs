//! The admin API, below `/api/v1`: JSON for people's tools. `openapi.json` beside it describes every answer.
//!
//! Looking is open to whoever reaches the port. Changing needs a token, which no page of another origin has, and a
//! media type that none sends without being allowed to, which it never is: no answer has a CORS header. What is
//! changed is logged, with who did it.

mod buckets;
mod parameters;
mod rules;
mod status;
mod token;
mod top;

use std::sync::Arc;

use axum::body::{Bytes, to_bytes};
use axum::extract::{RawQuery, Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
use axum::{Extension, Router};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::Peer;
use super::body::NoBody;
use crate::limiter::inspect::Inspector;
use crate::store::Store;

pub use status::{ServerView, SourceView, StoreView};
pub use token::{AdminToken, NoToken};

use parameters::{Parameters, body};

/// What the API says of itself.
const OPENAPI: &str = include_str!("admin/openapi.json");

/// What the API tells and does.
#[derive(Debug)]
pub struct Admin<S> {
    /// Looks at buckets and changes them.
    pub inspector: Inspector<S>,
    /// What can be seen of the server.
    pub seen: ServerView,
    /// Who may change something; nobody without.
    pub token: Option<AdminToken>,
}

/// Why something is not told or done.
#[derive(Debug)]
struct Refusal(StatusCode, String);

type Answer = Result<Value, Refusal>;

/// The routes.
pub fn admin<S: Store>(admin: Admin<S>) -> Router {
    let api = Router::new()
        .route("/openapi.json", only(get(openapi), "GET"))
        .route("/status", only(get(status::<S>), "GET"))
        .route("/configuration", only(get(configuration::<S>), "GET"))
        .route("/rules", only(get(list_rules::<S>), "GET"))
        .route("/explain", only(get(explain::<S>), "GET"))
        .route("/buckets", only(get(peek::<S>), "GET"))
        .route("/top", only(get(hot::<S>), "GET"))
        .route("/buckets/reset", only(post(reset::<S>), "POST"))
        .route("/buckets/set", only(post(set::<S>), "POST"))
        .fallback(any(nothing))
        .with_state(Arc::new(admin));
    Router::new()
        .nest("/api/v1", api)
        .route("/api/v1/", any(nothing))
}

/// A route that says which method it has to whoever comes with another.
fn only<S: Clone + Send + Sync + 'static>(
    route: MethodRouter<S>,
    method: &'static str,
) -> MethodRouter<S> {
    route.fallback(async move || {
        let refusal = Refusal(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("this only answers {method}; /api/v1/openapi.json tells what there is"),
        );
        ([(header::ALLOW, method)], refusal)
    })
}

async fn nothing() -> Refusal {
    let what = "there is nothing here; /api/v1/openapi.json tells what there is";
    Refusal(StatusCode::NOT_FOUND, what.to_owned())
}

async fn openapi() -> Response {
    (headers(), OPENAPI).into_response()
}

// --- Looking ---

type TheAdmin<S> = State<Arc<Admin<S>>>;

async fn status<S: Store>(State(admin): TheAdmin<S>, RawQuery(query): RawQuery) -> Told {
    Told::of_long(move || {
        Parameters::read(query.as_deref(), &[])?;
        Ok(status::status(&admin.seen, admin.token.is_some()))
    })
    .await
}

/// The configuration with its whole text, which can have many megabytes: only a few are read at the same time.
async fn configuration<S: Store>(
    State(admin): TheAdmin<S>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let reader = Arc::clone(&admin.seen.readers).try_acquire_owned();
    let reader = reader.map_err(|_| {
        let why = "too many clients are reading the configuration; try again in a moment";
        Refusal(StatusCode::SERVICE_UNAVAILABLE, why.to_owned())
    })?;
    let answer = Told::of_long(move || {
        Parameters::read(query.as_deref(), &[])?;
        Ok(status::configuration(&admin.seen))
    });
    let (head, body) = answer.await.into_response().into_parts();
    let text = to_bytes(body, usize::MAX)
        .await
        .map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let text = Bytes::from_owner(BeingRead {
        text,
        _reader: reader,
    });
    Ok(Response::from_parts(head, text.into()))
}

/// A text, and the place among readers that is free again when the text was sent.
struct BeingRead {
    text: Bytes,
    _reader: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for BeingRead {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

async fn list_rules<S: Store>(State(admin): TheAdmin<S>, RawQuery(query): RawQuery) -> Told {
    Told::of_long(move || {
        let parameters = Parameters::read(query.as_deref(), &["search", "offset", "limit"])?;
        rules::list(&admin.seen, &parameters)
    })
    .await
}

async fn explain<S: Store>(State(admin): TheAdmin<S>, RawQuery(query): RawQuery) -> Told {
    Told::of_long(move || {
        let parameters = Parameters::read(query.as_deref(), &["domain", "descriptor"])?;
        rules::explained(&admin.inspector, &parameters)
    })
    .await
}

async fn hot<S: Store>(State(admin): TheAdmin<S>, RawQuery(query): RawQuery) -> Told {
    Told::of_long(move || {
        let parameters = Parameters::read(query.as_deref(), &["window", "limit"])?;
        top::top(&admin.seen, &parameters)
    })
    .await
}

async fn peek<S: Store>(State(admin): TheAdmin<S>, RawQuery(query): RawQuery) -> Told {
    Told(buckets::peek(&admin, query.as_deref()).await)
}

// --- Changing ---

async fn reset<S: Store>(
    State(admin): TheAdmin<S>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Told {
    let reset = async {
        admin.permit(request.headers(), &peer).await?;
        let asked = body(request, &["domain", "descriptor", "key"]).await?;
        buckets::reset(&admin, &asked, &peer).await
    };
    Told(reset.await)
}

async fn set<S: Store>(
    State(admin): TheAdmin<S>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Told {
    let set = async {
        admin.permit(request.headers(), &peer).await?;
        let asked = body(request, &["domain", "descriptor", "key", "tokens"]).await?;
        buckets::set(&admin, &asked, &peer).await
    };
    Told(set.await)
}

impl<S> Admin<S> {
    /// Whether whoever sends this may change something.
    async fn permit(&self, headers: &HeaderMap, peer: &str) -> Result<(), Refusal> {
        let permitted = self.permitted(headers).await;
        if let Err(Refusal(status, why)) = &permitted
            && self.seen.may_tell_of_refusals()
        {
            tracing::warn!(%peer, %status, "the admin API refused to change something: {why}");
        }
        permitted
    }

    async fn permitted(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = &self.token else {
            return Err(Refusal(
                StatusCode::FORBIDDEN,
                "nothing can be changed here: the server has no ADMIN_TOKEN (or ADMIN_TOKEN_FILE)"
                    .to_owned(),
            ));
        };
        parameters::is_ours(headers)?;
        let sent = headers.get(header::AUTHORIZATION);
        let sent = sent.and_then(parameters::bearer).map(<[u8]>::to_vec);
        let wrong = "changing something needs the header Authorization: Bearer ADMIN_TOKEN";
        let Some(sent) = sent else {
            return Err(Refusal(StatusCode::UNAUTHORIZED, wrong.to_owned()));
        };
        // It may be in a file.
        let token = token.clone();
        let checked = tokio::task::spawn_blocking(move || token.is(&sent)).await;
        match checked {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Refusal(
                StatusCode::UNAUTHORIZED,
                format!("the token is not ADMIN_TOKEN; {wrong}"),
            )),
            Ok(Err(error)) => Err(Refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                error.to_string(),
            )),
            Err(_) => Err(Refusal::panicked()),
        }
    }
}

// --- Answers ---

/// An answer, or why there is none.
struct Told(Answer);

impl Told {
    /// What takes long with many rules: it is not done where anything else waits.
    async fn of_long(answer: impl FnOnce() -> Answer + Send + 'static) -> Self {
        let answer = tokio::task::spawn_blocking(answer).await;
        Self(answer.unwrap_or_else(|_| Err(Refusal::panicked())))
    }
}

impl Refusal {
    fn bad(why: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, why.into())
    }

    fn panicked() -> Self {
        let what = "ratekeeper panicked; its log says where";
        Self(StatusCode::INTERNAL_SERVER_ERROR, what.to_owned())
    }
}

impl From<NoBody> for Refusal {
    fn from((status, why): NoBody) -> Self {
        Self(status, why)
    }
}

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        match self.0 {
            Ok(value) => (headers(), value.to_string()).into_response(),
            Err(refusal) => refusal.into_response(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, why) = self;
        let mut headers = headers();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"ratekeeper\""),
            );
        }
        (status, headers, json!({ "error": why }).to_string()).into_response()
    }
}

/// What every answer has: nobody keeps it, takes it for anything else, or shows it in a page of another origin.
fn headers() -> HeaderMap {
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
