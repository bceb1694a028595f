//! From an endpoint to a connection that speaks Redis's protocol: socket, TLS, login.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, RedisError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::address::Endpoint;
use super::login::Login;
use super::said;
use super::tls::RedisTls;

/// What can be read and written.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// The most bytes that may come for what was written last: many times what the replies to any batch take up, and
/// enough for the map of any cluster. The driver would keep what it is sent, however much that is.
const MOST_BYTES: usize = 8 << 20;

/// A stream that fails when more comes than any reply is long.
struct Bounded<S> {
    stream: S,
    /// Bytes since something was last written.
    read: usize,
}

impl<S> Bounded<S> {
    fn new(stream: S) -> Self {
        Self { stream, read: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.read += buf.filled().len() - before;
        if self.read > MOST_BYTES {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it replies with more than {MOST_BYTES} bytes, which no reply has"),
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

/// How to speak to a server.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    pub(super) login: Option<Login>,
    pub(super) tls: Option<RedisTls>,
    pub(super) database: i64,
    pub(super) protocol: ProtocolVersion,
}

/// A connection, and the task that moves its bytes for as long as this is held.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: MultiplexedConnection,
    pub(super) endpoint: Endpoint,
    driver: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Manner {
    /// Connects to a server and logs in.
    pub(super) async fn connect(
        &self,
        endpoint: &Endpoint,
        config: AsyncConnectionConfig,
    ) -> Result<Link, RedisError> {
        let info = self.info().await?;
        let stream = Bounded::new(self.open(endpoint).await?);
        let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config)
            .await
            .map_err(|error| said::not_logged_in(&error, self.tls.is_some()))?;
        Ok(Link {
            connection,
            endpoint: endpoint.clone(),
            driver: tokio::spawn(driver),
        })
    }

    async fn info(&self) -> io::Result<RedisConnectionInfo> {
        // The driver would else tell its name and version, which takes a right of its own.
        let info = RedisConnectionInfo::default()
            .set_protocol(self.protocol)
            .set_db(self.database)
            .set_skip_set_lib_name();
        let Some(login) = self.login.clone() else {
            return Ok(info);
        };
        let credentials = blocking(move || login.credentials()).await?;
        let info = info.set_password(credentials.password);
        Ok(match credentials.user {
            Some(user) => info.set_username(user),
            None => info,
        })
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
            .map_err(|error| said::handshake_failed(&error))
    }
}

/// Reads files, on a thread that may wait for them.
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
            // Ends when nobody reads.
            let _ = copy(&mut repeat(b'x'), &mut writer).await;
        });
        let mut bounded = Bounded::new(ours);
        let mut half = vec![0; MOST_BYTES / 2 + 1];
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
