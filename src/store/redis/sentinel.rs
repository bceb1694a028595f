//! Sentinels, which report the address of the master.
//!
//! Each new connection queries them. One of the stores that share the sentinels also queries them every second, so
//! that a replaced master is left even while it still replies. The address is used only if the server itself
//! confirms to be a master, because a sentinel can have missed a failover.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bb8_redis::redis::{RedisError, cmd};
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::address::Endpoint;
use super::dialer::Dialer;
use super::handshake::Greeting;
use super::login::Login;
use super::redis_error::{self, describe};
use super::tls::RedisTls;

/// Interval between checks of whether the master has changed.
pub(super) const CHECK_EVERY: Duration = Duration::from_secs(1);

/// How much later than the preferred sentinel the others are queried, unless it fails first.
const HEAD_START: Duration = Duration::from_millis(50);

/// Timeout of a query of a sentinel.
const SENTINEL_TIMEOUT: Duration = Duration::from_millis(500);

/// The sentinels of a master, and the last master that they reported.
#[derive(Debug)]
pub struct Sentinels {
    /// Name of the master in the configuration of the sentinels.
    name: String,
    /// At least one.
    endpoints: Vec<Endpoint>,
    dialer: Dialer,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The last server that confirmed to be the master.
    master: Option<Endpoint>,
    /// Index of the sentinel that reported it.
    sentinel: usize,
    /// Time of the last query.
    asked: Option<Instant>,
}

/// Reply of a sentinel.
pub(super) struct Answer {
    pub(super) sentinel: usize,
    /// Address of the master, or the error.
    pub(super) master: Result<Endpoint, String>,
}

impl Sentinels {
    /// Creates the sentinels at `endpoints`, of which there must be at least one, for the master called
    /// `name`.
    #[must_use]
    pub fn new(
        name: String,
        endpoints: Vec<Endpoint>,
        login: Option<Login>,
        tls: Option<RedisTls>,
    ) -> Self {
        Self {
            name,
            endpoints,
            dialer: Dialer {
                login,
                tls,
                database: 0,
                greeting: Greeting::Silent,
            },
            known: Mutex::default(),
        }
    }

    /// Returns a description for logs and errors.
    pub(super) fn description(&self) -> String {
        let endpoints: Vec<String> = self.endpoints.iter().map(Endpoint::to_string).collect();
        format!("{} (sentinels {})", self.name, endpoints.join(", "))
    }

    /// Returns the last server that confirmed to be the master.
    pub(super) fn master(&self) -> Option<Endpoint> {
        self.lock().master.clone()
    }

    /// Records a server that confirmed to be the master, and the sentinel that reported it.
    pub(super) fn remember(&self, sentinel: usize, master: &Endpoint) {
        let mut known = self.lock();
        let before = known.master.replace(master.clone());
        known.sentinel = sentinel;
        drop(known);
        if before.as_ref() != Some(master) {
            tracing::info!(master = %self.name, addr = %master, "sentinels report a master");
        }
    }

    /// Returns whether the sentinels must be queried now: true for one of the stores that share them.
    pub(super) fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut known = self.lock();
        let is_due = known
            .asked
            .is_none_or(|asked| asked + CHECK_EVERY / 2 <= now);
        if is_due {
            known.asked = Some(now);
        }
        is_due
    }

    /// Returns the replies of the sentinels as they arrive. The sentinel that reported the current master is
    /// queried first and is usually the only one.
    pub(super) fn answers(&self) -> impl Stream<Item = Answer> {
        let first = self.lock().sentinel;
        let (first_is_done, is_done) = watch::channel(false);
        let first_is_done = Arc::new(first_is_done);
        let ask = move |sentinel: usize| {
            let (first_is_done, mut is_done) = (Arc::clone(&first_is_done), is_done.clone());
            async move {
                if sentinel != first {
                    // The preferred sentinel failed or is slow.
                    let _ = timeout(HEAD_START, is_done.wait_for(|is_done| *is_done)).await;
                    return self.ask(sentinel).await;
                }
                let answer = self.ask(sentinel).await;
                first_is_done.send_replace(true);
                answer
            }
        };
        (0..self.endpoints.len())
            .map(ask)
            .collect::<FuturesUnordered<_>>()
    }

    /// Returns the master that the preferred sentinel reports, or another one if it does not reply.
    pub(super) async fn named(&self) -> Option<Endpoint> {
        let mut answers = pin!(self.answers());
        while let Some(answer) = answers.next().await {
            if let Ok(master) = answer.master {
                return Some(master);
            }
        }
        None
    }

    async fn ask(&self, sentinel: usize) -> Answer {
        let endpoint = &self.endpoints[sentinel];
        let master = match timeout(SENTINEL_TIMEOUT, self.master_by(endpoint)).await {
            Ok(master) => master.map_err(|error| format!("{endpoint}: {}", describe(&error))),
            Err(_) if self.dialer.tls.is_some() => Err(format!(
                "{endpoint} did not answer in time (does the server use TLS?)"
            )),
            Err(_) => Err(format!("{endpoint} did not answer in time")),
        };
        Answer { sentinel, master }
    }

    async fn master_by(&self, endpoint: &Endpoint) -> Result<Endpoint, RedisError> {
        let mut link = self.dialer.connect(endpoint, SENTINEL_TIMEOUT).await?;
        let master: Option<(String, u16)> = cmd("SENTINEL")
            .arg("get-master-addr-by-name")
            .arg(&self.name)
            .query_async(&mut link.connection)
            .await?;
        let unknown = || {
            let text = format!("unknown master {}", self.name);
            RedisError::from(io::Error::other(text))
        };
        let (host, port) = master.ok_or_else(unknown)?;
        let host = redis_error::host(&host)
            .ok_or_else(|| io::Error::other("the reported address is not valid"))?;
        Ok(Endpoint::Tcp { host, port })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
