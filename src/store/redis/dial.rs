//! From an endpoint to a connection that speaks Redis's protocol: socket, TLS, login.

use std::io;
use std::sync::Arc;

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, RedisError};
use tokio::io::{AsyncRead, AsyncWrite};
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
        let stream = self.open(endpoint).await?;
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
