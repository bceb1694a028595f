//! The connections that come in: no more than there is room for, and also when the process cannot take
//! another one.

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

/// How long nothing is accepted after accepting failed. What fails then, such as that the process has
/// no file descriptor left, fails again at once; without a pause, trying would take a whole processor
/// from those who are connected.
const PAUSE: Duration = Duration::from_millis(50);

/// The shortest time between two warnings about it.
const WARN_EVERY: Micros = 10_000_000;

/// A connection, and its place among those that there may be, which it gives back at its end.
#[derive(Debug)]
pub struct Connection<S = Socket> {
    /// The connection itself.
    pub socket: S,
    place: OwnedSemaphorePermit,
}

impl Connection {
    /// Takes it from this thread.
    ///
    /// # Errors
    /// When the operating system does not let go of it.
    pub fn detach(self) -> io::Result<Connection<Detached>> {
        Ok(Connection {
            socket: detach(self.socket)?,
            place: self.place,
        })
    }

    pub(super) fn into_parts(self) -> (Socket, OwnedSemaphorePermit) {
        (self.socket, self.place)
    }
}

impl Connection<Detached> {
    /// Gives it to this thread.
    ///
    /// # Errors
    /// When the operating system cannot watch it.
    pub fn attach(self) -> io::Result<Connection> {
        Ok(Connection {
            socket: attach(self.socket)?,
            place: self.place,
        })
    }
}

/// The places that connections of a listener have.
#[derive(Debug, Clone)]
pub struct ConnectionLimit {
    free: Arc<Semaphore>,
    count: usize,
    bound: &'static str,
    seen: Arc<Seen>,
}

/// What has come in.
#[derive(Debug, Default)]
struct Seen {
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl ConnectionLimit {
    /// So many; the log says that there are as many as `bound`.
    #[must_use]
    pub fn new(count: usize, bound: &'static str) -> Self {
        let count = count.min(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(count)),
            count,
            bound,
            seen: Arc::default(),
        }
    }

    /// The maximum number of open connections.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Connections that are open.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.count.saturating_sub(self.free.available_permits())
    }

    /// Connections that have been given a place.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.seen.accepted.load(Ordering::Relaxed)
    }

    /// Connections that were closed at once because there was no place.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.seen.refused.load(Ordering::Relaxed)
    }

    fn take(&self, socket: Socket) -> Option<Connection> {
        let place = Arc::clone(&self.free).try_acquire_owned().ok();
        let seen = match place {
            Some(_) => &self.seen.accepted,
            None => &self.seen.refused,
        };
        seen.fetch_add(1, Ordering::Relaxed);
        place.map(|place| Connection { socket, place })
    }
}

/// The connections that are made to the listener.
///
/// What finds no place is closed at once: whoever called can go elsewhere, which he could not while he
/// waits in a queue.
pub fn connections(
    listener: Listener,
    places: ConnectionLimit,
    clock: Clock,
) -> impl Stream<Item = Connection> {
    let warning = Throttle::every(WARN_EVERY);
    let start = (listener, places, clock, warning);
    futures_util::stream::unfold(start, |(listener, places, clock, warning)| async move {
        loop {
            match listener.accept().await {
                Ok(socket) => match places.take(socket) {
                    Some(connection) => {
                        return Some((connection, (listener, places, clock, warning)));
                    }
                    None if warning.passes(clock()) => tracing::warn!(
                        listener = %listener,
                        open = places.taken(),
                        "a connection was closed because there are as many as {}",
                        places.bound
                    ),
                    None => {}
                },
                Err(error) => {
                    if warning.passes(clock()) {
                        tracing::warn!(
                            %error,
                            "a connection cannot be accepted; if there are too many open files, \
                             raise the limit (ulimit -n) or close connections"
                        );
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    })
}
