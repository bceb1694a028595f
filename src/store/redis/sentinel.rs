//! Sentinels: they know which of several servers is the master.
//!
//! Each new connection asks them; and one of the stores that share the sentinels asks about every second,
//! so that a master that was replaced is left even while it still answers. What sentinels say is believed
//! only when the server itself says that it is a master: a sentinel may have missed a failover.

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

/// How often the sentinels are asked whether the master is still the master.
pub(super) const CHECK_EVERY: Duration = Duration::from_secs(1);

/// How much later all others are asked than the sentinel that was right the last time, unless that fails at once.
const HEAD_START: Duration = Duration::from_millis(50);

/// How long a sentinel may take at all.
const SENTINEL_TIMEOUT: Duration = Duration::from_millis(500);

/// The sentinels of a master, and what is known of it by all who share them.
#[derive(Debug)]
pub struct Sentinels {
    /// What the sentinels call the master.
    name: String,
    /// At least one.
    endpoints: Vec<Endpoint>,
    dialer: Dialer,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The last master that said so itself.
    master: Option<Endpoint>,
    /// Which sentinel named it.
    sentinel: usize,
    /// When the sentinels were asked last.
    asked: Option<Instant>,
}

/// What a sentinel says.
pub(super) struct Answer {
    pub(super) sentinel: usize,
    /// Where the master is, or why it does not say so.
    pub(super) master: Result<Endpoint, String>,
}

impl Sentinels {
    /// The sentinels at these places, at least one, for the master that they call `name`.
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

    /// For people: whose master it is.
    pub(super) fn description(&self) -> String {
        let endpoints: Vec<String> = self.endpoints.iter().map(Endpoint::to_string).collect();
        format!("{} (by the sentinels {})", self.name, endpoints.join(", "))
    }

    /// The last master that said so itself.
    pub(super) fn master(&self) -> Option<Endpoint> {
        self.lock().master.clone()
    }

    /// Remembers who named a server that said that it is the master.
    pub(super) fn remember(&self, sentinel: usize, master: &Endpoint) {
        let mut known = self.lock();
        let before = known.master.replace(master.clone());
        known.sentinel = sentinel;
        drop(known);
        if before.as_ref() != Some(master) {
            tracing::info!(master = %self.name, address = %master, "the sentinels name a master");
        }
    }

    /// Whether it is time to ask; true for one of those who share the sentinels.
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

    /// What the sentinels say, as they answer. The one that was right the last time is asked first, and most
    /// often it is the only one.
    pub(super) fn answers(&self) -> impl Stream<Item = Answer> {
        let first = self.lock().sentinel;
        let (first_is_done, is_done) = watch::channel(false);
        let first_is_done = Arc::new(first_is_done);
        let ask = move |sentinel: usize| {
            let (first_is_done, mut is_done) = (Arc::clone(&first_is_done), is_done.clone());
            async move {
                if sentinel != first {
                    // It was not enough, or takes its time.
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

    /// The master that the sentinel names that was right the last time; another one's, if it does not answer.
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
                "{endpoint} did not answer in time (does it speak TLS?)"
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
            let text = format!("it knows no master called {}", self.name);
            RedisError::from(io::Error::other(text))
        };
        let (host, port) = master.ok_or_else(unknown)?;
        let host = redis_error::host(&host)
            .ok_or_else(|| io::Error::other("the address that it names is none"))?;
        Ok(Endpoint::Tcp { host, port })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
