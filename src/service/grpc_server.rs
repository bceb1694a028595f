//! Serves gRPC on the connections of one thread.
//!
//! A connection is opened and then served until the client closes it, it reaches its maximum age, or the server stops.
//! Then the calls in flight can complete. Each connection is a task of this thread, and no task outlives the server.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, pending};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryFutureExt as _;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::graceful::GracefulConnection;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;

use super::buffers::{Buffers, MAX_SEND_BUFFER, RequestBody, ResponseBody};
use super::connections::Connection;
use super::frames::{FloodCount, FloodReporter, Frames};
use super::handshake::{self, Handshake};
use super::shared_connections::{FailedConnections, SharedConnections};
use super::socket::peer;
use crate::clock::Clock;
use crate::timer::CoarseTimer;

/// How often an idle connection is checked by a PING, and how long the client can take to acknowledge it: a client that
/// disappeared, or does not read, is disconnected within a minute.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(40);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Maximum number of calls of a connection that the client has reset before the library has accepted them. It bounds
/// memory; the rate of resets is bounded by [`Frames`]. The library reads at most a megabyte at once after a stall of
/// this server, which holds fewer calls of Envoy.
const MAX_PENDING_RESETS: usize = 10_000;

/// Maximum number of calls of a connection that are reset because of errors of the client.
const MAX_ERROR_RESETS: usize = 1024;

/// Fraction by which the maximum age of a connection is randomized, so that connections that were opened together do
/// not end together.
const AGE_JITTER: f64 = 0.1;

/// Limits of gRPC connections.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionSettings {
    /// Maximum number of connections.
    pub connections: usize,
    /// Maximum number of calls in flight on a connection.
    pub streams: u32,
    /// Maximum size of the headers of a call in bytes.
    pub header_bytes: u32,
    /// Maximum time for the TLS handshake and the HTTP/2 preface together.
    pub handshake_timeout: Duration,
    /// Maximum age of a connection; `None` for no limit.
    pub age: Option<Duration>,
    /// Maximum time for calls in flight to complete at that age.
    pub age_grace: Duration,
}

/// Serves gRPC on connections.
pub(crate) struct GrpcServer<S> {
    service: S,
    http2: http2::Builder<TokioExecutor>,
    handshake: Handshake,
    age: Option<Duration>,
    age_grace: Duration,
    age_jitter: RandomState,
    buffers: Buffers,
    max_header_bytes: usize,
    failed: FailedConnections,
    floods: FloodCount,
    clock: Clock,
}

impl<S> fmt::Debug for GrpcServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcServer")
            .field("handshake", &self.handshake)
            .finish_non_exhaustive()
    }
}

impl<S> GrpcServer<S> {
    /// Creates the server of a thread.
    pub(crate) fn new(
        service: S,
        settings: &ConnectionSettings,
        shared: SharedConnections,
        clock: Clock,
    ) -> Self {
        Self {
            service,
            http2: http2_builder(settings),
            handshake: Handshake {
                certificates: shared.certificates,
                timeout: settings.handshake_timeout,
            },
            age: settings.age,
            age_grace: settings.age_grace,
            age_jitter: RandomState::new(),
            buffers: Buffers::new(shared.buffers, Arc::clone(&clock)),
            max_header_bytes: usize::try_from(settings.header_bytes).unwrap_or(usize::MAX),
            failed: shared.failed,
            floods: shared.floods,
            clock,
        }
    }
}

fn http2_builder(settings: &ConnectionSettings) -> http2::Builder<TokioExecutor> {
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(CoarseTimer::new())
        .max_concurrent_streams(settings.streams)
        .max_header_list_size(settings.header_bytes)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        // gRPC does not use the date.
        .auto_date_header(false);
    http2
}

impl<S> GrpcServer<S>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    /// Serves connections until `stop` completes, then until all of them have ended.
    pub(crate) async fn serve(
        self,
        connections: impl Stream<Item = io::Result<Connection>>,
        stop: impl Future<Output = ()>,
    ) {
        let (server, mut connections, mut stop) = (Arc::new(self), pin!(connections), pin!(stop));
        let (stopping, is_stopping) = watch::channel(());
        let mut tasks = JoinSet::new();
        let mut count = 0_u64;
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(connection) = connections.next() => {
                    // An error means that the connection was closed before it reached this thread.
                    if let Ok(connection) = connection {
                        count += 1;
                        tasks.spawn(Arc::clone(&server).connection(connection, count, is_stopping.clone()));
                    }
                }
                // A panic of a task only closes its connection.
                Some(_) = tasks.join_next() => {}
            }
        }
        drop(stopping);
        while tasks.join_next().await.is_some() {}
    }

    /// Opens and serves a connection. `number` identifies it on this thread.
    async fn connection(
        self: Arc<Self>,
        connection: Connection,
        number: u64,
        mut stopping: watch::Receiver<()>,
    ) {
        let peer = peer(&connection.socket);
        let (socket, _permit) = connection.into_parts();
        let opened = tokio::select! {
            opened = self.handshake.open(socket) => opened,
            () = closed(&mut stopping) => return,
        };
        match opened {
            Ok(Some(stream)) => self.serve_stream(stream, &peer, number, stopping).await,
            Ok(None) => {}
            Err(error) => self.failed.add(&peer, &error, (self.clock)()),
        }
    }

    async fn serve_stream(
        &self,
        stream: handshake::Stream,
        peer: &str,
        number: u64,
        mut stopping: watch::Receiver<()>,
    ) {
        let buffers = self.buffers.connection(number, peer);
        let (service, usage) = (self.service.clone(), buffers.usage());
        let service = service_fn(move |request: Request<Incoming>| {
            let usage = Arc::clone(&usage);
            let fields = request.headers().len();
            let request = request.map(|body| RequestBody::new(body, fields, Arc::clone(&usage)));
            let response = service.call(request);
            // An async block would store the call twice.
            response.map_ok(|response| response.map(|body| ResponseBody::new(body, usage)))
        });
        let reporter = FloodReporter::new(
            self.floods.clone(),
            peer.to_owned(),
            Arc::clone(&self.clock),
        );
        let frames = Frames::new(stream, self.max_header_bytes, reporter);
        let serving = self.http2.serve_connection(TokioIo::new(frames), service);
        let end = async {
            tokio::select! {
                () = self.max_age(number) => {}
                () = closed(&mut stopping) => {}
            }
        };
        let served = tokio::select! {
            served = drive(serving, end, self.age_grace) => served,
            () = buffers.unread() => return,
        };
        if let Err(error) = served {
            tracing::debug!(%peer, %error, "connection failed");
        }
    }

    /// Waits until a connection has reached its maximum age.
    async fn max_age(&self, number: u64) {
        match self.age {
            Some(age) => {
                tokio::time::sleep(jittered(age, self.age_jitter.hash_one(number))).await;
            }
            None => pending().await,
        }
    }
}

/// Serves a connection until it ends or `end` completes. After `end`, requests in flight can complete for at most
/// `grace`; then the connection is closed.
pub(super) async fn drive<C: GracefulConnection>(
    connection: C,
    end: impl Future<Output = ()>,
    grace: Duration,
) -> Result<(), C::Error> {
    let mut connection = pin!(connection);
    tokio::select! {
        result = &mut connection => return result,
        () = end => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::time::timeout(grace, connection)
        .await
        .unwrap_or(Ok(()))
}

/// Waits until the sender is dropped.
pub(super) async fn closed(receiver: &mut watch::Receiver<()>) {
    while receiver.changed().await.is_ok() {}
}

/// Returns an age near `age`, chosen by a random number.
fn jittered(age: Duration, random: u64) -> Duration {
    #[expect(
        clippy::cast_precision_loss,
        reason = "any number between 0 and 1 will do"
    )]
    let fraction = random as f64 / u64::MAX as f64;
    age.mul_f64(1.0 + AGE_JITTER * (2.0 * fraction - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_spread_by_a_tenth_to_both_sides() {
        let age = Duration::from_secs(1_000);
        assert_eq!(jittered(age, 0), Duration::from_secs(900));
        assert_eq!(jittered(age, u64::MAX), Duration::from_secs(1_100));
    }
}
