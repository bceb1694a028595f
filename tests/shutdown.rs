//! How the server stops: it turns its health, answers what it was asked, and ends with exit code 0.

use std::net::TcpStream;

use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use crate::support::{Ratekeeper, Redis, ask, eventually};

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
            log.contains("every request was answered"),
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
    server.wait_for_log("stopping");
    redis.resume();
    let response = runtime.block_on(call).unwrap().unwrap().into_inner();
    assert_eq!(response.statuses[0].limit_remaining, 9);
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("every request was answered"), "{log}");
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
    assert!(log.contains("every request was answered"), "{log}");
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
        server.wait_for_log("stopping");
        server.signal("INT");
        let (status, log) = server.ended();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("second signal"), "{log}");
    });
}
