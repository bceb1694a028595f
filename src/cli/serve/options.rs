//! What can be typed for the server, by subject, and what it means.

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
    /// Where buckets live [default: redis when REDIS_URL is set, else memory]
    #[arg(long, env = "BACKEND_TYPE", value_name = "NAME", ignore_case = true)]
    backend_type: Option<Backend>,

    /// Maximum number of buckets in memory; at this bound, buckets of the limits that have the most are dropped
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

    /// Answer with headers that tell which rule decided, what is left, and when the same would be
    /// admitted; and with the same in the dynamic metadata
    #[arg(long, env = "EXPLAIN_HEADERS", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    explain_headers: bool,

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
    /// Maximum number of descriptors, up to 65536
    #[arg(
        long,
        env = "MAX_DESCRIPTORS",
        value_name = "COUNT",
        default_value = "1024",
        value_parser = some_descriptors
    )]
    pub(super) max_descriptors: usize,

    /// Maximum number of entries of a descriptor; all descriptors together have at most 262144
    #[arg(
        long,
        env = "MAX_DESCRIPTOR_ENTRIES",
        value_name = "COUNT",
        default_value = "256",
        value_parser = some_entries
    )]
    pub(super) max_descriptor_entries: usize,

    /// Maximum number of bytes of domain, keys and values together; a message of more than 4 MiB, or than this, is
    /// not read
    #[arg(
        long,
        env = "MAX_REQUEST_BYTES",
        value_name = "BYTES",
        default_value = "4194304",
        value_parser = some
    )]
    pub(super) max_request_bytes: usize,

    /// What to answer to requests beyond these bounds, and to those with a limit of their own without a usable unit
    #[arg(
        long,
        env = "BAD_REQUEST_MODE",
        value_name = "NAME",
        default_value = "deny",
        ignore_case = true
    )]
    bad_request_mode: BadRequestName,
}

/// What requests get that cannot be decided, as options call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BadRequestName {
    /// OVER_LIMIT
    Deny,
    /// OK
    Allow,
    /// INVALID_ARGUMENT or OUT_OF_RANGE; Envoy lets the request pass, unless failure_mode_deny is set
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
    /// What requests get that cannot be decided; in shadow mode, none is denied.
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
    /// Whether somebody has said where buckets live.
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
                     use BACKEND_TYPE=redis with REDIS_URL, or BACKEND_TYPE=memory",
                );
                None
            }
        }
    }

    /// Looks at the files that are needed to reach it.
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

    /// The most buckets in memory, also of those that stand in for Redis.
    pub(super) fn max_buckets(&self) -> usize {
        usize::try_from(self.memory_max_buckets).unwrap_or(usize::MAX)
    }
}
