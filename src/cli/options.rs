//! Options that several commands share, and parsers of their values.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::{fmt, str::FromStr};

use clap::{Args, ValueEnum};

use crate::key::{HashTag, KeyFormat};
use crate::rules::{Algorithm, Hits, LoadOptions};
use crate::watch::Location;

pub(super) use ratekeeper_tools::values::{boolean, some_time, time};

/// Location of the rules, and how to read them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Configuration")]
pub(super) struct Configuration {
    /// Configuration file, or directory of *.yaml, *.yml and *.json files
    ///
    /// Changes become active within a second. Takes precedence over RUNTIME_ROOT, RUNTIME_SUBDIRECTORY and
    /// RUNTIME_APPDIRECTORY.
    #[arg(long, env = "CONFIG_PATH", value_name = "PATH")]
    config: Option<PathBuf>,

    /// Root directory of the configuration in envoyproxy/ratelimit's layout: all files below
    /// RUNTIME_ROOT/RUNTIME_SUBDIRECTORY/RUNTIME_APPDIRECTORY are read
    #[arg(
        long,
        env = "RUNTIME_ROOT",
        value_name = "PATH",
        default_value = "/srv/runtime_data/current"
    )]
    runtime_root: PathBuf,

    /// Directory between RUNTIME_ROOT and RUNTIME_APPDIRECTORY [default: none]
    #[arg(long, env = "RUNTIME_SUBDIRECTORY", value_name = "PATH")]
    runtime_subdirectory: Option<PathBuf>,

    /// Directory of the configuration files, below RUNTIME_ROOT/RUNTIME_SUBDIRECTORY
    #[arg(
        long,
        env = "RUNTIME_APPDIRECTORY",
        value_name = "PATH",
        default_value = "config"
    )]
    runtime_appdirectory: PathBuf,

    /// Ignore files and directories below RUNTIME_ROOT whose names begin with a dot
    #[arg(long, env = "RUNTIME_IGNOREDOTFILES", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    runtime_ignoredotfiles: bool,

    /// Reload when RUNTIME_ROOT itself is replaced; changes of files below it are always noticed
    #[arg(long, env = "RUNTIME_WATCH_ROOT", value_name = "BOOL", value_parser = boolean,
        default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    runtime_watch_root: bool,

    #[command(flatten)]
    reading: Reading,
}

/// How to read rules.
#[derive(Debug, Args)]
pub(super) struct Reading {
    /// Merge files that have the same domain; unless set, a domain in two files is an error
    #[arg(long, env = "MERGE_DOMAIN_CONFIG", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    merge_domain_config: bool,

    /// Algorithm of limits that name none
    #[arg(
        long,
        env = "DEFAULT_ALGORITHM",
        value_name = "NAME",
        default_value = "token_bucket"
    )]
    default_algorithm: AlgorithmName,

    /// When to charge the hits of limits that have no `hits`
    #[arg(
        long,
        env = "DEFAULT_HITS",
        value_name = "NAME",
        default_value = "auto"
    )]
    default_hits: HitsName,
}

impl Reading {
    /// How to read the rules.
    pub(super) fn load_options(&self) -> LoadOptions {
        LoadOptions {
            default_algorithm: self.default_algorithm.into(),
            default_hits: self.default_hits.into(),
            merge_domains: self.merge_domain_config,
            strict: false,
        }
    }
}

impl Configuration {
    /// Whether CONFIG_PATH is set; RUNTIME_ROOT always has a value.
    pub(super) fn is_path_given(&self) -> bool {
        self.config.is_some()
    }

    /// Location of the rules.
    pub(super) fn location(&self) -> Location {
        match &self.config {
            Some(path) => Location::Path(path.clone()),
            None => Location::Runtime {
                root: self.runtime_root.clone(),
                sub_directory: self.runtime_subdirectory.clone().unwrap_or_default(),
                app_directory: self.runtime_appdirectory.clone(),
                ignore_dot_files: self.runtime_ignoredotfiles,
                watch_root: self.runtime_watch_root,
            },
        }
    }

    /// The path in an argument, or else the configured location.
    pub(super) fn location_or(&self, path: Option<&PathBuf>) -> Location {
        path.map_or_else(|| self.location(), |path| Location::Path(path.clone()))
    }

    /// How to read the rules.
    pub(super) fn load_options(&self) -> LoadOptions {
        self.reading.load_options()
    }
}

/// Names of bucket keys.
#[derive(Debug, Args)]
#[command(next_help_heading = "Buckets")]
pub(super) struct Keys {
    /// Prefix of all bucket keys
    #[arg(
        long,
        env = "CACHE_KEY_PREFIX",
        value_name = "TEXT",
        default_value = "rk:"
    )]
    cache_key_prefix: String,

    /// Hash tag of bucket keys in a Redis Cluster; buckets with the same tag are charged in one atomic step
    #[arg(
        long,
        env = "REDIS_CLUSTER_HASH_TAG",
        value_name = "NAME",
        default_value = "group",
        ignore_case = true
    )]
    redis_cluster_hash_tag: TagName,
}

impl Keys {
    /// Format of bucket keys for these Redis topologies.
    pub(super) fn format(
        &self,
        redis_types: impl IntoIterator<Item = RedisType>,
    ) -> anyhow::Result<KeyFormat> {
        let format = KeyFormat::new(self.cache_key_prefix.clone());
        let mut redis_types = redis_types.into_iter();
        if !redis_types.any(|redis_type| redis_type == RedisType::Cluster) {
            return Ok(format);
        }
        if self.cache_key_prefix.contains(['{', '}']) {
            anyhow::bail!(
                "CACHE_KEY_PREFIX={}: in a Redis Cluster, braces would determine the slot of every key; \
                 remove them",
                self.cache_key_prefix
            );
        }
        Ok(format.with_hash_tag(match self.redis_cluster_hash_tag {
            TagName::Group => HashTag::Group,
            TagName::Domain => HashTag::Domain,
        }))
    }
}

/// Hash tags, as options name them.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum TagName {
    /// One of 32 groups per descriptor, spread over all nodes; a request with several descriptors takes several
    /// steps
    Group,
    /// The domain, all of whose buckets are on one node; every request takes one step
    Domain,
}

/// Topologies of Redis, as options name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RedisType {
    /// One Redis server
    Single,
    /// The master that Redis Sentinel reports
    Sentinel,
    /// A Redis Cluster; REDIS_URL=host:port,host:port lists some of its nodes
    Cluster,
}

/// Algorithms, as options name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum AlgorithmName {
    /// The bucket is refilled continuously
    TokenBucket,
    /// All hits expire at the end of each period
    FixedWindow,
}

/// Values of [`Hits`], as options name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum HitsName {
    /// Postpaid while clients of this instance report usage or refund hits, else prepaid
    Auto,
    /// Before the request; denied hits are not charged
    Prepaid,
    /// After the request; reported hits are always charged, into debt if necessary
    Postpaid,
}

impl From<HitsName> for Hits {
    fn from(name: HitsName) -> Self {
        match name {
            HitsName::Auto => Self::Auto,
            HitsName::Prepaid => Self::Prepaid,
            HitsName::Postpaid => Self::Postpaid,
        }
    }
}

impl From<AlgorithmName> for Algorithm {
    fn from(name: AlgorithmName) -> Self {
        match name {
            AlgorithmName::TokenBucket => Self::TokenBucket,
            AlgorithmName::FixedWindow => Self::FixedWindow,
        }
    }
}

/// Parses a number of at least 1.
pub(super) fn some(text: &str) -> Result<usize, String> {
    let number = text.parse().map(NonZeroUsize::get);
    number.map_err(|_| "write a whole number from 1".to_owned())
}

/// Maximum number of threads.
const MAX_THREADS: usize = 1_024;

/// Parses a number of threads.
pub(super) fn some_threads(text: &str) -> Result<NonZeroUsize, String> {
    let count = text.parse().ok();
    count
        .filter(|count: &NonZeroUsize| count.get() <= MAX_THREADS)
        .ok_or_else(|| format!("write a whole number from 1 to {MAX_THREADS}"))
}

/// Parses a port; 0 means any free one.
pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| {
        let advice = format!("write a number from 0 to {}", u16::MAX);
        if text.starts_with("tcp://") {
            format!("{advice}; Kubernetes has set this variable for a Service with that name, so set enableServiceLinks: false in the pod")
        } else {
            advice
        }
    })
}

/// Parses the name of an HTTP header.
pub(super) fn header_name(text: &str) -> Result<String, String> {
    match http::HeaderName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("write the name of a header: letters, digits and dashes".to_owned()),
    }
}

/// A secret, which is never logged.
#[derive(Clone)]
pub(super) struct Secret(String);

impl Secret {
    /// The text itself.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}
