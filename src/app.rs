//! The composition root: puts store, limiter, sources and services together, runs them, and stops
//! them in order. The only place that picks a store.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::sync::watch;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::clock;
use crate::limiter::{Limiter, LimiterSettings};
use crate::rules::{LoadOptions, RuleSet, SourceFile};
use crate::service::pb::DESCRIPTORS;
use crate::service::pb::rate_limit_service_server::RateLimitServiceServer;
use crate::service::{self, RateLimit, ResponseSettings};
use crate::source::files::{self, Location, SourceError};
use crate::store::Store;
use crate::store::denied::RememberedDenials;
use crate::store::memory::MemoryStore;
use crate::store::redis::{RedisSettings, RedisStore};

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
            let store = MemoryStore::new(max_buckets, clock::system());
            serve(settings, store, listeners, shutdown, abort).await
        }
        StoreSettings::Redis(redis) => {
            let store = RedisStore::new(&redis).context("Redis cannot be used")?;
            let store = RememberedDenials::new(store);
            serve(settings, store, listeners, shutdown, abort).await
        }
    }
}

async fn serve<S: Store>(
    settings: Settings,
    store: S,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
    abort: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let limiter = Arc::new(Limiter::new(store, settings.limiter.clone()));
    let (mut health, health_service) = tonic_health::server::health_reporter();
    tell_health(&health, ServingStatus::NotServing).await;

    let (files, mut changes) = files::watch(settings.location.clone());
    apply(&limiter, &health, files, settings.load).await;
    let reload = async {
        loop {
            let files = changes.next().await;
            apply(&limiter, &health, files, settings.load).await;
        }
    };

    let rate_limit = RateLimit::new(Arc::clone(&limiter), settings.response, clock::system());
    let rate_limit = RateLimitServiceServer::new(rate_limit)
        .max_decoding_message_size(service::message_bound(&settings.limiter.bounds));
    let router = Server::builder()
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(rate_limit)
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    let address = listeners.grpc.local_addr()?;
    let incoming = service::connections(listeners.grpc, clock::system());
    let (stop, mut stopping) = watch::channel(());
    let server = router.serve_with_incoming_shutdown(incoming, async move {
        // Both a message and a dropped sender mean: stop.
        let _ = stopping.changed().await;
    });
    tokio::pin!(server);
    tracing::info!(addr = %address, "listening for gRPC");

    tokio::select! {
        result = &mut server => return result.context("the gRPC server failed"),
        () = reload => unreachable!("reloading never ends"),
        () = shutdown => {}
    }
    tell_health(&health, ServingStatus::NotServing).await;
    tracing::info!(grace = ?settings.grace, "stopping; requests in flight may end");
    drop(stop);
    end_watching(&mut health).await;
    tokio::select! {
        result = server => {
            result.context("the gRPC server failed while stopping")?;
            tracing::info!("stopped; every request was answered");
        }
        () = tokio::time::sleep(settings.grace) => {
            tracing::warn!("stopped at the end of the grace period; open connections were cut");
        }
        () = abort => tracing::warn!("stopped at once by a second signal; open connections were cut"),
    }
    Ok(())
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
async fn apply<S: Store>(
    limiter: &Limiter<S>,
    health: &HealthReporter,
    files: Result<Vec<SourceFile>, SourceError>,
    options: LoadOptions,
) {
    let kept = if limiter.snapshot().is_some() {
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
    match RuleSet::load(&files, options) {
        Ok(rules) => {
            let (domains, count) = (rules.domains().count(), rules.rules().len());
            limiter.install(rules);
            tell_health(health, ServingStatus::Serving).await;
            // Last, so that whoever reads it finds it true.
            tracing::info!(domains, rules = count, "rules in force");
        }
        Err(mistakes) => tracing::error!("the configuration has mistakes; {kept}\n{mistakes}"),
    }
}
