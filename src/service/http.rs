//! HTTP/1.1: requests as JSON, health, and pages for people.
//!
//! No client has anything here for long: heads, bodies and answers have bounds in bytes and time, and so
//! has the life of a connection.

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

pub use admin::{Admin, AdminToken, NoToken, ServerView, SourceView, StoreView, admin};
pub use debug_pages::{Page, pages};
pub use json::{MAX_JSON, json};
pub use rlconfig::RulesText;

/// Of how many connections that a port may have one may be on its way out.
const LEAVING: usize = 32;

/// The shortest time between two warnings that there are so many.
const WARN_EVERY: Micros = 10_000_000;

/// How long the head of a request may take, from the end of the request before it.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// How long the body of a request may take.
const BODY_TIME: Duration = Duration::from_secs(10);

/// The most bytes of a head.
const MAX_HEAD: usize = 16 << 10;

/// How old a connection may grow, and how long what is in flight on it may take then: nobody
/// reads an answer for longer.
const AGE: Duration = Duration::from_secs(60);
const AGE_GRACE: Duration = Duration::from_secs(10);

/// Who sent a request, for the log.
#[derive(Debug, Clone)]
struct Peer(Arc<str>);

/// A port that is served by HTTP.
pub struct HttpPort {
    connections: Pin<Box<dyn Stream<Item = Connection> + Send>>,
    router: Router,
    tasks: JoinSet<()>,
    /// The connections, oldest first.
    open: VecDeque<AbortHandle>,
    clock: Clock,
    warning: Throttle,
    stopping: watch::Sender<()>,
    /// Beyond so many connections, the oldest make room.
    most: usize,
}

impl std::fmt::Debug for HttpPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpPort").finish_non_exhaustive()
    }
}

impl HttpPort {
    /// Serves the routes on the listener, on at most so many connections.
    #[must_use]
    pub fn new(listener: Listener, router: Router, max_connections: usize, clock: Clock) -> Self {
        let places = ConnectionLimit::new(max_connections, "a port of HTTP serves");
        Self {
            connections: Box::pin(connections(listener, places, Arc::clone(&clock))),
            router,
            tasks: JoinSet::new(),
            open: VecDeque::new(),
            clock,
            warning: Throttle::every(WARN_EVERY),
            stopping: watch::channel(()).0,
            most: max_connections - max_connections.div_ceil(LEAVING),
        }
    }

    /// Serves. It never ends; it may be dropped and called again.
    pub async fn serve(&mut self) -> Infallible {
        loop {
            tokio::select! {
                Some(connection) = self.connections.next() => {
                    let (router, stopping) = (self.router.clone(), self.stopping.subscribe());
                    let task = self.tasks.spawn(serve_connection(connection, router, stopping));
                    self.open.push_back(task);
                    if self.make_room() {
                        // So that they are gone before the next one comes.
                        yield_now().await;
                    }
                }
                Some(_) = self.tasks.join_next() => {}
            }
        }
    }

    /// Ends the oldest connections when there are too many: what probes and tools ask takes a moment, so those are
    /// idle or slow, and must not keep a probe out. Whether there were.
    fn make_room(&mut self) -> bool {
        self.open.retain(|task| !task.is_finished());
        let excess = self.open.len().saturating_sub(self.most);
        self.open.drain(..excess).for_each(|oldest| oldest.abort());
        if excess > 0 && self.warning.passes((self.clock)()) {
            let open = self.open.len();
            tracing::warn!(
                open,
                "too many connections to a port of HTTP; the oldest make room"
            );
        }
        excess > 0
    }

    /// Accepts nothing more, and lets the requests in flight end.
    pub async fn end(self) {
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
    let (socket, _place) = connection.into_parts();
    let peer = Peer(peer(&socket).into());
    // Routes are always ready.
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().call(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), service);
    let end = async {
        tokio::select! {
            () = sleep(AGE) => {}
            () = closed(&mut stopping) => {}
        }
    };
    if let Err(error) = drive(serving, end, AGE_GRACE).await {
        tracing::debug!(%error, "an HTTP connection failed");
    }
}

/// The routes of health: 200 "OK", or 500 and nothing, as envoyproxy/ratelimit answers. It is what gRPC's
/// own health says.
pub fn healthcheck(is_good: impl Fn() -> bool + Clone + Send + Sync + 'static) -> Router {
    Router::new().route(
        "/healthcheck",
        any(async move || {
            if is_good() {
                text(StatusCode::OK, "OK")
            } else {
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }),
    )
}

/// Plain text, which nothing is to take for anything else.
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
