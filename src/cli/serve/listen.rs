//! Options for ports, connections, threads and shutdown.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::super::options::{boolean, port, some, some_threads, time};
use crate::app::{Address, Addresses, HealthSettings};
use crate::service::ConnectionSettings;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Listening")]
pub(super) struct Listen {
    /// Address or host name to serve gRPC on; :: means IPv4 and IPv6
    #[arg(
        long,
        env = "GRPC_HOST",
        value_name = "HOST",
        default_value = "0.0.0.0"
    )]
    grpc_host: String,

    /// Port to serve gRPC on; 0 chooses a free port, which is logged
    #[arg(long, env = "GRPC_PORT", value_name = "PORT", default_value = "8081", value_parser = port)]
    grpc_port: u16,

    /// Path of a Unix socket to serve gRPC on, instead of GRPC_HOST and GRPC_PORT
    #[arg(long, env = "GRPC_UDS", value_name = "PATH")]
    grpc_uds: Option<PathBuf>,

    /// Address or host name of the HTTP port, which serves /json and /healthcheck
    #[arg(long, env = "HOST", value_name = "HOST", default_value = "0.0.0.0")]
    host: String,

    /// Number of the HTTP port, which serves /json and /healthcheck
    #[arg(long, env = "PORT", value_name = "PORT", default_value = "8080", value_parser = port)]
    port: u16,

    /// Address or host name of the debug port, which serves the admin API, /rlconfig and /stats over HTTP
    #[arg(
        long,
        env = "DEBUG_HOST",
        value_name = "HOST",
        default_value = "0.0.0.0"
    )]
    debug_host: String,

    /// Number of the debug port, which serves the admin API, /rlconfig and /stats over HTTP
    #[arg(long, env = "DEBUG_PORT", value_name = "PORT", default_value = "6070", value_parser = port)]
    debug_port: u16,

    /// Number of threads that serve requests [default: the number of processors available to the process]
    #[arg(long, env = "WORKER_THREADS", value_name = "COUNT", value_parser = some_threads)]
    worker_threads: Option<NonZeroUsize>,

    /// Time to keep serving after SIGTERM or SIGINT while health checks report NOT_SERVING, so that clients move to
    /// other instances first, such as 10s
    #[arg(long, env = "SHUTDOWN_DELAY", value_name = "DURATION", default_value = "0s", value_parser = time)]
    pub(super) shutdown_delay: Duration,

    /// Maximum time for requests in flight to complete after SIGTERM or SIGINT and SHUTDOWN_DELAY, such as 20s
    #[arg(long, env = "SHUTDOWN_GRACE_PERIOD", value_name = "DURATION", default_value = "20s",
        value_parser = time)]
    pub(super) shutdown_grace_period: Duration,

    /// Report SERVING before a configuration is loaded; until then, requests fail
    #[arg(long, env = "FORCE_START_WITHOUT_INITIAL_CONFIG", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    force_start_without_initial_config: bool,

    /// Report SERVING only while the configuration has at least one domain
    #[arg(long, env = "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    healthy_with_at_least_one_config_loaded: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Connections to the gRPC port")]
pub(super) struct ConnectionOptions {
    /// Maximum number of connections; further connections are closed immediately
    #[arg(long, env = "GRPC_MAX_CONNECTIONS", value_name = "COUNT", default_value = "10000",
        value_parser = some)]
    grpc_max_connections: usize,

    /// Maximum number of calls in flight on a connection; clients delay further calls or open another connection
    #[arg(long, env = "GRPC_MAX_CONCURRENT_STREAMS", value_name = "COUNT", default_value_t = 1024,
        value_parser = clap::value_parser!(u32).range(1..))]
    grpc_max_concurrent_streams: u32,

    /// Maximum size of the headers of a call, in bytes
    #[arg(long, env = "GRPC_MAX_HEADER_BYTES", value_name = "BYTES", default_value_t = 131_072,
        value_parser = clap::value_parser!(u32).range(1_024..=1_048_576))]
    grpc_max_header_bytes: u32,

    /// Maximum time for a client to complete the TLS handshake and begin HTTP/2
    #[arg(long, env = "GRPC_HANDSHAKE_TIMEOUT", value_name = "DURATION", default_value = "10s",
        value_parser = super::super::options::some_time)]
    grpc_handshake_timeout: Duration,

    /// Age at which a connection is closed gracefully (GOAWAY), plus or minus 10 %; 0s disables this
    #[arg(long, env = "GRPC_MAX_CONNECTION_AGE", value_name = "DURATION", default_value = "24h",
        value_parser = time)]
    grpc_max_connection_age: Duration,

    /// Maximum time for calls in flight to complete after GRPC_MAX_CONNECTION_AGE, before the connection is closed
    #[arg(long, env = "GRPC_MAX_CONNECTION_AGE_GRACE", value_name = "DURATION", default_value = "1h",
        value_parser = time)]
    grpc_max_connection_age_grace: Duration,
}

impl Listen {
    pub(super) fn addresses(&self) -> Addresses {
        let tcp = |host: &str, port, options| Address::Tcp {
            // An IPv6 address can be in brackets, as in URLs.
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            options,
        };
        Addresses {
            grpc: match &self.grpc_uds {
                Some(path) => Address::Unix(path.clone()),
                None => tcp(&self.grpc_host, self.grpc_port, ("GRPC_HOST", "GRPC_PORT")),
            },
            http: tcp(&self.host, self.port, ("HOST", "PORT")),
            debug: tcp(
                &self.debug_host,
                self.debug_port,
                ("DEBUG_HOST", "DEBUG_PORT"),
            ),
        }
    }

    pub(super) fn threads(&self) -> NonZeroUsize {
        let available = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.worker_threads.unwrap_or_else(available)
    }

    pub(super) fn health(&self) -> HealthSettings {
        HealthSettings {
            without_rules: self.force_start_without_initial_config,
            needs_domain: self.healthy_with_at_least_one_config_loaded,
        }
    }
}

impl ConnectionOptions {
    pub(super) fn settings(&self) -> ConnectionSettings {
        let age = self.grpc_max_connection_age;
        ConnectionSettings {
            connections: self.grpc_max_connections,
            streams: self.grpc_max_concurrent_streams,
            header_bytes: self.grpc_max_header_bytes,
            handshake_timeout: self.grpc_handshake_timeout,
            age: (!age.is_zero()).then_some(age),
            age_grace: self.grpc_max_connection_age_grace,
        }
    }
}
