//! Options that make no sense: one sentence that names the option and what to write, and exit code 2.

use crate::support::{Ratekeeper, Redis, ask, typed};

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
        ("LOG_LEVEL", "loud", "LOG_LEVEL"),
        ("MAX_DESCRIPTORS", "-1", "a whole number from 1"),
        ("MAX_DESCRIPTOR_ENTRIES", "0", "a whole number from 1"),
        ("WORKER_THREADS", "0", "WORKER_THREADS"),
        ("REDIS_TIMEOUT", "-1s", "a time such as"),
        ("LIMIT_LIMIT_HEADER", "x\r\ny: z", "the name of a header"),
        ("GRPC_SERVER_USE_TLS", "true", "plaintext"),
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
    ];
    let environment = environment.map(|(name, value)| (name, value.to_owned()));
    let server = Ratekeeper::start("domain: d", environment);
    server.signal("TERM");
    let (_, log) = server.ended();
    for name in ["REDIS_PIPELINE_WINDOW", "REDIS_STARTUP_MAX_INTERVAL"] {
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
