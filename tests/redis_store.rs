//! A real Redis that comes, goes, forgets, asks for a password or holds what is no bucket.

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;
use tonic::Code as Failure;

use crate::support::{Ratekeeper, Redis, ask, check, eventually};

const RULES: &str = "
domain: d
descriptors:
  - {key: k, rate_limit: {unit: hour, requests_per_unit: 10, hits: prepaid}}
  - {key: asked, rate_limit: {unit: hour, requests_per_unit: 10}}
";

fn server(redis: &Redis) -> Ratekeeper {
    let environment = [
        ("REDIS_URL", redis.url()),
        ("REDIS_TIMEOUT", "10s".to_owned()),
    ];
    Ratekeeper::start(RULES, environment)
}

/// Runs a Redis command to its end.
fn run<T: redis::FromRedisValue>(redis: &Redis, words: &[&str]) -> T {
    Runtime::new().unwrap().block_on(redis.run(words))
}

#[test]
fn a_forgotten_script_is_loaded_again() {
    let redis = Redis::start();
    let server = server(&redis);
    check(&server, "before", ask("d", &["k=1"]), "OK: OK 9 of 10/hour");
    run::<()>(&redis, &["SCRIPT", "FLUSH"]);
    check(&server, "after", ask("d", &["k=1"]), "OK: OK 8 of 10/hour");
}

#[test]
fn without_redis_it_says_so_and_recovers_by_itself() {
    let redis = Redis::start();
    let port = redis.port();
    drop(redis);
    let address = format!("127.0.0.1:{port}");
    let mode = ("STORE_FAILURE_MODE", "error".to_owned());
    let server = Ratekeeper::start(RULES, [("REDIS_URL", address.clone()), mode]);
    let failure = server.ask(ask("d", &["k=1"])).unwrap_err();
    assert_eq!(failure.code(), Failure::Unavailable);
    assert!(failure.message().contains(&address), "{failure}");
    for life in 0..2 {
        let redis = Redis::start_on(port, &[]).expect("the port was free a moment ago");
        eventually("it decides again", || {
            server.ask(ask("d", &["k=1"])).is_ok()
        });
        drop(redis);
        eventually("it does not", || {
            let answer = server.ask(ask("d", &["k=2"]));
            answer.is_err_and(|failure| failure.code() == Failure::Unavailable)
        });
        assert!(!server.log().contains("panicked"), "life {life}");
    }
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn connections_that_redis_closed_meanwhile_cost_no_request() {
    let redis = Redis::start();
    let patient = ("REDIS_TIMEOUT", "10s".to_owned());
    let mode = ("STORE_FAILURE_MODE", "error".to_owned());
    let server = Ratekeeper::start(RULES, [("REDIS_URL", redis.url()), patient, mode]);
    eventually("it is connected", || server.ask(ask("d", &["k=1"])).is_ok());
    let client = redis::Client::open(format!("redis://{}", redis.url())).unwrap();
    let mut other = client.get_connection().unwrap();
    for _ in 0..20 {
        redis::cmd("CLIENT")
            .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
            .exec(&mut other)
            .unwrap();
        server.ask(ask("d", &["k=1"])).unwrap();
    }
}

#[test]
fn a_redis_that_hangs_costs_no_more_than_the_timeout_allows() {
    let redis = Redis::start();
    // With one thread, the request that is to hang has a connection already.
    let threads = ("WORKER_THREADS", "1".to_owned());
    let mode = ("STORE_FAILURE_MODE", "error".to_owned());
    let server = Ratekeeper::start(RULES, [("REDIS_URL", redis.url()), threads, mode]);
    eventually("it is connected", || server.ask(ask("d", &["k=1"])).is_ok());
    redis.pause();
    let failure = server.ask(ask("d", &["k=1"])).unwrap_err();
    assert_eq!(failure.code(), Failure::Unavailable);
    assert!(failure.message().contains("in time"), "{failure}");
    redis.resume();
    eventually("it decides again", || {
        server.ask(ask("d", &["k=1"])).is_ok()
    });
}

#[test]
fn passwords_are_used_and_never_told() {
    let redis = Redis::start_with(&["--requirepass", "hush-hush"]);
    let url = redis.url();
    for (environment, works) in [
        (
            vec![
                ("REDIS_URL", url.clone()),
                ("REDIS_AUTH", "hush-hush".to_owned()),
            ],
            true,
        ),
        (
            vec![
                ("REDIS_URL", url.clone()),
                ("REDIS_AUTH", "default:hush-hush".to_owned()),
            ],
            true,
        ),
        (
            vec![("REDIS_URL", format!("redis://:hush-hush@{url}"))],
            true,
        ),
        (
            vec![
                ("REDIS_URL", url.clone()),
                ("REDIS_AUTH", "hush-wrong".to_owned()),
            ],
            false,
        ),
        (
            vec![("REDIS_URL", format!("redis://:hush-wrong@{url}"))],
            false,
        ),
        (vec![("REDIS_URL", url.clone())], false),
    ] {
        // A wrong password is tried again until the time is over.
        let timeout = if works { "10s" } else { "100ms" };
        let more = [
            ("LOG_LEVEL", "trace".to_owned()),
            ("REDIS_TIMEOUT", timeout.to_owned()),
            ("STORE_FAILURE_MODE", "error".to_owned()),
        ];
        let server = Ratekeeper::start(RULES, environment.into_iter().chain(more));
        let answer = server.ask(ask("d", &["k=1"]));
        assert_eq!(answer.is_ok(), works, "{answer:?}");
        server.signal("TERM");
        let (_, log) = server.ended();
        assert!(!log.contains("hush"), "{log}");
        assert!(!format!("{answer:?}").contains("hush"), "{answer:?}");
    }
}

#[test]
fn a_unix_socket_serves_as_well() {
    let redis = Redis::start();
    let path = redis.socket().display().to_string();
    for environment in [
        vec![("REDIS_URL", path.clone())],
        vec![("REDIS_URL", format!("unix://{path}"))],
        vec![
            ("REDIS_URL", path.clone()),
            ("REDIS_SOCKET_TYPE", "unix".to_owned()),
        ],
    ] {
        let timeout = [("REDIS_TIMEOUT", "10s".to_owned())];
        let server = Ratekeeper::start(RULES, environment.into_iter().chain(timeout));
        assert!(server.ask(ask("d", &["k=1"])).is_ok());
    }
}

#[test]
fn what_is_no_bucket_counts_as_none() {
    let redis = Redis::start();
    let server = server(&redis);
    for (row, words) in [
        ("a list", &["RPUSH", "rk:d|k=1", "a"][..]),
        ("a short text", &["SET", "rk:d|k=1", "garbage"]),
        (
            "a text as long as a bucket",
            &["SET", "rk:d|k=1", &"z".repeat(40)],
        ),
        ("zeros", &["SET", "rk:d|k=1", &"\0".repeat(40)]),
    ] {
        run::<()>(&redis, &["DEL", "rk:d|k=1"]);
        run::<()>(&redis, words);
        check(&server, row, ask("d", &["k=1"]), "OK: OK 9 of 10/hour");
        check(&server, row, ask("d", &["k=1"]), "OK: OK 8 of 10/hour");
    }
}

/// How often Redis has run each command.
async fn commands(connection: &mut MultiplexedConnection) -> BTreeMap<String, u64> {
    let info: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(connection)
        .await
        .unwrap();
    info.lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="))
        .map(|(name, rest)| {
            (
                name.to_owned(),
                rest.split(',').next().unwrap().parse().unwrap(),
            )
        })
        .collect()
}

#[test]
fn denials_and_questions_write_nothing() {
    let redis = Redis::start();
    let server = server(&redis);
    check(
        &server,
        "all",
        ask("d", &["k=1 x10"]),
        "OK: OK 0 of 10/hour",
    );
    let runtime = Runtime::new().unwrap();
    let mut connection = runtime.block_on(redis.connect());
    let before = runtime.block_on(commands(&mut connection));
    for _ in 0..10 {
        assert!(server.ask(ask("d", &["k=1"])).is_ok());
        assert!(server.ask(ask("d", &["k=1", "k=2"])).is_ok());
        assert!(server.ask(ask("d", &["asked=3 x0"])).is_ok());
        assert!(server.ask(ask("d", &["k=4 x-5"])).is_ok());
    }
    let after = runtime.block_on(commands(&mut connection));
    for write in ["set", "setrange", "del", "pexpireat"] {
        assert_eq!(before.get(write), after.get(write), "{write}");
    }
    assert!(before["mget"] < after["mget"], "the store was asked");
    let keys: Vec<String> = run(&redis, &["KEYS", "rk:d|*"]);
    assert_eq!(keys, ["rk:d|k=1"]);
}

#[test]
fn every_key_expires_soon_after_its_bucket_is_full() {
    let redis = Redis::start();
    let server = server(&redis);
    for hits in 1..=10 {
        let row = format!("k={hits} x{hits}");
        assert!(server.ask(ask("d", &[&row])).is_ok());
        let ttl: i64 = run(&redis, &["PTTL", &format!("rk:d|k={hits}")]);
        let full = hits * 360_000;
        // Expiry is on a grid of 16.8 s and at most two cells late.
        assert!(
            (full - 60_000..=full + 33_600).contains(&ttl),
            "{hits} hits: {ttl} ms"
        );
    }
}
