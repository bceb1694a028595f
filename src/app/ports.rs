//! What surrounds the decisions: ports for people and probes, certificates, and what to do on SIGHUP.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use futures_util::future::LocalBoxFuture;
use gethostname::gethostname;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::health::{Health, HealthSettings};
use super::{Rules, Settings};
use crate::clock;
use crate::limiter::InForce;
use crate::limiter::inspect::Inspector;
use crate::limiter::top::Top;
use crate::service::pb::rate_limit_service_server::RateLimitService;
use crate::service::{
    self, Admin, AdminToken, BufferLimits, ConnectionLimit, ConnectionSettings, FailedConnections,
    FloodCount, HttpPort, Listener, Page, RulesText, ServerView, SourceView, StoreView,
    healthcheck, json, pages,
};
use crate::source::History;
use crate::store::Store;
use crate::telemetry::Throttle;
use crate::telemetry::metrics::{Metrics, Port};
use crate::time::Micros;
use crate::tls::{Certificates, ServerTls, TlsError, follow};
use crate::watch::Poke;

/// How often SIGHUP is logged at most, in microseconds.
const SIGNALS_LOGGED_EVERY: Micros = 10_000_000;

/// How the ports of a server are served.
#[derive(Debug, Clone)]
pub struct PortSettings {
    /// What connections to the gRPC port may do.
    pub connections: ConnectionSettings,
    /// What they are secured with; `None` for plaintext.
    pub tls: Option<ServerTls>,
    /// The most connections to each of the ports that speak HTTP.
    pub http_connections: usize,
    /// When health is good.
    pub health: HealthSettings,
    /// Who may change buckets at the debug port; nobody without.
    pub admin_token: Option<AdminToken>,
    /// In how many counters buckets are counted that are asked for most; 0: none are.
    pub top_size: usize,
    /// Changes when files are to be read again although nothing seems to have happened to them.
    pub reread: watch::Receiver<()>,
}

/// What can be seen of a running server.
#[derive(Debug, Clone)]
pub(super) struct View {
    rules: Arc<InForce>,
    metrics: Arc<Metrics>,
    health: Health,
    pub(super) places: ConnectionLimit,
    pub(super) failures: FailedConnections,
    pub(super) floods: FloodCount,
    pub(super) buffers: BufferLimits,
    pub(super) certificates: Option<Arc<Certificates>>,
    http_connections: usize,
    started: Instant,
}

impl View {
    /// A server that has just started.
    pub(super) fn new(
        rules: &Rules,
        health: &Health,
        certificates: Option<Arc<Certificates>>,
        settings: &Settings,
    ) -> Self {
        let most = settings.ports.connections.connections;
        Self {
            rules: Arc::clone(&rules.in_force),
            metrics: Arc::clone(&rules.metrics),
            health: health.clone(),
            places: ConnectionLimit::new(most, "GRPC_MAX_CONNECTIONS allows"),
            failures: FailedConnections::default(),
            floods: FloodCount::default(),
            buffers: BufferLimits::shared_by(settings.threads),
            certificates,
            http_connections: settings.ports.http_connections,
            started: Instant::now(),
        }
    }

    /// What connections are opened with.
    pub(super) fn opening(
        &self,
    ) -> (
        Option<Arc<Certificates>>,
        FailedConnections,
        FloodCount,
        BufferLimits,
    ) {
        let (failures, floods) = (self.failures.clone(), self.floods.clone());
        (
            self.certificates.clone(),
            failures,
            floods,
            self.buffers.clone(),
        )
    }

    /// The pages of the debug port.
    pub(super) fn pages(&self) -> Vec<Page> {
        let (rules, view) = (Arc::clone(&self.rules), self.clone());
        let texts = RulesText::default();
        let metrics = Arc::clone(&self.metrics);
        vec![
            Page {
                write: Arc::new(move || texts.of(rules.snapshot())),
                ..Page::text(
                    "/rlconfig",
                    "the rules in force, a line for each limit",
                    String::new,
                )
            },
            Page::text(
                "/stats",
                "what the server is and has, a line for each number",
                move || view.stats(),
            ),
            Page {
                path: "/metrics",
                about: "what is counted, as Prometheus reads it",
                kind: Metrics::TEXT_FORMAT,
                write: Arc::new(move || metrics.text()),
            },
        ]
    }

    /// What the admin API tells of the server.
    pub(super) fn seen(
        &self,
        (history, top): (&History, &Top),
        source: SourceView,
        store: StoreView,
    ) -> ServerView {
        let health = self.health.clone();
        ServerView {
            instance: gethostname().to_string_lossy().into_owned(),
            started: self.started,
            clock: clock::system(),
            is_healthy: Box::new(move || health.is_good()),
            metrics: Arc::clone(&self.metrics),
            rules: Arc::clone(&self.rules),
            history: history.clone(),
            top: top.clone(),
            source,
            store,
            refusals: ServerView::throttle(),
            search: Mutex::default(),
            readers: ServerView::readers(),
        }
    }

    fn stats(&self) -> String {
        let snapshot = self.rules.snapshot();
        let rules = snapshot.as_ref().map(|snapshot| &snapshot.rules);
        let mut text = format!("server.version: {}\n", env!("CARGO_PKG_VERSION"));
        let mut add = |name: &str, value: u64| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name}: {value}");
        };
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        add("server.uptime_seconds", self.started.elapsed().as_secs());
        add("server.healthy", self.health.is_good().into());
        add("config.loaded", snapshot.is_some().into());
        add(
            "config.domains",
            rules.map_or(0, |rules| count(rules.domains().len())),
        );
        add(
            "config.rules",
            rules.map_or(0, |rules| count(rules.rules().len())),
        );
        add("grpc.connections.open", count(self.places.taken()));
        add("grpc.connections.accepted", self.places.accepted());
        add("grpc.connections.refused", self.places.refused());
        add("grpc.connections.failed", self.failures.count());
        add("grpc.connections.unread", self.buffers.unread());
        add("grpc.requests.evicted", self.buffers.evicted());
        add("grpc.requests.late", self.buffers.late());
        add("grpc.connections.flooded", self.floods.count());
        if let Some(certificates) = &self.certificates {
            add(
                "tls.certificate.expires_unix_seconds",
                certificates.expires(),
            );
            add("tls.certificate.rotations", certificates.rotations());
            add("tls.certificate.failed_rotations", certificates.failures());
        }
        text
    }
}

/// The ports that speak HTTP.
#[derive(Debug)]
pub(super) struct HttpPorts {
    http: HttpPort,
    debug: HttpPort,
}

impl HttpPorts {
    /// Serves requests as JSON, of at most so many bytes, by `service`; what is in view; and what looks into it.
    pub(super) fn new(
        [http, pages_at]: [Listener; 2],
        view: &View,
        service: (impl RateLimitService, usize),
        admin: Router,
    ) -> Self {
        let (service, max_bytes) = service;
        let told = view.health.clone();
        let health = healthcheck(move || told.is_good());
        tracing::info!(addr = %http, "listening for HTTP: /json, /healthcheck");
        tracing::info!(addr = %pages_at, "listening for HTTP: /, /api/v1, /rlconfig, /stats, /metrics, /healthcheck");
        Self {
            http: HttpPort::new(
                http,
                json(service, max_bytes).merge(health.clone()),
                view.http_connections,
                clock::system(),
            ),
            debug: HttpPort::new(
                pages_at,
                pages(view.pages()).merge(admin).merge(health),
                view.http_connections,
                clock::system(),
            ),
        }
    }

    /// Serves. It never ends; it may be dropped and called again.
    pub(super) async fn serve(&mut self) -> Infallible {
        tokio::select! {
            never = self.http.serve() => never,
            never = self.debug.serve() => never,
        }
    }

    /// Lets the requests in flight end.
    pub(super) async fn end(self) {
        tokio::join!(self.http.end(), self.debug.end());
    }
}

/// The admin API over a store.
pub(super) fn admin<S: Store>(
    store: S,
    settings: &Settings,
    rules: &Arc<InForce>,
    seen: ServerView,
) -> Router {
    let timeout = settings.store.timeout().unwrap_or_default();
    let share = settings.failure.fallback.share;
    let limiter = settings.limiter.clone();
    service::admin(Admin {
        inspector: Inspector::new(store, Arc::clone(rules), limiter, (timeout, share)),
        seen,
        token: settings.ports.admin_token.clone(),
    })
}

/// The port of Prometheus, which is bounded as the others are. Another thread serves it.
pub(super) fn prometheus(listener: TcpListener, max_connections: usize) -> io::Result<Port> {
    let listener = listener.into_std()?;
    Ok(Port::new(move |router| {
        Box::pin(async move {
            let listener = Listener::Tcp(TcpListener::from_std(listener)?);
            let mut port = HttpPort::new(listener, router, max_connections, clock::system());
            Ok(port.serve().await)
        })
    }))
}

/// Certificates, and what goes with them.
pub(super) struct Secured {
    /// What handshakes are made with; `None` for plaintext.
    pub(super) certificates: Option<Arc<Certificates>>,
    /// Has them read again.
    pub(super) poke: Option<Poke>,
    /// Follows the files that they come from; never ends.
    pub(super) following: LocalBoxFuture<'static, Infallible>,
}

/// Reads the certificates of the server, if it is to have any.
pub(super) fn secured(tls: Option<ServerTls>) -> Result<Secured, TlsError> {
    let Some(tls) = tls else {
        return Ok(Secured {
            certificates: None,
            poke: None,
            following: Box::pin(pending()),
        });
    };
    let (certificates, poke, following) = follow(tls, clock::system())?;
    Ok(Secured {
        certificates: Some(certificates),
        poke: Some(poke),
        following: Box::pin(following),
    })
}

/// Has files read again whenever that is asked for.
pub(super) async fn reread(mut asked: watch::Receiver<()>, pokes: Vec<Poke>) -> Infallible {
    let (throttle, clock) = (Throttle::every(SIGNALS_LOGGED_EVERY), clock::system());
    let mut unlogged = 0_u64;
    while asked.changed().await.is_ok() {
        match throttle.passes(clock()) {
            true => {
                tracing::info!(
                    unlogged,
                    "SIGHUP: reading the configuration and certificates again"
                );
                unlogged = 0;
            }
            false => unlogged += 1,
        }
        pokes.iter().for_each(Poke::poke);
    }
    pending().await
}
