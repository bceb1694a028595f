//! The composition root: puts store, limiter, sources and services together, runs them, and stops
//! them in order. The only place that picks a store.

mod background;
mod exported_metrics;
mod health;
mod listeners;
mod load_log;
mod ports;
mod workers;

use std::convert::Infallible;
use std::future::{Future, pending};
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::service::Routes;

use crate::clock;
use crate::limiter::top::Top;
use crate::limiter::{InForce, Limiter, LimiterSettings, Record, Sample};
use crate::rules::LoadOptions;
use crate::service::pb::DESCRIPTORS;
use crate::service::pb::health::{self as health_pb, health_server::HealthServer};
use crate::service::pb::rate_limit_service_server::RateLimitServiceServer;
use crate::service::{
    self, BadRequests, GrpcRouter, GrpcServer, HealthService, MAX_JSON, RateLimit,
    ResponseSettings, SourceView, StoreView, connections,
};
use crate::source::{History, Offer, Origin, Refusal, Source};
use crate::store::Store;
use crate::store::breaker::Breaker;
use crate::store::denied::{Denials, RememberedDenials};
use crate::store::fallback::{Fallback, FallbackSettings, Probe, Standby};
use crate::store::memory::MemoryStore;
use crate::store::redis::{Buckets, BucketsSettings, Shared};
use crate::store::split::{GiveBacks, SplitContext};
use crate::telemetry::metrics::{Metrics, Recorder};
use crate::telemetry::recording::{Handle, Recording, RecordingSettings};
use crate::telemetry::traces::Tracing;
use crate::telemetry::{Telemetry, TelemetrySettings};

pub use health::{Health, HealthSettings};
pub use listeners::{Address, Addresses, Listeners};
pub use ports::PortSettings;
pub use workers::{Incoming, Serve, Stop, Workers};

use load_log::{LoadLog, Outcome as LoadOutcome};
use ports::{HttpPorts, View};

/// Everything that is decided before the server runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the rules come from.
    pub origin: Origin,
    /// How they are read.
    pub load: LoadOptions,
    /// Where buckets live.
    pub store: StoreSettings,
    /// What becomes of requests that Redis does not decide.
    pub failure: FailureSettings,
    /// How requests are decided.
    pub limiter: LimiterSettings,
    /// What responses carry.
    pub response: ResponseSettings,
    /// What the server tells about itself.
    pub telemetry: TelemetrySettings,
    /// Whether requests are recorded, which part of them, and where.
    pub recording: Option<(RecordingSettings, Sample)>,
    /// Threads that serve requests.
    pub threads: NonZeroUsize,
    /// How the server stops.
    pub shutdown: ShutdownSettings,
    /// How its ports are served.
    pub ports: PortSettings,
}

/// How the server stops.
#[derive(Debug, Clone, Copy)]
pub struct ShutdownSettings {
    /// Time in which the server still serves everything while its health says NOT_SERVING.
    pub delay: Duration,
    /// Time for requests in flight to complete after that.
    pub grace: Duration,
}

/// Where buckets live.
#[derive(Debug, Clone)]
pub enum StoreSettings {
    /// In this process, at most so many.
    Memory {
        /// The most buckets held.
        max_buckets: usize,
    },
    /// In Redis.
    Redis(Box<BucketsSettings>),
}

impl StoreSettings {
    /// How long a decision may take; `None` where it waits for nothing.
    fn timeout(&self) -> Option<Duration> {
        match self {
            Self::Memory { .. } => None,
            Self::Redis(redis) => Some(redis.timeout()),
        }
    }
}

/// What becomes of requests, and of the server's health, while Redis does not decide.
#[derive(Debug, Clone, Copy)]
pub struct FailureSettings {
    /// How they are decided.
    pub fallback: FallbackSettings,
    /// The least time that Redis gets for a decision, also when the caller allows less.
    pub min_store_timeout: Duration,
    /// The server counts as healthy only while Redis answers.
    pub health_follows: bool,
}

/// Serves until `shutdown` and the shutdown delay have passed, then completes the requests in flight within the grace period.
/// `abort` ends delay and grace period immediately.
///
/// # Errors
/// When the server cannot start, or a part of it fails for good.
pub async fn run(
    settings: Settings,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
    abort: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut listeners = listeners;
    let (telemetry, prometheus) = (settings.telemetry.clone(), listeners.prometheus.take());
    if let Some(prometheus) = &prometheus {
        let (addr, path) = (prometheus.local_addr()?, &telemetry.prometheus_path);
        tracing::info!(%addr, path, "telling metrics to Prometheus");
    }
    let http_connections = settings.ports.http_connections;
    let prometheus = prometheus
        .map(|listener| ports::prometheus(listener, http_connections))
        .transpose()?;
    let telemetry = Telemetry::start(telemetry, settings.threads, prometheus)?;
    let metrics = telemetry.metrics();
    let recording = recording(&settings, metrics)?;
    let told = (&telemetry, recording.as_ref());
    let served = match settings.store.clone() {
        StoreSettings::Memory { max_buckets } => {
            let store = Arc::new(MemoryStore::new(max_buckets, clock::system()));
            exported_metrics::memory(metrics, &store);
            let backend = Backend {
                seen: StoreView::Memory(Arc::clone(&store)),
                store: move || Ok(Arc::clone(&store)),
                beside: Box::pin(pending()),
                health: Vec::new(),
            };
            serve(settings, told, backend, listeners, (shutdown, abort)).await
        }
        StoreSettings::Redis(redis) => {
            let backend = on_redis(&settings, &telemetry, *redis);
            serve(settings, told, backend, listeners, (shutdown, abort)).await
        }
    };
    let rest = async {
        if let Some((recording, _)) = recording {
            recording.end().await;
        }
    };
    tokio::join!(rest, telemetry.end());
    served
}

/// Where buckets are to live.
struct Backend<F> {
    /// What can be seen of it.
    seen: StoreView,
    /// Makes the store of a thread.
    store: F,
    /// What has to go on beside the requests; never ends.
    beside: LocalBoxFuture<'static, Infallible>,
    /// What the server's health follows.
    health: Vec<Breaker>,
}

fn on_redis(
    settings: &Settings,
    telemetry: &Telemetry,
    redis: BucketsSettings,
) -> Backend<impl Fn() -> anyhow::Result<Fallback<RememberedDenials<Buckets>>> + Clone + Send + use<>>
{
    let failure = settings.failure;
    let shared = Shared::new(&redis);
    let standby = Standby::over(failure.fallback, clock::system(), shared.breakers());
    let probe = Probe {
        keys: settings.limiter.keys.clone(),
        timeout: redis.timeout(),
        always: failure.health_follows,
        seed: RandomState::new().hash_one(0),
    };
    let beside = background::look_after(&redis, &shared, &standby, &probe);
    let health = match failure.health_follows {
        true => shared.breakers(),
        false => Vec::new(),
    };
    exported_metrics::certificates_for_redis(telemetry.metrics(), &redis);
    // Each thread has a store, and so has /json. Only what is done for requests is counted and traced.
    let redis = redis
        .shared_by(settings.threads.saturating_add(1))
        .observed_by(&telemetry.probe());
    let denials = Arc::new(Denials::default());
    exported_metrics::redis(telemetry.metrics(), &standby, &denials);
    let give_backs = GiveBacks::default();
    exported_metrics::give_backs(telemetry.metrics(), &give_backs);
    let seen = StoreView::Redis {
        failure_mode: failure.fallback.mode,
        standby: standby.clone(),
        names: vec!["redis", "redis per second"],
        denials: Arc::clone(&denials),
    };
    let context = SplitContext {
        give_backs,
        denials: Arc::clone(&denials),
        standby: Some(standby.clone()),
    };
    let store = move || {
        let store = Buckets::new(&redis, &shared, context.clone());
        let store = RememberedDenials::new(store, Arc::clone(&denials));
        Ok(Fallback::new(store, standby.clone()))
    };
    Backend {
        seen,
        store,
        beside: Box::pin(beside),
        health,
    }
}

/// Begins to record, if that is wanted.
fn recording(
    settings: &Settings,
    metrics: &Metrics,
) -> anyhow::Result<Option<(Recording, Sample)>> {
    let Some((recording, sample)) = &settings.recording else {
        return Ok(None);
    };
    let (path, begun) = (recording.path.display(), Recording::start(recording)?);
    exported_metrics::recording(metrics, &begun);
    tracing::info!(%path, "recording requests, with all that clients say in them");
    Ok(Some((begun, *sample)))
}

/// Serves with a store of its own on each thread.
async fn serve<S: Store>(
    settings: Settings,
    (telemetry, recording): (&Telemetry, Option<&(Recording, Sample)>),
    backend: Backend<impl Fn() -> anyhow::Result<S> + Clone + Send + 'static>,
    listeners: Listeners,
    (shutdown, abort): (impl Future<Output = ()>, impl Future<Output = ()>),
) -> anyhow::Result<()> {
    let metrics = Arc::clone(telemetry.metrics());
    let abort = abort.shared();
    let rules = Rules::new(&metrics);
    let health_service = HealthService::default();
    let health = Health::new(health_service.clone(), settings.ports.health);
    let secured = ports::secured(settings.ports.tls.clone())?;
    exported_metrics::certificates(&metrics, secured.certificates.as_ref(), &settings.origin);

    let mut source = Source::open(settings.origin.clone());
    let connected = source.connected();
    let pokes = secured.poke.into_iter().chain(source.poke()).collect();
    let reread = ports::reread(settings.ports.reread.clone(), pokes);
    let mut loader = Loader::new(&rules, &health, settings.load);
    if let Some(offer) = source.at_hand() {
        loader.take(&mut source, offer).await;
    }

    let view = View::new(&rules, &health, secured.certificates, &settings);
    let (threads, stop) = (settings.threads, settings.shutdown);
    let ([grpc, http, debug], _files) = listeners.into_parts();
    let max_bytes = service::message_bound(&settings.limiter.bounds);
    let connection = settings.ports.connections.clone();
    let rate_limits = RateLimits::new(&settings, (telemetry, recording), &rules.in_force);
    let origin = SourceView {
        place: settings.origin.place(),
        connected,
    };
    let seen = view.seen((&rules.history, &rate_limits.top), origin, backend.seen);
    // What people and probes ask has a store of its own.
    let beside = Arc::new((backend.store)()?);
    let json = rate_limits.over(Arc::clone(&beside), &metrics.recorder());
    let admin = ports::admin(beside, &settings, &rules.in_force, seen);
    let mut ports = HttpPorts::new([http, debug], &view, (json, MAX_JSON), admin);
    exported_metrics::connections(&metrics, &view);
    let (seen, opening) = (view.places.clone(), view.opening());
    let (store, bad_requests) = (backend.store, settings.response.bad_requests.clone());
    let serve = move || {
        let recorder = metrics.recorder();
        let rate_limit = RateLimitServiceServer::new(rate_limits.over(store()?, &recorder))
            .max_decoding_message_size(max_bytes);
        let calls = (recorder, bad_requests.clone());
        let front = front(rate_limit, calls, health_service.clone())?;
        let grpc = GrpcServer::new(front, &connection, opening.clone(), clock::system());
        Ok(Box::new(|incoming, stop| grpc.serve(incoming, stop).map(Ok).boxed_local()) as Serve)
    };
    let mut workers = Workers::start(threads, serve).await?;
    tracing::info!(addr = %grpc, threads, "listening for gRPC");
    let connections = connections(grpc, seen, clock::system());

    tokio::select! {
        result = workers.serve(connections) => return result,
        _ = ports.serve() => unreachable!("it never ends"),
        _ = reread => unreachable!("it never ends"),
        _ = secured.following => unreachable!("it never ends"),
        _ = loader.follow(&mut source) => unreachable!("it never ends"),
        _ = backend.beside => unreachable!("it never ends"),
        _ = health.follow(backend.health) => unreachable!("it never ends"),
        () = announced(shutdown, &health, (stop.delay, abort.clone())) => {}
    }
    tracing::info!(grace = ?stop.grace, "stopping; requests in flight may end");
    health.end_watching();
    end(workers, ports, stop.grace, abort).await
}

/// Waits for `shutdown`, reports NOT_SERVING, and returns after the delay, during which the caller goes on serving: clients
/// that check health move to other servers before connections are closed.
async fn announced(
    shutdown: impl Future<Output = ()>,
    health: &Health,
    (delay, abort): (Duration, impl Future<Output = ()>),
) {
    shutdown.await;
    health.is_stopping();
    if delay.is_zero() {
        return;
    }
    tracing::info!(
        ?delay,
        "health is NOT_SERVING, requests are served until the shutdown delay ends"
    );
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        () = abort => {}
    }
}

/// Makes the service of each thread, over a store and with a recorder of its own.
#[derive(Clone)]
struct RateLimits {
    rules: Arc<InForce>,
    limiter: LimiterSettings,
    response: ResponseSettings,
    timeout: Option<Duration>,
    min_store_timeout: Duration,
    tracing: Tracing,
    top: Top,
    recording: Option<(Handle, Sample)>,
}

impl RateLimits {
    fn new(
        settings: &Settings,
        (telemetry, recording): (&Telemetry, Option<&(Recording, Sample)>),
        rules: &Arc<InForce>,
    ) -> Self {
        Self {
            rules: Arc::clone(rules),
            limiter: settings.limiter.clone(),
            response: settings.response.clone(),
            timeout: settings.store.timeout(),
            min_store_timeout: settings.failure.min_store_timeout,
            tracing: telemetry.tracing().clone(),
            top: Top::new(settings.ports.top_size),
            recording: recording.map(|(recording, sample)| (recording.handle(), *sample)),
        }
    }

    fn over<S: Store>(&self, store: S, recorder: &Recorder) -> RateLimit<S> {
        let record = self
            .recording
            .as_ref()
            .map(|(recording, sample)| Record::new(recording.lines(), *sample, clock::system()));
        let limiter = Limiter::new(store, Arc::clone(&self.rules), self.limiter.clone())
            .with_timeout(self.timeout)
            .counted_by(recorder.clone())
            .noted_by(self.top.noter())
            .recorded_by(record);
        RateLimit::new(limiter, self.response.clone())
            .patient_for(self.min_store_timeout)
            .traced_by(self.tracing.clone())
    }
}

/// Lets what has begun end, for no longer than the grace period or until `abort`.
async fn end(
    mut workers: Workers,
    mut ports: HttpPorts,
    grace: Duration,
    abort: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let end = async {
        // Whoever asks for health meanwhile is to hear that it is bad.
        tokio::select! {
            result = workers.end() => result?,
            _ = ports.serve() => unreachable!("it never ends"),
        }
        ports.end().await;
        anyhow::Ok(())
    };
    tokio::select! {
        result = end => {
            result?;
            tracing::info!("stopped; every request was answered");
        }
        () = tokio::time::sleep(grace) => {
            tracing::warn!("stopped at the end of the grace period; open connections were cut");
        }
        () = abort => tracing::warn!("stopped at once by a second signal; open connections were cut"),
    }
    Ok(())
}

/// All services of a thread.
fn front<S: Store>(
    rate_limit: RateLimitServiceServer<RateLimit<S>>,
    calls: (Recorder, BadRequests),
    health: HealthService,
) -> anyhow::Result<GrpcRouter<RateLimitServiceServer<RateLimit<S>>>> {
    let rate_limit = rate_limit.accept_compressed(Gzip);
    let others = Routes::new(HealthServer::new(health).accept_compressed(Gzip))
        .add_service(reflection().build_v1()?.accept_compressed(Gzip))
        .add_service(reflection().build_v1alpha()?.accept_compressed(Gzip))
        .prepare();
    Ok(GrpcRouter::new(rate_limit, others, calls))
}

/// What grpcurl asks to do without .proto files, in both versions of the protocol.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(health_pb::DESCRIPTORS)
}

/// The rules in force, and who is told of them.
struct Rules {
    in_force: Arc<InForce>,
    metrics: Arc<Metrics>,
    history: History,
}

impl Rules {
    /// None yet.
    fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            in_force: Arc::default(),
            metrics: Arc::clone(metrics),
            history: History::default(),
        }
    }
}

/// Puts in force what a source has to offer.
struct Loader<'a> {
    rules: &'a Rules,
    health: &'a Health,
    options: LoadOptions,
    log: LoadLog,
}

impl<'a> Loader<'a> {
    fn new(rules: &'a Rules, health: &'a Health, options: LoadOptions) -> Self {
        Self {
            rules,
            health,
            options,
            log: LoadLog::default(),
        }
    }

    /// Puts in force whatever the source has, from now on.
    async fn follow(&mut self, source: &mut Source) -> Infallible {
        loop {
            tokio::select! {
                offer = source.next() => self.take(source, offer).await,
                () = self.log.due() => self.log.flush(),
            }
        }
    }

    /// Puts an offer in force, if it can be, and answers the source.
    async fn take(&mut self, source: &mut Source, offer: Offer) {
        let outcome = self.apply(offer).await;
        source.answer(outcome);
    }

    /// Puts the rules of an offer in force if they are right; otherwise leaves everything as it is.
    async fn apply(&mut self, offer: Offer) -> Result<(), Refusal> {
        let rules = self.rules;
        let version = offer.version();
        let options = self.options;
        // Many rules take a second or more; connections are accepted during that time.
        let loading = tokio::task::spawn_blocking(move || offer.load(options));
        match loading.await.expect("loading rules does not panic") {
            Ok(loaded) => {
                let outcome = LoadOutcome::of_loaded(&loaded);
                let (domains, count) = (loaded.domains().count(), loaded.rules().len());
                rules.in_force.install(loaded);
                let now = (clock::system())();
                rules.history.accepted(version, now);
                rules.metrics.configuration_loaded(domains, count, now);
                self.health.rules_are_in_force(domains);
                // Logged last, when it is true.
                self.log.add(outcome);
                Ok(())
            }
            Err(reason) => {
                let kept = match rules.in_force.snapshot() {
                    Some(_) => "the rules in force stay",
                    None => "no rules are in force yet",
                };
                rules.metrics.configuration_refused();
                rules.history.rejected(reason.told(), (clock::system())());
                self.log.add(LoadOutcome::Rejected {
                    reason: reason.clone(),
                    kept,
                });
                Err(reason)
            }
        }
    }
}

#[cfg(test)]
mod tests;
