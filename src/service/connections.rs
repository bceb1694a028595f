//! Accepts connections, up to a limit, also while the process has no file descriptor left.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::Stream;

use super::socket::{Detached, Listener, Socket, attach, detach};
use crate::clock::Clock;
use crate::telemetry::Throttle;
use crate::time::Micros;

/// Pause after a connection could not be accepted. The causes, such as a lack of file descriptors, persist for a while:
/// without a pause, accepting would fail again at once and use a whole processor.
const PAUSE: Duration = Duration::from_millis(50);

/// Minimum time between two log events about connections that were not accepted.
const WARN_EVERY: Micros = 10_000_000;

/// A connection with its permit from the [`ConnectionLimit`], which is returned when the connection ends.
#[derive(Debug)]
pub struct Connection<S = Socket> {
    /// The connection itself.
    pub socket: S,
    permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Detaches the connection from the runtime of this thread.
    ///
    /// # Errors
    /// An error of the operating system.
    pub fn detach(self) -> io::Result<Connection<Detached>> {
        Ok(Connection {
            socket: detach(self.socket)?,
            permit: self.permit,
        })
    }

    /// Returns the socket, and the permit, which must be held as long as the socket is open.
    pub(super) fn into_parts(self) -> (Socket, OwnedSemaphorePermit) {
        (self.socket, self.permit)
    }
}

impl Connection<Detached> {
    /// Attaches the connection to the runtime of this thread.
    ///
    /// # Errors
    /// An error of the operating system.
    pub fn attach(self) -> io::Result<Connection> {
        Ok(Connection {
            socket: attach(self.socket)?,
            permit: self.permit,
        })
    }
}

/// Maximum number of open connections of a listener. Clones share it.
#[derive(Debug, Clone)]
pub struct ConnectionLimit {
    free: Arc<Semaphore>,
    max: usize,
    name: &'static str,
    counts: Arc<Counts>,
}

/// Number of connections since start.
#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    rejected: AtomicU64,
}

impl ConnectionLimit {
    /// Creates a limit. The log calls it `name`.
    #[must_use]
    pub fn new(max: usize, name: &'static str) -> Self {
        let max = max.min(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(max)),
            max,
            name,
            counts: Arc::default(),
        }
    }

    /// Returns the maximum number of open connections.
    #[must_use]
    pub fn max(&self) -> usize {
        self.max
    }

    /// Returns the number of open connections.
    #[must_use]
    pub fn open(&self) -> usize {
        self.max.saturating_sub(self.free.available_permits())
    }

    /// Returns the number of connections that were accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// Returns the number of connections that were closed because the limit was reached.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.counts.rejected.load(Ordering::Relaxed)
    }

    fn admit(&self, socket: Socket) -> Option<Connection> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok();
        let count = match permit {
            Some(_) => &self.counts.accepted,
            None => &self.counts.rejected,
        };
        count.fetch_add(1, Ordering::Relaxed);
        permit.map(|permit| Connection { socket, permit })
    }
}

/// Returns the connections that a listener accepts.
///
/// Connections beyond the limit are closed immediately, so that their clients can connect to another server instead of
/// waiting in a queue.
pub fn connections(
    listener: Listener,
    limit: ConnectionLimit,
    clock: Clock,
) -> impl Stream<Item = Connection> {
    let acceptor = Acceptor {
        listener,
        limit,
        clock,
        warning: Throttle::every(WARN_EVERY),
    };
    futures_util::stream::unfold(acceptor, async |acceptor| {
        Some((acceptor.next().await, acceptor))
    })
}

struct Acceptor {
    listener: Listener,
    limit: ConnectionLimit,
    clock: Clock,
    warning: Throttle,
}

impl Acceptor {
    /// Returns the next connection within the limit.
    async fn next(&self) -> Connection {
        loop {
            match self.listener.accept().await {
                Ok(socket) => match self.limit.admit(socket) {
                    Some(connection) => return connection,
                    None => self.warn_of_limit(),
                },
                Err(error) => {
                    self.warn_of_error(&error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn warn_of_limit(&self) {
        if self.warning.passes((self.clock)()) {
            tracing::warn!(
                listener = %self.listener,
                limit = self.limit.name,
                open = self.limit.open(),
                "connection limit reached, closing new connections"
            );
        }
    }

    fn warn_of_error(&self, error: &io::Error) {
        if self.warning.passes((self.clock)()) {
            tracing::warn!(
                listener = %self.listener,
                %error,
                "connection cannot be accepted; if there are too many open files, raise the limit (ulimit -n) or close \
                 connections"
            );
        }
    }
}
