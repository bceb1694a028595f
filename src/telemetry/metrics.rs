//! Metrics: counters that cost a request next to nothing, and their text for Prometheus.
//!
//! What each request counts is counted by a [`Recorder`] in counters of its thread's own, found beforehand;
//! adding them up is left to whoever reads. Everything else is an ordinary metric of the `prometheus` crate.
//! docs/metrics.md tells the names, types, labels and meanings.

mod calls;
mod copies;
mod families;
mod listener;
mod process;
mod pulled;
mod rare;
mod read;
mod recorder;
mod series;
mod store;
mod sums;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use crate::time::Micros;
use calls::Shard;
use copies::Copies;
use pulled::Pulled;
use rare::{Configuration, Rare};
use series::Table;

pub use calls::{DecidedBy, Method, Times, Told};
pub use listener::{Port, Serving};
pub use read::Distribution;
pub use recorder::Recorder;
pub use series::{Hits, OTHER, Series, Tried};
pub use store::{BatchMetrics, StoreMetrics, Waiting};

/// The most threads that have counters of their own; more of them share.
const MAX_SHARDS: usize = 64;

/// Connections of the gRPC port at a moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectionCounts {
    /// Open now.
    pub open: u64,
    /// At most that many may be open.
    pub max: u64,
    /// Accepted since the start.
    pub accepted: u64,
    /// Closed immediately because the maximum was open, since the start.
    pub rejected: u64,
    /// Failed in the TLS handshake or before HTTP/2 was spoken, since the start.
    pub failed: u64,
    /// Closed because of a flood of control frames or resets, since the start.
    pub flooded: u64,
    /// Closed because their responses were not read, since the start.
    pub unread: u64,
    /// Incomplete requests that were rejected to make room for others, since the start.
    pub evicted: u64,
    /// Requests that were rejected because they did not arrive in time, since the start.
    pub late: u64,
}

/// Reads the connections of the gRPC port when metrics are scraped.
pub type Connections = Arc<dyn Fn() -> ConnectionCounts + Send + Sync>;

/// A metric of connections: name, help, value.
type OfConnections = (&'static str, &'static str, fn(&ConnectionCounts) -> u64);

const CONNECTION_GAUGES: [OfConnections; 2] = [
    (
        "ratekeeper_grpc_connections",
        "Open connections of the gRPC port",
        |connections| connections.open,
    ),
    (
        "ratekeeper_grpc_connections_max",
        "GRPC_MAX_CONNECTIONS",
        |connections| connections.max,
    ),
];

const CONNECTION_COUNTERS: [OfConnections; 7] = [
    (
        "ratekeeper_grpc_connections_accepted_total",
        "Connections that the gRPC port has accepted",
        |connections| connections.accepted,
    ),
    (
        "ratekeeper_grpc_connections_rejected_total",
        "Connections that were closed immediately because GRPC_MAX_CONNECTIONS were open",
        |connections| connections.rejected,
    ),
    (
        "ratekeeper_grpc_connections_failed_total",
        "Connections that failed in the TLS handshake or did not speak HTTP/2",
        |connections| connections.failed,
    ),
    (
        "ratekeeper_grpc_connections_flooded_total",
        "Connections that were closed because of too many control frames or resets",
        |connections| connections.flooded,
    ),
    (
        "ratekeeper_grpc_connections_unread_total",
        "Connections that were closed because the client did not read its responses",
        |connections| connections.unread,
    ),
    (
        "ratekeeper_grpc_requests_evicted_total",
        "Incomplete requests that were rejected because incomplete requests held too much memory",
        |connections| connections.evicted,
    ),
    (
        "ratekeeper_grpc_requests_late_total",
        "Requests that were rejected because they did not arrive completely in time",
        |connections| connections.late,
    ),
];

/// What is decided about metrics before the server runs.
#[derive(Debug, Clone)]
pub struct MetricsSettings {
    /// The most names by rule that are counted apart.
    pub max_series: usize,
    /// The part of a limit from which hits are near it.
    pub near_limit_ratio: f32,
    /// What becomes of dots in keys and values, in the names of rules.
    pub dots: Dots,
    /// Response times as the reference's older dashboards want them: milliseconds, though the name says seconds.
    pub milliseconds: bool,
}

impl Default for MetricsSettings {
    fn default() -> Self {
        Self {
            max_series: 10_000,
            near_limit_ratio: 0.8,
            dots: Dots::Kept,
            milliseconds: false,
        }
    }
}

/// What becomes of dots in keys and values, which separate the parts of a name in StatsD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dots {
    /// They stay, but for those of IPv4 addresses.
    Kept,
    /// They become underscores.
    Replaced,
}

/// All metrics of a server.
#[derive(Debug)]
pub struct Metrics {
    settings: MetricsSettings,
    registry: Registry,
    shards: Box<[Shard]>,
    next_shard: AtomicUsize,
    series: Table,
    rare: Rare,
    configuration: Configuration,
    copies: Copies,
    /// Of the store.
    pub store: StoreMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(MetricsSettings::default(), NonZeroUsize::MIN)
    }
}

impl Metrics {
    /// Metrics for so many threads that serve requests.
    #[must_use]
    pub fn new(settings: MetricsSettings, threads: NonZeroUsize) -> Self {
        let registry = Registry::new();
        let shards = threads.get().min(MAX_SHARDS);
        let rare = Rare::new(&registry);
        let max = gauge(
            &registry,
            "ratekeeper_metric_series_max",
            "METRICS_MAX_SERIES",
        );
        max.set(i64::try_from(settings.max_series).unwrap_or(i64::MAX));
        let about = Opts::new(
            "ratekeeper_build_info",
            "Always 1; the labels tell what runs",
        )
        .const_label("version", env!("CARGO_PKG_VERSION"));
        registered(&registry, IntGauge::with_opts(about)).set(1);
        Self {
            series: Table::new(settings.max_series, shards, rare.refused.clone()),
            store: StoreMetrics::new(&registry),
            configuration: Configuration::new(&registry),
            copies: Copies::default(),
            settings,
            registry,
            shards: (0..shards).map(|_| Shard::default()).collect(),
            next_shard: AtomicUsize::new(0),
            rare,
        }
    }

    /// What becomes of dots in the names of rules.
    #[must_use]
    pub fn dots(&self) -> Dots {
        self.settings.dots
    }

    /// What a thread counts with.
    #[must_use]
    pub fn recorder(self: &Arc<Self>) -> Recorder {
        let shard = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        Recorder::new(Arc::clone(self), shard)
    }

    /// All metrics in Prometheus's text format, for somebody who may read it slowly.
    #[must_use]
    pub fn text(&self) -> Bytes {
        self.copies.latest(|| self.encode())
    }

    /// All metrics in Prometheus's text format.
    #[must_use]
    pub fn encode(&self) -> String {
        self.rare
            .series
            .set(i64::try_from(self.series.len()).unwrap_or(i64::MAX));
        let mut text = String::new();
        let mut families = self.registry.gather();
        families.extend(families::of_calls(self));
        families.extend(process::families());
        families.sort_by(|one, two| one.name().cmp(two.name()));
        for family in families.into_iter().chain(families::by_rule(self)) {
            // It fails for a family without a name or without metrics; there is none.
            let _ = TextEncoder::new().encode_utf8(&[family], &mut text);
        }
        text
    }

    /// The media type of [`encode`](Self::encode).
    pub const TEXT_FORMAT: &'static str = prometheus::TEXT_FORMAT;

    /// A configuration came into force.
    pub fn configuration_loaded(&self, domains: usize, rules: usize, now: Micros) {
        self.configuration.loaded(domains, rules, now);
        self.series.begin_generation();
    }

    /// A configuration was refused.
    pub fn configuration_refused(&self) {
        self.configuration.refused();
    }

    /// Requests are recorded; `written` and `dropped` count them.
    pub fn recorded(
        &self,
        written: impl Fn() -> u64 + Send + Sync + 'static,
        dropped: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let options = |outcome| {
            let options = Opts::new(
                "ratekeeper_recorded_requests_total",
                "Requests that were to be recorded, and whether they were",
            );
            options.const_label("outcome", outcome)
        };
        let written = Pulled::counter(&options("written"), written);
        registered(&self.registry, written);
        let dropped = Pulled::counter(&options("dropped"), dropped);
        registered(&self.registry, dropped);
    }

    /// Registers the validity of the certificate that is used for `grpc`, `redis` or `xds`: its start and end in seconds since
    /// the Unix epoch, or `None` while they are unknown.
    pub fn certificate_valid(
        &self,
        used_for: &str,
        at: impl Fn() -> Option<[u64; 2]> + Clone + Send + Sync + 'static,
    ) {
        let bounds = [
            (
                "ratekeeper_tls_certificate_start_timestamp_seconds",
                "When the validity of the certificate begins",
            ),
            (
                "ratekeeper_tls_certificate_expiry_timestamp_seconds",
                "When the certificate expires",
            ),
        ];
        for (i, (name, help)) in bounds.into_iter().enumerate() {
            let (at, options) = (at.clone(), Opts::new(name, help));
            let gauge = Pulled::gauge(&options.const_label("use", used_for), move || {
                Some(at()?[i])
            });
            registered(&self.registry, gauge);
        }
    }

    /// Registers the connections of the gRPC port: how many are open now and at most, and how many have been accepted,
    /// rejected because the maximum was open, failed before HTTP/2 was spoken, or closed because of a flood.
    pub fn grpc_connections(&self, connections: &Connections) {
        let registry = &self.registry;
        for (name, help, read) in CONNECTION_GAUGES {
            let connections = connections.clone();
            let gauge = Pulled::gauge(&Opts::new(name, help), move || Some(read(&connections())));
            registered(registry, gauge);
        }
        for (name, help, read) in CONNECTION_COUNTERS {
            let connections = connections.clone();
            let counter = Pulled::counter(&Opts::new(name, help), move || read(&connections()));
            registered(registry, counter);
        }
    }

    /// Certificates of the gRPC server that were replaced: so many were taken over, so many could not be used.
    pub fn certificate_rotations(
        &self,
        used: impl Fn() -> u64 + Send + Sync + 'static,
        unusable: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let options = |outcome| {
            let options = Opts::new(
                "ratekeeper_tls_certificate_rotations_total",
                "Certificates that were replaced, and whether they could be used",
            );
            options.const_label("outcome", outcome)
        };
        registered(&self.registry, Pulled::counter(&options("used"), used));
        registered(
            &self.registry,
            Pulled::counter(&options("unusable"), unusable),
        );
    }
}

// --- Making metrics ---

/// The metric, told from now on.
fn registered<M>(registry: &Registry, metric: prometheus::Result<M>) -> M
where
    M: prometheus::core::Collector + Clone + 'static,
{
    let metric = metric.expect("the names and labels are constants that are right");
    let result = registry.register(Box::new(metric.clone()));
    result.expect("no name is used twice");
    metric
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::new(name, help))
}

fn counters(registry: &Registry, name: &str, help: &str, label: &str) -> IntCounterVec {
    registered(
        registry,
        IntCounterVec::new(Opts::new(name, help), &[label]),
    )
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    registered(registry, IntGauge::new(name, help))
}

#[cfg(test)]
mod tests;
