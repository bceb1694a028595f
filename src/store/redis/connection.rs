//! Connections to Redis: where it is, and when one is no longer to be used.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bb8_redis::bb8::ManageConnection;
use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue,
    IntoConnectionInfo as _, ProtocolVersion, PushInfo, PushKind, RedisError, Script,
    ServerErrorKind,
};
use thiserror::Error;
use tokio::sync::Notify;

use crate::store::StoreError;
use crate::store::breaker::Breaker;

/// An address that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct AddressError(String);

/// Reads a Redis address: `host:port`, `redis://[user:password@]host[:port][/db]`,
/// `unix:///path`, or the path of a socket.
///
/// `auth` (`password` or `user:password`) wins over what the address says.
///
/// # Errors
/// When the address is not of these forms. The message never contains a password.
pub fn parse_address(text: &str, auth: Option<&str>) -> Result<ConnectionInfo, AddressError> {
    let url = match text {
        _ if text.contains("://") => text.to_owned(),
        _ if text.starts_with('/') => format!("unix://{text}"),
        _ if text.contains(',') => {
            return Err(AddressError(
                "several Redis addresses mean Sentinel or Cluster, which this version does not \
                 speak; give one server as host:port"
                    .to_owned(),
            ));
        }
        _ => format!("redis://{text}"),
    };
    let scheme = url.split("://").next().unwrap_or_default();
    if matches!(scheme, "rediss" | "valkeys") {
        return Err(AddressError(format!(
            "{scheme}:// asks for TLS, which this version does not speak to Redis; use redis://"
        )));
    }
    // The driver's own text may repeat the address, credentials included, so it is not shown.
    let info = url.as_str().into_connection_info().map_err(|_| {
        AddressError(
            "not a Redis address; write host:port, redis://host:port or unix:///path".to_owned(),
        )
    })?;
    Ok(match auth {
        Some(auth) => with_credentials(info, auth),
        None => info,
    })
}

fn with_credentials(info: ConnectionInfo, auth: &str) -> ConnectionInfo {
    let settings = info.redis_settings().clone();
    let settings = match auth.split_once(':') {
        Some((user, password)) => settings.set_username(user).set_password(password),
        None => settings.set_password(auth),
    };
    info.set_redis_settings(settings)
}

/// The address for people: where, without credentials.
pub(super) fn address(info: &ConnectionInfo) -> String {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => format!("{host}:{port}"),
        ConnectionAddr::Unix(path) => path.display().to_string(),
        other => other.to_string(),
    }
}

/// Beginnings of what Redis answers when it serves nobody, or nobody like us, for now: it is loading, ends a script
/// that is not ours, is full, a replica, or wants another password, more replicas or a disk. Also what comes when the
/// script is not known right after it was loaded, as by a proxy in front of several.
const SERVES_NOBODY: [&str; 13] = [
    "LOADING",
    "BUSY",
    "OOM",
    "READONLY",
    "MASTERDOWN",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "MISCONF",
    "NOREPLICAS",
    "CLUSTERDOWN",
    "NOSCRIPT",
    "UNKILLABLE",
];

/// Whether others, who ask for something else, would have heard the same.
pub(super) fn serves_nobody(error: &RedisError) -> bool {
    if matches!(
        error.kind(),
        ErrorKind::Parse | ErrorKind::AuthenticationFailed
    ) {
        return true;
    }
    let code = error.code().unwrap_or_default();
    // Before Redis 7, a script's error is an ERR that quotes what the command in it said.
    let quotes = |code: &str| {
        let detail = error.detail().unwrap_or_default();
        detail.contains(&format!("-{code} "))
    };
    SERVES_NOBODY.contains(&code) || (code == "ERR" && SERVES_NOBODY.into_iter().any(quotes))
}

/// A connection, and whether it can still be used.
#[derive(Debug)]
pub(super) struct Connection {
    inner: MultiplexedConnection,
    broken: bool,
    /// Redis has closed it, maybe long ago.
    closed: Arc<AtomicBool>,
}

impl Connection {
    /// Calls the script; loads it first, once, if Redis does not know it.
    pub(super) async fn call<T: FromRedisValue>(
        &mut self,
        call: &Cmd,
        script: &Script,
    ) -> Result<T, RedisError> {
        // A caller that gives up drops this future: then the reply is still to come, and the
        // connection is not handed to anybody else.
        self.broken = true;
        let mut result = call.query_async(&mut self.inner).await;
        if let Err(error) = &result
            && error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
        {
            // Nothing ran.
            script.load_async(&mut self.inner).await?;
            result = call.query_async(&mut self.inner).await;
        }
        self.broken = match &result {
            Ok(_) => false,
            Err(error) => {
                let is_lost = error.is_timeout() || error.is_io_error();
                // What serves nobody may be another one by the next time: a demoted master stays where it is.
                is_lost || error.is_unrecoverable_error() || serves_nobody(error)
            }
        };
        result
    }
}

/// Makes connections for the pool.
#[derive(Debug)]
pub(super) struct Connector {
    client: Client,
    config: AsyncConnectionConfig,
    failure: LastFailure,
}

/// Why the last connection that could not be made could not be made. The pool does not tell those who
/// wait for one.
#[derive(Debug, Clone)]
pub(super) struct LastFailure(Arc<Failures>);

#[derive(Debug)]
struct Failures {
    /// Where to, without credentials.
    address: String,
    breaker: Breaker,
    cause: Mutex<Option<String>>,
    /// Another one could not be made.
    next: Notify,
}

impl LastFailure {
    /// None yet, of connections to this address. Those to come are told to the breaker.
    pub(super) fn new(address: String, breaker: Breaker) -> Self {
        Self(Arc::new(Failures {
            address,
            breaker,
            cause: Mutex::default(),
            next: Notify::new(),
        }))
    }

    /// The cause, in the words of Redis or the network.
    pub(super) fn cause(&self) -> Option<String> {
        self.lock().clone()
    }

    /// Until another connection cannot be made.
    pub(super) async fn next(&self) {
        self.0.next.notified().await;
    }

    /// How making a connection ended.
    fn note(&self, error: Option<&RedisError>) {
        *self.lock() = error.map(ToString::to_string);
        let Some(error) = error else { return };
        self.0.breaker.failed(&StoreError::Unreachable {
            address: self.0.address.clone(),
            cause: error.to_string(),
        });
        self.0.next.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.cause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connector {
    /// Makes connections to there, and remembers in `failure` why it could not.
    pub(super) fn new(
        info: ConnectionInfo,
        timeout: Duration,
        failure: LastFailure,
    ) -> Result<Self, RedisError> {
        // With the older protocol, nobody would tell that a connection was closed.
        let settings = info.redis_settings().clone();
        let info = info.set_redis_settings(settings.set_protocol(ProtocolVersion::RESP3));
        Ok(Self {
            client: Client::open(info)?,
            config: AsyncConnectionConfig::new()
                .set_connection_timeout(Some(timeout))
                .set_response_timeout(Some(timeout)),
            failure,
        })
    }
}

impl ManageConnection for Connector {
    type Connection = Connection;
    type Error = RedisError;

    async fn connect(&self) -> Result<Connection, RedisError> {
        let closed = Arc::new(AtomicBool::new(false));
        let notice = Arc::clone(&closed);
        let config = self.config.clone().set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                notice.store(true, Ordering::Relaxed);
            }
            Ok::<_, Infallible>(())
        });
        let connected = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        self.failure.note(connected.as_ref().err());
        let inner = connected?;
        Ok(Connection {
            inner,
            broken: false,
            closed,
        })
    }

    /// Asked before each use, so no PING: whether a connection was closed meanwhile is known.
    async fn is_valid(&self, connection: &mut Connection) -> Result<(), RedisError> {
        match connection.closed.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err((ErrorKind::Io, "closed by Redis").into()),
        }
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.broken || connection.closed.load(Ordering::Relaxed)
    }
}
