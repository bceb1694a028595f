//! HTTP/1.1: requests as JSON, health checks, the admin API, and pages.
//!
//! Requests and responses are bounded in size and time, and so is the age of connections, so that no client occupies a
//! port for long.

mod admin;
mod admin_page;
mod body;
mod debug_pages;
mod json;
mod rlconfig;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet, yield_now};
use tokio::time::sleep;
use tokio_stream::{Stream, StreamExt as _};
use tower_service::Service as _;

use super::connections::{Connection, ConnectionLimit, connections};
use super::grpc_server::{closed, drive};
use super::socket::{Listener, peer};
use crate::clock::Clock;
use crate::telemetry::Throttle;
use crate::time::Micros;

pub(crate) use admin::{Admin, AdminToken, ServerView, SourceView, StoreView, admin};
pub(crate) use debug_pages::{Page, pages};
pub(crate) use json::{MAX_JSON, json};
pub(crate) use rlconfig::RulesText;

/// One of this many connections of a port is reserved for connections that are ending.
const ENDING_SHARE: usize = 32;

/// Minimum time between two log events about too many connections.
const WARN_EVERY: Micros = 10_000_000;

/// Maximum time for the head of a request, since the end of the previous request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time for the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum size of the head of a request in bytes.
const MAX_HEAD: usize = 16 << 10;

/// Maximum age of a connection, and maximum time for the request in flight to complete at that age. No response takes
/// longer to read.
const AGE: Duration = Duration::from_secs(60);
const AGE_GRACE: Duration = Duration::from_secs(10);

/// Address of the client, for the log.
#[derive(Debug, Clone)]
struct Peer(Arc<str>);

/// A port that serves HTTP.
pub(crate) struct HttpPort {
    connections: Pin<Box<dyn Stream<Item = Connection> + Send>>,
    router: Router,
    tasks: JoinSet<()>,
    /// The connections, oldest first.
    open: VecDeque<AbortHandle>,
    clock: Clock,
    warning: Throttle,
    stopping: watch::Sender<()>,
    /// Beyond this number of connections, the oldest are closed.
    max_open: usize,
}

impl std::fmt::Debug for HttpPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpPort").finish_non_exhaustive()
    }
}

impl HttpPort {
    /// Creates a port that serves the routes of `router`.
    #[must_use]
    pub(crate) fn new(
        listener: Listener,
        router: Router,
        max_connections: usize,
        clock: Clock,
    ) -> Self {
        let limit = ConnectionLimit::new(max_connections, "maximum of an HTTP port");
        Self {
            connections: Box::pin(connections(listener, limit, Arc::clone(&clock))),
            router,
            tasks: JoinSet::new(),
            open: VecDeque::new(),
            clock,
            warning: Throttle::every(WARN_EVERY),
            stopping: watch::channel(()).0,
            max_open: max_connections - max_connections.div_ceil(ENDING_SHARE),
        }
    }

    /// Serves forever. The future can be dropped, and this method called again.
    pub(crate) async fn serve(&mut self) -> Infallible {
        loop {
            tokio::select! {
                Some(connection) = self.connections.next() => {
                    let (router, stopping) = (self.router.clone(), self.stopping.subscribe());
                    let task = self.tasks.spawn(serve_connection(connection, router, stopping));
                    self.open.push_back(task);
                    if self.close_oldest() {
                        // Lets their tasks end before the next connection is accepted.
                        yield_now().await;
                    }
                }
                Some(_) = self.tasks.join_next() => {}
            }
        }
    }

    /// Closes the oldest connections if there are too many. Requests of probes and tools are short, so these are idle
    /// or slow, and must not keep probes from connecting. Returns whether there were any.
    fn close_oldest(&mut self) -> bool {
        self.open.retain(|task| !task.is_finished());
        let excess = self.open.len().saturating_sub(self.max_open);
        self.open.drain(..excess).for_each(|oldest| oldest.abort());
        if excess > 0 && self.warning.passes((self.clock)()) {
            let open = self.open.len();
            tracing::warn!(
                open,
                "too many connections to an HTTP port, closing the oldest"
            );
        }
        excess > 0
    }

    /// Stops accepting connections, and waits until the requests in flight have completed.
    pub(crate) async fn end(self) {
        let Self {
            connections,
            mut tasks,
            stopping,
            ..
        } = self;
        drop((connections, stopping));
        while tasks.join_next().await.is_some() {}
    }
}

async fn serve_connection(
    connection: Connection,
    router: Router,
    mut stopping: watch::Receiver<()>,
) {
    let (socket, _permit) = connection.into_parts();
    let peer = Peer(peer(&socket).into());
    // A router is always ready.
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().call(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), service);
    let end = async {
        tokio::select! {
            () = sleep(AGE) => {}
            () = closed(&mut stopping) => {}
        }
    };
    if let Err(error) = drive(serving, end, AGE_GRACE).await {
        tracing::debug!(%error, "HTTP connection failed");
    }
}

/// Returns the route of health checks: 200 "OK" or 500 without a body, as in envoyproxy/ratelimit.
pub(crate) fn healthcheck(is_healthy: impl Fn() -> bool + Clone + Send + Sync + 'static) -> Router {
    Router::new().route(
        "/healthcheck",
        any(async move || {
            if is_healthy() {
                text(StatusCode::OK, "OK")
            } else {
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }),
    )
}

/// Returns a response in plain text that browsers must not interpret as another media type.
fn text(status: StatusCode, text: impl Into<axum::body::Body>) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        header::HeaderValue::from_static("nosniff"),
    );
    (status, headers, text.into()).into_response()
}
