//! Serves gRPC on the connections of one thread.
//!
//! A connection is opened, served until it ends, is too old, or the server stops, and then given time to
//! end what it has begun. Each is a task of this thread, and none outlives it.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, pending};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::TryFutureExt as _;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;

use super::buffers::{BufferLimits, Buffers, MAX_SEND_BUFFER, RequestBody, ResponseBody};
use super::connections::Connection;
use super::frames::{FloodCount, FloodReporter, Frames};
use super::handshake::{Opening, PREFACE};
use super::socket::peer;
use crate::clock::Clock;
use crate::telemetry::Throttle;
use crate::time::Micros;
use crate::tls::Certificates;

/// How often a silent connection is asked whether it is still there, and how long it may
/// take to say so: what went away without a word, or does not read, is cleared within a minute.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(40);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Maximum number of calls of a connection that the client has reset before they were looked at. It bounds memory: how fast
/// a client may reset calls is bounded by [`Frames`]. All that is read at once is looked at together; after a stall of this
/// server, that is a megabyte, in which there are fewer calls of Envoy.
const MAX_PENDING_RESETS: usize = 10_000;

/// Maximum number of calls of a connection that are reset because of errors of the client.
const MAX_ERROR_RESETS: usize = 1024;

/// How far the age at which a connection ends is from what was asked for, so that connections that were
/// made together do not all end together.
const AGE_JITTER: f64 = 0.1;

/// The shortest time between two warnings about clients that cannot connect.
const WARN_EVERY: Micros = 10_000_000;

/// What connections may do, and for how long.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// The most connections.
    pub connections: usize,
    /// The most calls in flight on one of them.
    pub streams: u32,
    /// The most bytes of a call's headers.
    pub header_bytes: u32,
    /// How long a connection may take until HTTP/2 is spoken on it.
    pub handshake_timeout: Duration,
    /// How old it may grow; `None` for any age.
    pub age: Option<Duration>,
    /// How long its calls in flight may take to end then.
    pub age_grace: Duration,
}

/// Connections that failed before anything was asked on them, for all threads.
#[derive(Debug, Clone)]
pub struct FailedConnections {
    count: Arc<AtomicU64>,
    warning: Throttle,
}

impl Default for FailedConnections {
    fn default() -> Self {
        Self {
            count: Arc::default(),
            warning: Throttle::every(WARN_EVERY),
        }
    }
}

impl FailedConnections {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn add(&self, peer: &str, error: &io::Error, now: Micros) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if self.warning.passes(now) {
            tracing::warn!(%peer, %error, count, "a client cannot connect");
        }
    }
}

/// Serves gRPC on connections.
pub struct GrpcServer<S> {
    service: S,
    http2: http2::Builder<TokioExecutor>,
    opening: Opening,
    age: Option<Duration>,
    grace: Duration,
    ages: RandomState,
    buffers: Buffers,
    header_bytes: usize,
    failures: FailedConnections,
    floods: FloodCount,
    clock: Clock,
}

impl<S> fmt::Debug for GrpcServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcServer")
            .field("opening", &self.opening)
            .finish_non_exhaustive()
    }
}

impl<S> GrpcServer<S> {
    /// Serves `service`, with TLS if there are certificates; counts connections that fail to open or are closed because
    /// of a flood.
    pub fn new(
        service: S,
        settings: &ConnectionSettings,
        (certificates, failures, floods, buffers): (
            Option<Arc<Certificates>>,
            FailedConnections,
            FloodCount,
            BufferLimits,
        ),
        clock: Clock,
    ) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(settings.streams)
            .max_header_list_size(settings.header_bytes)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_ERROR_RESETS)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            // gRPC has no use for it.
            .auto_date_header(false);
        Self {
            service,
            http2,
            opening: Opening {
                certificates,
                patience: settings.handshake_timeout,
            },
            age: settings.age,
            grace: settings.age_grace,
            ages: RandomState::new(),
            buffers: Buffers::new(buffers, Arc::clone(&clock)),
            header_bytes: usize::try_from(settings.header_bytes).unwrap_or(usize::MAX),
            failures,
            floods,
            clock,
        }
    }
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
    /// Serves the connections until it is to stop, then until all of them have ended.
    pub async fn serve(
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
                    // What the operating system took back meanwhile is over.
                    if let Ok(connection) = connection {
                        count += 1;
                        tasks.spawn(Arc::clone(&server).connection(connection, count, is_stopping.clone()));
                    }
                }
                // A task that panicked took its connection with it, and nothing else.
                Some(_) = tasks.join_next() => {}
            }
        }
        drop(stopping);
        while tasks.join_next().await.is_some() {}
    }

    async fn connection(
        self: Arc<Self>,
        connection: Connection,
        number: u64,
        mut stopping: watch::Receiver<()>,
    ) {
        let peer = peer(&connection.socket);
        let opened = tokio::select! {
            opened = self.opening.open(connection) => opened,
            () = closed(&mut stopping) => return,
        };
        let opened = match opened {
            Ok(Some(opened)) => opened,
            Ok(None) => return,
            Err(error) => return self.failures.add(&peer, &error, (self.clock)()),
        };
        let buffers = self.buffers.connection(number, &peer);
        let (service, held) = (self.service.clone(), buffers.held());
        let service = service_fn(move |request: Request<Incoming>| {
            let held = Arc::clone(&held);
            let fields = request.headers().len();
            let request = request.map(|body| RequestBody::new(body, fields, Arc::clone(&held)));
            let response = service.call(request);
            // Not an async block, which would hold the call twice.
            response.map_ok(|response| response.map(|body| ResponseBody::new(body, held)))
        });
        let watch = FloodReporter::new(self.floods.clone(), peer.clone(), Arc::clone(&self.clock));
        let frames = Frames::new(opened, PREFACE.len(), self.header_bytes, watch);
        let serving = self.http2.serve_connection(TokioIo::new(frames), service);
        let end = async {
            match self.age {
                Some(age) => tokio::time::sleep(jittered(age, self.ages.hash_one(number))).await,
                None => pending().await,
            }
        };
        let end = async {
            tokio::select! {
                () = end => {}
                () = closed(&mut stopping) => {}
            }
        };
        let served = tokio::select! {
            served = drive(serving, end, self.grace) => served,
            () = buffers.unread() => return,
        };
        if let Err(error) = served {
            tracing::debug!(%peer, %error, "a connection failed");
        }
    }
}

/// Serves a connection to its own end or until `end`; then lets what is in flight on it go on for at most
/// `grace`, and cuts it.
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

/// Until the sender is gone.
pub(super) async fn closed(receiver: &mut watch::Receiver<()>) {
    while receiver.changed().await.is_ok() {}
}

/// An age near the one that is meant, by a random number.
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
