//! Buckets in Redis, shared by all instances. Requests in flight are decided together, by a script that is atomic
//! over all of their buckets and reads the clock of Redis.
//!
//! This module handles keys and charges. It has no access to descriptors or rules.

mod address;
mod batch;
mod buckets;
mod cluster;
mod connection;
mod dialer;
mod handshake;
mod lane;
mod late_calls;
mod login;
mod master_watch;
mod redis_error;
mod script;
mod sentinel;
mod server_store;
mod settings;
#[cfg(test)]
mod simulation;
mod tls;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bb8_redis::bb8::{Pool, PooledConnection, RunError};
use bb8_redis::redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::time::{Instant, timeout_at};

use super::breaker::Breaker;
use super::{Charge, Decision, Store, StoreError};
use crate::telemetry::StoreProbe;
use crate::telemetry::traces::Caller;
use crate::timer::Deadlines;
use batch::{Batch, Reply};
use connection::{
    Calls, Connector, LastFailure, is_lost, is_read_only, is_unserviceable, lacks_rights,
};
use lane::{BatchEnd, Decide, Job, Lane, MAX_WAITING, SendTurn, Undecided, signal_when_sent};
use late_calls::LateCalls;
use master_watch::MasterWatch;
use redis_error::describe;
use script::Script;

pub use address::{Address, AddressError, Endpoint};
pub use buckets::{Buckets, BucketsSettings, SharedServers, ThreadBuckets};
pub use cluster::{Cluster, ClusterStore, Node, NodeProbe, is_cluster_error, slot};
pub use login::Login;
pub use sentinel::Sentinels;
pub use server_store::{ServerProbe, ServerStore, SharedServer};
pub use settings::{RedisSettings, Topology};
pub use tls::{ClientCertificate, NameCheck, RedisTls, SystemRoots, TlsError};

/// Source of the Lua script that decides a batch.
pub const SCRIPT: &str = include_str!("redis/decide.lua");

/// How much longer the pool tries to connect than a caller waits. The caller's own timeout reports the cause of
/// the failure; the pool's does not, so it must be later.
const POOL_TIMEOUT_MARGIN: Duration = Duration::from_secs(1);

/// Error text for a reply that the script cannot have sent.
const UNEXPECTED_REPLY: &str = "unexpected reply to the script";

/// Buckets in one Redis server.
///
/// A store has one lane, which collects requests into batches. More lanes would make smaller batches at the same
/// cost per batch. Several stores, one per worker thread, keep Redis busy while one of them builds a batch.
pub struct RedisStore {
    server: Arc<Server>,
    lane: Lane<()>,
    deadlines: Deadlines,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("address", &self.server.address)
            .finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Creates a store that connects when it is first used. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(settings: &RedisSettings) -> Self {
        Self::build(settings, SCRIPT, None)
    }

    /// Creates a store that reports the result of each call to `breaker` and rejects requests while it is
    /// open.
    #[must_use]
    pub fn with_breaker(settings: &RedisSettings, breaker: Breaker) -> Self {
        Self::build(settings, SCRIPT, Some(breaker))
    }

    /// Creates a store for probes. It reports which server it is connected to, but not the results of its
    /// calls: the prober reports these.
    pub(super) fn probing(settings: &RedisSettings, breaker: &Breaker) -> Self {
        let server = Server::probing(settings, Arc::new(Script::new(SCRIPT)), breaker);
        Self::of(settings, server)
    }

    /// Creates a store with another script, for tests that control the clock that the script reads.
    #[must_use]
    pub fn with_script(settings: &RedisSettings, source: &str) -> Self {
        Self::build(settings, source, None)
    }

    fn build(settings: &RedisSettings, source: &str, breaker: Option<Breaker>) -> Self {
        let script = Arc::new(Script::new(source));
        Self::of(settings, Server::new(settings, script, breaker))
    }

    fn of(settings: &RedisSettings, server: Server) -> Self {
        let server = Arc::new(server);
        let deadlines = Deadlines::start();
        let batches = &settings.probe.batches;
        Self {
            lane: Lane::new(Arc::clone(&server), deadlines.handle(), batches),
            server,
            deadlines,
        }
    }

    /// Returns the last failure if the breaker is open.
    pub(super) fn breaker_error(&self) -> Option<StoreError> {
        self.server.breaker_error()
    }

    /// Decides several requests in one call of the script, without waiting for others. Equal requests are
    /// decided one after the other, when the first of them is due.
    ///
    /// # Errors
    /// See [`decide`](Store::decide). An error applies to all of the requests.
    pub async fn decide_batch(
        &self,
        requests: &[Vec<Charge>],
    ) -> Result<Vec<Decision>, StoreError> {
        let deadline = Instant::now() + self.server.timeout;
        let batch = Batch::new(requests.iter().map(Vec::as_slice));
        self.server.decide_batch(&batch, None, deadline, None).await
    }
}

impl Store for RedisStore {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: std::time::Instant,
    ) -> Result<Decision, StoreError> {
        let deadline = Instant::from_std(deadline);
        if let Some(error) = self.server.breaker_error() {
            return Err(error);
        }
        let caller = self.server.probe.tracing.caller();
        let deadlines = self.deadlines.handle();
        let (job, decision) = Job::new(charges, deadline, deadlines, caller, ());
        if self.lane.push(job).is_err() {
            return Err(self.server.overloaded());
        }
        match decision.await {
            Some(Ok(decision)) => Ok(decision),
            Some(Err(Undecided::Failed(error))) => Err(error),
            // A single server has all buckets, so a batch is never split.
            Some(Err(Undecided::Torn)) | None => Err(self.server.no_answer()),
        }
    }
}

// --- The server ---

/// A pooled connection.
type Pooled = PooledConnection<'static, Connector>;

/// The result of a call and the connection that it was sent over.
struct CallOutcome<T>(Result<T, RedisError>, Arc<Pooled>);

/// Converts an error of a call; a single server and a node of a cluster differ in what it means.
type ClassifyError = fn(String, &RedisError) -> StoreError;

/// A Redis server: its pool of connections, its breaker and its metrics.
#[derive(Debug)]
struct Server {
    pool: Pool<Connector>,
    connector: Connector,
    /// The connection of the last call. The next calls are sent over it as well while it waits for replies.
    current: Mutex<Weak<Pooled>>,
    failure: LastFailure,
    breaker: Option<Breaker>,
    late: LateCalls,
    script: Arc<Script>,
    /// Without credentials.
    address: String,
    timeout: Duration,
    probe: StoreProbe,
    classify: ClassifyError,
    _watch: Option<MasterWatch>,
}

impl Decide<()> for Server {
    async fn decide(&self, jobs: &mut Vec<Job<()>>, turn: SendTurn) -> BatchEnd {
        let result = {
            let batch = Batch::new(jobs.iter().map(|job| &*job.charges));
            let (callers, deadline) = (lane::callers(jobs), lane::latest(jobs));
            self.decide_batch(&batch, callers, deadline, Some(turn))
                .await
        };
        let ended = BatchEnd::with(&result);
        lane::answer(jobs.drain(..), result);
        ended
    }
}

impl Server {
    /// Creates a server whose calls and connections are reported to `breaker`.
    fn new(settings: &RedisSettings, script: Arc<Script>, breaker: Option<Breaker>) -> Self {
        let observer = breaker.clone();
        Self::build(settings, script, breaker, observer)
    }

    /// Creates a server for probes: `breaker` receives the version of the server, but no results of calls.
    fn probing(settings: &RedisSettings, script: Arc<Script>, breaker: &Breaker) -> Self {
        Self::build(settings, script, None, Some(breaker.clone()))
    }

    fn build(
        settings: &RedisSettings,
        script: Arc<Script>,
        breaker: Option<Breaker>,
        observer: Option<Breaker>,
    ) -> Self {
        let address = settings.description();
        let failure = LastFailure::new(address.clone(), breaker.clone(), observer);
        let connector = Connector::new(settings, failure.clone());
        let watch = MasterWatch::start(settings, &connector);
        let pool = Pool::builder()
            .max_size(settings.pool_size.max(1))
            .connection_timeout(settings.timeout + POOL_TIMEOUT_MARGIN)
            // A caller that needs a connection fails immediately with the cause, and the next caller
            // tries again.
            .retry_connection(false)
            .test_on_check_out(true)
            .build_unchecked(connector.clone());
        Self {
            pool,
            connector,
            current: Mutex::default(),
            failure,
            breaker,
            late: LateCalls::default(),
            script,
            address,
            timeout: settings.timeout,
            probe: settings.probe.clone(),
            classify: classify_standalone,
            _watch: watch,
        }
    }

    /// Makes errors about slots count as errors of the call instead of the server.
    fn in_cluster(self) -> Self {
        Self {
            classify: failure,
            ..self
        }
    }

    /// Decides a batch for `callers`, until the deadline.
    async fn decide_batch(
        &self,
        batch: &Batch<'_>,
        callers: impl IntoIterator<Item = Caller>,
        deadline: Instant,
        turn: Option<SendTurn>,
    ) -> Result<Vec<Decision>, StoreError> {
        let size = (batch.requests(), batch.buckets());
        self.observed(callers, size, self.call_batch(batch, deadline, turn))
            .await
    }

    /// Records a call in metrics and in the traces of `callers`.
    async fn observed<T>(
        &self,
        callers: impl IntoIterator<Item = Caller>,
        size: (usize, usize),
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let (requests, buckets) = size;
        let about = (requests, buckets, self.address.as_str());
        let span = self.probe.tracing.batch(callers, about);
        let began = Instant::now();
        let result = call.await;
        let batches = &self.probe.batches;
        batches.called(requests, buckets, began.elapsed());
        if let (Some(span), Err(error)) = (span, &result) {
            span.failed(error.kind().name(), error);
        }
        result
    }

    async fn call_batch(
        &self,
        batch: &Batch<'_>,
        deadline: Instant,
        turn: Option<SendTurn>,
    ) -> Result<Vec<Decision>, StoreError> {
        let command = Arc::new(batch.command(self.script.hash()));
        let mut reply = self.call(&command, deadline, turn).await?;
        if reply.0.as_ref().is_err_and(is_read_only) {
            // The server has become a replica. It wrote nothing, and the connection is not used again;
            // the next one is to the current master.
            reply = self.call(&command, deadline, None).await?;
        }
        self.decisions(batch, &self.record(reply)?)
    }

    /// Sends several calls of the script together, until the deadline. Each has its own reply.
    async fn call_each(
        &self,
        calls: Calls,
        deadline: Instant,
        turn: SendTurn,
    ) -> Result<Vec<Result<Value, RedisError>>, StoreError> {
        let connection = self.connection(deadline).await?;
        let (script, over) = (Arc::clone(&self.script), Arc::clone(&connection));
        let calls = async move { over.call_each(&calls, &script).await };
        let replies = self.await_reply(deadline, connection, signal_when_sent(Some(turn), calls));
        self.record(replies.await?)
    }

    /// Returns the decisions of a batch for the reply of the script.
    fn decisions(&self, batch: &Batch<'_>, reply: &[Value]) -> Result<Vec<Decision>, StoreError> {
        Reply::parse(reply)
            .and_then(|reply| batch.decisions(reply))
            .ok_or_else(|| self.refused(UNEXPECTED_REPLY))
    }

    fn overloaded(&self) -> StoreError {
        StoreError::Overloaded {
            address: self.address.clone(),
            waiting: MAX_WAITING,
        }
    }

    /// Sends one call of the script. The caller must record the outcome with [`record`](Self::record).
    async fn call(
        &self,
        command: &Arc<Cmd>,
        deadline: Instant,
        turn: Option<SendTurn>,
    ) -> Result<CallOutcome<Vec<Value>>, StoreError> {
        let connection = self.connection(deadline).await?;
        let (command, script) = (Arc::clone(command), Arc::clone(&self.script));
        let over = Arc::clone(&connection);
        let call = async move { over.call(&command, &script).await };
        self.await_reply(deadline, connection, signal_when_sent(turn, call))
            .await
    }

    /// Returns the last failure if the breaker is open.
    fn breaker_error(&self) -> Option<StoreError> {
        let breaker = self.breaker.as_ref()?;
        breaker.is_open().then(|| breaker.last_failure())?
    }

    /// Returns a connection, until the deadline: the one that the last call was sent over while it waits for
    /// replies, or else one of the pool.
    async fn connection(&self, deadline: Instant) -> Result<Arc<Pooled>, StoreError> {
        if let Some(error) = self.breaker_error() {
            // Requests that were queued when the breaker opened fail immediately.
            return Err(error);
        }
        if let Some(connection) = self.current().upgrade()
            && self.connector.may_be_shared(&connection)
        {
            return Ok(connection);
        }
        let connection = tokio::select! {
            biased;
            connection = timeout_at(deadline, self.pool.get_owned()) => match connection {
                Ok(connection) => connection.map_err(|error| self.not_connected(error)),
                Err(_) => Err(self.no_connection()),
            },
            () = self.failure.next() => Err(self.not_reached()),
        };
        let connection = Arc::new(connection?);
        *self.current() = Arc::downgrade(&connection);
        Ok(connection)
    }

    fn current(&self) -> MutexGuard<'_, Weak<Pooled>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Awaits the reply to a call, until the deadline. The caller must record the outcome with
    /// [`record`](Self::record).
    ///
    /// Whether Redis is available is judged by the timeout of Redis, not by the deadlines of these callers: a
    /// call whose callers have timed out is awaited in the background. If nothing was received over the
    /// connection in the meantime, it is not used again before the reply arrives.
    async fn await_reply<T: Send + 'static>(
        &self,
        deadline: Instant,
        connection: Arc<Pooled>,
        call: impl Future<Output = Result<T, RedisError>> + Send + 'static,
    ) -> Result<CallOutcome<T>, StoreError> {
        let end = Instant::now() + self.timeout;
        let replies = connection.replies();
        let mut call = Box::pin(call);
        // Late replies are recorded here.
        let Ok(reply) = timeout_at(deadline.min(end), &mut call).await else {
            let (breaker, address) = (self.breaker.clone(), self.address.clone());
            let classify = self.classify;
            let silence = connection.is_late(replies);
            self.late.add(async move {
                let (result, is_loss) = match timeout_at(end, call).await {
                    Ok(reply) => {
                        let is_loss = reply.as_ref().is_err_and(is_lost);
                        let result = reply.map_err(|error| classify(address, &error));
                        (result.map(|_| ()), is_loss)
                    }
                    Err(_) => (Err(StoreError::Timeout { address }), true),
                };
                let is_known = is_loss && !connection.is_first_loss();
                record_outcome(breaker.as_ref(), result.as_ref().err(), is_known);
                drop(silence);
            });
            return Err(self.no_answer());
        };
        Ok(CallOutcome(reply, connection))
    }

    /// Records the outcome of a call in the breaker and returns its reply.
    fn record<T>(&self, CallOutcome(reply, connection): CallOutcome<T>) -> Result<T, StoreError> {
        let is_loss = reply.as_ref().is_err_and(is_lost);
        let is_known = is_loss && !connection.is_first_loss();
        let reply = reply.map_err(|error| self.failure(&error));
        record_outcome(self.breaker.as_ref(), reply.as_ref().err(), is_known);
        reply
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
            RunError::User(error) => self.failure(&error),
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

    fn failure(&self, error: &RedisError) -> StoreError {
        (self.classify)(self.address.clone(), error)
    }

    fn not_reached(&self) -> StoreError {
        StoreError::Unreachable {
            address: self.address.clone(),
            cause: self.failure.cause().unwrap_or_default(),
        }
    }

    fn refused(&self, cause: &str) -> StoreError {
        StoreError::Refused {
            address: self.address.clone(),
            cause: cause.to_owned(),
        }
    }
}

/// Records the outcome of a call in `breaker`. Of the calls that were in flight over a lost connection, only the
/// first one counts; `is_known` is set for the others.
fn record_outcome(breaker: Option<&Breaker>, error: Option<&StoreError>, is_known: bool) {
    match (breaker, error) {
        (None, _) => {}
        (Some(breaker), None) => breaker.succeeded(),
        (Some(breaker), Some(error)) if is_known => breaker.failed_as_known(error),
        (Some(breaker), Some(error)) => breaker.failed(error),
    }
}

/// Converts an error of a node of a cluster.
fn failure(address: String, error: &RedisError) -> StoreError {
    let cause = describe(error);
    if error.is_timeout() {
        StoreError::Timeout { address }
    } else if error.is_io_error() || error.is_connection_dropped() {
        StoreError::Unreachable { address, cause }
    } else if lacks_rights(error) {
        let cause = format!("{cause}; for the required rights, see \"Rights\" in docs/redis.md");
        StoreError::Unfit { address, cause }
    } else if let Some(hint) = redis_error::cannot_run(error) {
        let cause = format!("{cause}; {hint}");
        StoreError::Unfit { address, cause }
    } else if is_unserviceable(error) {
        StoreError::Unfit { address, cause }
    } else {
        StoreError::Refused { address, cause }
    }
}

/// Converts an error of a single server, which must have all buckets.
fn classify_standalone(address: String, error: &RedisError) -> StoreError {
    if !is_of_cluster(error) {
        return failure(address, error);
    }
    let cause = format!(
        "{}; a node of a Redis Cluster needs REDIS_TYPE=cluster",
        describe(error)
    );
    StoreError::Unfit { address, cause }
}

/// Returns whether only nodes of a cluster reply with this error.
fn is_of_cluster(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, CrossSlot, Moved, TryAgain};
    matches!(
        error.kind(),
        ErrorKind::Server(Ask | ClusterDown | CrossSlot | Moved | TryAgain)
    )
}

#[cfg(test)]
mod tests;
