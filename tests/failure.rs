//! What is answered while Redis does not decide, and what is told of it. How Redis fails is in `faults.rs`.

use std::time::{Duration, Instant};

use prost::Message as _;
use ratekeeper::service::pb::rate_limit_response::Code;
use tonic::{Code as Failure, Request};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::{
    Ratekeeper, Redis, TIMEOUT, ask, check, eventually, free_port, json_of, raw_call, typed,
};

const RULES: &str = "
domain: d
descriptors:
  - {key: k, rate_limit: {unit: hour, requests_per_unit: 10}}
  - {key: local, on_store_failure: local, rate_limit: {unit: hour, requests_per_unit: 10}}
  - {key: allow, on_store_failure: allow, rate_limit: {unit: hour, requests_per_unit: 1}}
  - {key: deny, on_store_failure: deny, rate_limit: {unit: hour, requests_per_unit: 10}}
  - {key: error, on_store_failure: error, rate_limit: {unit: hour, requests_per_unit: 10}}
";

/// A server whose Redis is not there, and where that would be.
fn without_redis(environment: &[(&'static str, &str)]) -> (Ratekeeper, u16) {
    let port = free_port();
    let own = environment
        .iter()
        .map(|&(name, value)| (name, value.to_owned()));
    let url = ("REDIS_URL", format!("127.0.0.1:{port}"));
    let mut server = Ratekeeper::start(RULES, own.chain([url]));
    server.wait_for_log("redis unavailable");
    (server, port)
}

#[test]
fn each_mode_does_what_it_says() {
    for (mode, expected) in [
        ("local", "OK: OK 9 of 10/hour"),
        ("allow", "OK: OK 9 of 10/hour"),
        ("deny", "OVER: OVER 0 of 10/hour"),
    ] {
        let (server, _) = without_redis(&[("STORE_FAILURE_MODE", mode)]);
        check(&server, mode, ask("d", &["k=1"]), expected);
    }
    let (server, port) = without_redis(&[("STORE_FAILURE_MODE", "error")]);
    let failure = server.ask(ask("d", &["k=1"])).unwrap_err();
    assert_eq!(failure.code(), Failure::Unavailable);
    assert!(
        failure.message().contains(&format!("127.0.0.1:{port}")),
        "{failure}"
    );
}

#[test]
fn a_rule_may_say_otherwise() {
    let (server, _) = without_redis(&[
        ("STORE_FAILURE_MODE", "deny"),
        ("LOCAL_FALLBACK_SHARE", "0.5"),
    ]);
    for (descriptors, expected) in [
        (&["local=1"][..], "OK: OK 4 of 10/hour"),
        (&["allow=1"], "OK: OK 0 of 1/hour"),
        (&["allow=1"], "OK: OK 0 of 1/hour"),
        (
            &["allow=1", "local=1"],
            "OK: OK 0 of 1/hour | OK 3 of 10/hour",
        ),
        (
            &["deny=1", "local=1"],
            "OVER: OVER 0 of 10/hour | OK 3 of 10/hour",
        ),
        (&["k=1"], "OVER: OVER 0 of 10/hour"),
    ] {
        check(&server, "by policy", ask("d", descriptors), expected);
    }
    let failure = server.ask(ask("d", &["local=1", "error=1"])).unwrap_err();
    assert_eq!(failure.code(), Failure::Unavailable);
}

#[test]
fn metadata_tells_who_decided() {
    let metadata = ("RESPONSE_DYNAMIC_METADATA", "true");
    let (server, port) = without_redis(&[metadata]);
    let told = || {
        let answer = server.ask(ask("d", &["k=1"])).unwrap();
        json_of(&answer.dynamic_metadata.unwrap())["onStoreFailure"].clone()
    };
    assert_eq!(told(), "local");
    let redis = Redis::start_on(port, &[]).expect("the port was free a moment ago");
    eventually("Redis decides", || told().is_null());
    drop(redis);
}

#[test]
fn health_is_good_while_the_policy_can_decide() {
    for mode in ["local", "error"] {
        let (server, _) = without_redis(&[("STORE_FAILURE_MODE", mode)]);
        assert_eq!(server.health(""), ServingStatus::Serving, "{mode}");
    }
    let follow = ("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "true");
    let (server, port) = without_redis(&[follow]);
    assert_eq!(server.health("ratelimit"), ServingStatus::NotServing);
    assert!(
        server.ask(ask("d", &["k=1"])).is_ok(),
        "it decides all the same"
    );
    let redis = Redis::start_on(port, &[]).expect("the port was free a moment ago");
    let is = |status| move |server: &Ratekeeper| server.health("ratelimit") == status;
    eventually("it is healthy", || is(ServingStatus::Serving)(&server));
    // Nobody asks meanwhile.
    drop(redis);
    eventually("it is not", || is(ServingStatus::NotServing)(&server));
}

#[test]
fn changes_are_told_once_each() {
    let (mut server, port) = without_redis(&[]);
    for _ in 0..50 {
        server.ask(ask("d", &["k=1"])).unwrap();
    }
    let redis = Redis::start_on(port, &[]).expect("the port was free a moment ago");
    server.wait_for_log("redis available again");
    server.ask(ask("d", &["k=1"])).unwrap();
    server.signal("TERM");
    let (_, log) = server.ended();
    assert_eq!(log.matches("redis unavailable").count(), 1, "{log}");
    assert_eq!(log.matches("redis available again").count(), 1, "{log}");
    drop(redis);
}

/// The caller's own deadline counts where it is sooner: it has its answer by then, and not an error.
#[test]
fn a_caller_has_its_answer_within_its_own_time() {
    let redis = Redis::start();
    let patient = ("REDIS_TIMEOUT", "300s".to_owned());
    let server = Ratekeeper::start(RULES, [("REDIS_URL", redis.url()), patient]);
    server.ask(ask("d", &["k=1"])).unwrap();
    redis.pause();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let begin = Instant::now();
    let answer = runtime.block_on(async {
        let mut request = Request::new(ask("d", &["k=1"]));
        request.set_timeout(TIMEOUT / 12);
        server.client().await.should_rate_limit(request).await
    });
    assert!(answer.is_ok(), "{answer:?}");
    assert!(
        begin.elapsed() >= TIMEOUT / 15 - Duration::from_millis(50),
        "Redis had its time"
    );
    redis.resume();
}

/// A timeout that no store can hold would let a caller choose the failure policy, here `allow`.
#[test]
fn a_caller_cannot_choose_the_policy_by_its_timeout() {
    let redis = Redis::start();
    let environment = [
        ("REDIS_URL", redis.url()),
        ("REDIS_TIMEOUT", "30s".to_owned()),
        ("REDIS_MIN_TIMEOUT", "30s".to_owned()),
        ("STORE_FAILURE_MODE", "allow".to_owned()),
    ];
    let server = Ratekeeper::start(RULES, environment);
    server.ask(ask("d", &["k=1 x10"])).unwrap();
    let message = ask("d", &["k=1"]).encode_to_vec();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let json = r#"{"domain": "d", "descriptors": [{"entries": [{"key": "k", "value": "1"}]}]}"#;
    for timeout in ["1n", "0n", "1u", "0H"] {
        let headers = [("grpc-timeout", timeout)];
        let answer = runtime.block_on(raw_call(server.address(), &headers, &message));
        assert_eq!(answer.unwrap().overall_code(), Code::OverLimit, "{timeout}");
        let page = server.http().send_with("POST", "/json", &headers, json);
        assert_eq!(page.status, 429, "{timeout}: {page:?}");
    }
}

/// A batch of many requests may hold one whose key somebody else has written to.
#[test]
fn another_type_at_a_key_spoils_no_batch() {
    let redis = Redis::start();
    let patient = ("REDIS_TIMEOUT", "30s".to_owned());
    let mode = ("STORE_FAILURE_MODE", "error".to_owned());
    let server = Ratekeeper::start(RULES, [("REDIS_URL", redis.url()), patient, mode]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for round in 0..20 {
        runtime.block_on(async {
            redis.run::<()>(&["DEL", "rk:d|k=1"]).await;
            redis.run::<()>(&["RPUSH", "rk:d|k=1", "a"]).await;
            let client = server.client().await;
            let mut calls = tokio::task::JoinSet::new();
            for i in 0..20 {
                let mut client = client.clone();
                let request = ask(
                    "d",
                    &[&format!(
                        "k={}",
                        if i % 2 == 0 { 1 } else { 1_000 * round + i }
                    )],
                );
                calls.spawn(async move { client.should_rate_limit(request).await });
            }
            for answer in calls.join_all().await {
                answer.unwrap();
            }
        });
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (variable, value, part) in [
        (
            "STORE_FAILURE_MODE",
            "open",
            "write local or allow or deny or error",
        ),
        ("LOCAL_FALLBACK_SHARE", "0", "above 0 and up to 1"),
        ("LOCAL_FALLBACK_SHARE", "1.5", "above 0 and up to 1"),
        ("LOCAL_FALLBACK_SHARE", "50%", "above 0 and up to 1"),
        (
            "REDIS_HEALTH_CHECK_ACTIVE_CONNECTION",
            "perhaps",
            "write true or false",
        ),
    ] {
        let printed = typed(["serve"], [(variable, value)]);
        assert_eq!(printed.code, 2, "{variable}={value}");
        assert!(printed.stderr.contains(part), "{}", printed.stderr);
    }
}

/// What it still answers to those who take nothing speaks for nothing.
#[test]
fn a_replica_that_answers_questions_opens_the_breaker() {
    let redis = Redis::start();
    let mut server = Ratekeeper::start(RULES, [("REDIS_URL", redis.url())]);
    server.ask(ask("d", &["k=1"])).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(redis.run::<()>(&["REPLICAOF", "127.0.0.1", "1"]));
    for _ in 0..20 {
        server.ask(ask("d", &["k=1 x0"])).unwrap();
        server.ask(ask("d", &["k=2"])).unwrap();
    }
    server.wait_for_log("redis unavailable");
    runtime.block_on(redis.run::<()>(&["REPLICAOF", "NO", "ONE"]));
    server.wait_for_log("redis available again");
}
