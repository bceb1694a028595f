//! What can be typed about Redis, and what it means.

mod meaning;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use super::super::mistakes::Mistakes;
use super::super::options::{RedisType, Secret, boolean, some_time};
use crate::store::redis::{BucketsSettings, RedisSettings};

use meaning::Typed;

/// Variables of envoyproxy/ratelimit that change nothing here, and why. Their `REDIS_PERSECOND_` twins likewise.
pub(in crate::cli) const WITHOUT_EFFECT: &[(&str, &str)] = &[
    (
        "REDIS_PIPELINE_WINDOW",
        "requests in flight share a call without waiting for one another",
    ),
    (
        "REDIS_PIPELINE_LIMIT",
        "requests in flight share a call without waiting for one another",
    ),
    (
        "REDIS_CLUSTER_PIPELINE_PARALLELISM",
        "all nodes are asked at once",
    ),
    (
        "REDIS_PERSECOND_PIPELINE_WINDOW",
        "requests in flight share a call without waiting for one another",
    ),
    (
        "REDIS_PERSECOND_PIPELINE_LIMIT",
        "requests in flight share a call without waiting for one another",
    ),
    (
        "REDIS_PERSECOND_CLUSTER_PIPELINE_PARALLELISM",
        "all nodes are asked at once",
    ),
    (
        "REDIS_STARTUP_INITIAL_INTERVAL",
        "the server starts without waiting for Redis",
    ),
    (
        "REDIS_STARTUP_MAX_INTERVAL",
        "the server starts without waiting for Redis",
    ),
    (
        "REDIS_STARTUP_MAX_ELAPSED_TIME",
        "the server starts without waiting for Redis",
    ),
    (
        "REDIS_CLOSE_CONNECTION_ON_READONLY_ERROR",
        "a connection to what turns out to be a replica is always closed",
    ),
];

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Redis")]
pub(super) struct RedisOptions {
    /// Where Redis is: host:port, redis://user:password@host:port/db, rediss://... for TLS, unix:///path;
    /// with REDIS_TYPE=sentinel: master,host:port,host:port,...; with cluster: host:port,host:port,...
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

    /// Which servers REDIS_URL names
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

    /// A file with password, or user:password; read for each connection, so that it may change
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

    /// The most connections to Redis
    #[arg(long, env = "REDIS_POOL_SIZE", value_name = "COUNT", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..))]
    redis_pool_size: u32,

    /// How long Redis may take for a decision, such as 100ms
    #[arg(long, env = "REDIS_TIMEOUT", value_name = "TIME", default_value = "100ms",
        value_parser = patience)]
    redis_timeout: Duration,

    /// Speak TLS to Redis, and to the sentinels, as rediss:// does [default: false]
    #[arg(long, env = "REDIS_TLS", value_name = "BOOL", value_parser = boolean,
        default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    redis_tls: Option<bool>,

    #[command(flatten)]
    certificates: Certificates,

    /// What is done while all connections are busy: WAIT, as there is nothing else to do
    #[arg(long, env = "REDIS_POOL_ON_EMPTY_BEHAVIOR", value_name = "NAME", value_parser = on_empty)]
    redis_pool_on_empty_behavior: Option<String>,

    #[command(flatten)]
    per_second: PerSecondOptions,
}

/// How TLS is spoken, to both.
#[derive(Debug, clap::Args)]
struct Certificates {
    /// PEM file with CA certificates that sign certificates of Redis, in addition to the system's; a certificate of Redis
    /// that is itself in the file is trusted as well
    #[arg(long, env = "REDIS_TLS_CACERT", value_name = "PATH")]
    redis_tls_cacert: Option<PathBuf>,

    /// Trust only the certificates of REDIS_TLS_CACERT, and not those of the system
    #[arg(long, env = "REDIS_TLS_CACERT_ONLY", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    redis_tls_cacert_only: bool,

    /// PEM file of the certificate to show to Redis, with REDIS_TLS_CLIENT_KEY [default: none]
    #[arg(long, env = "REDIS_TLS_CLIENT_CERT", value_name = "PATH")]
    redis_tls_client_cert: Option<PathBuf>,

    /// PEM file of the key of REDIS_TLS_CLIENT_CERT
    #[arg(long, env = "REDIS_TLS_CLIENT_KEY", value_name = "PATH")]
    redis_tls_client_key: Option<PathBuf>,

    /// Take a certificate for any name, as long as an authority signed it
    #[arg(long, env = "REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    redis_tls_skip_hostname_verification: bool,
}

/// A Redis of their own for limits of a second.
#[derive(Debug, clap::Args)]
struct PerSecondOptions {
    /// Keep the buckets of limits whose unit is the second in a Redis of their own
    #[arg(long, env = "REDIS_PERSECOND", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    redis_persecond: bool,

    /// As REDIS_URL
    #[arg(
        long,
        env = "REDIS_PERSECOND_URL",
        value_name = "ADDRESS",
        hide_env_values = true
    )]
    redis_persecond_url: Option<Secret>,

    /// As REDIS_SOCKET_TYPE
    #[arg(
        long,
        env = "REDIS_PERSECOND_SOCKET_TYPE",
        value_name = "NAME",
        ignore_case = true
    )]
    redis_persecond_socket_type: Option<SocketType>,

    /// As REDIS_TYPE
    #[arg(
        long,
        env = "REDIS_PERSECOND_TYPE",
        value_name = "NAME",
        default_value = "single",
        ignore_case = true
    )]
    redis_persecond_type: RedisType,

    /// As REDIS_AUTH
    #[arg(
        long,
        env = "REDIS_PERSECOND_AUTH",
        value_name = "SECRET",
        hide_env_values = true
    )]
    redis_persecond_auth: Option<Secret>,

    /// As REDIS_AUTH_FILE
    #[arg(long, env = "REDIS_PERSECOND_AUTH_FILE", value_name = "PATH")]
    redis_persecond_auth_file: Option<PathBuf>,

    /// As REDIS_SENTINEL_AUTH
    #[arg(
        long,
        env = "REDIS_PERSECOND_SENTINEL_AUTH",
        value_name = "SECRET",
        hide_env_values = true
    )]
    redis_persecond_sentinel_auth: Option<Secret>,

    /// As REDIS_POOL_SIZE
    #[arg(long, env = "REDIS_PERSECOND_POOL_SIZE", value_name = "COUNT", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..))]
    redis_persecond_pool_size: u32,

    /// As REDIS_TIMEOUT; the longer of both is how long a decision may take
    #[arg(long, env = "REDIS_PERSECOND_TIMEOUT", value_name = "TIME", default_value = "100ms",
        value_parser = patience)]
    redis_persecond_timeout: Duration,

    /// As REDIS_TLS, with the same certificates [default: false]
    #[arg(long, env = "REDIS_PERSECOND_TLS", value_name = "BOOL", value_parser = boolean,
        default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    redis_persecond_tls: Option<bool>,

    /// See REDIS_POOL_ON_EMPTY_BEHAVIOR
    #[arg(long, env = "REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR", value_name = "NAME", value_parser = on_empty)]
    redis_persecond_pool_on_empty_behavior: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SocketType {
    Tcp,
    Unix,
}

/// Reads a time that somebody can wait for: the timer counts milliseconds.
fn patience(text: &str) -> Result<Duration, String> {
    let time = some_time(text)?;
    if time < Duration::from_millis(1) {
        return Err("write a time of at least 1ms, such as 100ms".to_owned());
    }
    Ok(time)
}

/// Takes what envoyproxy/ratelimit takes: to wait, in any spelling.
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
    /// Whether a Redis is named.
    pub(super) fn is_named(&self) -> bool {
        self.redis_url.is_some()
    }

    /// How each Redis that has buckets is laid out.
    pub(super) fn redis_types(&self) -> impl Iterator<Item = RedisType> {
        let own = &self.per_second;
        let seconds = own.redis_persecond.then_some(own.redis_persecond_type);
        [self.redis_type].into_iter().chain(seconds)
    }

    /// Refuses limits of a second in a Redis of their own where the others are in none.
    pub(super) fn check_unnamed(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.per_second.redis_persecond,
            "REDIS_PERSECOND=true needs REDIS_URL as well: where the buckets of all other limits are; \
             for all in memory, leave REDIS_PERSECOND out"
        );
        Ok(())
    }

    /// Says once what is set and has no effect.
    pub(super) fn say_what_has_no_effect(&self) {
        let own = &self.per_second;
        if own.redis_persecond_url.is_some() && !own.redis_persecond {
            tracing::warn!("REDIS_PERSECOND_URL has no effect: REDIS_PERSECOND is not true");
        }
    }

    /// Where buckets are; `None` when that cannot be. Everything that is wrong is noted.
    pub(super) fn buckets(&self, mistakes: &mut Mistakes) -> Option<BucketsSettings> {
        let (others, seconds) = (self.settings(mistakes), self.per_second(mistakes));
        let (others, seconds) = (others?, seconds?);
        let seconds_speak_tls = seconds.as_ref().is_some_and(|redis| redis.tls.is_some());
        if others.tls.is_none() && !seconds_speak_tls {
            mistakes.take(self.certificates.check_unused())?;
        }
        Some(BucketsSettings { seconds, others })
    }

    /// Looks at the files. They are read again for each connection; those that cannot be used now are mistakes.
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

    /// How to reach Redis.
    fn settings(&self, mistakes: &mut Mistakes) -> Option<RedisSettings> {
        let typed = Typed {
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

    /// How to reach the Redis for limits of a second, if they have one of their own.
    fn per_second(&self, mistakes: &mut Mistakes) -> Option<Option<RedisSettings>> {
        let own = &self.per_second;
        if !own.redis_persecond {
            return Some(None);
        }
        let typed = Typed {
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
