//! Options of Redis.

use super::refused;
use crate::support::{Ratekeeper, Redis, ask, typed};

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
            &["only database 0"],
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
            &["needs REDIS_URL, which stores"],
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
            &["only database 0"],
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
