//! TCP and Unix sockets behind one type.

use std::{fmt, io, net, os};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

/// A socket that accepts connections.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// Accepts the next connection.
    ///
    /// # Errors
    /// An error of the operating system, after which the listener can still be used.
    pub async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Responses are small and must not be delayed by Nagle's algorithm. An error means that the client has
                // disconnected, which the next read returns as well.
                let _ = stream.set_nodelay(true);
                Ok(Either::Left(stream))
            }
            Self::Unix(listener) => Ok(Either::Right(listener.accept().await?.0)),
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "{address}"),
                Err(_) => f.write_str("an unknown address"),
            },
            Self::Unix(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "unix:{}", path_of(&address.into())),
                Err(_) => f.write_str("an unknown path"),
            },
        }
    }
}

fn path_of(address: &os::unix::net::SocketAddr) -> String {
    address
        .as_pathname()
        .map_or_else(|| "(no path)".to_owned(), |path| path.display().to_string())
}

/// A TCP or Unix connection that is attached to the runtime of a thread.
pub type Socket = Either<TcpStream, UnixStream>;

/// A [`Socket`] that is not attached to a runtime.
pub type Detached = Either<net::TcpStream, os::unix::net::UnixStream>;

/// Detaches a socket from the runtime of this thread.
pub(super) fn detach(socket: Socket) -> io::Result<Detached> {
    match socket {
        Either::Left(stream) => stream.into_std().map(Either::Left),
        Either::Right(stream) => stream.into_std().map(Either::Right),
    }
}

/// Attaches a socket to the runtime of this thread.
pub(super) fn attach(socket: Detached) -> io::Result<Socket> {
    match socket {
        Either::Left(stream) => TcpStream::from_std(stream).map(Either::Left),
        Either::Right(stream) => UnixStream::from_std(stream).map(Either::Right),
    }
}

/// Returns the address of the client, for logs.
pub(super) fn peer(socket: &Socket) -> String {
    match socket {
        Either::Left(stream) => stream.peer_addr().map_or_else(
            |_| "a disconnected client".to_owned(),
            |peer| peer.to_string(),
        ),
        Either::Right(_) => "a local process".to_owned(),
    }
}
