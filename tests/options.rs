//! Options that make no sense: one sentence that names the option and what to write, and exit code 2.

mod commands;
mod redis;

use std::collections::BTreeSet;
use std::fs;

use crate::support::{Ratekeeper, ask, root, typed};

/// Starts the server with such options; it does not start, and says this.
fn refused(flags: &[&str], environment: &[(&str, &str)], exit: i32, texts: &[&str]) {
    let mut arguments = vec!["serve", "--config", "/nonexistent/rules.yaml"];
    arguments.extend(flags);
    let printed = typed(arguments, environment.iter().copied());
    assert_eq!(
        printed.code, exit,
        "{flags:?} {environment:?}: {}",
        printed.stderr
    );
    for text in texts {
        assert!(
            printed.stderr.contains(text),
            "{flags:?} {environment:?}: {}",
            printed.stderr
        );
    }
    assert!(!printed.stderr.contains("panicked"), "{}", printed.stderr);
}

#[test]
fn wrong_values_are_named_with_their_variable() {
    for (name, value, advice) in [
        ("GRPC_PORT", "http", "a number from 0 to 65535"),
        ("GRPC_PORT", "70000", "65535"),
        ("BACKEND_TYPE", "etcd", "redis"),
        ("MEMORY_MAX_BUCKETS", "0", "MEMORY_MAX_BUCKETS"),
        ("REDIS_POOL_SIZE", "0", "REDIS_POOL_SIZE"),
        ("REDIS_TIMEOUT", "soon", "REDIS_TIMEOUT"),
        ("REDIS_TIMEOUT", "0s", "longer than 0"),
        ("SHADOW_MODE", "maybe", "true or false"),
        ("DEFAULT_ALGORITHM", "leaky", "token_bucket"),
        ("DEFAULT_HITS", "later", "postpaid"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL"),
        ("MAX_DESCRIPTORS", "-1", "a whole number from 1"),
        ("MAX_DESCRIPTOR_ENTRIES", "0", "a whole number from 1"),
        ("WORKER_THREADS", "0", "WORKER_THREADS"),
        ("REDIS_TIMEOUT", "-1s", "a duration such as"),
        ("LIMIT_LIMIT_HEADER", "x\r\ny: z", "the name of a header"),
        ("GRPC_SERVER_USE_TLS", "true", "GRPC_SERVER_TLS_CERT"),
        ("CONFIG_TYPE", "etcd", "GRPC_XDS_SOTW"),
        ("SHUTDOWN_GRACE_PERIOD", "later", "SHUTDOWN_GRACE_PERIOD"),
    ] {
        refused(&[], &[(name, value)], 2, &[name, advice]);
    }
}

#[test]
fn unknown_flags_are_named_with_what_was_meant() {
    refused(
        &["--grpc-prot", "1"],
        &[],
        2,
        &["--grpc-prot", "--grpc-port"],
    );
}

#[test]
fn stores_that_cannot_be_used_are_refused_with_what_to_use() {
    refused(
        &[],
        &[("BACKEND_TYPE", "memcache")],
        2,
        &["memcached", "BACKEND_TYPE=redis"],
    );
    refused(&[], &[("BACKEND_TYPE", "redis")], 2, &["REDIS_URL"]);
    for url in [
        "redis://secret:secret@",
        "ftp://secret@host",
        "host:port:secret",
    ] {
        let printed = typed(["serve"], [("REDIS_URL", url)]);
        assert_eq!(printed.code, 2, "{url}: {}", printed.stderr);
        assert!(printed.stderr.contains("REDIS_URL"), "{}", printed.stderr);
        assert!(!printed.stderr.contains("secret"), "{}", printed.stderr);
    }
    refused(
        &[],
        &[("REDIS_URL", "a:1,b:2")],
        2,
        &["one server", "REDIS_TYPE=sentinel"],
    );
}

#[test]
fn a_taken_port_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let environment = [("GRPC_HOST", "127.0.0.1"), ("GRPC_PORT", port.as_str())];
    refused(&[], &environment, 1, &["GRPC_PORT", &port, "in use"]);
}

#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    let names = [
        "REDIS_URL",
        "BACKEND_TYPE",
        "REDIS_AUTH",
        "SHADOW_MODE",
        "MAX_DESCRIPTORS",
        "LOG_LEVEL",
    ];
    let rules = "domain: d";
    let server = Ratekeeper::start(rules, names.map(|name| (name, String::new())));
    assert!(server.ask(ask("d", &["k=1"])).is_ok());
}

#[test]
fn ipv6_and_names_are_listened_on() {
    for host in ["::1", "::", "localhost"] {
        let server = Ratekeeper::start("domain: d", [("GRPC_HOST", host.to_owned())]);
        assert!(server.ask(ask("d", &["k=1"])).is_ok(), "{host}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let environment = [
        ("GRPC_PORT", "http"),
        ("PORT", "tcp://10.0.0.1:80"),
        ("LOG_LEVEL", "loud"),
        ("BACKEND_TYPE", "redis"),
        ("GRPC_SERVER_USE_TLS", "true"),
        ("REDIS_TIMEOUT", "100ms"),
    ];
    let flags = ["--max-descriptors=none", "--redis-timeout", "0s"];
    let texts = [
        "error: 8 options are invalid\n",
        "\n  --max-descriptors=none: write a whole number from 1 to 65536\n",
        "\n  --redis-timeout=0s: write a duration longer than 0, such as 100ms\n",
        "\n  GRPC_PORT=http: write a number from 0 to 65535\n",
        "\n  PORT=tcp://10.0.0.1:80: write a number from 0 to 65535; Kubernetes has set this",
        "\n  LOG_LEVEL=loud: write trace or debug or info or warn or error\n",
        "\n  BACKEND_TYPE=redis needs REDIS_URL",
        "\n  GRPC_SERVER_USE_TLS=true needs GRPC_SERVER_TLS_CERT",
        "\n  GRPC_SERVER_USE_TLS=true needs GRPC_SERVER_TLS_KEY",
    ];
    refused(&flags, &environment, 2, &texts);
    // What was typed makes no sense; what was set is told all the same.
    let environment = [("GRPC_PORT", "http")];
    refused(
        &["--grpc-prot", "1"],
        &environment,
        2,
        &["--grpc-prot", "GRPC_PORT=http"],
    );
}

/// The names in the first column of the table of options.
fn table() -> BTreeSet<String> {
    let printed = typed(["options"], []);
    let names = printed
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    names.map(str::to_owned).collect()
}

/// Every variable that envoyproxy/ratelimit reads.
const REFERENCE: &str = "
HOST PORT DEBUG_HOST DEBUG_PORT GRPC_HOST GRPC_PORT GRPC_UDS GRPC_MAX_CONNECTION_AGE GRPC_MAX_CONNECTION_AGE_GRACE
GRPC_SERVER_USE_TLS GRPC_SERVER_TLS_CERT GRPC_SERVER_TLS_KEY GRPC_CLIENT_TLS_CACERT GRPC_CLIENT_TLS_SAN
LOG_LEVEL LOG_FORMAT CONFIG_TYPE FORCE_START_WITHOUT_INITIAL_CONFIG
CONFIG_GRPC_XDS_NODE_ID CONFIG_GRPC_XDS_NODE_METADATA CONFIG_GRPC_XDS_SERVER_URL
CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS
CONFIG_GRPC_XDS_SERVER_USE_TLS CONFIG_GRPC_XDS_CLIENT_TLS_CERT CONFIG_GRPC_XDS_CLIENT_TLS_KEY
CONFIG_GRPC_XDS_SERVER_TLS_CACERT CONFIG_GRPC_XDS_SERVER_TLS_SAN
XDS_CLIENT_BACKOFF_INITIAL_INTERVAL XDS_CLIENT_BACKOFF_MAX_INTERVAL XDS_CLIENT_BACKOFF_RANDOM_FACTOR
XDS_CLIENT_BACKOFF_JITTER XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES
USE_STATSD STATSD_HOST STATSD_PORT STATSD_PROTOCOL USE_DOG_STATSD USE_DOG_STATSD_MOGRIFIERS
USE_PROMETHEUS PROMETHEUS_ADDR PROMETHEUS_PATH PROMETHEUS_MAPPER_YAML PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS
EXTRA_TAGS STATS_FLUSH_INTERVAL DISABLE_STATS
RUNTIME_ROOT RUNTIME_SUBDIRECTORY RUNTIME_APPDIRECTORY RUNTIME_IGNOREDOTFILES RUNTIME_WATCH_ROOT
EXPIRATION_JITTER_MAX_SECONDS LOCAL_CACHE_SIZE_IN_BYTES CACHE_KEY_PREFIX STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT
NEAR_LIMIT_RATIO SANITIZE_DESCRIPTOR_METRIC_DOTS BACKEND_TYPE
LIMIT_RESPONSE_HEADERS_ENABLED LIMIT_LIMIT_HEADER LIMIT_REMAINING_HEADER LIMIT_RESET_HEADER
HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED
REDIS_SOCKET_TYPE REDIS_TYPE REDIS_URL REDIS_POOL_SIZE REDIS_AUTH REDIS_TLS
REDIS_TLS_CLIENT_CERT REDIS_TLS_CLIENT_KEY REDIS_TLS_CACERT REDIS_TLS_SKIP_HOSTNAME_VERIFICATION
REDIS_PIPELINE_WINDOW REDIS_PIPELINE_LIMIT REDIS_CLUSTER_PIPELINE_PARALLELISM
REDIS_TIMEOUT REDIS_POOL_ON_EMPTY_BEHAVIOR REDIS_SENTINEL_AUTH REDIS_HEALTH_CHECK_ACTIVE_CONNECTION
REDIS_STARTUP_INITIAL_INTERVAL REDIS_STARTUP_MAX_INTERVAL REDIS_STARTUP_MAX_ELAPSED_TIME
REDIS_CLOSE_CONNECTION_ON_READONLY_ERROR
REDIS_PERSECOND REDIS_PERSECOND_SOCKET_TYPE REDIS_PERSECOND_TYPE REDIS_PERSECOND_URL REDIS_PERSECOND_POOL_SIZE
REDIS_PERSECOND_AUTH REDIS_PERSECOND_TLS REDIS_PERSECOND_SENTINEL_AUTH REDIS_PERSECOND_PIPELINE_WINDOW
REDIS_PERSECOND_PIPELINE_LIMIT REDIS_PERSECOND_CLUSTER_PIPELINE_PARALLELISM REDIS_PERSECOND_TIMEOUT
REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR
MEMCACHE_HOST_PORT MEMCACHE_SRV MEMCACHE_SRV_REFRESH MEMCACHE_MAX_IDLE_CONNS MEMCACHE_TLS MEMCACHE_TLS_CLIENT_CERT
MEMCACHE_TLS_CLIENT_KEY MEMCACHE_TLS_CACERT MEMCACHE_TLS_SKIP_HOSTNAME_VERIFICATION
SHADOW_MODE QUOTA_MODE RESPONSE_DYNAMIC_METADATA MERGE_DOMAIN_CONFIG
TRACING_ENABLED TRACING_SERVICE_NAME TRACING_SERVICE_NAMESPACE TRACING_SERVICE_INSTANCE_ID
TRACING_EXPORTER_PROTOCOL TRACING_SAMPLING_RATE
";

#[test]
fn every_variable_of_the_reference_is_known() {
    let table = table();
    let missing: Vec<_> = REFERENCE
        .split_whitespace()
        .filter(|name| !table.contains(*name))
        .collect();
    assert!(
        missing.is_empty(),
        "neither an option nor without effect: {missing:?}"
    );
}

#[test]
fn the_page_of_options_has_the_tables_that_the_program_prints() {
    let page = fs::read_to_string(root().join("docs/options.md")).unwrap();
    let (_, rest) = page
        .split_once("<!-- ratekeeper options -->\n")
        .expect("a begin of the table");
    let (table, _) = rest
        .split_once("<!-- end of options -->")
        .expect("an end of the table");
    let printed = typed(["options"], []).stdout;
    assert!(
        table == printed,
        "docs/options.md is not what `ratekeeper options` prints: run\n  \
         target/debug/ratekeeper options | sed -i -e '/<!-- ratekeeper options/,/<!-- end of options/{{//!d}}' \
         -e '/<!-- ratekeeper options/r /dev/stdin' docs/options.md"
    );
}

#[test]
fn a_short_flag_with_a_wrong_value_is_told_as_a_long_one() {
    for (address, says) in [
        ("https://x", "TLS is not supported"),
        ("x", "write host:port"),
        ("x:99999", "write host:port"),
    ] {
        let printed = typed(["hit", "-a", address, "d", "k=v"], []);
        assert_eq!(printed.code, 1, "{address}: {}", printed.stderr);
        assert!(printed.stderr.contains(says), "{}", printed.stderr);
    }
    let printed = typed(["hit", "-a"], []);
    assert!(printed.stderr.contains("--address"), "{}", printed.stderr);
}

#[test]
fn everything_that_is_wrong_with_certificates_and_sources_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let garbage = directory.path().join("garbage.pem");
    fs::write(&garbage, "garbage").unwrap();
    let garbage = garbage.to_str().unwrap();
    let printed = typed(
        ["serve"],
        [
            ("GRPC_SERVER_USE_TLS", "true"),
            ("GRPC_SERVER_TLS_CERT", garbage),
            ("GRPC_SERVER_TLS_KEY", garbage),
            ("GRPC_CLIENT_TLS_CACERT", garbage),
            ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
            ("CONFIG_PATH", "/rules.yaml"),
            ("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "x"),
        ],
    );
    assert_eq!(printed.code, 2);
    for part in [
        "no certificate",
        "no private key",
        "either from a management server or from files",
        "ADDITIONAL_HEADERS",
    ] {
        assert!(printed.stderr.contains(part), "{part}: {}", printed.stderr);
    }
}
