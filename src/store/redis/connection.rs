//! Connections to Redis: how one comes to be, and when it is no longer to be used.

use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bb8_redis::bb8::ManageConnection;
use bb8_redis::redis::aio::{ConnectionLike as _, MultiplexedConnection};
use bb8_redis::redis::{
    Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind, Value, cmd,
};
use futures_util::StreamExt as _;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::address::Endpoint;
use super::dialer::{Dialer, Link};
use super::handshake::Greeting;
use super::redis_error::{describe, log_connected};
use super::script::Script;
use super::sentinel::Sentinels;
use super::settings::{RedisSettings, Topology};
use crate::store::StoreError;
use crate::store::breaker::Breaker;

/// The least time that connecting may take, if half of what a decision may take is less. A decision does
/// not wait longer for that; but a handshake that takes longer must come to its end, too.
pub(super) const MIN_CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Beginnings of what Redis answers when it serves nobody, or nobody like us, for now: it is loading, ends a script
/// that is not ours, is full, a replica, or wants another password, more replicas or a disk. Also what comes when the
/// script is not known right after it was loaded, as by a proxy in front of several.
const UNSERVICEABLE_CODES: [&str; 13] = [
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

/// How a node of a cluster says that nobody has the slot that was asked for, which says nothing of other slots.
const NOT_SERVED: &str = "Hash slot not served";

/// Whether others, who ask for something else, would have heard the same.
pub(super) fn is_unserviceable(error: &RedisError) -> bool {
    if matches!(
        error.kind(),
        ErrorKind::Parse | ErrorKind::AuthenticationFailed
    ) {
        return true;
    }
    let code = error.code().unwrap_or_default();
    if code == "CLUSTERDOWN"
        && error
            .detail()
            .is_some_and(|detail| detail.starts_with(NOT_SERVED))
    {
        return false;
    }
    // Before Redis 7, a script's error is an ERR that quotes what the command in it said.
    let quotes = |code: &str| {
        let detail = error.detail().unwrap_or_default();
        detail.contains(&format!("-{code} "))
    };
    lacks_rights(error)
        || UNSERVICEABLE_CODES.contains(&code)
        || (code == "ERR" && UNSERVICEABLE_CODES.into_iter().any(quotes))
}

/// Whether another connection may be to somebody who serves. A node of a cluster that is down is the same one as
/// before.
fn needs_other_connection(error: &RedisError) -> bool {
    is_unserviceable(error) && error.code() != Some("CLUSTERDOWN")
}

/// Whether the user that we log in as may not do what the script does.
pub(super) fn lacks_rights(error: &RedisError) -> bool {
    // What happens in a script has no code of its own, in any version.
    let detail = error.detail().unwrap_or_default();
    error.code() == Some("NOPERM")
        || detail.contains("-NOPERM ")
        || (error.code() == Some("ERR") && detail.contains("The user executing the script can't"))
}

/// Calls of the script that are made together, each with a reply of its own.
#[derive(Debug, Default)]
pub(super) struct Calls {
    commands: Pipeline,
    /// The place of each call among the commands.
    places: Vec<usize>,
}

impl Calls {
    /// Adds a call for a node that owns what it asks for.
    pub(super) fn add(&mut self, call: Cmd) {
        self.places.push(self.commands.len());
        self.commands.add_command(call);
    }

    /// Adds a call for a node that is about to own what it asks for.
    pub(super) fn add_asking(&mut self, call: Cmd) {
        self.commands.cmd("ASKING");
        self.add(call);
    }

    /// Some of them again.
    fn some(&self, which: &[usize]) -> Self {
        let mut some = Self::default();
        for &call in which {
            let before = call
                .checked_sub(1)
                .map_or(0, |before| self.places[before] + 1);
            let commands = self
                .commands
                .cmd_iter()
                .take(self.places[call] + 1)
                .skip(before);
            for command in commands {
                some.commands.add_command(command.clone());
            }
            some.places.push(some.commands.len() - 1);
        }
        some
    }
}

/// A connection, which several calls may use at once, and whether it can still be used.
#[derive(Debug)]
pub(super) struct Connection {
    inner: MultiplexedConnection,
    link: Link,
    /// [`Connector::generation`] when it was made.
    generation: u64,
    broken: AtomicBool,
    /// Its server is a replica by now.
    demoted: AtomicBool,
    /// Replies so far.
    replies: AtomicU64,
    /// Calls that are late, and since whose sending nothing has come.
    silent: Arc<AtomicU64>,
    /// That it is lost has been counted.
    loss_counted: AtomicBool,
}

impl Connection {
    /// Calls the script; loads it first, once, if Redis does not know it. Calls are sent in the order in which they are first
    /// polled.
    pub(super) async fn call<T: FromRedisValue>(
        &self,
        call: &Cmd,
        script: &Script,
    ) -> Result<T, RedisError> {
        let unfinished = Unfinished(self);
        let mut inner = self.inner.clone();
        let mut result = call.query_async(&mut inner).await;
        if let Err(error) = &result
            && is_unknown(error)
        {
            // Nothing ran. A proxy may close the connection at a command that it does not know, as SCRIPT is to some.
            if self.link.server.protocol == 3 {
                script.load().exec_async(&mut inner).await?;
                result = call.query_async(&mut inner).await;
            }
            // Also where what loaded the script and what was called are two servers behind one proxy.
            if result.as_ref().is_err_and(is_unknown) {
                result = script.with_text(call).query_async(&mut inner).await;
            }
        }
        if result.as_ref().is_err_and(is_read_only) {
            self.demoted.store(true, Ordering::Relaxed);
        }
        let is_broken = result.as_ref().is_err_and(|error| {
            // What serves nobody may be another one by the next time: a demoted master stays where it is.
            is_lost(error) || error.is_unrecoverable_error() || needs_other_connection(error)
        });
        unfinished.ends(is_broken, result.as_ref().err());
        result
    }

    /// Makes several calls of the script together. What Redis did not know the script for is asked once
    /// more, the script being loaded. As with [`call`](Self::call), the first poll sends them.
    pub(super) async fn call_each(
        &self,
        calls: &Calls,
        script: &Script,
    ) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
        let unfinished = Unfinished(self);
        let mut replies = self.send(calls).await?;
        let unknown: Vec<usize> = (0..replies.len())
            .filter(|&i| replies[i].as_ref().is_err_and(is_unknown))
            .collect();
        if !unknown.is_empty() {
            // Nothing of these ran.
            script.load().exec_async(&mut self.inner.clone()).await?;
            let again = self.send(&calls.some(&unknown)).await?;
            for (i, reply) in unknown.into_iter().zip(again) {
                replies[i] = reply;
            }
        }
        let is_unfit =
            |reply: &Result<Value, RedisError>| reply.as_ref().is_err_and(is_unserviceable);
        let needs_other_connection =
            |reply: &Result<Value, RedisError>| reply.as_ref().is_err_and(needs_other_connection);
        unfinished.ends(replies.iter().any(needs_other_connection), None);
        match replies.iter().all(is_unfit) {
            // Then that is what the server has to say.
            true => replies.swap_remove(0).map(|reply| vec![Ok(reply)]),
            false => Ok(replies),
        }
    }

    /// How many replies have come.
    pub(super) fn replies(&self) -> u64 {
        self.replies.load(Ordering::Relaxed)
    }

    /// Notes that a call is late that was sent after so many replies. If none has come since, nothing more is sent over
    /// this connection until what this returns is dropped.
    pub(super) fn is_late(&self, replies: u64) -> Option<Silence> {
        (self.replies() == replies).then(|| {
            self.silent.fetch_add(1, Ordering::Relaxed);
            Silence(Arc::clone(&self.silent))
        })
    }

    /// Whether nothing comes any more, as it seems.
    fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed) > 0
    }

    /// Whether this is the first call that says that this connection is lost.
    pub(super) fn is_first_loss(&self) -> bool {
        !self.loss_counted.swap(true, Ordering::Relaxed)
    }

    /// Asks for something else than a decision.
    pub(super) async fn query<T: FromRedisValue>(
        &self,
        question: &Pipeline,
    ) -> Result<T, RedisError> {
        let result: Result<T, RedisError> = question.query_async(&mut self.inner.clone()).await;
        // Of several that failed, the first says enough.
        result.map_err(|error| match error.clone().into_server_errors() {
            Some(errors) if !errors.is_empty() => errors[0].1.clone().into(),
            _ => error,
        })
    }

    async fn send(&self, calls: &Calls) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
        let count = calls.commands.len();
        let mut inner = self.inner.clone();
        let sent = inner.req_packed_commands(&calls.commands, 0, count);
        let mut replies = sent.await?;
        if replies.len() != count {
            return Err((ErrorKind::Parse, "not as many replies as calls").into());
        }
        // What ASKING itself is answered is of no interest.
        let replies = calls
            .places
            .iter()
            .map(|&place| mem::replace(&mut replies[place], Value::Nil));
        Ok(replies
            .map(|reply| match reply {
                Value::ServerError(error) => Err(error.into()),
                reply => Ok(reply),
            })
            .collect())
    }
}

/// A call whose reply has not come. If it never comes, or nobody takes it, the connection is not used again.
struct Unfinished<'a>(&'a Connection);

impl Unfinished<'_> {
    /// The reply, or the loss of the connection.
    fn ends(self, is_broken: bool, error: Option<&RedisError>) {
        if !error.is_some_and(is_lost) {
            self.0.replies.fetch_add(1, Ordering::Relaxed);
        }
        if !is_broken {
            mem::forget(self);
        }
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.broken.store(true, Ordering::Relaxed);
    }
}

/// While this is held, a connection seems to be silent.
#[derive(Debug)]
pub(super) struct Silence(Arc<AtomicU64>);

impl Drop for Silence {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether nothing more comes over the connection that failed with this.
pub(super) fn is_lost(error: &RedisError) -> bool {
    error.is_timeout() || error.is_io_error()
}

/// Whether Redis did not know the script.
fn is_unknown(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Whether Redis said that it is a replica, which nothing is written to. Then nothing was: the first write
/// of the script failed, and ended it.
pub(super) fn is_read_only(error: &RedisError) -> bool {
    // Before Redis 7, what happens in a script is in the text only.
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || error
            .detail()
            .is_some_and(|detail| detail.contains("-READONLY"))
}

/// Why the last connection that could not be made could not be made. The pool does not tell those who
/// wait for one.
#[derive(Debug, Clone)]
pub(super) struct LastFailure(Arc<Failures>);

#[derive(Debug)]
struct Failures {
    /// Where to, without credentials.
    address: String,
    breaker: Option<Breaker>,
    observer: Option<Breaker>,
    cause: Mutex<Option<String>>,
    /// Another one could not be made.
    next: Notify,
}

impl LastFailure {
    /// None yet, of connections to this address. Those to come are told to the breaker; to what server connections
    /// are made, to the observer.
    pub(super) fn new(
        address: String,
        breaker: Option<Breaker>,
        observer: Option<Breaker>,
    ) -> Self {
        Self(Arc::new(Failures {
            address,
            breaker,
            observer,
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
    fn note(&self, opened: Result<&Connection, &RedisError>) {
        if let (Ok(connection), Some(breaker)) = (opened, &self.0.observer) {
            let Link {
                endpoint, server, ..
            } = &connection.link;
            if breaker.connected_to(server) {
                log_connected(endpoint, server);
            }
        }
        let cause = opened.err().map(describe);
        self.lock().clone_from(&cause);
        let Some(cause) = cause else { return };
        if let Some(breaker) = &self.0.breaker {
            breaker.failed(&StoreError::Unreachable {
                address: self.0.address.clone(),
                cause,
            });
        }
        self.0.next.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.cause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes connections for the pool.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    topology: Topology,
    dialer: Dialer,
    timeout: Duration,
    failure: LastFailure,
    /// Changes when the server turns out to be a replica: then no connection is used that was made before.
    generation: Arc<AtomicU64>,
}

impl Connector {
    /// Makes connections as the settings say, and remembers in `failure` why it could not.
    pub(super) fn new(settings: &RedisSettings, failure: LastFailure) -> Self {
        Self {
            topology: settings.topology.clone(),
            dialer: Dialer {
                login: settings.login.clone(),
                tls: settings.tls.clone(),
                database: settings.database,
                greeting: Greeting::Hello,
            },
            timeout: settings.timeout,
            failure,
            generation: Arc::default(),
        }
    }

    /// Whether another server than the one of this connection is, or must be, the master by now.
    fn is_superseded(&self, connection: &Connection) -> bool {
        if connection.demoted.load(Ordering::Relaxed) {
            // Fails when another connection has said so already.
            let (old, new) = (connection.generation, connection.generation + 1);
            let _ =
                self.generation
                    .compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
        }
        if connection.generation != self.generation.load(Ordering::Relaxed) {
            return true;
        }
        match &self.topology {
            Topology::Single(_) | Topology::Cluster(_) => false,
            Topology::Sentinel(sentinels) => {
                let master = sentinels.master();
                master.is_some_and(|master| master != connection.link.endpoint)
            }
        }
    }

    /// Whether a connection must not be used any more.
    pub(super) fn is_unusable(&self, connection: &Connection) -> bool {
        connection.broken.load(Ordering::Relaxed)
            || connection.link.is_closed()
            || self.is_superseded(connection)
    }

    /// Whether another call may be sent over a connection on which others wait for their replies.
    pub(super) fn may_be_shared(&self, connection: &Connection) -> bool {
        !connection.is_silent() && !self.is_unusable(connection)
    }

    async fn open(&self) -> RedisResult<Connection> {
        match &self.topology {
            Topology::Single(endpoint) => self.open_to(endpoint).await,
            Topology::Sentinel(sentinels) => self.open_to_master(sentinels).await,
            Topology::Cluster(_) => {
                Err(io::Error::other("a cluster is reached node by node").into())
            }
        }
    }

    async fn open_to(&self, endpoint: &Endpoint) -> RedisResult<Connection> {
        let generation = self.generation.load(Ordering::Relaxed);
        let link = self.dialer.connect(endpoint, self.timeout).await?;
        Ok(Connection {
            inner: link.connection.clone(),
            link,
            generation,
            broken: AtomicBool::new(false),
            demoted: AtomicBool::new(false),
            replies: AtomicU64::new(0),
            silent: Arc::default(),
            loss_counted: AtomicBool::new(false),
        })
    }

    /// Connects to the first server that a sentinel names and that says itself that it is a master.
    pub(super) async fn open_to_master(&self, sentinels: &Sentinels) -> RedisResult<Connection> {
        let mut answers = Box::pin(sentinels.answers());
        let mut named = Vec::new();
        let mut causes = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer.master {
                Err(cause) => causes.push(cause),
                Ok(master) if named.contains(&master) => {}
                Ok(master) => match self.open_to_a_master(&master).await {
                    Ok(connection) => {
                        sentinels.remember(answer.sentinel, &master);
                        return Ok(connection);
                    }
                    Err(error) => {
                        causes.push(format!("{master}: {}", describe(&error)));
                        named.push(master);
                    }
                },
            }
        }
        let text = format!("no sentinel names a master: {}", causes.join("; "));
        Err(io::Error::other(text).into())
    }

    async fn open_to_a_master(&self, endpoint: &Endpoint) -> RedisResult<Connection> {
        let connection = self.open_to(endpoint).await?;
        let mut inner = connection.inner.clone();
        let role: Vec<Value> = cmd("ROLE").query_async(&mut inner).await?;
        match role.first() {
            Some(Value::BulkString(role)) if role == b"master" => Ok(connection),
            _ => Err(io::Error::other("it says that it is no master").into()),
        }
    }
}

impl ManageConnection for Connector {
    type Connection = Connection;
    type Error = RedisError;

    async fn connect(&self) -> Result<Connection, RedisError> {
        let patience = MIN_CONNECT_TIMEOUT.max(self.timeout / 2);
        let opened = timeout(patience, self.open()).await.unwrap_or_else(|_| {
            let speaks = if self.dialer.tls.is_some() {
                " (does it speak TLS?)"
            } else {
                ""
            };
            let text = format!(
                "no connection was made within {} ms{speaks}",
                patience.as_millis()
            );
            Err(io::Error::new(io::ErrorKind::TimedOut, text).into())
        });
        self.failure.note(opened.as_ref());
        opened
    }

    /// KeyUse before each use, so no PING: whether a connection was closed meanwhile is known.
    async fn is_valid(&self, connection: &mut Connection) -> Result<(), RedisError> {
        match self.is_unusable(connection) {
            false => Ok(()),
            true => Err((ErrorKind::Io, "closed by Redis, or no master any more").into()),
        }
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        self.is_unusable(connection)
    }
}
