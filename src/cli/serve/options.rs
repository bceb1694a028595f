//! Options for buckets, responses and request sizes, and their settings.

use clap::ValueEnum;

use super::super::mistakes::Mistakes;
use super::super::options::{Keys, boolean, header_name, some};
use super::redis::RedisOptions;
use crate::app::StoreSettings;
use crate::service::{
    BadRequestMode, BadRequests, HeaderNames, MAX_DESCRIPTORS_DECODED, MAX_ENTRIES_DECODED,
    ResponseSettings,
};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Buckets")]
pub(super) struct Store {
    /// Where buckets are stored [default: redis when REDIS_URL is set, else memory]
    #[arg(long, env = "BACKEND_TYPE", value_name = "NAME", ignore_case = true)]
    backend_type: Option<Backend>,

    /// Maximum number of buckets in memory; when it is reached, buckets of the limits with the most buckets are
    /// dropped
    #[arg(long, env = "MEMORY_MAX_BUCKETS", value_name = "COUNT", default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u64).range(1..))]
    memory_max_buckets: u64,

    #[command(flatten)]
    pub(super) keys: Keys,
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

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Responses")]
pub(super) struct VerdictOptions {
    /// Allow every request, even when a limit is exceeded
    #[arg(long, env = "SHADOW_MODE", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    pub(super) shadow_mode: bool,

    /// Treat all limits as if their rules had quota_mode: true
    #[arg(long, env = "QUOTA_MODE", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    pub(super) quota_mode: bool,

    /// Add dynamic metadata to responses: the request, and the metadata of the rules that match
    #[arg(long, env = "RESPONSE_DYNAMIC_METADATA", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    response_dynamic_metadata: bool,

    /// Add response headers with the deciding rule, the remaining hits and the time until the same request is
    /// allowed; the dynamic metadata contains the same
    #[arg(long, env = "EXPLAIN_HEADERS", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    explain_headers: bool,

    /// Add response headers with the limit, the remaining hits and the seconds until reset
    #[arg(long, env = "LIMIT_RESPONSE_HEADERS_ENABLED", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    limit_response_headers_enabled: bool,

    /// Name of the response header with the limit
    #[arg(
        long,
        env = "LIMIT_LIMIT_HEADER",
        value_name = "NAME",
        default_value = "RateLimit-Limit",
        value_parser = header_name
    )]
    limit_limit_header: String,

    /// Name of the response header with the remaining hits
    #[arg(
        long,
        env = "LIMIT_REMAINING_HEADER",
        value_name = "NAME",
        default_value = "RateLimit-Remaining",
        value_parser = header_name
    )]
    limit_remaining_header: String,

    /// Name of the response header with the seconds until reset
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
#[command(next_help_heading = "Request size")]
pub(super) struct BoundOptions {
    /// Maximum number of descriptors in a request, up to 65536
    #[arg(
        long,
        env = "MAX_DESCRIPTORS",
        value_name = "COUNT",
        default_value = "1024",
        value_parser = some_descriptors
    )]
    pub(super) max_descriptors: usize,

    /// Maximum number of entries in a descriptor; all descriptors of a request together have at most 262144 entries
    #[arg(
        long,
        env = "MAX_DESCRIPTOR_ENTRIES",
        value_name = "COUNT",
        default_value = "256",
        value_parser = some_entries
    )]
    pub(super) max_descriptor_entries: usize,

    /// Maximum size of domain, keys and values together, in bytes; a gRPC message larger than this, or than 4 MiB,
    /// is rejected
    #[arg(
        long,
        env = "MAX_REQUEST_BYTES",
        value_name = "BYTES",
        default_value = "4194304",
        value_parser = some
    )]
    pub(super) max_request_bytes: usize,

    /// Response to requests that exceed these bounds, and to requests with a limit of their own without a usable
    /// unit
    #[arg(
        long,
        env = "BAD_REQUEST_MODE",
        value_name = "NAME",
        default_value = "deny",
        ignore_case = true
    )]
    bad_request_mode: BadRequestName,
}

/// Responses to invalid requests, as options name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BadRequestName {
    /// OVER_LIMIT
    Deny,
    /// OK
    Allow,
    /// INVALID_ARGUMENT or OUT_OF_RANGE; Envoy then allows the request unless failure_mode_deny is set
    Error,
}

fn some_descriptors(text: &str) -> Result<usize, String> {
    some_up_to(text, MAX_DESCRIPTORS_DECODED)
}

fn some_entries(text: &str) -> Result<usize, String> {
    some_up_to(text, MAX_ENTRIES_DECODED)
}

fn some_up_to(text: &str, most: usize) -> Result<usize, String> {
    let number = some(text).ok().filter(|number| *number <= most);
    number.ok_or_else(|| format!("write a whole number from 1 to {most}"))
}

impl BoundOptions {
    /// Response to invalid requests; shadow mode denies none.
    pub(super) fn bad_requests(&self, shadow_mode: bool) -> BadRequests {
        BadRequests::new(match self.bad_request_mode {
            BadRequestName::Deny if shadow_mode => BadRequestMode::Allow,
            BadRequestName::Deny => BadRequestMode::Deny,
            BadRequestName::Allow => BadRequestMode::Allow,
            BadRequestName::Error => BadRequestMode::Error,
        })
    }
}

impl VerdictOptions {
    pub(super) fn response(&self, bounds: &BoundOptions) -> ResponseSettings {
        ResponseSettings {
            headers: self.limit_response_headers_enabled.then(|| HeaderNames {
                limit: self.limit_limit_header.clone(),
                remaining: self.limit_remaining_header.clone(),
                reset: self.limit_reset_header.clone(),
            }),
            explain: self.explain_headers,
            bad_requests: bounds.bad_requests(self.shadow_mode),
            dynamic_metadata: self.response_dynamic_metadata,
        }
    }
}

impl Store {
    /// Whether BACKEND_TYPE is set.
    pub(super) fn is_chosen(&self) -> bool {
        self.backend_type.is_some()
    }

    pub(super) fn settings(
        &self,
        redis: &RedisOptions,
        mistakes: &mut Mistakes,
    ) -> Option<StoreSettings> {
        match self.backend(redis) {
            Backend::Memory => {
                if !self.is_chosen() {
                    mistakes.take(redis.check_unnamed())?;
                }
                Some(StoreSettings::Memory {
                    max_buckets: self.max_buckets(),
                })
            }
            Backend::Redis => {
                let buckets = redis.buckets(mistakes)?;
                Some(StoreSettings::Redis(Box::new(buckets)))
            }
            Backend::Memcache => {
                mistakes.add(
                    "BACKEND_TYPE=memcache: memcached cannot hold token buckets exactly; \
                     set BACKEND_TYPE=redis with REDIS_URL, or BACKEND_TYPE=memory",
                );
                None
            }
        }
    }

    /// Checks the files that the connection to Redis needs.
    pub(super) fn check_files(&self, redis: &RedisOptions, mistakes: &mut Mistakes) {
        if let Backend::Redis = self.backend(redis) {
            redis.check_files(mistakes);
        }
    }

    fn backend(&self, redis: &RedisOptions) -> Backend {
        self.backend_type.unwrap_or(match redis.is_named() {
            true => Backend::Redis,
            false => Backend::Memory,
        })
    }

    /// Maximum number of buckets in memory, including those of the failure policy.
    pub(super) fn max_buckets(&self) -> usize {
        usize::try_from(self.memory_max_buckets).unwrap_or(usize::MAX)
    }
}
