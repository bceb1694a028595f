//! The composition root: puts store, limiter, sources and services together, runs them, and stops
//! them in order. The only place that picks a store.

mod workers;

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{TcpListener, ToSocketAddrs};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::HealthReporter;

use crate::clock;
use crate::limiter::{InForce, Limiter, LimiterSettings};
use crate::rules::{LoadOptions, RuleSet, SourceFile};
use crate::service::pb::DESCRIPTORS;
use crate::service::pb::rate_limit_service_server::RateLimitServiceServer;
use crate::service::{self, Front, RateLimit, ResponseSettings};
use crate::source::files::{self, Location, SourceError};
use crate::store::Store;
use crate::store::denied::{Denials, RememberedDenials};
use crate::store::memory::MemoryStore;
use crate::store::redis::{RedisSettings, RedisStore};

pub use workers::{Incoming, Serve, Stop, Workers};

/// The names that health is told under: the whole server, and the one that envoyproxy/ratelimit uses.
const HEALTH_NAMES: [&str; 2] = ["", "ratelimit"];

/// Calls in flight on one connection. Envoy opens one connection per worker thread.
const MAX_CONCURRENT_STREAMS: u32 = 4096;

/// How often a silent connection is asked whether it is still there, and how long it may
/// take to say so: what went away without a word is cleared within a minute.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(40);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Everything that is decided before the server runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the rules are.
    pub location: Location,
    /// How they are read.
    pub load: LoadOptions,
    /// Where buckets live.
    pub store: StoreSettings,
    /// How requests are decided.
    pub limiter: LimiterSettings,
    /// What responses carry.
    pub response: ResponseSettings,
    /// Threads that serve requests.
    pub threads: NonZeroUsize,
    /// How long requests in flight may take to end once the server is told to stop.
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
    Redis(RedisSettings),
}

impl StoreSettings {
    /// How long a decision may take; `None` where it waits for nothing.
    fn timeout(&self) -> Option<Duration> {
        match self {
            Self::Memory { .. } => None,
            Self::Redis(redis) => Some(redis.timeout),
        }
    }
}

/// Sockets that are bound already.
#[derive(Debug)]
pub struct Listeners {
    /// For gRPC.
    pub grpc: TcpListener,
}

impl Listeners {
    /// Binds the addresses of the server.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn bind(grpc: impl ToSocketAddrs) -> io::Result<Self> {
        Ok(Self {
            grpc: TcpListener::bind(grpc).await?,
        })
    }
}

/// Serves until `shutdown`, then lets the requests in flight end; `abort` or the grace period
/// ends them.
///
/// # Errors
/// When the server cannot start, or a part of it fails for good.
pub async fn run(
    settings: Settings,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
    abort: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    match settings.store.clone() {
        StoreSettings::Memory { max_buckets } => {
            let store = Arc::new(MemoryStore::new(max_buckets, clock::system()));
            let store = move || Ok(Arc::clone(&store));
            serve(settings, store, listeners, shutdown, abort).await
        }
        StoreSettings::Redis(redis) => {
            let redis = redis.shared_by(settings.threads);
            let denials = Arc::new(Denials::default());
            let store = move || {
                let store = RedisStore::new(&redis).context("Redis cannot be used")?;
                Ok(RememberedDenials::new(store, Arc::clone(&denials)))
            };
            serve(settings, store, listeners, shutdown, abort).await
        }
    }
}

/// Serves with a store of its own on each thread.
async fn serve<S: Store>(
    settings: Settings,
    store: impl Fn() -> anyhow::Result<S> + Clone + Send + 'static,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
    abort: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let rules = Arc::new(InForce::default());
    let (mut health, health_service) = tonic_health::server::health_reporter();
    tell_health(&health, ServingStatus::NotServing).await;

    let (files, mut changes) = files::watch(settings.location.clone());
    apply(&rules, &health, files, settings.load).await;
    let reload = async {
        loop {
            let files = changes.next().await;
            apply(&rules, &health, files, settings.load).await;
        }
    };

    let (in_force, threads, grace) = (Arc::clone(&rules), settings.threads, settings.grace);
    let warning = RateLimit::<S>::warning();
    let serve = move || {
        let limiter = Limiter::new(store()?, Arc::clone(&in_force), settings.limiter.clone())
            .with_timeout(settings.store.timeout());
        let response = settings.response.clone();
        let rate_limit = RateLimit::new(limiter, response, clock::system(), warning.clone());
        let rate_limit = RateLimitServiceServer::new(rate_limit)
            .max_decoding_message_size(service::message_bound(&settings.limiter.bounds));
        serve_all(rate_limit, health_service.clone())
    };
    let mut workers = Workers::start(threads, serve).await?;
    let address = listeners.grpc.local_addr()?;
    let connections = service::connections(listeners.grpc, clock::system());
    tracing::info!(addr = %address, threads, "listening for gRPC");

    tokio::select! {
        result = workers.serve(connections) => return result,
        () = reload => unreachable!("reloading never ends"),
        () = shutdown => {}
    }
    tell_health(&health, ServingStatus::NotServing).await;
    tracing::info!(?grace, "stopping; requests in flight may end");
    end_watching(&mut health).await;
    tokio::select! {
        result = workers.end() => {
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

/// Serves everything that a worker serves.
fn serve_all<S: Store>(
    rate_limit: RateLimitServiceServer<RateLimit<S>>,
    health: HealthServer<impl Health>,
) -> anyhow::Result<Serve> {
    let others = Routes::new(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .prepare();
    let front = Front::new(rate_limit, others);
    let server = Server::builder()
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
    Ok(Box::new(|incoming, stop| {
        Box::pin(async {
            let served = server.serve_with_incoming_shutdown(front, incoming, stop);
            served.await.context("the gRPC server failed")
        })
    }))
}

/// What grpcurl asks to do without .proto files, in both versions of the protocol.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

async fn tell_health(health: &HealthReporter, status: ServingStatus) {
    for name in HEALTH_NAMES {
        health.set_service_status(name, status).await;
    }
}

/// Ends the streams on which health is watched, once they have told what there is to tell: left open,
/// each would keep its connection, and so the server, until the end of the grace period.
async fn end_watching(health: &mut HealthReporter) {
    for name in HEALTH_NAMES {
        health.clear_service_status(name).await;
    }
}

/// Puts the files' rules in force if they are right; otherwise leaves everything as it is, and says so.
async fn apply(
    rules: &InForce,
    health: &HealthReporter,
    files: Result<Vec<SourceFile>, SourceError>,
    options: LoadOptions,
) {
    let kept = if rules.snapshot().is_some() {
        "the rules in force stay"
    } else {
        "no rules are in force yet"
    };
    let files = match files {
        Ok(files) => files,
        Err(error) => {
            tracing::error!(%error, "the configuration cannot be read; {kept}");
            return;
        }
    };
    // Many rules take a second or more; meanwhile, connections are accepted.
    let loading = tokio::task::spawn_blocking(move || RuleSet::load(&files, options));
    match loading.await.expect("loading rules does not panic") {
        Ok(loaded) => {
            let (domains, count) = (loaded.domains().count(), loaded.rules().len());
            rules.install(loaded);
            tell_health(health, ServingStatus::Serving).await;
            // Last, so that whoever reads it finds it true.
            if count > 0 {
                tracing::info!(domains, rules = count, "rules in force");
            } else {
                tracing::warn!("the configuration is right but has no rules: nothing is limited");
            }
        }
        Err(mistakes) => tracing::error!("the configuration has mistakes; {kept}\n{mistakes}"),
    }
}

#[cfg(test)]
mod tests;
