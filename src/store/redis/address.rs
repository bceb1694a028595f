//! Addresses of Redis servers as people write them.

use std::fmt;
use std::path::PathBuf;

use bb8_redis::redis::{ConnectionAddr, IntoConnectionInfo as _};
use thiserror::Error;

use super::login::Login;

/// An address that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct AddressError(String);

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A host, by name or number, and a port.
    Tcp {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// What an address says.
#[derive(Debug, Clone)]
pub struct Address {
    /// Where.
    pub endpoint: Endpoint,
    /// As whom to log in, if it says so.
    pub login: Option<Login>,
    /// Which database.
    pub database: i64,
    /// Whether it asks for TLS.
    pub is_tls: bool,
}

impl Address {
    /// Reads an address: `host:port`, `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS,
    /// `unix:///path`, or the path of a socket.
    ///
    /// # Errors
    /// When it is not of these forms. The message never contains a password.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let url = match text {
            _ if text.contains(',') => {
                return Err(AddressError(
                    "several addresses need REDIS_TYPE=sentinel or REDIS_TYPE=cluster; one server is \
                     host:port"
                        .to_owned(),
                ));
            }
            _ if text.contains("://") => text.to_owned(),
            _ if text.starts_with('/') => format!("unix://{text}"),
            _ => format!("redis://{text}"),
        };
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let is_tls = matches!(scheme, "rediss" | "valkeys");
        let plain = if is_tls {
            format!("redis://{rest}")
        } else {
            url
        };
        // The driver's own text may repeat the address, credentials included, so it is not shown.
        let not_one = || {
            AddressError(
                "not a Redis address; write host:port, redis://host:port, rediss://host:port or \
                 unix:///path"
                    .to_owned(),
            )
        };
        let info = plain
            .as_str()
            .into_connection_info()
            .map_err(|_| not_one())?;
        let endpoint = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Endpoint::Tcp {
                host: host.clone(),
                port: *port,
            },
            ConnectionAddr::Unix(path) => Endpoint::Unix(path.clone()),
            _ => return Err(not_one()),
        };
        let refuse = |text: &str| Err(AddressError(text.to_owned()));
        if matches!(endpoint, Endpoint::Tcp { port: 0, .. }) {
            return refuse("no server is at port 0; write host:port, with a port from 1 to 65535");
        }
        let database = info.redis_settings().db();
        if database < 0 {
            return refuse("the database, behind the last slash, is a number from 0");
        }
        let (user, password) = (
            info.redis_settings().username(),
            info.redis_settings().password(),
        );
        Ok(Self {
            endpoint,
            login: password.map(|password| Login::new(user, password)),
            database,
            is_tls,
        })
    }
}
