//! Options for the time while Redis is unavailable.

use std::time::Duration;

use clap::ValueEnum;

use super::super::options::{boolean, time};
use crate::app::FailureSettings;
use crate::bucket::Share;
use crate::store::OnStoreFailure;
use crate::store::fallback::FallbackSettings;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "While Redis is unavailable")]
pub(super) struct FailureOptions {
    /// Failure policy: how to decide requests while Redis is unavailable; on_store_failure of a rule takes
    /// precedence
    #[arg(
        long,
        env = "STORE_FAILURE_MODE",
        value_name = "NAME",
        default_value = "local",
        ignore_case = true
    )]
    store_failure_mode: FailureMode,

    /// Share of each limit that buckets of this instance have while Redis is unavailable, above 0 and up to 1; with
    /// shares that add up to 1, all instances together admit what Redis would
    #[arg(
        long,
        env = "LOCAL_FALLBACK_SHARE",
        value_name = "SHARE",
        default_value = "1"
    )]
    local_fallback_share: Share,

    /// Minimum time for a decision by Redis, even if the client's grpc-timeout is shorter, so that a client cannot
    /// trigger the failure policy with a timeout that Redis cannot meet
    #[arg(long, env = "REDIS_MIN_TIMEOUT", value_name = "DURATION", default_value = "2ms", value_parser = time)]
    redis_min_timeout: Duration,

    /// Report NOT_SERVING while Redis is unavailable; all instances do so at the same time, and clients may stop
    /// using all of them
    #[arg(long, env = "REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    redis_health_check_active_connection: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FailureMode {
    /// Decide with buckets of this instance
    Local,
    /// Allow the request
    Allow,
    /// Deny the request
    Deny,
    /// Return UNAVAILABLE, so that Envoy's failure_mode_deny decides
    Error,
}

impl From<FailureMode> for OnStoreFailure {
    fn from(mode: FailureMode) -> Self {
        match mode {
            FailureMode::Local => Self::Local,
            FailureMode::Allow => Self::Allow,
            FailureMode::Deny => Self::Deny,
            FailureMode::Error => Self::Error,
        }
    }
}

impl FailureOptions {
    pub(super) fn settings(&self, max_buckets: usize) -> FailureSettings {
        FailureSettings {
            fallback: FallbackSettings {
                mode: self.store_failure_mode.into(),
                share: self.local_fallback_share,
                max_buckets,
            },
            min_store_timeout: self.redis_min_timeout,
            health_follows: self.redis_health_check_active_connection,
        }
    }
}
