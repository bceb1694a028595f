//! Buckets in Redis, shared by all instances: one EVALSHA per request, atomic over all its
//! buckets, by Redis's own clock.
//!
//! Knows keys and charges, nothing of descriptors or rules.

mod connection;
pub mod script;

use std::fmt;
use std::time::Duration;

use bb8_redis::bb8::{Pool, RunError};
use bb8_redis::redis::{ConnectionInfo, IntoConnectionInfo as _, RedisError, Script};
use tokio::time::timeout;

use super::{Charge, Decision, Store, StoreError, settle};
use connection::{Connector, address};

pub use connection::{AddressError, parse_address};

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

/// Buckets in one Redis server.
pub struct RedisStore {
    pool: Pool<Connector>,
    script: Script,
    address: String,
    timeout: Duration,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("address", &self.address)
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
        Self::with_script(settings, script::SOURCE)
    }

    /// The same with another text of the script, for tests that own the clock that it reads.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_script(settings: &RedisSettings, source: &str) -> Result<Self, RedisError> {
        let info = settings.address.clone().into_connection_info()?;
        let address = address(&info);
        let pool = Pool::builder()
            .max_size(settings.pool_size.max(1))
            .connection_timeout(settings.timeout)
            // A broken connection is known by what happened on it, so no PING before each use.
            .test_on_check_out(false)
            .build_unchecked(Connector::new(info, settings.timeout)?);
        Ok(Self {
            pool,
            script: Script::new(source),
            address,
            timeout: settings.timeout,
        })
    }

    async fn run(&self, charges: &[Charge]) -> Result<Decision, StoreError> {
        let mut connection = self.pool.get().await.map_err(|error| match error {
            RunError::User(error) => self.error(&error),
            RunError::TimedOut => self.no_connection(),
        })?;
        let reply: Vec<i64> = connection
            .call(&script::invocation(&self.script, charges))
            .await
            .map_err(|error| self.error(&error))?;
        let (now, mut states) =
            script::parse_reply(charges, &reply).ok_or_else(|| StoreError::Refused {
                address: self.address.clone(),
                cause: "a reply that is not the script's".to_owned(),
            })?;
        Ok(settle(charges, &mut states, now))
    }

    fn no_connection(&self) -> StoreError {
        let cause = match self.pool.state() {
            state if state.connections > 0 => {
                format!("all {} connections are busy", state.connections)
            }
            _ => "no connection could be made".to_owned(),
        };
        StoreError::Unreachable {
            address: self.address.clone(),
            cause,
        }
    }

    fn error(&self, error: &RedisError) -> StoreError {
        let address = self.address.clone();
        if error.is_timeout() {
            StoreError::Timeout {
                address,
                millis: self.timeout.as_millis(),
            }
        } else if error.is_io_error() || error.is_connection_dropped() {
            StoreError::Unreachable {
                address,
                cause: error.to_string(),
            }
        } else {
            StoreError::Refused {
                address,
                cause: error.to_string(),
            }
        }
    }
}

impl Store for RedisStore {
    async fn decide(&self, charges: &[Charge]) -> Result<Decision, StoreError> {
        match timeout(self.timeout, self.run(charges)).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Timeout {
                address: self.address.clone(),
                millis: self.timeout.as_millis(),
            }),
        }
    }
}
