//! Connects to a server: socket, TLS and authentication.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::address::Endpoint;
use super::handshake::{Greeting, greet};
use super::login::{Credentials, Login};
use super::redis_error;
use super::tls::RedisTls;
use crate::store::ServerInfo;

/// A byte stream.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Maximum number of bytes received after the last write. This is many times the size of the replies to a batch,
/// and enough for the topology of any cluster. The driver itself buffers without a bound.
const MAX_REPLY_BYTES: usize = 8 << 20;

/// A stream that fails if more is received than any reply is long, and whose end others can observe. The driver
/// also reads while no reply is expected.
struct Bounded<S> {
    stream: S,
    /// Bytes received since the last write.
    read: usize,
    /// Nothing more can be received.
    is_closed: Arc<AtomicBool>,
}

impl<S> Bounded<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            read: 0,
            is_closed: Arc::default(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        let count = buf.filled().len() - before;
        if read.is_err() || (count == 0 && buf.remaining() > 0) {
            self.is_closed.store(true, Ordering::Relaxed);
        }
        read?;
        self.read += count;
        if self.read > MAX_REPLY_BYTES {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "the server sent more than {MAX_REPLY_BYTES} bytes, more than any reply has"
                ),
            )));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.read = 0;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Connects to servers with the same credentials, TLS settings and database.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    pub(super) login: Option<Login>,
    pub(super) tls: Option<RedisTls>,
    pub(super) database: i64,
    pub(super) greeting: Greeting,
}

/// A connection and the task that drives it while this value is held.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: MultiplexedConnection,
    pub(super) endpoint: Endpoint,
    /// Name and version of the server.
    pub(super) server: ServerInfo,
    is_closed: Arc<AtomicBool>,
    driver: Driver,
}

/// The task that drives a connection.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    /// Returns whether the server has closed the connection.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed) || self.driver.0.is_finished()
    }
}

impl Dialer {
    /// Connects and authenticates. `patience` is the timeout of each command afterwards.
    pub(super) async fn connect(
        &self,
        endpoint: &Endpoint,
        patience: Duration,
    ) -> Result<Link, RedisError> {
        let credentials = match self.login.clone() {
            Some(login) => Some(blocking(move || login.credentials()).await?),
            None => None,
        };
        let credentials = credentials.as_ref();
        let mut result = self.log_in(endpoint, self.greeting, credentials).await?;
        // Some proxies close the connection at an unknown command. A restart of the server looks the same
        // the first time.
        for greeting in [Greeting::Hello, Greeting::Ping] {
            if self.greeting == Greeting::Hello
                && result.as_ref().is_err_and(redis_error::was_closed)
            {
                let again = self.log_in(endpoint, greeting, credentials).await?;
                let is_explained = !again.as_ref().is_err_and(redis_error::was_closed);
                result = if is_explained { again } else { result };
            }
        }
        let mut link =
            result.map_err(|error| redis_error::not_logged_in(&error, self.tls.is_some()))?;
        link.connection.set_response_timeout(patience);
        Ok(link)
    }

    /// Connects. The inner result is that of the authentication.
    async fn log_in(
        &self,
        endpoint: &Endpoint,
        greeting: Greeting,
        credentials: Option<&Credentials>,
    ) -> io::Result<Result<Link, RedisError>> {
        let stream = Bounded::new(self.open(endpoint).await?);
        let is_closed = Arc::clone(&stream.is_closed);
        // The driver must not send `CLIENT SETINFO`, which requires a right of its own.
        let silent = RedisConnectionInfo::default().set_skip_set_lib_name();
        // The caller sets a timeout for the whole connection setup.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(&silent, stream, config).await;
        let (mut connection, driver) = match made {
            Ok(made) => made,
            Err(error) => return Ok(Err(error)),
        };
        let driver = Driver(tokio::spawn(driver));
        let server = greet(&mut connection, greeting, credentials, self.database).await;
        Ok(server.map(|server| Link {
            connection,
            endpoint: endpoint.clone(),
            server,
            is_closed,
            driver,
        }))
    }

    async fn open(&self, endpoint: &Endpoint) -> io::Result<Box<dyn Stream>> {
        #[cfg(test)]
        if let Some(stream) = super::simulation::dial(endpoint) {
            return Ok(Box::new(stream?));
        }
        let (host, port) = match endpoint {
            Endpoint::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Endpoint::Tcp { host, port } => (host, *port),
        };
        let config = match self.tls.clone() {
            Some(tls) => {
                let config = blocking(move || tls.load().map_err(io::Error::other));
                Some(config.await?)
            }
            None => None,
        };
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        let Some(config) = config else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::clone(&config))
            .connect(name, stream)
            .await;
        stream
            .map(|stream| Box::new(stream) as Box<dyn Stream>)
            .map_err(|error| redis_error::handshake_failed(&error))
    }
}

/// Reads files on a thread that is allowed to block.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(read).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, duplex, empty, repeat};

    use super::*;

    #[tokio::test]
    async fn more_than_any_reply_is_not_read() {
        let (ours, theirs) = duplex(1 << 16);
        let replies = tokio::spawn(async move {
            let (_reader, mut writer) = tokio::io::split(theirs);
            // Ends when the reader is dropped.
            let _ = copy(&mut repeat(b'x'), &mut writer).await;
        });
        let mut bounded = Bounded::new(ours);
        let mut half = vec![0; MAX_REPLY_BYTES / 2 + 1];
        for _ in 0..3 {
            bounded.write_all(b"?").await.unwrap();
            bounded.read_exact(&mut half).await.unwrap();
        }
        let failure = copy(&mut bounded, &mut tokio::io::sink())
            .await
            .unwrap_err();
        assert_eq!(failure.kind(), io::ErrorKind::InvalidData);
        replies.abort();
        let mut nothing = Bounded::new(tokio::io::join(empty(), empty()));
        assert_eq!(nothing.read(&mut half).await.unwrap(), 0);
    }
}
