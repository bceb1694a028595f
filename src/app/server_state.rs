//! The state of a running server that the debug pages and the admin API display.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use gethostname::gethostname;

use super::configuration::ActiveRules;
use super::health::Health;
use super::settings::Settings;
use crate::clock;
use crate::limiter::InForce;
use crate::limiter::top::Top;
use crate::service::{
    BufferLimits, ConnectionLimit, FailedConnections, FloodCount, Page, RulesText, ServerView,
    SharedConnections, SourceView, StoreView,
};
use crate::source::History;
use crate::telemetry::metrics::Metrics;
use crate::tls::Certificates;

/// The state of a running server.
#[derive(Debug, Clone)]
pub(super) struct ServerState {
    rules: Arc<InForce>,
    history: History,
    metrics: Arc<Metrics>,
    pub(super) health: Health,
    connections: SharedConnections,
    started: Instant,
}

impl ServerState {
    /// Creates the state of a server that has just started.
    pub(super) fn new(
        rules: &ActiveRules,
        health: &Health,
        connections: &SharedConnections,
    ) -> Self {
        Self {
            rules: Arc::clone(&rules.in_force),
            history: rules.history.clone(),
            metrics: Arc::clone(&rules.metrics),
            health: health.clone(),
            connections: connections.clone(),
            started: Instant::now(),
        }
    }

    /// Returns the pages of the debug port.
    pub(super) fn pages(&self) -> Vec<Page> {
        let (rules, state) = (Arc::clone(&self.rules), self.clone());
        let texts = RulesText::default();
        let metrics = Arc::clone(&self.metrics);
        vec![
            Page {
                write: Arc::new(move || texts.of(rules.snapshot())),
                ..Page::text("/rlconfig", "active limits, one per line", String::new)
            },
            Page::text(
                "/stats",
                "version, health and counters of the server, one per line",
                move || state.stats(),
            ),
            Page {
                path: "/metrics",
                about: "metrics in the text format of Prometheus",
                kind: Metrics::TEXT_FORMAT,
                write: Arc::new(move || metrics.text()),
            },
        ]
    }

    /// Returns the state for the admin API.
    pub(super) fn view(&self, source: SourceView, store: StoreView, top: &Top) -> ServerView {
        let health = self.health.clone();
        ServerView {
            instance: gethostname().to_string_lossy().into_owned(),
            started: self.started,
            clock: clock::system(),
            is_healthy: Box::new(move || health.is_good()),
            metrics: Arc::clone(&self.metrics),
            rules: Arc::clone(&self.rules),
            history: self.history.clone(),
            top: top.clone(),
            source,
            store,
            rejections: ServerView::rejection_throttle(),
            search: Mutex::default(),
            readers: ServerView::reader_permits(),
        }
    }

    fn stats(&self) -> String {
        let snapshot = self.rules.snapshot();
        let rules = snapshot.as_ref().map(|snapshot| &snapshot.rules);
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let domains = rules.map_or(0, |rules| count(rules.domains().len()));
        let rules = rules.map_or(0, |rules| count(rules.rules().len()));
        let SharedConnections {
            certificates,
            limit,
            failed,
            floods,
            buffers,
        } = &self.connections;
        let mut text = format!("server.version: {}\n", env!("CARGO_PKG_VERSION"));
        let mut add = |name: &str, value: u64| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name}: {value}");
        };
        add("server.uptime_seconds", self.started.elapsed().as_secs());
        add("server.healthy", self.health.is_good().into());
        add("config.loaded", snapshot.is_some().into());
        add("config.domains", domains);
        add("config.rules", rules);
        add("grpc.connections.open", count(limit.open()));
        add("grpc.connections.accepted", limit.accepted());
        add("grpc.connections.refused", limit.rejected());
        add("grpc.connections.failed", failed.count());
        add("grpc.connections.unread", buffers.unread());
        add("grpc.requests.evicted", buffers.evicted());
        add("grpc.requests.late", buffers.timed_out());
        add("grpc.connections.flooded", floods.get());
        if let Some(certificates) = certificates {
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

/// Creates what the gRPC servers of all threads share.
pub(super) fn shared_connections(
    settings: &Settings,
    certificates: Option<Arc<Certificates>>,
) -> SharedConnections {
    let max = settings.ports.connections.connections;
    SharedConnections {
        certificates,
        limit: ConnectionLimit::new(max, "GRPC_MAX_CONNECTIONS"),
        failed: FailedConnections::default(),
        floods: FloodCount::default(),
        buffers: BufferLimits::shared_by(settings.threads),
    }
}
