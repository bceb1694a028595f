//! How the server stops: it turns its health, answers what it was asked, and ends with exit code 0.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use serde_json::json;

use crate::support::{Envoy, Plan, Ratekeeper, Redis, Route, ask, eventually};

const RULES: &str = "
domain: d
descriptors: [{key: k, rate_limit: {unit: year, requests_per_unit: 10}}]
";

fn none() -> [(&'static str, String); 0] {
    []
}

async fn channel(server: &Ratekeeper) -> Channel {
    let address = format!("http://{}", server.address());
    Endpoint::from_shared(address)
        .unwrap()
        .connect()
        .await
        .unwrap()
}

#[test]
fn both_signals_end_it_with_exit_code_0() {
    for signal in ["TERM", "INT"] {
        let server = Ratekeeper::start(RULES, none());
        let address = server.address();
        server.ask(ask("d", &["k=1"])).unwrap();
        server.signal(signal);
        let (status, log) = server.ended();
        assert_eq!(status.code(), Some(0), "{signal}: {log}");
        assert!(
            log.contains("all requests were answered"),
            "{signal}: {log}"
        );
        assert!(TcpStream::connect(address).is_err(), "{signal}");
    }
}

#[test]
fn what_is_in_flight_is_answered() {
    let redis = Redis::start();
    let environment = [
        ("REDIS_URL", redis.url()),
        ("REDIS_TIMEOUT", "60s".to_owned()),
    ];
    let mut server = Ratekeeper::start(RULES, environment);
    let runtime = Runtime::new().unwrap();
    let mut client = runtime.block_on(server.client());
    let warm = runtime.block_on(client.should_rate_limit(ask("d", &["k=warm"])));
    assert!(warm.is_ok(), "{warm:?}");
    redis.pause();
    let call = runtime.spawn(async move { client.should_rate_limit(ask("d", &["k=1"])).await });
    eventually("Redis has been asked", || redis.has_unread());
    server.signal("TERM");
    server.wait_for_log("shutting down");
    redis.resume();
    let response = runtime.block_on(call).unwrap().unwrap().into_inner();
    assert_eq!(response.statuses[0].limit_remaining, 9);
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("all requests were answered"), "{log}");
}

#[test]
fn whoever_watches_health_hears_of_it_and_does_not_hold_it_up() {
    let server = Ratekeeper::start(RULES, none());
    Runtime::new().unwrap().block_on(async {
        let mut client = HealthClient::new(channel(&server).await);
        let request = HealthCheckRequest {
            service: "ratelimit".to_owned(),
        };
        let mut watch = client.watch(request).await.unwrap().into_inner();
        let first = watch.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving);
        server.signal("TERM");
        let second = watch.message().await.unwrap().unwrap();
        assert_eq!(second.status(), ServingStatus::NotServing);
        // It ends, one way or another.
        while let Ok(Some(_)) = watch.message().await {}
    });
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("all requests were answered"), "{log}");
}

/// Starts a server and holds a stream open that only its caller would end.
fn with_open_stream(grace: &str, test: impl FnOnce(Ratekeeper)) {
    let server = Ratekeeper::start(RULES, [("SHUTDOWN_GRACE_PERIOD", grace.to_owned())]);
    let runtime = Runtime::new().unwrap();
    let stream = runtime.block_on(async {
        let mut client = ServerReflectionClient::new(channel(&server).await);
        let (sender, requests) = tokio::sync::mpsc::channel::<ServerReflectionRequest>(1);
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        (
            client.server_reflection_info(requests).await.unwrap(),
            sender,
        )
    });
    test(server);
    drop(stream);
}

#[test]
fn the_grace_period_ends_it() {
    with_open_stream("100ms", |server| {
        server.signal("TERM");
        let (status, log) = server.ended();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("end of the grace period"), "{log}");
    });
}

#[test]
fn a_second_signal_ends_it_at_once() {
    with_open_stream("10h", |mut server| {
        server.signal("TERM");
        server.wait_for_log("shutting down");
        server.signal("INT");
        let (status, log) = server.ended();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("second signal"), "{log}");
    });
}

#[test]
fn during_the_delay_it_serves_everything_and_says_that_it_will_not() {
    let mut server = Ratekeeper::start(RULES, [("SHUTDOWN_DELAY", "10h".to_owned())]);
    server.ask(ask("d", &["k=1"])).unwrap();
    assert_eq!(server.http().get("/healthcheck").status, 200);
    server.signal("TERM");
    server.wait_for_log("until the shutdown delay ends");
    for service in ["", "ratelimit"] {
        assert_eq!(server.health(service), ServingStatus::NotServing);
    }
    assert_eq!(server.http().get("/healthcheck").status, 500);
    // Each call is a connection of its own: new ones are accepted, too.
    for left in [8, 7] {
        let answer = server.ask(ask("d", &["k=1"])).unwrap();
        assert_eq!(answer.statuses[0].limit_remaining, left);
    }
    assert!(
        server
            .debug()
            .get("/stats")
            .body
            .contains("server.healthy: 0")
    );
    server.signal("TERM");
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("second signal"), "{log}");
}

#[test]
fn after_the_delay_it_ends() {
    let server = Ratekeeper::start(RULES, [("SHUTDOWN_DELAY", "50ms".to_owned())]);
    server.ask(ask("d", &["k=1"])).unwrap();
    server.signal("TERM");
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("all requests were answered"), "{log}");
}

/// Two servers behind an Envoy that checks their health by gRPC.
fn behind_envoy(servers: [&Ratekeeper; 2]) -> Envoy {
    let endpoints = servers.map(|server| {
        let address = server.address();
        json!({"endpoint": {"address": {"socket_address": {
            "address": address.ip().to_string(), "port_value": address.port(),
        }}}})
    });
    let plan = Plan {
        routes: vec![Route::new(
            "/",
            json!([{"actions": [{"request_headers": {"header_name": "x-client", "descriptor_key": "k"}}]}]),
        )],
        // What is not decided is denied, so that it shows.
        filter: json!({"domain": "d", "failure_mode_deny": true, "timeout": "30s"}),
        cluster: json!({
            "load_assignment": {
                "cluster_name": "ratekeeper", "endpoints": [{"lb_endpoints": endpoints}],
            },
            "health_checks": [{
                "timeout": "10s", "interval": "0.1s", "no_traffic_interval": "0.1s",
                "unhealthy_threshold": 1, "healthy_threshold": 1,
                "grpc_health_check": {"service_name": "ratelimit"},
            }],
        }),
        ..Plan::default()
    };
    Envoy::start(servers[0].address(), &plan)
}

#[test]
fn restarts_behind_an_envoy_that_checks_health_fail_no_request() {
    let rules = RULES.replace("requests_per_unit: 10", "requests_per_unit: 4000000000");
    let start = |port: u16| {
        let delay = ("SHUTDOWN_DELAY", "5s".to_owned());
        Ratekeeper::start(&rules, [delay, ("GRPC_PORT", port.to_string())])
    };
    let (one, two) = (start(0), start(0));
    let envoy = behind_envoy([&one, &two]);
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = || {
        let mut failed = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let reply = envoy.get("/", &[("x-client", "x")]);
            answered.fetch_add(1, Ordering::Relaxed);
            if reply.status != 200 {
                failed.push(reply.status);
            }
        }
        failed
    };
    let asked = |server: &Ratekeeper| -> u64 {
        let stats = server.debug().get("/metrics").body;
        let series = "ratelimit_service_total_requests{grpc_method=\"ShouldRateLimit\"} ";
        let value = stats.lines().find_map(|line| line.strip_prefix(series));
        value.unwrap().parse().unwrap()
    };
    thread::scope(|scope| {
        let load: Vec<_> = (0..4).map(|_| scope.spawn(load)).collect();
        let mut servers = vec![one, two];
        for _ in 0..2 {
            for server in &servers {
                let before = asked(server);
                eventually("Envoy asks it", || asked(server) > before);
            }
            let old = servers.remove(0);
            let port = old.address().port();
            old.signal("TERM");
            let (status, log) = old.ended();
            assert_eq!(status.code(), Some(0), "{log}");
            servers.push(start(port));
        }
        for server in &servers {
            eventually("Envoy asks it again", || asked(server) > 0);
        }
        stop.store(true, Ordering::Relaxed);
        let failed: Vec<u16> = load.into_iter().flat_map(|l| l.join().unwrap()).collect();
        let all = answered.load(Ordering::Relaxed);
        assert!(
            failed.is_empty(),
            "{} of {all} failed: {failed:?}",
            failed.len()
        );
    });
}
