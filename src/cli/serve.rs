//! `ratekeeper serve`: from options to [`Settings`], then run until told to stop.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

use super::Outcome;
use super::options::{Configuration, Secret, boolean, some_time};
use crate::app::{self, Listeners, Settings, StoreSettings};
use crate::limiter::{Bounds, LimiterSettings};
use crate::service::{HeaderNames, ResponseSettings};
use crate::store::redis::{RedisSettings, parse_address};

/// What can be typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    configuration: Configuration,
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    store: Store,
    #[command(flatten)]
    verdict: VerdictOptions,
    #[command(flatten)]
    bounds: BoundOptions,
    #[command(flatten)]
    log: Log,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Listening")]
struct Listen {
    /// Address to serve gRPC on, or a name of it; :: means IPv4 and IPv6
    #[arg(
        long,
        env = "GRPC_HOST",
        value_name = "HOST",
        default_value = "0.0.0.0"
    )]
    grpc_host: String,

    /// Port to serve gRPC on; 0 takes any free one, which the log names
    #[arg(long, env = "GRPC_PORT", value_name = "PORT", default_value_t = 8081)]
    grpc_port: u16,

    /// How long requests in flight may take to end after SIGTERM or SIGINT, such as 20s
    #[arg(long, env = "SHUTDOWN_GRACE_PERIOD", value_name = "TIME", default_value = "20s",
        value_parser = humantime::parse_duration)]
    shutdown_grace_period: Duration,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Buckets")]
struct Store {
    /// Where buckets live [default: redis when REDIS_URL is set, else memory]
    #[arg(long, env = "BACKEND_TYPE", value_name = "NAME", ignore_case = true)]
    backend_type: Option<Backend>,

    /// The most buckets held in memory; at this bound those nearest to full are dropped
    #[arg(long, env = "MEMORY_MAX_BUCKETS", value_name = "COUNT", default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u64).range(1..))]
    memory_max_buckets: u64,

    /// Where Redis is: host:port, redis://user:password@host:port/db or unix:///path
    #[arg(
        long,
        env = "REDIS_URL",
        value_name = "ADDRESS",
        hide_env_values = true
    )]
    redis_url: Option<Secret>,

    /// What REDIS_URL without a scheme is: a tcp address or a unix socket [default: what it looks like]
    #[arg(
        long,
        env = "REDIS_SOCKET_TYPE",
        value_name = "NAME",
        ignore_case = true
    )]
    redis_socket_type: Option<SocketType>,

    /// How many servers REDIS_URL names
    #[arg(
        long,
        env = "REDIS_TYPE",
        value_name = "NAME",
        default_value = "single",
        ignore_case = true
    )]
    redis_type: RedisType,

    /// Password, or user:password; wins over what REDIS_URL says
    #[arg(
        long,
        env = "REDIS_AUTH",
        value_name = "SECRET",
        hide_env_values = true
    )]
    redis_auth: Option<Secret>,

    /// The most connections to Redis
    #[arg(long, env = "REDIS_POOL_SIZE", value_name = "COUNT", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..))]
    redis_pool_size: u32,

    /// How long Redis may take for a decision, such as 100ms
    #[arg(long, env = "REDIS_TIMEOUT", value_name = "TIME", default_value = "100ms",
        value_parser = some_time)]
    redis_timeout: Duration,

    /// Stands before every bucket key
    #[arg(
        long,
        env = "CACHE_KEY_PREFIX",
        value_name = "TEXT",
        default_value = "rk:"
    )]
    cache_key_prefix: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Backend {
    /// In this process
    Memory,
    /// In Redis, shared by all instances
    Redis,
    #[value(hide = true)]
    Memcache,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SocketType {
    Tcp,
    Unix,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RedisType {
    /// One server
    Single,
    #[value(hide = true)]
    Sentinel,
    #[value(hide = true)]
    Cluster,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Verdicts")]
struct VerdictOptions {
    /// Let every request pass, whatever its descriptors get
    #[arg(long, env = "SHADOW_MODE", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    shadow_mode: bool,

    /// Treat every limit as if its rule were in quota mode
    #[arg(long, env = "QUOTA_MODE", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    quota_mode: bool,

    /// Answer with dynamic metadata: what was asked, and the metadata of the rules
    #[arg(long, env = "RESPONSE_DYNAMIC_METADATA", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    response_dynamic_metadata: bool,

    /// Answer with headers that tell limit, remaining and reset
    #[arg(long, env = "LIMIT_RESPONSE_HEADERS_ENABLED", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    limit_response_headers_enabled: bool,

    /// The header that tells the limit
    #[arg(
        long,
        env = "LIMIT_LIMIT_HEADER",
        value_name = "NAME",
        default_value = "RateLimit-Limit"
    )]
    limit_limit_header: String,

    /// The header that tells what remains
    #[arg(
        long,
        env = "LIMIT_REMAINING_HEADER",
        value_name = "NAME",
        default_value = "RateLimit-Remaining"
    )]
    limit_remaining_header: String,

    /// The header that tells the seconds until reset
    #[arg(
        long,
        env = "LIMIT_RESET_HEADER",
        value_name = "NAME",
        default_value = "RateLimit-Reset"
    )]
    limit_reset_header: String,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Bounds of a request")]
struct BoundOptions {
    /// The most descriptors
    #[arg(
        long,
        env = "MAX_DESCRIPTORS",
        value_name = "COUNT",
        default_value_t = 256
    )]
    max_descriptors: usize,

    /// The most entries of a descriptor
    #[arg(
        long,
        env = "MAX_DESCRIPTOR_ENTRIES",
        value_name = "COUNT",
        default_value_t = 64
    )]
    max_descriptor_entries: usize,

    /// The most bytes of domain, keys and values together
    #[arg(
        long,
        env = "MAX_REQUEST_BYTES",
        value_name = "BYTES",
        default_value_t = 65_536
    )]
    max_request_bytes: usize,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Logs")]
struct Log {
    /// What to log, at least; start, reload and stop are told at warn, too
    #[arg(
        long,
        env = "LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "warn",
        ignore_case = true
    )]
    log_level: LogLevel,

    /// How to log
    #[arg(
        long,
        env = "LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        ignore_case = true
    )]
    log_format: LogFormat,
}

/// The levels of envoyproxy/ratelimit.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogLevel {
    Trace,
    Debug,
    Info,
    #[value(alias = "warning")]
    Warn,
    #[value(alias = "fatal", alias = "panic")]
    Error,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Where the lines on start, reload and stop come from.
const LIFECYCLE: &str = "ratekeeper::app";

/// Serves until a signal says to stop.
pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    args.log.start();
    let (host, port) = (args.listen.grpc_host.clone(), args.listen.grpc_port);
    let settings = match args.settings() {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!("{error:#}");
            return Ok(Outcome::Usage { of_hit: false });
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (first, second) = signals()?;
        let listeners = Listeners::bind((host.as_str(), port))
            .await
            .with_context(|| format!("cannot listen on GRPC_HOST {host}, GRPC_PORT {port}"))?;
        app::run(settings, listeners, first, second).await
    })?;
    Ok(Outcome::Done)
}

/// What the first and the second signal to stop make ready.
fn signals() -> anyhow::Result<(impl Future<Output = ()>, impl Future<Output = ()>)> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (count, seen) = watch::channel(0_u32);
    // Ends with the runtime; there is nothing that it could fail at.
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            count.send_modify(|count| *count += 1);
        }
    });
    let at_least = |mut seen: watch::Receiver<u32>, signals: u32| async move {
        let _ = seen.wait_for(|count| *count >= signals).await;
    };
    Ok((at_least(seen.clone(), 1), at_least(seen, 2)))
}

impl Args {
    fn settings(&self) -> anyhow::Result<Settings> {
        let load = self.configuration.load_options();
        Ok(Settings {
            location: self.configuration.location(),
            load,
            store: self.store.settings()?,
            limiter: LimiterSettings {
                key_prefix: self.store.cache_key_prefix.clone(),
                bounds: Bounds {
                    descriptors: self.bounds.max_descriptors,
                    entries: self.bounds.max_descriptor_entries,
                    bytes: self.bounds.max_request_bytes,
                },
                default_algorithm: load.default_algorithm,
                shadow_mode: self.verdict.shadow_mode,
                quota_mode: self.verdict.quota_mode,
            },
            response: self.verdict.response(),
            grace: self.listen.shutdown_grace_period,
        })
    }
}

impl VerdictOptions {
    fn response(&self) -> ResponseSettings {
        ResponseSettings {
            headers: self.limit_response_headers_enabled.then(|| HeaderNames {
                limit: self.limit_limit_header.clone(),
                remaining: self.limit_remaining_header.clone(),
                reset: self.limit_reset_header.clone(),
            }),
            dynamic_metadata: self.response_dynamic_metadata,
        }
    }
}

impl Store {
    fn settings(&self) -> anyhow::Result<StoreSettings> {
        let backend = self.backend_type.unwrap_or(match self.redis_url {
            Some(_) => Backend::Redis,
            None => Backend::Memory,
        });
        match backend {
            Backend::Memory => Ok(StoreSettings::Memory {
                max_buckets: usize::try_from(self.memory_max_buckets).unwrap_or(usize::MAX),
            }),
            Backend::Redis => self.redis().map(StoreSettings::Redis),
            Backend::Memcache => anyhow::bail!(
                "BACKEND_TYPE=memcache: memcached cannot hold token buckets exactly; \
                 use BACKEND_TYPE=redis with REDIS_URL, or BACKEND_TYPE=memory"
            ),
        }
    }

    fn redis(&self) -> anyhow::Result<RedisSettings> {
        if !matches!(self.redis_type, RedisType::Single) {
            anyhow::bail!(
                "REDIS_TYPE={:?}: this version speaks to one Redis server; use REDIS_TYPE=single",
                self.redis_type
            );
        }
        let url = self
            .redis_url
            .as_ref()
            .context("BACKEND_TYPE=redis needs REDIS_URL, such as REDIS_URL=localhost:6379")?
            .reveal();
        let url = match self.redis_socket_type {
            Some(SocketType::Unix) if !url.contains("://") => format!("unix://{url}"),
            _ => url.to_owned(),
        };
        let auth = self.redis_auth.as_ref().map(Secret::reveal);
        Ok(RedisSettings {
            address: parse_address(&url, auth).context("REDIS_URL")?,
            pool_size: self.redis_pool_size,
            timeout: self.redis_timeout,
        })
    }
}

impl Log {
    fn start(&self) {
        let level = match self.log_level {
            LogLevel::Trace => LevelFilter::TRACE,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Error => LevelFilter::ERROR,
        };
        // That the server started, reloaded or stops is worth a line at the default level, too.
        let lifecycle = if level == LevelFilter::WARN {
            LevelFilter::INFO
        } else {
            level
        };
        // Libraries tell of every frame at the lower levels; only our own words follow LOG_LEVEL there.
        let targets = Targets::new()
            .with_default(level.min(LevelFilter::WARN))
            .with_target(env!("CARGO_PKG_NAME"), level)
            .with_target(LIFECYCLE, lifecycle);
        let log = tracing_subscriber::fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        let registry = tracing_subscriber::registry();
        match self.log_format {
            LogFormat::Text => registry.with(log.with_filter(targets)).init(),
            LogFormat::Json => registry.with(log.json().with_filter(targets)).init(),
        }
    }
}
