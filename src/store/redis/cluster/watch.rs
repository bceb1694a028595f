//! Reads from the nodes who owns which slot: at the start, whenever a node was wrong or failed, and now and then.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bb8_redis::bb8::ManageConnection as _;
use bb8_redis::redis::{self, ErrorKind, RedisError, ServerErrorKind, Value};
use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::slots::{Address, Range, ranges};
use super::{Cluster, shown};
use crate::store::StoreError;
use crate::store::redis::connection::{Connector, LastFailure};
use crate::store::redis::said::said;

/// The shortest time between two readings. The nodes need longer to notice that one of them is gone.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest time between two readings: slots that move are noticed when a node says so; this is for nodes that
/// nothing is asked of.
const REST: Duration = Duration::from_secs(30);

/// The same while the cluster is not whole, or some of it does not answer.
const CONCERN: Duration = Duration::from_millis(300);

/// How long a node stays known that owns nothing: longer than anybody waits in its lane, and not so short that
/// one that is about to own its first slot is connected to again and again.
const STAY: Duration = Duration::from_secs(60);

/// The most nodes that are asked in one reading.
const MOST_ASKED: usize = 8;

/// The task that keeps the map right, until it is dropped.
#[derive(Debug)]
pub(super) struct Watch(JoinHandle<()>);

impl Watch {
    pub(super) fn start(cluster: Arc<Cluster>) -> Self {
        Self(tokio::spawn(watch(cluster)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn watch(cluster: Arc<Cluster>) {
    let mut told = Told::default();
    loop {
        let read = cluster.read_map().await;
        match &read {
            Ok(_) => cluster.breaker.succeeded(),
            Err(error) => cluster.breaker.failed(error),
        }
        cluster.read.notify_waiters();
        let down = cluster.probe_those_down().await;
        let is_whole = read.as_ref().is_ok_and(|reading| reading.is_whole);
        let is_well = is_whole && down.is_empty();
        told.tell(&cluster, &read, down);
        sleep(PAUSE).await;
        let rest = if is_well { REST } else { CONCERN };
        // Over either way.
        let _ = timeout(rest, cluster.doubted.notified()).await;
    }
}

/// What a node says of the cluster.
#[derive(Debug)]
pub(super) struct Reading {
    ranges: Vec<Range>,
    /// By its account, each slot has a master that is up.
    is_whole: bool,
}

impl Cluster {
    /// Asks nodes until one knows the cluster to be whole, another one first each time.
    pub(super) async fn read_map(&self) -> Result<Reading, StoreError> {
        let round = self.readings.fetch_add(1, Ordering::Relaxed);
        let mut best = Err(self.not_known());
        for address in self.informants(round) {
            let reading = self.ask(&address).await;
            let is_whole = reading.as_ref().is_ok_and(|reading| reading.is_whole);
            if is_whole || best.is_err() {
                best = reading;
            }
            if is_whole {
                break;
            }
        }
        if let Ok(reading) = &best {
            let before = Instant::now().checked_sub(STAY.max(self.settings.timeout));
            let before = before.unwrap_or_else(Instant::now);
            self.change(|map| map.updated(&reading.ranges, before, |node| self.member(node)));
        }
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        *failure = best.as_ref().err().cloned();
        best
    }

    /// Finds out whether nodes that are down decide again. Returns those that do not.
    async fn probe_those_down(&self) -> Vec<String> {
        let map = self.map.load_full();
        let down: Vec<_> = map.members().filter(|member| member.is_down()).collect();
        join_all(down.iter().map(|member| member.probe())).await;
        let down = down.iter().filter(|member| member.is_down());
        down.map(|member| shown(&member.address)).collect()
    }

    /// The nodes to ask: those that are known, and those that the settings name.
    fn informants(&self, round: usize) -> Vec<Address> {
        let map = self.map.load();
        let mut known: Vec<Address> = map.addresses().cloned().collect();
        if !known.is_empty() {
            let first = round % known.len();
            known.rotate_left(first);
            known.truncate(MOST_ASKED);
        }
        let mut seeds = self.seeds.clone();
        let first = round % seeds.len().max(1);
        seeds.rotate_left(first);
        seeds.retain(|seed| !known.contains(seed));
        seeds.truncate(MOST_ASKED);
        known.extend(seeds);
        known
    }

    async fn ask(&self, address: &Address) -> Result<Reading, StoreError> {
        let (host, port) = address;
        let failed = |cause: &str| StoreError::Unreachable {
            address: shown(address),
            cause: cause.to_owned(),
        };
        let patience = self.settings.timeout;
        let settings = self.settings.at(host, *port);
        let failures = LastFailure::new(shown(address), None);
        let asked = async {
            let connector = Connector::new(&settings, failures);
            let mut question = redis::pipe();
            question
                .cmd("CLUSTER")
                .arg("SLOTS")
                .cmd("CLUSTER")
                .arg("INFO");
            connector
                .connect()
                .await?
                .query::<(Value, String)>(&question)
                .await
        };
        let (slots, info) = match timeout(patience, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(failure(address, &error)),
            Err(_) => return Err(failed("it did not say in time who has which slots")),
        };
        let ranges =
            ranges(&slots, host).ok_or_else(|| failed("its answer to CLUSTER SLOTS is none"))?;
        Ok(Reading {
            is_whole: info.lines().any(|line| line == "cluster_state:ok"),
            ranges,
        })
    }
}

/// Why a node did not say what was asked.
fn failure(address: &Address, error: &RedisError) -> StoreError {
    let (address, cause) = (shown(address), said(error));
    match error.kind() {
        // Nothing else tells a Redis that is no node of a cluster.
        ErrorKind::Server(ServerErrorKind::ResponseError)
            if cause.contains("cluster support disabled") =>
        {
            StoreError::Unfit {
                address,
                cause: format!("{cause}; it is no node of a Redis Cluster: use REDIS_TYPE=single"),
            }
        }
        ErrorKind::Io => StoreError::Unreachable { address, cause },
        _ => StoreError::Unfit { address, cause },
    }
}

// --- What is told of it ---

/// What was last told of the cluster.
#[derive(Debug, Default)]
struct Told {
    masters: Option<Masters>,
    down: Vec<String>,
}

/// Who has the slots.
#[derive(Debug, PartialEq, Eq)]
enum Masters {
    NotKnown,
    All(Vec<String>),
    Some(Vec<String>),
}

impl Told {
    /// Logs what has changed.
    fn tell(&mut self, cluster: &Cluster, read: &Result<Reading, StoreError>, down: Vec<String>) {
        let masters = match read {
            Err(_) => Masters::NotKnown,
            Ok(reading) if reading.is_whole => Masters::All(cluster.map.load().masters()),
            Ok(_) => Masters::Some(cluster.map.load().masters()),
        };
        if self.masters.as_ref() != Some(&masters) {
            match (&masters, read) {
                (Masters::All(masters), _) => {
                    tracing::info!(masters = masters.join(","), "the Redis Cluster is whole");
                }
                (Masters::Some(masters), _) => tracing::warn!(
                    masters = masters.join(","),
                    "the Redis Cluster is not whole: a slot has no master that is up"
                ),
                (Masters::NotKnown, read) => {
                    let error = read.as_ref().err().map(ToString::to_string);
                    tracing::warn!(
                        error,
                        "the nodes of the Redis Cluster are not known; they are asked again"
                    );
                }
            }
            self.masters = Some(masters);
        }
        if self.down != down {
            match down.is_empty() {
                true => tracing::info!("all masters of the Redis Cluster decide again"),
                false => tracing::warn!(
                    nodes = down.join(","),
                    "these masters of the Redis Cluster do not decide; requests for them are decided by policy"
                ),
            }
            self.down = down;
        }
    }
}
