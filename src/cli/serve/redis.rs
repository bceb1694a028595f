//! Options for Redis, and their settings.

mod settings;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use super::super::mistakes::Mistakes;
use super::super::options::{RedisType, Secret, boolean, some_time};
use crate::store::redis::{BucketsSettings, RedisSettings};

use settings::RedisArgs;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Redis")]
pub(super) struct RedisOptions {
    /// Address of Redis: host:port, redis://user:password@host:port/db, rediss://... for TLS, unix:///path; with
    /// REDIS_TYPE=sentinel: master,host:port,host:port,...; with cluster: host:port,host:port,...
    #[arg(
        long,
        env = "REDIS_URL",
        value_name = "ADDRESS",
        hide_env_values = true
    )]
    redis_url: Option<Secret>,

    /// Type of the socket if REDIS_URL has no scheme: tcp or unix [default: derived from the address]
    #[arg(
        long,
        env = "REDIS_SOCKET_TYPE",
        value_name = "NAME",
        ignore_case = true
    )]
    redis_socket_type: Option<SocketType>,

    /// Topology of the Redis at REDIS_URL
    #[arg(
        long,
        env = "REDIS_TYPE",
        value_name = "NAME",
        default_value = "single",
        ignore_case = true
    )]
    redis_type: RedisType,

    /// Password, or user:password; takes precedence over the login in REDIS_URL
    #[arg(
        long,
        env = "REDIS_AUTH",
        value_name = "SECRET",
        hide_env_values = true
    )]
    redis_auth: Option<Secret>,

    /// File with the password, or user:password; read for each connection, so that the password can be rotated
    #[arg(long, env = "REDIS_AUTH_FILE", value_name = "PATH")]
    redis_auth_file: Option<PathBuf>,

    /// Password, or user:password, for the sentinels [default: none]
    #[arg(
        long,
        env = "REDIS_SENTINEL_AUTH",
        value_name = "SECRET",
        hide_env_values = true
    )]
    redis_sentinel_auth: Option<Secret>,

    /// Maximum number of connections to Redis for decisions, per node of a cluster, shared by all worker threads
    #[arg(long, env = "REDIS_POOL_SIZE", value_name = "COUNT", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..))]
    redis_pool_size: u32,

    /// Maximum time for a decision by Redis, such as 100ms; after it, the failure policy decides
    #[arg(long, env = "REDIS_TIMEOUT", value_name = "DURATION", default_value = "100ms",
        value_parser = redis_timeout_value)]
    redis_timeout: Duration,

    /// Connect to Redis, and to the sentinels, with TLS, as with rediss:// in REDIS_URL [default: false]
    #[arg(long, env = "REDIS_TLS", value_name = "BOOL", value_parser = boolean,
        default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    redis_tls: Option<bool>,

    #[command(flatten)]
    certificates: Certificates,

    /// Accepted for compatibility, as WAIT; requests always wait for a connection
    #[arg(long, env = "REDIS_POOL_ON_EMPTY_BEHAVIOR", value_name = "NAME", value_parser = on_empty)]
    redis_pool_on_empty_behavior: Option<String>,

    #[command(flatten)]
    per_second: PerSecondOptions,
}

/// Options for TLS, which both Redis share.
#[derive(Debug, clap::Args)]
struct Certificates {
    /// PEM file with the CA certificates that sign the certificates of Redis, in addition to the system's roots; a
    /// certificate of Redis that is itself in the file is trusted as well
    #[arg(long, env = "REDIS_TLS_CACERT", value_name = "PATH")]
    redis_tls_cacert: Option<PathBuf>,

    /// Trust only the certificates in REDIS_TLS_CACERT, not the system's roots
    #[arg(long, env = "REDIS_TLS_CACERT_ONLY", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    redis_tls_cacert_only: bool,

    /// PEM file with the client certificate for Redis; requires REDIS_TLS_CLIENT_KEY [default: none]
    #[arg(long, env = "REDIS_TLS_CLIENT_CERT", value_name = "PATH")]
    redis_tls_client_cert: Option<PathBuf>,

    /// PEM file with the private key of REDIS_TLS_CLIENT_CERT
    #[arg(long, env = "REDIS_TLS_CLIENT_KEY", value_name = "PATH")]
    redis_tls_client_key: Option<PathBuf>,

    /// Accept a certificate of Redis for any host name, as long as a trusted CA signed it
    #[arg(long, env = "REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    redis_tls_skip_hostname_verification: bool,
}

/// Options for the Redis for limits of one second.
#[derive(Debug, clap::Args)]
struct PerSecondOptions {
    /// Store the buckets of limits whose unit is the second in a Redis of their own, REDIS_PERSECOND_URL
    #[arg(long, env = "REDIS_PERSECOND", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    redis_persecond: bool,

    /// Address of the Redis for limits of one second, in the format of REDIS_URL
    #[arg(
        long,
        env = "REDIS_PERSECOND_URL",
        value_name = "ADDRESS",
        hide_env_values = true
    )]
    redis_persecond_url: Option<Secret>,

    /// Same as REDIS_SOCKET_TYPE, for limits of one second
    #[arg(
        long,
        env = "REDIS_PERSECOND_SOCKET_TYPE",
        value_name = "NAME",
        ignore_case = true
    )]
    redis_persecond_socket_type: Option<SocketType>,

    /// Topology of the Redis at REDIS_PERSECOND_URL
    #[arg(
        long,
        env = "REDIS_PERSECOND_TYPE",
        value_name = "NAME",
        default_value = "single",
        ignore_case = true
    )]
    redis_persecond_type: RedisType,

    /// Same as REDIS_AUTH, for limits of one second
    #[arg(
        long,
        env = "REDIS_PERSECOND_AUTH",
        value_name = "SECRET",
        hide_env_values = true
    )]
    redis_persecond_auth: Option<Secret>,

    /// Same as REDIS_AUTH_FILE, for limits of one second
    #[arg(long, env = "REDIS_PERSECOND_AUTH_FILE", value_name = "PATH")]
    redis_persecond_auth_file: Option<PathBuf>,

    /// Same as REDIS_SENTINEL_AUTH, for limits of one second
    #[arg(
        long,
        env = "REDIS_PERSECOND_SENTINEL_AUTH",
        value_name = "SECRET",
        hide_env_values = true
    )]
    redis_persecond_sentinel_auth: Option<Secret>,

    /// Same as REDIS_POOL_SIZE, for limits of one second
    #[arg(long, env = "REDIS_PERSECOND_POOL_SIZE", value_name = "COUNT", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..))]
    redis_persecond_pool_size: u32,

    /// Same as REDIS_TIMEOUT, for limits of one second; a decision can take the longer of both
    #[arg(long, env = "REDIS_PERSECOND_TIMEOUT", value_name = "DURATION", default_value = "100ms",
        value_parser = redis_timeout_value)]
    redis_persecond_timeout: Duration,

    /// Same as REDIS_TLS, for limits of one second, with the same REDIS_TLS_* files [default: false]
    #[arg(long, env = "REDIS_PERSECOND_TLS", value_name = "BOOL", value_parser = boolean,
        default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    redis_persecond_tls: Option<bool>,

    /// Accepted for compatibility, as WAIT; requests always wait for a connection
    #[arg(long, env = "REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR", value_name = "NAME", value_parser = on_empty)]
    redis_persecond_pool_on_empty_behavior: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SocketType {
    Tcp,
    Unix,
}

/// Parses a timeout of at least 1 ms, the resolution of the timer.
fn redis_timeout_value(text: &str) -> Result<Duration, String> {
    let time = some_time(text)?;
    if time < Duration::from_millis(1) {
        return Err("write a duration of at least 1ms, such as 100ms".to_owned());
    }
    Ok(time)
}

/// Accepts the values that mean WAIT in envoyproxy/ratelimit, and rejects the others.
fn on_empty(text: &str) -> Result<String, String> {
    if ["create", "error"]
        .iter()
        .any(|refused| text.eq_ignore_ascii_case(refused))
    {
        return Err(
            "requests wait for a connection, at most for REDIS_TIMEOUT; leave it out, or write WAIT"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

impl RedisOptions {
    /// Whether REDIS_URL is set.
    pub(super) fn is_named(&self) -> bool {
        self.redis_url.is_some()
    }

    /// Topologies of all Redis that store buckets.
    pub(super) fn redis_types(&self) -> impl Iterator<Item = RedisType> {
        let own = &self.per_second;
        let seconds = own.redis_persecond.then_some(own.redis_persecond_type);
        [self.redis_type].into_iter().chain(seconds)
    }

    /// Rejects a Redis for limits of one second without one for the other limits.
    pub(super) fn check_unnamed(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.per_second.redis_persecond,
            "REDIS_PERSECOND=true needs REDIS_URL, which stores the buckets of all other limits; \
             to store all buckets in memory, leave REDIS_PERSECOND out"
        );
        Ok(())
    }

    /// Logs options without effect.
    pub(super) fn log_without_effect(&self) {
        let own = &self.per_second;
        if own.redis_persecond_url.is_some() && !own.redis_persecond {
            tracing::warn!("REDIS_PERSECOND_URL has no effect: REDIS_PERSECOND is not true");
        }
    }

    /// Where buckets are stored, or `None` if options are invalid. All errors are added to `mistakes`.
    pub(super) fn buckets(&self, mistakes: &mut Mistakes) -> Option<BucketsSettings> {
        let (others, seconds) = (self.settings(mistakes), self.per_second(mistakes));
        let (others, seconds) = (others?, seconds?);
        let seconds_use_tls = seconds.as_ref().is_some_and(|redis| redis.tls.is_some());
        if others.tls.is_none() && !seconds_use_tls {
            mistakes.take(self.certificates.check_unused())?;
        }
        Some(BucketsSettings { seconds, others })
    }

    /// Checks the files. They are read again for each connection, but must be valid at the start.
    pub(super) fn check_files(&self, mistakes: &mut Mistakes) {
        let Some(buckets) = self.buckets(&mut Mistakes::default()) else {
            return;
        };
        let all = [
            ("REDIS_", Some(&buckets.others)),
            ("REDIS_PERSECOND_", buckets.seconds.as_ref()),
        ];
        for (prefix, redis) in all {
            let Some(redis) = redis else { continue };
            if let Some(login) = &redis.login {
                let checked = login.check();
                mistakes.take(checked.with_context(|| format!("{prefix}AUTH_FILE")));
            }
            if let Some(tls) = &redis.tls {
                mistakes.take(tls.load().context("TLS to Redis (REDIS_TLS_*)"));
            }
        }
    }

    /// Settings of the main Redis.
    fn settings(&self, mistakes: &mut Mistakes) -> Option<RedisSettings> {
        let typed = RedisArgs {
            prefix: "REDIS_",
            url: self.redis_url.as_ref(),
            socket_type: self.redis_socket_type,
            redis_type: self.redis_type,
            auth: self.redis_auth.as_ref(),
            auth_file: self.redis_auth_file.as_ref(),
            sentinel_auth: self.redis_sentinel_auth.as_ref(),
            pool_size: self.redis_pool_size,
            timeout: self.redis_timeout,
            tls: self.redis_tls,
        };
        typed.settings("BACKEND_TYPE=redis", &self.certificates, mistakes)
    }

    /// Settings of the Redis for limits of one second, if there is one.
    fn per_second(&self, mistakes: &mut Mistakes) -> Option<Option<RedisSettings>> {
        let own = &self.per_second;
        if !own.redis_persecond {
            return Some(None);
        }
        let typed = RedisArgs {
            prefix: "REDIS_PERSECOND_",
            url: own.redis_persecond_url.as_ref(),
            socket_type: own.redis_persecond_socket_type,
            redis_type: own.redis_persecond_type,
            auth: own.redis_persecond_auth.as_ref(),
            auth_file: own.redis_persecond_auth_file.as_ref(),
            sentinel_auth: own.redis_persecond_sentinel_auth.as_ref(),
            pool_size: own.redis_persecond_pool_size,
            timeout: own.redis_persecond_timeout,
            tls: own.redis_persecond_tls,
        };
        let settings = typed.settings("REDIS_PERSECOND=true", &self.certificates, mistakes);
        settings.map(Some)
    }
}
