//! The environment variables of envoyproxy/ratelimit, and their effect in ratekeeper.
//!
//! This is the only list of them: `serve` logs those without effect, `migrate` reports all, and `options` prints the
//! documentation from it. It depends on nothing else.

/// A variable of envoyproxy/ratelimit.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) effect: Effect,
}

/// The effect of a variable in ratekeeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// An option with the same meaning.
    Same,
    /// An option that behaves differently in this way.
    Differs(&'static str),
    /// A boolean option that behaves differently in this way if it is true.
    DiffersWhenOn(&'static str),
    /// An option that is accepted but has no effect, for this reason.
    Accepted(&'static str),
    /// Not an option; it has no effect, for this reason.
    None(&'static str),
    /// Rejected; the text says what to use instead.
    Rejected(&'static str),
    /// Address of memcached. It is rejected, unless another store is configured; then it has no effect.
    Memcached,
}

impl Effect {
    /// The reason why the variable has no effect, if it is not an option.
    pub(super) fn reason_for_none(self) -> Option<&'static str> {
        match self {
            Self::None(reason) => Some(reason),
            Self::Memcached => Some(MEMCACHED_UNUSED),
            _ => None,
        }
    }
}

const fn row(name: &'static str, effect: Effect) -> Variable {
    Variable { name, effect }
}

const POOL_EMPTY: Effect =
    Effect::Accepted("requests share round trips to Redis, and wait for one at most REDIS_TIMEOUT");
const TIMEOUT: Effect = Effect::Differs(
    "in envoyproxy/ratelimit, the time to connect (10s); in ratekeeper, the time for the whole decision (100ms), and \
     at most 80 % of the client's timeout",
);
const POOL_SIZE: Effect = Effect::Differs(
    "in ratekeeper, the maximum number of connections; few are used, because requests share round trips",
);
const NO_PIPELINE: Effect =
    Effect::None("requests in flight share a round trip without waiting for one another");
const ALL_NODES: Effect = Effect::None("all nodes are queried at the same time");
const NO_STARTUP_WAIT: Effect = Effect::None("the server starts without waiting for Redis");
const NO_MEMCACHED: Effect = Effect::None(MEMCACHED_UNUSED);

/// Reason why memcached is not used.
pub(super) const MEMCACHED_UNUSED: &str =
    "buckets are not stored in memcached, which cannot hold them exactly";

/// Variables with the address of memcached.
pub(super) const MEMCACHED_ADDRESSES: [&str; 2] = ["MEMCACHE_HOST_PORT", "MEMCACHE_SRV"];

/// Prefixes of names that only a rate limit service has.
pub(super) const PREFIXES: [&str; 14] = [
    "CONFIG_GRPC_XDS_",
    "DEBUG_",
    "DOG_STATSD_",
    "GRPC_",
    "LIMIT_",
    "MEMCACHE_",
    "OTEL_EXPORTER_OTLP_",
    "PROMETHEUS_",
    "REDIS_",
    "RUNTIME_",
    "STATSD_",
    "STORE_",
    "TRACING_",
    "XDS_CLIENT_",
];

pub(super) const VARIABLES: &[Variable] = &[
    // --- Listening ---
    row(
        "GRPC_SERVER_TLS_CA_CERT",
        Effect::Accepted(
            "it authenticates no client in either server; set GRPC_CLIENT_TLS_CACERT for that",
        ),
    ),
    row("GRPC_SERVER_USE_TLS", Effect::Same),
    row("GRPC_SERVER_TLS_CERT", Effect::Same),
    row("GRPC_SERVER_TLS_KEY", Effect::Same),
    row(
        "GRPC_CLIENT_TLS_CACERT",
        Effect::Differs(
            "envoyproxy/ratelimit also accepts certificates signed by the system's CAs; ratekeeper accepts only those of this file",
        ),
    ),
    row("GRPC_CLIENT_TLS_SAN", Effect::Same),
    row("GRPC_UDS", Effect::Same),
    row("GRPC_HOST", Effect::Same),
    row("GRPC_PORT", Effect::Same),
    row("GRPC_MAX_CONNECTION_AGE", Effect::Same),
    row("GRPC_MAX_CONNECTION_AGE_GRACE", Effect::Same),
    row("HOST", Effect::Same),
    row("PORT", Effect::Same),
    row("DEBUG_HOST", Effect::Same),
    row(
        "DEBUG_PORT",
        Effect::Differs(
            "ratekeeper serves /rlconfig, /stats and /metrics on it, but not Go's /debug/pprof",
        ),
    ),
    // --- Configuration ---
    row("CONFIG_TYPE", Effect::Same),
    row("CONFIG_GRPC_XDS_NODE_ID", Effect::Same),
    row("CONFIG_GRPC_XDS_NODE_METADATA", Effect::Same),
    row("CONFIG_GRPC_XDS_SERVER_URL", Effect::Same),
    row(
        "CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL",
        Effect::Same,
    ),
    row("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", Effect::Same),
    row("CONFIG_GRPC_XDS_SERVER_USE_TLS", Effect::Same),
    row("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", Effect::Same),
    row("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", Effect::Same),
    row("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", Effect::Same),
    row("CONFIG_GRPC_XDS_SERVER_TLS_SAN", Effect::Same),
    row(
        "XDS_CLIENT_BACKOFF_INITIAL_INTERVAL",
        Effect::Differs(
            "in envoyproxy/ratelimit, the wait never grows; in ratekeeper, it doubles up to XDS_CLIENT_BACKOFF_MAX_INTERVAL",
        ),
    ),
    row("XDS_CLIENT_BACKOFF_MAX_INTERVAL", Effect::Same),
    row(
        "XDS_CLIENT_BACKOFF_RANDOM_FACTOR",
        Effect::Differs(
            "envoyproxy/ratelimit uses it as the growth factor; ratekeeper uses it as the random variation of the waits",
        ),
    ),
    row("XDS_CLIENT_BACKOFF_JITTER", Effect::Same),
    row("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", Effect::Same),
    row("FORCE_START_WITHOUT_INITIAL_CONFIG", Effect::Same),
    row("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", Effect::Same),
    row("RUNTIME_ROOT", Effect::Same),
    row("RUNTIME_SUBDIRECTORY", Effect::Same),
    row("RUNTIME_APPDIRECTORY", Effect::Same),
    row("RUNTIME_IGNOREDOTFILES", Effect::Same),
    row(
        "RUNTIME_WATCH_ROOT",
        Effect::Differs(
            "ratekeeper notices every kind of change: an edit, a rename, a replaced root",
        ),
    ),
    row("MERGE_DOMAIN_CONFIG", Effect::Same),
    // --- Decisions ---
    row(
        "CACHE_KEY_PREFIX",
        Effect::Differs(
            "keys have other names after the prefix, so no counter is migrated or shared",
        ),
    ),
    row("NEAR_LIMIT_RATIO", Effect::Same),
    row("SANITIZE_DESCRIPTOR_METRIC_DOTS", Effect::Same),
    row("SHADOW_MODE", Effect::Same),
    row("QUOTA_MODE", Effect::Same),
    row("RESPONSE_DYNAMIC_METADATA", Effect::Same),
    row("LIMIT_RESPONSE_HEADERS_ENABLED", Effect::Same),
    row("LIMIT_LIMIT_HEADER", Effect::Same),
    row("LIMIT_REMAINING_HEADER", Effect::Same),
    row("LIMIT_RESET_HEADER", Effect::Same),
    // --- Store ---
    row("BACKEND_TYPE", Effect::Same),
    row("REDIS_URL", Effect::Same),
    row("REDIS_SOCKET_TYPE", Effect::Same),
    row("REDIS_TYPE", Effect::Same),
    row("REDIS_AUTH", Effect::Same),
    row("REDIS_SENTINEL_AUTH", Effect::Same),
    row("REDIS_TLS", Effect::Same),
    row("REDIS_TLS_CLIENT_CERT", Effect::Same),
    row("REDIS_TLS_CLIENT_KEY", Effect::Same),
    row("REDIS_TLS_CACERT", Effect::Same),
    row("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", Effect::Same),
    row("REDIS_POOL_SIZE", POOL_SIZE),
    row("REDIS_POOL_ON_EMPTY_BEHAVIOR", POOL_EMPTY),
    row("REDIS_TIMEOUT", TIMEOUT),
    row("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", Effect::Same),
    row("REDIS_PERSECOND", Effect::Same),
    row("REDIS_PERSECOND_URL", Effect::Same),
    row("REDIS_PERSECOND_SOCKET_TYPE", Effect::Same),
    row("REDIS_PERSECOND_TYPE", Effect::Same),
    row("REDIS_PERSECOND_AUTH", Effect::Same),
    row("REDIS_PERSECOND_SENTINEL_AUTH", Effect::Same),
    row("REDIS_PERSECOND_TLS", Effect::Same),
    row("REDIS_PERSECOND_POOL_SIZE", POOL_SIZE),
    row("REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR", POOL_EMPTY),
    row("REDIS_PERSECOND_TIMEOUT", TIMEOUT),
    row(
        "EXPIRATION_JITTER_MAX_SECONDS",
        Effect::None("a bucket expires when it would be full again, which spreads the expirations"),
    ),
    row(
        "LOCAL_CACHE_SIZE_IN_BYTES",
        Effect::None("denials are always cached, in bounded memory"),
    ),
    row(
        "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT",
        Effect::None("a denied request is never charged to any of its buckets"),
    ),
    row("REDIS_PIPELINE_WINDOW", NO_PIPELINE),
    row("REDIS_PIPELINE_LIMIT", NO_PIPELINE),
    row("REDIS_CLUSTER_PIPELINE_PARALLELISM", ALL_NODES),
    row("REDIS_PERSECOND_PIPELINE_WINDOW", NO_PIPELINE),
    row("REDIS_PERSECOND_PIPELINE_LIMIT", NO_PIPELINE),
    row("REDIS_PERSECOND_CLUSTER_PIPELINE_PARALLELISM", ALL_NODES),
    row("REDIS_STARTUP_INITIAL_INTERVAL", NO_STARTUP_WAIT),
    row("REDIS_STARTUP_MAX_INTERVAL", NO_STARTUP_WAIT),
    row("REDIS_STARTUP_MAX_ELAPSED_TIME", NO_STARTUP_WAIT),
    row(
        "REDIS_CLOSE_CONNECTION_ON_READONLY_ERROR",
        Effect::None("a connection to a server that has become a replica is always closed"),
    ),
    row("MEMCACHE_HOST_PORT", Effect::Memcached),
    row("MEMCACHE_SRV", Effect::Memcached),
    row("MEMCACHE_SRV_REFRESH", NO_MEMCACHED),
    row("MEMCACHE_MAX_IDLE_CONNS", NO_MEMCACHED),
    row("MEMCACHE_TLS", NO_MEMCACHED),
    row("MEMCACHE_TLS_CLIENT_CERT", NO_MEMCACHED),
    row("MEMCACHE_TLS_CLIENT_KEY", NO_MEMCACHED),
    row("MEMCACHE_TLS_CACERT", NO_MEMCACHED),
    row("MEMCACHE_TLS_SKIP_HOSTNAME_VERIFICATION", NO_MEMCACHED),
    // --- Telemetry ---
    row("LOG_LEVEL", Effect::Same),
    row("LOG_FORMAT", Effect::Same),
    row("DISABLE_STATS", Effect::Same),
    row(
        "USE_STATSD",
        Effect::DiffersWhenOn("ratekeeper sends StatsD over UDP; envoyproxy/ratelimit, over TCP"),
    ),
    row("STATSD_HOST", Effect::Same),
    row("STATSD_PORT", Effect::Same),
    row(
        "STATSD_PROTOCOL",
        Effect::Rejected(
            "metrics are sent over UDP only; leave it out, and let the daemon listen on UDP",
        ),
    ),
    row("STATS_FLUSH_INTERVAL", Effect::Same),
    row("USE_DOG_STATSD", Effect::Same),
    row(
        "USE_DOG_STATSD_MOGRIFIERS",
        Effect::Rejected(
            "metric names are not rewritten; leave it out, and let the Datadog agent rewrite them (dogstatsd_mapper_profiles)",
        ),
    ),
    row("EXTRA_TAGS", Effect::Same),
    row("USE_PROMETHEUS", Effect::Same),
    row("PROMETHEUS_ADDR", Effect::Same),
    row("PROMETHEUS_PATH", Effect::Same),
    row(
        "PROMETHEUS_MAPPER_YAML",
        Effect::Accepted(
            "metrics have the names and labels of envoyproxy/ratelimit's default mapping; custom mappings are not supported",
        ),
    ),
    row("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", Effect::Same),
    row("TRACING_ENABLED", Effect::Same),
    row("TRACING_SERVICE_NAME", Effect::Same),
    row("TRACING_SERVICE_NAMESPACE", Effect::Same),
    row("TRACING_SERVICE_INSTANCE_ID", Effect::Same),
    row("TRACING_EXPORTER_PROTOCOL", Effect::Same),
    row("TRACING_SAMPLING_RATE", Effect::Same),
];

/// Returns the effect of a variable of envoyproxy/ratelimit; `None` for other variables.
pub(super) fn effect(name: &str) -> Option<Effect> {
    let mut variables = VARIABLES.iter();
    variables
        .find(|variable| variable.name == name)
        .map(|variable| variable.effect)
}

/// Variables that are not options and have no effect, each with the reason.
pub(super) fn without_effect() -> impl Iterator<Item = (&'static str, &'static str)> {
    VARIABLES
        .iter()
        .filter_map(|variable| Some((variable.name, variable.effect.reason_for_none()?)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::VARIABLES;

    #[test]
    fn every_variable_has_one_row() {
        let mut seen = BTreeSet::new();
        for variable in VARIABLES {
            assert!(
                seen.insert(variable.name),
                "{} is listed twice",
                variable.name
            );
        }
    }
}
