//! Options that make no sense: one sentence that names the option and what to write, and exit code 2.

use std::collections::BTreeSet;
use std::fs;

use crate::support::{Ratekeeper, Redis, ask, free_port, root, typed};

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
        ("REDIS_TIMEOUT", "-1s", "a time such as"),
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
fn options_of_redis_that_do_not_go_together_are_refused_with_what_to_do() {
    let missing = "/nonexistent/file";
    let url = ("REDIS_URL", "host:1");
    let sentinel = ("REDIS_TYPE", "SENTINEL");
    let cluster = ("REDIS_TYPE", "CLUSTER");
    for (environment, texts) in [
        (
            &[("REDIS_URL", "a:1,/socket"), cluster][..],
            &["REDIS_URL", "host:port,host:port"][..],
        ),
        (&[("REDIS_URL", "a:1,"), cluster], &["host:port,host:port"]),
        (
            &[("REDIS_URL", "redis://a:1/3"), cluster],
            &["no database but 0"],
        ),
        (
            &[url, cluster, ("REDIS_SENTINEL_AUTH", "secret")],
            &["REDIS_SENTINEL_AUTH", "REDIS_AUTH"],
        ),
        (
            &[url, cluster, ("CACHE_KEY_PREFIX", "{a}")],
            &["CACHE_KEY_PREFIX", "braces"],
        ),
        (&[url, sentinel][..], &["REDIS_URL", "master,host:port"][..]),
        (&[("REDIS_URL", "master,"), sentinel], &["master,host:port"]),
        (&[("REDIS_URL", "a:1,b:2"), sentinel], &["master,host:port"]),
        (
            &[("REDIS_URL", "m,secret@x:y"), sentinel],
            &["master,host:port"],
        ),
        (
            &[url, ("REDIS_SENTINEL_AUTH", "secret")],
            &["REDIS_SENTINEL_AUTH", "REDIS_AUTH"],
        ),
        (
            &[url, ("REDIS_AUTH", "secret"), ("REDIS_AUTH_FILE", missing)],
            &["REDIS_AUTH", "leave one of them out"],
        ),
        (
            &[url, ("REDIS_AUTH_FILE", missing)],
            &["REDIS_AUTH_FILE", missing],
        ),
        (
            &[("REDIS_URL", "/a/socket"), ("REDIS_TLS", "true")],
            &["REDIS_TLS", "socket"],
        ),
        (
            &[("REDIS_URL", "/a/socket"), ("REDIS_SOCKET_TYPE", "tcp")],
            &["REDIS_SOCKET_TYPE"],
        ),
        (
            &[url, ("REDIS_TLS", "1"), ("REDIS_TLS_CACERT", missing)],
            &[missing, "PEM"],
        ),
        (
            &[url, ("REDIS_TLS", "1"), ("REDIS_TLS_CACERT", "Cargo.toml")],
            &["no certificate in it"],
        ),
        (
            &[url, ("REDIS_TLS", "1"), ("REDIS_TLS_CLIENT_CERT", missing)],
            &["REDIS_TLS_CLIENT_KEY"],
        ),
        (
            &[url, ("REDIS_TLS", "1"), ("REDIS_TLS_CLIENT_KEY", missing)],
            &["REDIS_TLS_CLIENT_CERT"],
        ),
        (
            &[url, ("REDIS_POOL_ON_EMPTY_BEHAVIOR", "CREATE")],
            &["REDIS_POOL_ON_EMPTY_BEHAVIOR", "WAIT"],
        ),
        (
            &[url, ("REDIS_PERSECOND", "true")],
            &["REDIS_PERSECOND_URL"],
        ),
        (
            &[("REDIS_PERSECOND", "1"), ("REDIS_PERSECOND_URL", "b:1")],
            &["REDIS_URL as well"],
        ),
        (&[url, ("REDIS_TLS_CACERT", missing)], &["REDIS_TLS=true"]),
        (
            &[url, ("REDIS_TLS_CLIENT_CERT", missing)],
            &["REDIS_TLS=true"],
        ),
        (
            &[url, ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "true")],
            &["REDIS_TLS=true"],
        ),
        (
            &[("REDIS_URL", "rediss://host:1"), ("REDIS_TLS", "false")],
            &["REDIS_TLS=false", "rediss://"],
        ),
        (
            &[("REDIS_URL", "m,a:1,b:1/3"), sentinel],
            &["sentinel 2", "database"],
        ),
        (&[("REDIS_URL", "m,a:1,b:x"), sentinel], &["entry 2"]),
        (&[("REDIS_URL", "redis://h/-1")], &["a number from 0"]),
        (
            &[("REDIS_URL", "redis://h:1?database=3")],
            &["REDIS_URL", "unknown parameter 'database'", "db"],
        ),
        (
            &[("REDIS_URL", "redis://:secret@h:1#insecure")],
            &["REDIS_URL", "'#'"],
        ),
        (
            &[("REDIS_URL", "redis://secret@h:1")],
            &["REDIS_URL names a user but no password", "REDIS_AUTH_FILE"],
        ),
        (
            &[("REDIS_URL", "m,redis://secret@h:1"), sentinel],
            &[
                "REDIS_URL names a user of the sentinels",
                "REDIS_SENTINEL_AUTH",
            ],
        ),
        (
            &[
                ("REDIS_URL", "redis://u:secret@h:1,redis://v:secret@h:2"),
                cluster,
            ],
            &["REDIS_URL", "different users or passwords"],
        ),
        (
            &[
                ("REDIS_URL", "m,redis://:secret@h:1,redis://:secret2@h:2"),
                sentinel,
            ],
            &["REDIS_URL", "different users or passwords"],
        ),
        (
            &[("REDIS_URL", "h:1?db=3,h:2"), cluster],
            &["no database but 0"],
        ),
        (
            &[
                url,
                ("REDIS_PERSECOND", "true"),
                ("REDIS_PERSECOND_URL", "h:1?name=3"),
            ],
            &["REDIS_PERSECOND_URL", "unknown parameter 'name'"],
        ),
        (
            &[url, ("REDIS_TLS", "1"), ("REDIS_TLS_CACERT_ONLY", "1")],
            &["REDIS_TLS_CACERT_ONLY=true needs REDIS_TLS_CACERT"],
        ),
        (
            &[url, ("REDIS_TLS_CACERT_ONLY", "true")],
            &["REDIS_TLS=true"],
        ),
        (&[("REDIS_URL", "h:0")], &["port 0"]),
        (&[url, ("REDIS_TIMEOUT", "10us")], &["REDIS_TIMEOUT", "1ms"]),
        (
            &[
                url,
                ("REDIS_PERSECOND", "1"),
                ("REDIS_PERSECOND_URL", "ftp://secret"),
            ],
            &["REDIS_PERSECOND_URL"],
        ),
    ] {
        refused(&[], environment, 2, texts);
        let printed = typed(["serve"], environment.iter().copied());
        assert!(!printed.stderr.contains("secret"), "{}", printed.stderr);
    }
}

#[test]
fn options_of_redis_that_mean_nothing_here_are_taken_and_told() {
    let environment = [
        ("REDIS_URL", "127.0.0.1:1"),
        ("REDIS_POOL_ON_EMPTY_BEHAVIOR", "WAIT"),
        ("REDIS_PIPELINE_WINDOW", "150us"),
        ("REDIS_STARTUP_MAX_INTERVAL", "1s"),
        ("REDIS_PERSECOND_URL", "127.0.0.1:2"),
    ];
    let environment = environment.map(|(name, value)| (name, value.to_owned()));
    let server = Ratekeeper::start("domain: d", environment);
    server.signal("TERM");
    let (_, log) = server.ended();
    for name in [
        "REDIS_PIPELINE_WINDOW",
        "REDIS_STARTUP_MAX_INTERVAL",
        "REDIS_PERSECOND_URL",
    ] {
        assert!(log.contains(&format!("{name} has no effect")), "{log}");
    }
    assert!(!log.contains("ON_EMPTY"), "{log}");
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
fn a_redis_is_used_when_there_is_one_and_memory_when_asked_for() {
    let redis = Redis::start();
    let rules = "
domain: d
descriptors: [{key: k, rate_limit: {unit: year, requests_per_unit: 5}}]
";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (backend, keys) in [("memory", 0), ("", 1)] {
        let environment = [
            ("REDIS_URL", redis.url()),
            ("BACKEND_TYPE", backend.to_owned()),
        ];
        let server = Ratekeeper::start(
            rules,
            environment
                .into_iter()
                .chain([("REDIS_TIMEOUT", "10s".to_owned())]),
        );
        assert!(server.ask(ask("d", &["k=1"])).is_ok());
        let found: Vec<String> = runtime.block_on(redis.run(&["KEYS", "rk:d|*"]));
        assert_eq!(found.len(), keys);
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
        "error: 8 options cannot be used\n",
        "\n  --max-descriptors=none: write a whole number from 1 to 65536\n",
        "\n  --redis-timeout=0s: write a time longer than 0, such as 100ms\n",
        "\n  GRPC_PORT=http: write a number from 0 to 65535\n",
        "\n  PORT=tcp://10.0.0.1:80: write a number from 0 to 65535; Kubernetes set this",
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
fn the_readme_has_the_table_that_the_program_prints() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, rest) = readme
        .split_once("<!-- ratekeeper options -->\n")
        .expect("a begin of the table");
    let (table, _) = rest
        .split_once("<!-- end of options -->")
        .expect("an end of the table");
    let printed = typed(["options"], []).stdout;
    assert!(
        table == printed,
        "README.md is not what `ratekeeper options` prints: run\n  \
         target/debug/ratekeeper options | sed -i -e '/<!-- ratekeeper options/,/<!-- end of options/{{//!d}}' \
         -e '/<!-- ratekeeper options/r /dev/stdin' README.md"
    );
}

#[test]
fn a_short_flag_with_a_wrong_value_is_told_as_a_long_one() {
    for (address, says) in [
        ("https://x", "only plaintext"),
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
fn variables_of_the_server_are_nothing_to_other_commands() {
    let printed = typed(["schema"], [("SHADOW_MODE", "x"), ("LOG_LEVEL", "5")]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
}

#[test]
fn a_command_comes_to_the_same_when_nobody_reads_what_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("wrong.yaml"), "domain: [").unwrap();
    let script = r#"{ "$0" check "$1" 2>&1; echo $? > "$2"; } | true"#;
    let shell = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_ratekeeper")])
        .args([at("wrong.yaml"), at("code")])
        .status();
    assert!(shell.unwrap().success());
    assert_eq!(fs::read_to_string(at("code")).unwrap(), "1\n");
}

#[test]
fn everything_that_is_wrong_with_redis_is_told() {
    let of_redis = [
        ("REDIS_URL", "http://y"),
        ("REDIS_PERSECOND", "true"),
        ("REDIS_PERSECOND_URL", "http://x"),
        ("REDIS_TLS", "true"),
        ("REDIS_TLS_CLIENT_CERT", "/x"),
    ];
    let printed = typed(["serve"], of_redis);
    assert_eq!(printed.code, 2);
    for part in [
        "REDIS_URL:",
        "REDIS_PERSECOND_URL:",
        "needs REDIS_TLS_CLIENT_KEY",
    ] {
        assert!(printed.stderr.contains(part), "{}", printed.stderr);
    }
}

#[test]
fn what_no_server_can_have_is_refused_and_no_password_is_shown() {
    let printed = typed(
        ["serve"],
        [
            ("WORKER_THREADS", "99999999"),
            ("GRPC_HANDSHAKE_TIMEOUT", "500000000000y"),
            ("CONFIG_GRPC_XDS_SERVER_URL", "http://u:s3cret@h:1/x"),
        ],
    );
    assert_eq!(printed.code, 2);
    for part in [
        "from 1 to 1024",
        "at most 1000 years",
        "CONFIG_GRPC_XDS_SERVER_URL",
    ] {
        assert!(printed.stderr.contains(part), "{}", printed.stderr);
    }
    assert!(!printed.stderr.contains("s3cret"), "{}", printed.stderr);
    let tracing = [
        ("TRACING_ENABLED", "true"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:s3cret@bad host"),
    ];
    let printed = typed(["serve"], tracing);
    assert_eq!(printed.code, 2);
    assert!(!printed.stderr.contains("s3cret"), "{}", printed.stderr);
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
        "not from both",
        "ADDITIONAL_HEADERS",
    ] {
        assert!(printed.stderr.contains(part), "{part}: {}", printed.stderr);
    }
}

#[test]
fn hit_says_what_listens_instead_of_grpc() {
    let server = Ratekeeper::start(
        "domain: d\ndescriptors: [{key: k, rate_limit: {unit: year, requests_per_unit: 5}}]\n",
        [],
    );
    let hit = |address: &str, domain: &str| typed(["hit", "-a", address, domain, "k=v"], []);
    for http in [server.http(), server.debug()] {
        let address = http.address().to_string();
        let printed = hit(&address, "d");
        assert_eq!(printed.code, 1, "{}", printed.stdout);
        let says = format!(
            "error: cannot reach {address} over gRPC: this is an HTTP port; use the gRPC port (default 8081)"
        );
        assert_eq!(printed.stderr.trim(), says);
    }
    // Something that closes what it accepts.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let closes = std::thread::spawn(move || listener.incoming().take(20).for_each(drop));
    let printed = hit(&address, "d");
    assert_eq!(printed.code, 1, "{}", printed.stdout);
    assert!(
        printed
            .stderr
            .contains("it closes the connection; check that this is the gRPC port"),
        "{}",
        printed.stderr
    );
    drop(closes);
    // Nothing at all.
    let printed = hit(&format!("127.0.0.1:{}", free_port()), "d");
    assert!(
        printed.stderr.contains("is ratekeeper running there?"),
        "{}",
        printed.stderr
    );

    let address = server.address().to_string();
    let printed = hit(&address, "nowhere");
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    for part in [
        "no limit applies",
        "check that 'nowhere' is a domain of this server",
        "ratekeeper explain",
    ] {
        assert!(printed.stdout.contains(part), "{}", printed.stdout);
    }
    let printed = hit(&address, "d");
    assert!(
        !printed.stdout.contains("no rule was met"),
        "{}",
        printed.stdout
    );
    // What the server itself says stays as it is.
    let printed = hit(&address, "");
    assert!(printed.stderr.contains("domain"), "{}", printed.stderr);
    assert!(!printed.stderr.contains("over gRPC"), "{}", printed.stderr);
}

#[test]
fn check_warns_and_is_strict_when_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yaml");
    let path = file.to_str().unwrap();
    fs::write(
        &file,
        "domain: d\ndescriptors:\n- key: path\n  name: per path\n  value: ^/api/.*$\n  rate_limit: {unit: day, requests_per_unit: 5}\n- {key: path, value: /a*}\n- {key: path, value: /ab*, rate_limit: {unit: day, requests_per_unit: 5}}\n",
    )
    .unwrap();
    let printed = typed(["check", path], []);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    assert_eq!(printed.stdout, "ok: 1 file, 1 domain, 2 rules\n");
    for part in [
        "rules.yaml:4:3: name belongs inside rate_limit, not in a descriptor; it has no effect here",
        "looks like a regular expression",
        "no request reaches 'path_/ab*'",
    ] {
        assert!(printed.stderr.contains(part), "{part}: {}", printed.stderr);
    }
    assert!(
        printed
            .stderr
            .lines()
            .all(|line| line.starts_with("warning: ")),
        "{}",
        printed.stderr
    );
    let printed = typed(["check", "--strict", path], []);
    assert_eq!(printed.code, 1, "{}", printed.stdout);
    assert!(
        printed.stderr.contains("rules.yaml:4:3: name belongs"),
        "{}",
        printed.stderr
    );
    // The server takes it, and says so.
    let mut server = Ratekeeper::start_with(["--config", path, "--log-format", "fancy"], []);
    server.wait_until_logged("LOG_FORMAT=fancy is neither text nor json: logging text");
    server.wait_until_logged("parts of the configuration have no effect");
    server.wait_until_logged("rules.yaml:4:3: name belongs");
    assert_eq!(server.ask(ask("d", &["path=/ab"])).unwrap().overall_code, 1);
}
