//! What can be typed for the server, by subject, and what it means.

use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use super::super::options::{Secret, boolean, header_name, port, some, some_time, time};
use crate::app::StoreSettings;
use crate::service::{HeaderNames, ResponseSettings};
use crate::store::redis::{RedisSettings, parse_address};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Listening")]
pub(super) struct Listen {
    /// Address to serve gRPC on, or a name of it; :: means IPv4 and IPv6
    #[arg(
        long,
        env = "GRPC_HOST",
        value_name = "HOST",
        default_value = "0.0.0.0"
    )]
    pub(super) grpc_host: String,

    /// Port to serve gRPC on; 0 takes any free one, which the log names
    #[arg(long, env = "GRPC_PORT", value_name = "PORT", default_value = "8081", value_parser = port)]
    pub(super) grpc_port: u16,

    /// Threads that serve requests [default: as many as there are processors for the process]
    #[arg(long, env = "WORKER_THREADS", value_name = "COUNT")]
    worker_threads: Option<NonZeroUsize>,

    /// How long requests in flight may take to end after SIGTERM or SIGINT, such as 20s
    #[arg(long, env = "SHUTDOWN_GRACE_PERIOD", value_name = "TIME", default_value = "20s",
        value_parser = time)]
    pub(super) shutdown_grace_period: Duration,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Buckets")]
pub(super) struct Store {
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
    pub(super) cache_key_prefix: String,
}

/// What envoyproxy/ratelimit can do and this version cannot, and must not be thought to do.
#[derive(Debug, clap::Args)]
pub(super) struct NotYet {
    #[arg(long, env = "REDIS_TLS", value_parser = boolean, default_value = "false", hide = true)]
    redis_tls: bool,
    #[arg(long, env = "GRPC_SERVER_USE_TLS", value_parser = boolean, default_value = "false", hide = true)]
    grpc_server_use_tls: bool,
}

impl NotYet {
    /// Refuses what would otherwise be silently left out.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.redis_tls {
            anyhow::bail!(
                "REDIS_TLS=true: this version does not speak TLS to Redis; \
                 leave it out to speak plaintext"
            );
        }
        if self.grpc_server_use_tls {
            anyhow::bail!(
                "GRPC_SERVER_USE_TLS=true: this version serves plaintext only; \
                 leave it out, and have a proxy speak TLS"
            );
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Backend {
    /// In this process
    Memory,
    /// In Redis, shared by all instances
    Redis,
    #[value(hide = true)]
    Memcache,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum SocketType {
    Tcp,
    Unix,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum RedisType {
    /// One server
    Single,
    #[value(hide = true)]
    Sentinel,
    #[value(hide = true)]
    Cluster,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Verdicts")]
pub(super) struct VerdictOptions {
    /// Let every request pass, whatever its descriptors get
    #[arg(long, env = "SHADOW_MODE", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    pub(super) shadow_mode: bool,

    /// Treat every limit as if its rule were in quota mode
    #[arg(long, env = "QUOTA_MODE", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    pub(super) quota_mode: bool,

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
        default_value = "RateLimit-Limit",
        value_parser = header_name
    )]
    limit_limit_header: String,

    /// The header that tells what remains
    #[arg(
        long,
        env = "LIMIT_REMAINING_HEADER",
        value_name = "NAME",
        default_value = "RateLimit-Remaining",
        value_parser = header_name
    )]
    limit_remaining_header: String,

    /// The header that tells the seconds until reset
    #[arg(
        long,
        env = "LIMIT_RESET_HEADER",
        value_name = "NAME",
        default_value = "RateLimit-Reset",
        value_parser = header_name
    )]
    limit_reset_header: String,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Bounds of a request")]
pub(super) struct BoundOptions {
    /// The most descriptors
    #[arg(
        long,
        env = "MAX_DESCRIPTORS",
        value_name = "COUNT",
        default_value = "256",
        value_parser = some
    )]
    pub(super) max_descriptors: usize,

    /// The most entries of a descriptor
    #[arg(
        long,
        env = "MAX_DESCRIPTOR_ENTRIES",
        value_name = "COUNT",
        default_value = "64",
        value_parser = some
    )]
    pub(super) max_descriptor_entries: usize,

    /// The most bytes of domain, keys and values together
    #[arg(
        long,
        env = "MAX_REQUEST_BYTES",
        value_name = "BYTES",
        default_value = "65536",
        value_parser = some
    )]
    pub(super) max_request_bytes: usize,
}

impl Listen {
    pub(super) fn threads(&self) -> NonZeroUsize {
        let available = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.worker_threads.unwrap_or_else(available)
    }
}

impl VerdictOptions {
    pub(super) fn response(&self) -> ResponseSettings {
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
    pub(super) fn settings(&self) -> anyhow::Result<StoreSettings> {
        let backend = self.backend_type.unwrap_or(match self.redis_url {
            Some(_) => Backend::Redis,
            None => Backend::Memory,
        });
        match backend {
            Backend::Memory => Ok(StoreSettings::Memory {
                max_buckets: self.max_buckets(),
            }),
            Backend::Redis => self.redis().map(StoreSettings::Redis),
            Backend::Memcache => anyhow::bail!(
                "BACKEND_TYPE=memcache: memcached cannot hold token buckets exactly; \
                 use BACKEND_TYPE=redis with REDIS_URL, or BACKEND_TYPE=memory"
            ),
        }
    }

    /// The most buckets in memory, also of those that stand in for Redis.
    pub(super) fn max_buckets(&self) -> usize {
        usize::try_from(self.memory_max_buckets).unwrap_or(usize::MAX)
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
