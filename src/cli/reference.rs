//! The environment variables of envoyproxy/ratelimit, and what becomes of each here.
//!
//! The variables that the server itself names at its start as having no effect are in
//! [`serve::without_effect`], with the reasons; all others are in the table here. It is data: `migrate`
//! words its report from it.

use super::serve;

/// A variable, and its fate.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) effect: Effect,
}

/// What becomes of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It means the same.
    Same,
    /// It is an option here, too, but this is otherwise.
    Differs(&'static str),
    /// A switch: when it is on, this is otherwise.
    DiffersWhenOn(&'static str),
    /// It means nothing here, and nothing is missing without it.
    None(&'static str),
    /// It cannot be had here; what to use instead.
    Refused(&'static str),
}

const fn variable(name: &'static str, effect: Effect) -> Variable {
    Variable { name, effect }
}

const POOL_EMPTY: Effect =
    Effect::None("requests share calls of Redis, and wait for one at most REDIS_TIMEOUT");
const TIMEOUT: Effect = Effect::Differs(
    "there, the time to connect (10s); here, the time for the whole decision (100ms), and no more than \
     80 % of what the caller waits",
);
const POOL_SIZE: Effect = Effect::Differs(
    "here, the connections of a process for decisions, shared by its threads; requests share calls, so few connections are used, and health probes use one more",
);

/// Where memcached is: who sets one of these means to use it.
pub(super) const MEMCACHED_PLACES: [&str; 2] = ["MEMCACHE_HOST_PORT", "MEMCACHE_SRV"];

/// Beginnings of names that only a rate-limit service has.
pub(super) const FAMILIES: [&str; 14] = [
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
    variable(
        "GRPC_SERVER_TLS_CA_CERT",
        Effect::None(
            "no client is authenticated by it, neither there nor here; GRPC_CLIENT_TLS_CACERT is for that",
        ),
    ),
    variable("GRPC_SERVER_USE_TLS", Effect::Same),
    variable("GRPC_SERVER_TLS_CERT", Effect::Same),
    variable("GRPC_SERVER_TLS_KEY", Effect::Same),
    variable(
        "GRPC_CLIENT_TLS_CACERT",
        Effect::Differs(
            "there, certificates that an authority of the system signed are accepted as well; here, only those of this \
             file",
        ),
    ),
    variable("GRPC_CLIENT_TLS_SAN", Effect::Same),
    variable("GRPC_UDS", Effect::Same),
    variable("GRPC_HOST", Effect::Same),
    variable("GRPC_PORT", Effect::Same),
    variable("GRPC_MAX_CONNECTION_AGE", Effect::Same),
    variable("GRPC_MAX_CONNECTION_AGE_GRACE", Effect::Same),
    variable("HOST", Effect::Same),
    variable("PORT", Effect::Same),
    variable("DEBUG_HOST", Effect::Same),
    variable(
        "DEBUG_PORT",
        Effect::Differs(
            "/rlconfig, /stats and /metrics are there; /debug/pprof, which is Go's, is not",
        ),
    ),
    // --- Configuration ---
    variable("CONFIG_TYPE", Effect::Same),
    variable("CONFIG_GRPC_XDS_NODE_ID", Effect::Same),
    variable("CONFIG_GRPC_XDS_NODE_METADATA", Effect::Same),
    variable("CONFIG_GRPC_XDS_SERVER_URL", Effect::Same),
    variable(
        "CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL",
        Effect::Same,
    ),
    variable("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", Effect::Same),
    variable("CONFIG_GRPC_XDS_SERVER_USE_TLS", Effect::Same),
    variable("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", Effect::Same),
    variable("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", Effect::Same),
    variable("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", Effect::Same),
    variable("CONFIG_GRPC_XDS_SERVER_TLS_SAN", Effect::Same),
    variable(
        "XDS_CLIENT_BACKOFF_INITIAL_INTERVAL",
        Effect::Differs(
            "there, the wait never grows; here, it doubles up to XDS_CLIENT_BACKOFF_MAX_INTERVAL",
        ),
    ),
    variable("XDS_CLIENT_BACKOFF_MAX_INTERVAL", Effect::Same),
    variable(
        "XDS_CLIENT_BACKOFF_RANDOM_FACTOR",
        Effect::Differs(
            "there, it takes the place of the growth; here, it is the jitter that its name says",
        ),
    ),
    variable("XDS_CLIENT_BACKOFF_JITTER", Effect::Same),
    variable("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", Effect::Same),
    variable("FORCE_START_WITHOUT_INITIAL_CONFIG", Effect::Same),
    variable("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", Effect::Same),
    variable("RUNTIME_ROOT", Effect::Same),
    variable("RUNTIME_SUBDIRECTORY", Effect::Same),
    variable("RUNTIME_APPDIRECTORY", Effect::Same),
    variable("RUNTIME_IGNOREDOTFILES", Effect::Same),
    variable(
        "RUNTIME_WATCH_ROOT",
        Effect::Differs(
            "changes are seen whichever way files change: an edit, a rename, a swap of the root",
        ),
    ),
    variable("MERGE_DOMAIN_CONFIG", Effect::Same),
    // --- Decisions ---
    variable(
        "CACHE_KEY_PREFIX",
        Effect::Differs(
            "keys are called otherwise behind the prefix, so no counter is carried over or shared",
        ),
    ),
    variable("NEAR_LIMIT_RATIO", Effect::Same),
    variable("SANITIZE_DESCRIPTOR_METRIC_DOTS", Effect::Same),
    variable("SHADOW_MODE", Effect::Same),
    variable("QUOTA_MODE", Effect::Same),
    variable("RESPONSE_DYNAMIC_METADATA", Effect::Same),
    variable("LIMIT_RESPONSE_HEADERS_ENABLED", Effect::Same),
    variable("LIMIT_LIMIT_HEADER", Effect::Same),
    variable("LIMIT_REMAINING_HEADER", Effect::Same),
    variable("LIMIT_RESET_HEADER", Effect::Same),
    // --- Store ---
    variable("BACKEND_TYPE", Effect::Same),
    variable("REDIS_URL", Effect::Same),
    variable("REDIS_SOCKET_TYPE", Effect::Same),
    variable("REDIS_TYPE", Effect::Same),
    variable("REDIS_AUTH", Effect::Same),
    variable("REDIS_SENTINEL_AUTH", Effect::Same),
    variable("REDIS_TLS", Effect::Same),
    variable("REDIS_TLS_CLIENT_CERT", Effect::Same),
    variable("REDIS_TLS_CLIENT_KEY", Effect::Same),
    variable("REDIS_TLS_CACERT", Effect::Same),
    variable("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", Effect::Same),
    variable("REDIS_POOL_SIZE", POOL_SIZE),
    variable("REDIS_POOL_ON_EMPTY_BEHAVIOR", POOL_EMPTY),
    variable("REDIS_TIMEOUT", TIMEOUT),
    variable("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", Effect::Same),
    variable("REDIS_PERSECOND", Effect::Same),
    variable("REDIS_PERSECOND_URL", Effect::Same),
    variable("REDIS_PERSECOND_SOCKET_TYPE", Effect::Same),
    variable("REDIS_PERSECOND_TYPE", Effect::Same),
    variable("REDIS_PERSECOND_AUTH", Effect::Same),
    variable("REDIS_PERSECOND_SENTINEL_AUTH", Effect::Same),
    variable("REDIS_PERSECOND_TLS", Effect::Same),
    variable("REDIS_PERSECOND_POOL_SIZE", POOL_SIZE),
    variable("REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR", POOL_EMPTY),
    variable("REDIS_PERSECOND_TIMEOUT", TIMEOUT),
    variable("MEMCACHE_HOST_PORT", Effect::Refused(USE_REDIS)),
    variable("MEMCACHE_SRV", Effect::Refused(USE_REDIS)),
    // --- Telemetry ---
    variable("LOG_LEVEL", Effect::Same),
    variable("LOG_FORMAT", Effect::Same),
    variable("DISABLE_STATS", Effect::Same),
    variable(
        "USE_STATSD",
        Effect::DiffersWhenOn("StatsD is spoken over UDP; there, over TCP"),
    ),
    variable("STATSD_HOST", Effect::Same),
    variable("STATSD_PORT", Effect::Same),
    variable(
        "STATSD_PROTOCOL",
        Effect::Refused(
            "metrics are sent by UDP only; leave it out, and have the daemon listen on UDP",
        ),
    ),
    variable("STATS_FLUSH_INTERVAL", Effect::Same),
    variable("USE_DOG_STATSD", Effect::Same),
    variable(
        "USE_DOG_STATSD_MOGRIFIERS",
        Effect::Refused(
            "names are not rewritten here; leave it out, and have what receives them rewrite them",
        ),
    ),
    variable("EXTRA_TAGS", Effect::Same),
    variable("USE_PROMETHEUS", Effect::Same),
    variable("PROMETHEUS_ADDR", Effect::Same),
    variable("PROMETHEUS_PATH", Effect::Same),
    variable(
        "PROMETHEUS_MAPPER_YAML",
        Effect::None(
            "the names and labels of the reference's default mapping are built in; a mapping of your own that \
             makes other names is not read",
        ),
    ),
    variable("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", Effect::Same),
    variable("TRACING_ENABLED", Effect::Same),
    variable("TRACING_SERVICE_NAME", Effect::Same),
    variable("TRACING_SERVICE_NAMESPACE", Effect::Same),
    variable("TRACING_SERVICE_INSTANCE_ID", Effect::Same),
    variable("TRACING_EXPORTER_PROTOCOL", Effect::Same),
    variable("TRACING_SAMPLING_RATE", Effect::Same),
];

const USE_REDIS: &str = "memcached cannot hold a bucket exactly; set REDIS_URL to a Redis of version 5.0 or newer, \
     or BACKEND_TYPE=memory for buckets in the process, and leave this out";

/// What becomes of a variable of envoyproxy/ratelimit; `None` for what it does not have.
pub(super) fn effect(name: &str) -> Option<Effect> {
    let row = VARIABLES.iter().find(|variable| variable.name == name);
    let without = || serve::without_effect().find(|(other, _)| *other == name);
    row.map(|row| row.effect)
        .or_else(|| without().map(|(_, why)| Effect::None(why)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{Args as _, Command};

    use super::{Effect, MEMCACHED_PLACES, VARIABLES, serve};

    #[test]
    fn every_variable_has_one_fate() {
        let listed = VARIABLES.iter().map(|variable| variable.name);
        // Where memcached is has no effect only where another backend is chosen; else it is refused.
        let without = serve::without_effect()
            .map(|(name, _)| *name)
            .filter(|name| !MEMCACHED_PLACES.contains(name));
        let mut seen = BTreeSet::new();
        for name in listed.chain(without) {
            assert!(seen.insert(name), "{name} is listed twice");
        }
    }

    #[test]
    fn what_has_an_effect_is_an_option_of_the_server() {
        let command = serve::Args::augment_args(Command::new("serve"));
        let options: BTreeSet<_> = command
            .get_arguments()
            .filter_map(|arg| arg.get_env()?.to_str())
            .collect();
        let missing: Vec<_> = VARIABLES
            .iter()
            .filter(|variable| !matches!(variable.effect, Effect::None(_) | Effect::Refused(_)))
            .map(|variable| variable.name)
            .filter(|name| !options.contains(name))
            .collect();
        assert!(missing.is_empty(), "no options: {missing:?}");
    }
}
