//! Buckets in Redis, shared by all instances. Requests in flight are decided together, by a script that
//! is atomic over all of their buckets, on Redis's own clock.
//!
//! Knows keys and charges, nothing of descriptors or rules.

mod batch;
mod connection;
mod lane;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bb8_redis::bb8::{Pool, RunError};
use bb8_redis::redis::{ConnectionInfo, IntoConnectionInfo as _, RedisError, Script, Value};
use tokio::time::{Instant, timeout_at};

use super::{Charge, Decision, Store, StoreError};
use batch::{Batch, Reply};
use connection::{Connector, LastFailure, address};
use lane::Lane;

pub use connection::{AddressError, parse_address};

/// The text of the script that decides a batch.
pub const SCRIPT: &str = include_str!("redis/decide.lua");

/// How much longer the pool tries to connect than anybody waits. The pool must not be the one to give up: it
/// would say less of why.
const POOL_PATIENCE: Duration = Duration::from_secs(1);

/// How to reach Redis.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// Where it is and as whom to log in; see [`parse_address`].
    pub address: ConnectionInfo,
    /// The most connections held, at least 1.
    pub pool_size: u32,
    /// How long a decision may take, connecting included.
    pub timeout: Duration,
}

impl RedisSettings {
    /// The settings of each of so many stores that share the connections.
    #[must_use]
    pub fn shared_by(self, stores: NonZeroUsize) -> Self {
        let stores = u32::try_from(stores.get()).unwrap_or(u32::MAX);
        Self {
            pool_size: (self.pool_size / stores).max(1),
            ..self
        }
    }
}

/// Buckets in one Redis server. Each has a lane of its own: one batch is on its way while the next one
/// gathers. More of them would make smaller batches, each with its own cost; several stores (one for
/// each thread that serves) keep Redis busy while one of them makes a batch.
pub struct RedisStore {
    server: Arc<Server>,
    lane: Lane,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("address", &self.server.address)
            .finish_non_exhaustive()
    }
}

impl RedisStore {
    /// A store on the Redis that the settings describe. It is connected to when first
    /// needed. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the address is one that this build cannot use, such as one that demands TLS.
    pub fn new(settings: &RedisSettings) -> Result<Self, RedisError> {
        Self::with_script(settings, SCRIPT)
    }

    /// The same with another text of the script, for tests that own the clock that it reads.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_script(settings: &RedisSettings, source: &str) -> Result<Self, RedisError> {
        let info = settings.address.clone().into_connection_info()?;
        let address = address(&info);
        let failure = LastFailure::default();
        let connector = Connector::new(info, settings.timeout, failure.clone())?;
        let pool = Pool::builder()
            .max_size(settings.pool_size.max(1))
            .connection_timeout(settings.timeout + POOL_PATIENCE)
            .test_on_check_out(true)
            .build_unchecked(connector);
        let server = Arc::new(Server {
            pool,
            failure,
            script: Script::new(source),
            address,
            timeout: settings.timeout,
        });
        Ok(Self {
            lane: Lane::new(Arc::clone(&server)),
            server,
        })
    }

    /// Decides several requests in one call of the script, without waiting for others. Equal requests are
    /// decided one right after the other, when the first of them is due.
    ///
    /// # Errors
    /// As [`decide`](Store::decide), for all of them.
    pub async fn decide_batch(
        &self,
        requests: &[Vec<Charge>],
    ) -> Result<Vec<Decision>, StoreError> {
        let deadline = Instant::now() + self.server.timeout;
        let batch = Batch::new(requests.iter().map(Vec::as_slice));
        self.server.decide(&batch, deadline).await
    }
}

impl Store for RedisStore {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: Instant,
    ) -> Result<Decision, StoreError> {
        self.lane.decide(&self.server, charges, deadline).await
    }
}

// --- The server ---

/// The way to Redis.
#[derive(Debug)]
struct Server {
    pool: Pool<Connector>,
    failure: LastFailure,
    script: Script,
    /// Without credentials.
    address: String,
    timeout: Duration,
}

impl Server {
    /// Decides a batch, until the deadline.
    async fn decide(
        &self,
        batch: &Batch<'_>,
        deadline: Instant,
    ) -> Result<Vec<Decision>, StoreError> {
        let Ok(connection) = timeout_at(deadline, self.pool.get()).await else {
            return Err(self.no_connection());
        };
        let mut connection = connection.map_err(|error| self.not_connected(error))?;
        let command = batch.command(self.script.get_hash());
        let call = connection.call(&command, &self.script);
        let reply: Vec<Value> = match timeout_at(deadline, call).await {
            Ok(reply) => reply.map_err(|error| self.error(&error))?,
            Err(_) => return Err(self.no_answer()),
        };
        Reply::parse(&reply)
            .and_then(|reply| batch.decisions(reply))
            .ok_or_else(|| self.refused("a reply that is not the script's"))
    }

    fn no_connection(&self) -> StoreError {
        let cause = match self.pool.state() {
            state if state.connections > 0 => {
                format!("all {} connections are busy", state.connections)
            }
            _ => self
                .failure
                .cause()
                .unwrap_or_else(|| "no connection was made in time".to_owned()),
        };
        StoreError::Unreachable {
            address: self.address.clone(),
            cause,
        }
    }

    fn not_connected(&self, error: RunError<RedisError>) -> StoreError {
        match error {
            RunError::User(error) => self.error(&error),
            RunError::TimedOut => self.no_connection(),
        }
    }

    fn no_answer(&self) -> StoreError {
        if self.pool.state().connections == 0 {
            return self.no_connection();
        }
        StoreError::Timeout {
            address: self.address.clone(),
        }
    }

    fn error(&self, error: &RedisError) -> StoreError {
        if error.is_timeout() {
            self.no_answer()
        } else if error.is_io_error() || error.is_connection_dropped() {
            StoreError::Unreachable {
                address: self.address.clone(),
                cause: error.to_string(),
            }
        } else {
            self.refused(&error.to_string())
        }
    }

    fn refused(&self, cause: &str) -> StoreError {
        StoreError::Refused {
            address: self.address.clone(),
            cause: cause.to_owned(),
        }
    }
}
