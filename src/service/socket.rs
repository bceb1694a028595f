//! Sockets of either kind: TCP, and those of this machine alone.

use std::{fmt, io, net, os};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

/// A socket that accepts connections.
#[derive(Debug)]
pub enum Listener {
    /// On an address and a port.
    Tcp(TcpListener),
    /// At a path.
    Unix(UnixListener),
}

impl Listener {
    /// The next connection.
    ///
    /// # Errors
    /// When it cannot be accepted; the next one may be.
    pub async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small and awaited: none is held back to be sent with the next one. It
                // fails when the connection is gone already, which reading will tell.
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
                Ok(address) => write!(f, "unix:{}", shown(&address.into())),
                Err(_) => f.write_str("an unknown path"),
            },
        }
    }
}

fn shown(address: &os::unix::net::SocketAddr) -> String {
    address
        .as_pathname()
        .map_or_else(|| "(no path)".to_owned(), |path| path.display().to_string())
}

/// A connection that was accepted: over TCP, or within this machine.
pub type Socket = Either<TcpStream, UnixStream>;

/// A [`Socket`] that belongs to no thread.
pub type Detached = Either<net::TcpStream, os::unix::net::UnixStream>;

/// Takes a socket from this thread; fails when the operating system does not let go of it.
pub(super) fn detach(socket: Socket) -> io::Result<Detached> {
    match socket {
        Either::Left(stream) => stream.into_std().map(Either::Left),
        Either::Right(stream) => stream.into_std().map(Either::Right),
    }
}

/// Gives a socket to this thread; fails when the operating system cannot watch it.
pub(super) fn attach(socket: Detached) -> io::Result<Socket> {
    match socket {
        Either::Left(stream) => TcpStream::from_std(stream).map(Either::Left),
        Either::Right(stream) => UnixStream::from_std(stream).map(Either::Right),
    }
}

/// Who is at the other end, for people.
pub(super) fn peer(socket: &Socket) -> String {
    match socket {
        Either::Left(stream) => stream
            .peer_addr()
            .map_or_else(|_| "somebody who left".to_owned(), |peer| peer.to_string()),
        Either::Right(_) => "a process on this machine".to_owned(),
    }
}
