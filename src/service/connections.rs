//! The connections that come in, also when the process has no room for more of them.

use std::io;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::TcpIncoming;

use crate::bucket::Micros;
use crate::clock::Clock;
use crate::telemetry::Throttle;

/// How long nothing is accepted after accepting failed. What fails then, such as that the process has
/// no file descriptor left, fails again at once; without a pause, trying would take a whole processor
/// from those who are connected.
const PAUSE: Duration = Duration::from_millis(50);

/// The shortest time between two warnings about it.
const WARN_EVERY: Micros = 10_000_000;

/// The connections that are made to the listener.
pub fn connections(
    listener: TcpListener,
    clock: Clock,
) -> impl Stream<Item = io::Result<TcpStream>> {
    let warning = Throttle::every(WARN_EVERY);
    TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .then(move |connection| {
            let failed = connection.is_err();
            if let Err(error) = &connection
                && warning.passes(clock())
            {
                tracing::warn!(
                    %error,
                    "a connection cannot be accepted; if there are too many open files, \
                     raise the limit (ulimit -n) or close connections"
                );
            }
            async move {
                if failed {
                    tokio::time::sleep(PAUSE).await;
                }
                connection
            }
        })
}
