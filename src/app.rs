//! The composition root: builds the parts of the server, runs them, and drains them.

mod backend;
mod background;
mod certificates;
mod configuration;
mod exported_metrics;
mod grpc_services;
mod health;
mod listeners;
mod load_log;
mod ports;
mod server_state;
mod settings;
mod shutdown;
mod workers;

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use futures_util::FutureExt as _;

use crate::clock;
use crate::limiter::Sample;
use crate::limiter::inspect::Inspector;
use crate::service::{
    self, Admin, GrpcServer, HealthService, ServerView, SharedConnections, SourceView, connections,
};
use crate::source::Source;
use crate::store::Store;
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::recording::Recording;

pub(crate) use health::{Health, HealthSettings};
pub(crate) use listeners::{Address, Addresses, Listeners};
pub(crate) use settings::{
    FailureSettings, PortSettings, Settings, ShutdownSettings, StoreSettings,
};
pub use workers::{Incoming, Serve, Stop, Workers};

use backend::{Backend, NewStore};
use certificates::{GrpcCertificates, reread};
use configuration::{ActiveRules, Loader};
use grpc_services::{GrpcServices, RateLimits};
use ports::HttpPorts;
use server_state::{ServerState, shared_connections};
use shutdown::StopSignals;

/// Serves until `shutdown` completes and the shutdown delay has passed. Then requests in flight can complete within the
/// grace period. `abort` ends both times immediately.
///
/// # Errors
/// The server cannot start, or a part of it failed.
pub(crate) async fn run(
    settings: Settings,
    mut listeners: Listeners,
    shutdown: impl Future<Output = ()>,
    abort: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let signals = StopSignals::new(shutdown, abort);
    let process = Process::start(&settings, &mut listeners)?;
    let metrics = process.telemetry.metrics();
    let served = match settings.store.clone() {
        StoreSettings::Memory { max_buckets } => {
            let backend = backend::memory(max_buckets, metrics);
            serve(settings, &process, backend, listeners, signals).await
        }
        StoreSettings::Redis(redis) => {
            let backend = backend::redis(*redis, &settings, &process.telemetry);
            serve(settings, &process, backend, listeners, signals).await
        }
    };
    process.end().await;
    served
}

/// What observes the requests of a process: metrics, traces, and the recording.
struct Process {
    telemetry: Telemetry,
    recording: Option<(Recording, Sample)>,
}

impl Process {
    fn start(settings: &Settings, listeners: &mut Listeners) -> anyhow::Result<Self> {
        let prometheus = match listeners.prometheus.take() {
            Some(listener) => {
                let (addr, path) = (listener.local_addr()?, &settings.telemetry.prometheus_path);
                tracing::info!(protocol = %"prometheus", %addr, path, "listening");
                let max_connections = settings.ports.http_connections;
                Some(ports::prometheus(listener, max_connections)?)
            }
            None => None,
        };
        let telemetry = Telemetry::start(settings.telemetry.clone(), settings.threads, prometheus)?;
        let recording = start_recording(settings, telemetry.metrics())?;
        Ok(Self {
            telemetry,
            recording,
        })
    }

    /// Exports and writes what is still buffered.
    async fn end(self) {
        let recording = async {
            if let Some((recording, _)) = self.recording {
                recording.end().await;
            }
        };
        tokio::join!(recording, self.telemetry.end());
    }
}

fn start_recording(
    settings: &Settings,
    metrics: &Metrics,
) -> anyhow::Result<Option<(Recording, Sample)>> {
    let Some((recording, sample)) = &settings.recording else {
        return Ok(None);
    };
    let (path, started) = (recording.path.display(), Recording::start(recording)?);
    exported_metrics::recording(metrics, &started);
    tracing::info!(%path, "recording requests with everything that clients send");
    Ok(Some((started, *sample)))
}

/// Serves with a store per thread: builds all parts, runs them until a signal, and drains them.
async fn serve<F: NewStore>(
    settings: Settings,
    process: &Process,
    backend: Backend<F>,
    listeners: Listeners,
    mut signals: StopSignals<'_>,
) -> anyhow::Result<()> {
    // The configuration.
    let metrics = process.telemetry.metrics();
    let rules = ActiveRules::new(metrics);
    let health_service = HealthService::default();
    let health = Health::new(health_service.clone(), settings.ports.health);
    let mut source = Source::open(settings.origin.clone());
    let mut loader = Loader::new(&rules, &health, settings.load);
    let certificates = GrpcCertificates::read(settings.ports.tls.clone())?;
    exported_metrics::certificates(metrics, certificates.current.as_ref(), &settings.origin);
    let pokes = certificates.poke.into_iter().chain(source.poke()).collect();
    let rereading = reread(settings.ports.reread.clone(), pokes);
    if let Some(offer) = source.take_first() {
        loader.apply(&mut source, offer).await;
    }

    // The ports. Their files are removed when the server has ended.
    let (listeners, _socket_files) = listeners.into_parts();
    let shared = shared_connections(&settings, certificates.current);
    exported_metrics::connections(metrics, &shared);
    let rate_limits = RateLimits::new(&settings, process, &rules.in_force);
    let state = ServerState::new(&rules, &health, &shared);
    let view = state.view(
        SourceView {
            origin: settings.origin.location(),
            connected: source.connected(),
        },
        backend.view,
        &rate_limits.top,
    );
    // Requests over HTTP use a store of their own.
    let store = Arc::new((backend.new_store)()?);
    let json = rate_limits.service(Arc::clone(&store), &metrics.recorder());
    let admin = admin_api(store, view, &settings, &rules);
    let max_connections = settings.ports.http_connections;
    let mut ports = HttpPorts::new(listeners.http, max_connections, &state, json, admin);
    let services = GrpcServices {
        rate_limits,
        health: health_service,
        metrics: Arc::clone(metrics),
    };
    let mut workers = start_workers(&settings, services, backend.new_store, &shared).await?;
    tracing::info!(protocol = %"grpc", addr = %listeners.grpc, threads = settings.threads, "listening");
    let connections = connections(listeners.grpc, shared.limit, clock::system());

    // Until a signal.
    tokio::select! {
        result = workers.serve(connections) => return result,
        never = ports.serve() => match never {},
        never = rereading => match never {},
        never = certificates.following => match never {},
        never = loader.follow(&mut source) => match never {},
        never = backend.background => match never {},
        never = health.follow(backend.health) => match never {},
        () = signals.wait(&health, settings.shutdown.delay) => {}
    }
    health.end_watching();
    signals.drain(workers, ports, settings.shutdown).await
}

/// Returns the routes of the admin API.
fn admin_api<S: Store>(
    store: S,
    view: ServerView,
    settings: &Settings,
    rules: &ActiveRules,
) -> Router {
    let timeout = settings.store.timeout().unwrap_or_default();
    let share = settings.failure.fallback.share;
    let limiter = settings.limiter.clone();
    let rules = Arc::clone(&rules.in_force);
    service::admin(Admin {
        inspector: Inspector::new(store, rules, limiter, (timeout, share)),
        view,
        token: settings.ports.admin_token.clone(),
    })
}

/// Starts the threads that serve gRPC, each with its own store.
async fn start_workers<F: NewStore>(
    settings: &Settings,
    services: GrpcServices,
    new_store: F,
    shared: &SharedConnections,
) -> anyhow::Result<Workers> {
    let (limits, shared) = (settings.ports.connections.clone(), shared.clone());
    let serve = move || {
        let router = services.router(new_store()?)?;
        let server = GrpcServer::new(router, &limits, shared.clone(), clock::system());
        Ok(Box::new(|incoming, stop| server.serve(incoming, stop).map(Ok).boxed_local()) as Serve)
    };
    Workers::start(settings.threads, serve).await
}

#[cfg(test)]
mod tests;
