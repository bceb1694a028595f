//! Options for metrics and traces, and their settings.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::net::TcpListener;

use super::super::mistakes::Mistakes;
use super::super::options::{boolean, some, some_time};
use super::environment::is_set;
use crate::telemetry::TelemetrySettings;
use crate::telemetry::metrics::{Dots, MetricsSettings};
use crate::telemetry::statsd::{Dialect, StatsdSettings};
use crate::telemetry::traces::{Protocol, TraceSettings};

#[derive(Debug, Args)]
#[command(next_help_heading = "Metrics")]
pub(super) struct MetricOptions {
    /// Serve metrics for Prometheus at PROMETHEUS_ADDR
    #[arg(long, env = "USE_PROMETHEUS", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    use_prometheus: bool,

    /// Address to serve metrics for Prometheus on: host:port, or :port for all addresses
    #[arg(
        long,
        env = "PROMETHEUS_ADDR",
        value_name = "ADDRESS",
        default_value = ":9090",
        value_parser = listen_address
    )]
    prometheus_addr: String,

    /// URL path of the metrics for Prometheus
    #[arg(
        long,
        env = "PROMETHEUS_PATH",
        value_name = "PATH",
        default_value = "/metrics",
        value_parser = path
    )]
    prometheus_path: String,

    /// Export response times in milliseconds, for dashboards that expect them; the metric's name still says seconds
    #[arg(long, env = "PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    prometheus_response_time_as_milliseconds: bool,

    /// Accepted for compatibility, without effect: metrics have the names and labels of envoyproxy/ratelimit's
    /// default mapping
    #[arg(long, env = "PROMETHEUS_MAPPER_YAML", value_name = "PATH")]
    prometheus_mapper_yaml: Option<String>,

    /// Maximum number of rules and values with metrics of their own; further ones are counted as domain="other"
    #[arg(long, env = "METRICS_MAX_SERIES", value_name = "COUNT", default_value = "10000", value_parser = some)]
    metrics_max_series: usize,

    /// Fraction of a limit from which hits count as near the limit
    #[arg(long, env = "NEAR_LIMIT_RATIO", value_name = "RATIO", default_value = "0.8", value_parser = ratio::<f32>)]
    near_limit_ratio: f32,

    /// Replace dots in keys and values with underscores in metric names, in which dots are separators
    #[arg(long, env = "SANITIZE_DESCRIPTOR_METRIC_DOTS", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    sanitize_descriptor_metric_dots: bool,

    /// Send metrics to a StatsD daemon over UDP [default: true unless USE_PROMETHEUS or USE_DOG_STATSD is]
    #[arg(long, env = "USE_STATSD", value_name = "BOOL", value_parser = boolean,
        default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    use_statsd: Option<bool>,

    /// Send metrics with tags to a DogStatsD daemon over UDP
    #[arg(long, env = "USE_DOG_STATSD", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    use_dog_statsd: bool,

    /// Not supported: the server does not start if this is set; the Datadog agent can rewrite names
    /// (dogstatsd_mapper_profiles)
    #[arg(long, env = "USE_DOG_STATSD_MOGRIFIERS", value_name = "NAMES")]
    use_dog_statsd_mogrifiers: Option<String>,

    /// Host of the StatsD or DogStatsD daemon
    #[arg(
        long,
        env = "STATSD_HOST",
        value_name = "HOST",
        default_value = "localhost",
        value_parser = daemon
    )]
    statsd_host: String,

    /// UDP port of the StatsD or DogStatsD daemon
    #[arg(long, env = "STATSD_PORT", value_name = "PORT", default_value = "8125",
        value_parser = clap::value_parser!(u16).range(1..))]
    statsd_port: u16,

    /// Transport to the StatsD daemon; only udp is supported
    #[arg(long, env = "STATSD_PROTOCOL", value_name = "NAME")]
    statsd_protocol: Option<String>,

    /// Tags added to all metrics that are sent to the StatsD or DogStatsD daemon, as key:value,key:value
    #[arg(long, env = "EXTRA_TAGS", value_name = "TAGS", value_parser = tags)]
    extra_tags: Option<Tags>,

    /// Time between two exports to the StatsD or DogStatsD daemon
    #[arg(long, env = "STATS_FLUSH_INTERVAL", value_name = "DURATION", default_value = "10s", value_parser = some_time)]
    stats_flush_interval: Duration,

    /// Disable all metrics exporters
    #[arg(long, env = "DISABLE_STATS", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    disable_stats: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Traces")]
pub(super) struct TraceOptions {
    /// Export traces over OTLP, to the endpoint in OpenTelemetry's OTEL_ variables
    #[arg(long, env = "TRACING_ENABLED", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    tracing_enabled: bool,

    /// Transport to the OpenTelemetry collector
    #[arg(
        long,
        env = "TRACING_EXPORTER_PROTOCOL",
        value_name = "NAME",
        default_value = "http",
        ignore_case = true
    )]
    tracing_exporter_protocol: ProtocolName,

    /// Service name in traces
    #[arg(
        long,
        env = "TRACING_SERVICE_NAME",
        value_name = "NAME",
        default_value = "RateLimit"
    )]
    tracing_service_name: String,

    /// Service namespace in traces
    #[arg(long, env = "TRACING_SERVICE_NAMESPACE", value_name = "NAME")]
    tracing_service_namespace: Option<String>,

    /// Name of this instance in traces [default: a random one]
    #[arg(long, env = "TRACING_SERVICE_INSTANCE_ID", value_name = "NAME")]
    tracing_service_instance_id: Option<String>,

    /// Fraction of calls that are traced, unless the client's trace context decides
    #[arg(long, env = "TRACING_SAMPLING_RATE", value_name = "RATIO", default_value = "1", value_parser = ratio::<f64>)]
    tracing_sampling_rate: f64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProtocolName {
    /// OTLP over HTTP
    Http,
    /// OTLP over gRPC
    Grpc,
}

/// Tags by their keys.
type Tags = BTreeMap<String, String>;

impl MetricOptions {
    pub(super) fn settings(
        &self,
        traces: &TraceOptions,
        mistakes: &mut Mistakes,
    ) -> Option<TelemetrySettings> {
        if self.use_dog_statsd_mogrifiers.is_some() {
            mistakes.add(
                "USE_DOG_STATSD_MOGRIFIERS: metric names are not rewritten; leave it out, and let the \
                 Datadog agent rewrite them (dogstatsd_mapper_profiles)",
            );
        }
        if let Some(protocol) = self.statsd_protocol.as_deref()
            && self.uses_statsd()
            && !protocol.eq_ignore_ascii_case("udp")
        {
            mistakes.add(format!(
                "STATSD_PROTOCOL={protocol}: metrics are sent over UDP only; leave it out, and let the \
                 daemon listen on UDP"
            ));
        }
        if traces.tracing_enabled {
            mistakes.take(check_collector());
        }
        Some(TelemetrySettings {
            metrics: MetricsSettings {
                max_series: self.metrics_max_series,
                near_limit_ratio: self.near_limit_ratio,
                dots: match self.sanitize_descriptor_metric_dots {
                    true => Dots::Replaced,
                    false => Dots::Kept,
                },
                milliseconds: self.prometheus_response_time_as_milliseconds,
            },
            prometheus_path: self.prometheus_path.clone(),
            statsd: self.uses_statsd().then(|| self.statsd()),
            traces: traces.tracing_enabled.then(|| traces.settings()),
        })
    }

    /// Address of the Prometheus endpoint, if it is enabled.
    pub(super) fn prometheus(&self) -> Option<&str> {
        let is_on = self.use_prometheus && !self.disable_stats;
        is_on.then_some(&self.prometheus_addr)
    }

    /// Whether metrics are sent to a StatsD daemon.
    fn uses_statsd(&self) -> bool {
        let use_statsd = self.use_statsd.unwrap_or(!self.use_prometheus);
        (use_statsd || self.use_dog_statsd) && !self.disable_stats
    }

    fn statsd(&self) -> StatsdSettings {
        StatsdSettings {
            host: self.statsd_host.clone(),
            port: self.statsd_port,
            dialect: if self.use_dog_statsd {
                Dialect::DogStatsD
            } else {
                Dialect::StatsD
            },
            tags: self.extra_tags.clone().unwrap_or_default(),
            interval: self.stats_flush_interval,
        }
    }

    /// Logs options without effect.
    pub(super) fn log_without_effect(&self) {
        if self.prometheus_mapper_yaml.is_some() {
            tracing::info!(
                "PROMETHEUS_MAPPER_YAML has no effect: metrics have the names and labels of the default mapping"
            );
        }
        if self.extra_tags.is_some() && !self.uses_statsd() {
            tracing::info!(
                "EXTRA_TAGS has no effect on the Prometheus endpoint: add labels in Prometheus (static_configs, relabeling)"
            );
        }
    }
}

impl TraceOptions {
    /// Logs options without effect.
    pub(super) fn log_without_effect(&self) {
        for name in COMPRESSION.into_iter().filter(|name| is_set(name)) {
            if self.tracing_enabled {
                tracing::warn!("{name} has no effect: traces are sent without compression");
            }
        }
    }

    fn settings(&self) -> TraceSettings {
        let instance = self.tracing_service_instance_id.clone();
        TraceSettings {
            protocol: match self.tracing_exporter_protocol {
                ProtocolName::Http => Protocol::Http,
                ProtocolName::Grpc => Protocol::Grpc,
            },
            service_name: self.tracing_service_name.clone(),
            service_namespace: self.tracing_service_namespace.clone(),
            service_instance_id: instance.unwrap_or_else(random_name),
            sampling_rate: self.tracing_sampling_rate,
        }
    }
}

/// OpenTelemetry's variables with the endpoint of the collector; the first takes precedence.
const COLLECTOR: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// OpenTelemetry's variables for compression.
const COMPRESSION: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
];

/// Checks the endpoint of the collector, which OpenTelemetry's library reads later.
fn check_collector() -> anyhow::Result<()> {
    for name in COLLECTOR {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is where the environment is read"
        )]
        let Ok(text) = std::env::var(name) else {
            continue;
        };
        let uri = text.parse::<http::Uri>().ok();
        let scheme = uri.as_ref().and_then(http::Uri::scheme_str);
        // The value is not printed, because it can contain a password.
        anyhow::ensure!(
            text.is_empty() || matches!(scheme, Some("http" | "https")),
            "{name}: write a URL such as http://collector:4318"
        );
    }
    Ok(())
}

/// Returns a random name for this instance.
fn random_name() -> String {
    let random = RandomState::new();
    format!("{:016x}{:016x}", random.hash_one(0), random.hash_one(1))
}

/// Listens on an address; without a host, on all IPv6 and IPv4 addresses.
pub(super) async fn listen(address: &str) -> io::Result<TcpListener> {
    match address.strip_prefix(':').and_then(|port| port.parse().ok()) {
        Some(port) => {
            let all: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
            TcpListener::bind(&all.map(|ip| SocketAddr::new(ip, port))[..]).await
        }
        None => TcpListener::bind(address).await,
    }
}

/// Parses an address to listen on.
fn listen_address(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err("write host:port, or :port for all addresses".to_owned()),
    }
}

/// Parses the path of a URL.
fn path(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"{}?#*".contains(&byte);
    if text.starts_with('/') && !text.contains("/:") && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("write a path such as /metrics".to_owned())
    }
}

/// Parses a fraction.
fn ratio<T: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<T, String> {
    let ratio = text.parse::<T>().ok();
    let ratio = ratio.filter(|ratio| (T::from(0)..=T::from(1)).contains(ratio));
    ratio.ok_or_else(|| "write a number from 0 to 1, such as 0.8".to_owned())
}

/// Parses tags.
fn tags(text: &str) -> Result<Tags, String> {
    let is_plain = |text: &str| !text.is_empty() && !text.contains([':', '|', '#', ',', '=', '\n']);
    let tag = |tag: &str| {
        let (key, value) = tag.split_once(':')?;
        (is_plain(key) && is_plain(value)).then(|| (key.to_owned(), value.to_owned()))
    };
    let pairs: Option<Vec<_>> = text.split(',').map(|text| tag(text.trim())).collect();
    let pairs = pairs.ok_or_else(|| "write key:value,key:value".to_owned())?;
    let count = pairs.len();
    let tags: Tags = pairs.into_iter().collect();
    match tags.len() == count {
        true => Ok(tags),
        false => Err("write each key once".to_owned()),
    }
}

/// Parses the host of a daemon; its port is another option.
fn daemon(text: &str) -> Result<String, String> {
    match text.contains(':') && text.parse::<Ipv6Addr>().is_err() {
        true => Err("write a host without a port; set the port with STATSD_PORT".to_owned()),
        false => Ok(text.to_owned()),
    }
}
