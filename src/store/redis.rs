//! Buckets in Redis, shared by all instances. Requests in flight are decided together, by a script that
//! is atomic over all of their buckets, on Redis's own clock.
//!
//! Knows keys and charges, nothing of descriptors or rules.

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

/// The text of the script that decides a batch.
pub const SCRIPT: &str = include_str!("redis/decide.lua");

/// How much longer the pool tries to connect than anybody waits. The pool must not be the one to give up: it
/// would say less of why.
const POOL_TIMEOUT_MARGIN: Duration = Duration::from_secs(1);

/// What Redis is said to have answered when nothing can be made of it.
const UNEXPECTED_REPLY: &str = "a reply that is not the script's";

/// Buckets in one Redis server. Each store has a lane of its own, which collects requests into batches. More lanes would make
/// smaller batches, each with its own cost; several stores (one for each thread that serves) keep Redis busy while one of
/// them makes a batch.
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
    /// A store on the Redis that the settings describe. It is connected to when first
    /// needed. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(settings: &RedisSettings) -> Self {
        Self::build(settings, SCRIPT, None)
    }

    /// The same, which tells a breaker how each call of Redis ended, and lets no request wait while that is
    /// open.
    #[must_use]
    pub fn with_breaker(settings: &RedisSettings, breaker: Breaker) -> Self {
        Self::build(settings, SCRIPT, Some(breaker))
    }

    /// A store that probes a server on behalf of a breaker, which hears of the server but not of calls.
    pub(super) fn probing(settings: &RedisSettings, breaker: &Breaker) -> Self {
        let server = Server::probing(settings, Arc::new(Script::new(SCRIPT)), breaker);
        Self::of(settings, server)
    }

    /// The same with another text of the script, for tests that own the clock that it reads.
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

    /// Why it is not asked at present, if its breaker is open.
    pub(super) fn breaker_error(&self) -> Option<StoreError> {
        self.server.breaker_error()
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
            // A single server has all buckets together.
            Some(Err(Undecided::Torn)) | None => Err(self.server.no_answer()),
        }
    }
}

// --- The server ---

/// A connection of the pool.
type Pooled = PooledConnection<'static, Connector>;

/// What a call was answered, and over which connection.
struct CallOutcome<T>(Result<T, RedisError>, Arc<Pooled>);

/// What a failed call means, by what server failed it.
type ClassifyError = fn(String, &RedisError) -> StoreError;

/// The way to Redis.
#[derive(Debug)]
struct Server {
    pool: Pool<Connector>,
    connector: Connector,
    /// The connection of the last call. SystemRoots are sent over it while it waits for replies.
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
    /// The way to the Redis that the settings describe.
    fn new(settings: &RedisSettings, script: Arc<Script>, breaker: Option<Breaker>) -> Self {
        let observer = breaker.clone();
        Self::build(settings, script, breaker, observer)
    }

    /// The same, of which the breaker hears what server it is, and nothing of calls.
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
            // Whoever needs a connection hears at once why there is none, and tries again when the next one does.
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

    /// The same, known to be a node of a cluster.
    fn in_cluster(self) -> Self {
        Self {
            classify: failure,
            ..self
        }
    }

    /// Decides a batch on behalf of these callers, until the deadline.
    async fn decide_batch(
        &self,
        batch: &Batch<'_>,
        callers: impl IntoIterator<Item = Caller>,
        deadline: Instant,
        turn: Option<SendTurn>,
    ) -> Result<Vec<Decision>, StoreError> {
        let size = (batch.requests(), batch.buckets());
        self.observed(callers, size, self.ask(batch, deadline, turn))
            .await
    }

    /// Counts and traces a call on behalf of these callers, which decides so many requests on so many buckets.
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

    async fn ask(
        &self,
        batch: &Batch<'_>,
        deadline: Instant,
        turn: Option<SendTurn>,
    ) -> Result<Vec<Decision>, StoreError> {
        let command = Arc::new(batch.command(self.script.hash()));
        let mut reply = self.call(&command, deadline, turn).await?;
        if reply.0.as_ref().is_err_and(is_read_only) {
            // That server is no master any more. It wrote nothing, and the connection to it is not used again; the next
            // one is to the current master.
            reply = self.call(&command, deadline, None).await?;
        }
        self.decisions(batch, &self.told(reply)?)
    }

    /// Makes several calls of the script together, until the deadline. Each has its own reply.
    async fn call_each(
        &self,
        calls: Calls,
        deadline: Instant,
        turn: SendTurn,
    ) -> Result<Vec<Result<Value, RedisError>>, StoreError> {
        let connection = self.connection(deadline).await?;
        let (script, over) = (Arc::clone(&self.script), Arc::clone(&connection));
        let calls = async move { over.call_each(&calls, &script).await };
        let replies = self.until(deadline, connection, signal_when_sent(Some(turn), calls));
        self.told(replies.await?)
    }

    /// The decisions of a batch, from what the script replied.
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

    /// Makes one call of the script. What Redis replies is still to be [counted](Self::told).
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
        self.until(deadline, connection, signal_when_sent(turn, call))
            .await
    }

    /// Why nobody is to wait for it, if that is so.
    fn breaker_error(&self) -> Option<StoreError> {
        let breaker = self.breaker.as_ref()?;
        breaker.is_open().then(|| breaker.last_failure())?
    }

    /// A connection, until the deadline: the one over which the last call was sent while it waits for replies, or else one of
    /// the pool.
    async fn connection(&self, deadline: Instant) -> Result<Arc<Pooled>, StoreError> {
        if let Some(error) = self.breaker_error() {
            // Requests that waited for their turn when it opened need not wait longer.
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

    /// What Redis replies to a call over this connection, until the deadline. It is then to be [counted](Self::told).
    ///
    /// Whether Redis is well is judged by how long it may take, not by how long these callers wait: a call whose callers have
    /// timed out is waited for without them. If nothing came over the connection while they waited, it is used again only
    /// when the reply has come.
    async fn until<T: Send + 'static>(
        &self,
        deadline: Instant,
        connection: Arc<Pooled>,
        call: impl Future<Output = Result<T, RedisError>> + Send + 'static,
    ) -> Result<CallOutcome<T>, StoreError> {
        let end = Instant::now() + self.timeout;
        let replies = connection.replies();
        let mut call = Box::pin(call);
        // What comes late is counted here.
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
                tell(breaker.as_ref(), result.as_ref().err(), is_known);
                drop(silence);
            });
            return Err(self.no_answer());
        };
        Ok(CallOutcome(reply, connection))
    }

    /// What a call answered in time, once the breaker has counted how it ended.
    fn told<T>(&self, CallOutcome(reply, connection): CallOutcome<T>) -> Result<T, StoreError> {
        let is_loss = reply.as_ref().is_err_and(is_lost);
        let is_known = is_loss && !connection.is_first_loss();
        let reply = reply.map_err(|error| self.failure(&error));
        tell(self.breaker.as_ref(), reply.as_ref().err(), is_known);
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

/// Has a breaker, if there is one, count how a call ended. Of the calls that were in flight over a connection that is lost, only the
/// first one speaks of Redis; the loss `is_known` by the others.
fn tell(breaker: Option<&Breaker>, error: Option<&StoreError>, is_known: bool) {
    match (breaker, error) {
        (None, _) => {}
        (Some(breaker), None) => breaker.succeeded(),
        (Some(breaker), Some(error)) if is_known => breaker.failed_as_known(error),
        (Some(breaker), Some(error)) => breaker.failed(error),
    }
}

/// What a failed call means.
fn failure(address: String, error: &RedisError) -> StoreError {
    let cause = describe(error);
    if error.is_timeout() {
        StoreError::Timeout { address }
    } else if error.is_io_error() || error.is_connection_dropped() {
        StoreError::Unreachable { address, cause }
    } else if lacks_rights(error) {
        let cause =
            format!("{cause}; for the rights that are needed, see \"Rights\" in docs/redis.md");
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

/// The same where the server is taken for one that has all buckets.
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

/// Whether only a node of a cluster says so.
fn is_of_cluster(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, CrossSlot, Moved, TryAgain};
    matches!(
        error.kind(),
        ErrorKind::Server(Ask | ClusterDown | CrossSlot | Moved | TryAgain)
    )
}

#[cfg(test)]
mod tests;
