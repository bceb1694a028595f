//! What goes wrong between a server and its management server: the active configuration stays, the log says
//! once what is wrong, nothing goes round and round, and all is well again afterwards.

mod silence;
mod tls;

use std::time::{Duration, Instant};

use prost_types::Any;
use ratekeeper::source::xds::TYPE_URL;
use ratekeeper::source::xds::pb::{
    DiscoveryResponse, RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
};
use tonic::Status;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::{Management, Ratekeeper, ask, check, free_port, resource};

/// Waits so short that a test can see many.
const RETRIES: [(&str, &str); 4] = [
    ("CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL", "20ms"),
    ("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", "20ms"),
    ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "100ms"),
    ("XDS_CLIENT_BACKOFF_JITTER", "false"),
];

/// A server that asks a management server at this address, and soon again.
fn start<'a>(
    address: &str,
    environment: impl IntoIterator<Item = (&'a str, String)>,
) -> Ratekeeper {
    let given = [
        ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
        ("CONFIG_GRPC_XDS_SERVER_URL", address),
    ];
    let given = given.into_iter().chain(RETRIES);
    let given = given.map(|(name, value)| (name, value.to_owned()));
    // What the test gives wins.
    Ratekeeper::start_with(Vec::<&str>::new(), given.chain(environment))
}

fn asking(management: &Management) -> Ratekeeper {
    start(&management.address().to_string(), [])
}

/// A domain with one rule.
fn config(domain: &str, requests_per_unit: u32) -> RateLimitConfig {
    RateLimitConfig {
        name: domain.to_owned(),
        domain: domain.to_owned(),
        descriptors: vec![RateLimitDescriptor {
            key: "key".to_owned(),
            rate_limit: Some(RateLimitPolicy {
                unit: RateLimitUnit::Year.into(),
                requests_per_unit,
                ..RateLimitPolicy::default()
            }),
            ..RateLimitDescriptor::default()
        }],
    }
}

fn key(server: &Ratekeeper, row: &str, expected: &str) {
    check(server, row, ask("d", &["key=a"]), expected);
}

/// How often a line of the log has this text, after the server was stopped.
fn logged(server: Ratekeeper, text: &str) -> (usize, String) {
    server.signal("TERM");
    let (status, log) = server.ended();
    assert!(status.success(), "{log}");
    (log.lines().filter(|line| line.contains(text)).count(), log)
}

#[test]
fn rules_outlive_the_management_server() {
    let management = Management::start();
    let port = management.address().port();
    let mut server = asking(&management);
    let session = management.session();
    session.request();
    session.accepted("7", &[config("d", 50)]);
    key(&server, "before", "OK: OK 49 of 50/year");
    drop((session, management));
    server.wait_for_log("management server unavailable, keeping the active configuration");
    server.wait_for_log("nothing listens at the management server's address");
    key(&server, "away", "OK: OK 48 of 50/year");
    assert_eq!(server.health(""), ServingStatus::Serving);

    // It comes back and counts from 1. The version of before would mean something else to it.
    let management = Management::start_on(port, None);
    let session = management.session();
    let first = session.request();
    assert_eq!(
        (first.version_info.as_str(), first.response_nonce.as_str()),
        ("", "")
    );
    session.accepted("1", &[config("d", 50)]);
    server.wait_for_log("available again");
    key(&server, "back", "OK: OK 47 of 50/year");
    session.accepted("2", &[config("d", 60)]);
    key(&server, "changed", "OK: OK 56 of 60/year");
    let (loads, log) = logged(server, "configuration loaded domains=1");
    assert_eq!(
        loads, 2,
        "the same configuration is not loaded again: {log}"
    );
}

#[test]
fn each_trouble_is_told_once() {
    let port = free_port();
    let mut server = start(&format!("127.0.0.1:{port}"), []);
    server.wait_for_log("nothing listens at the management server's address");
    let management = Management::start_on(port, None);
    // Refused by the server itself, several times; then another trouble; then the first again.
    for _ in 0..5 {
        let session = management.session();
        session.respond(Err(Status::permission_denied("not you")));
    }
    server.wait_for_log("rejects this client (not you); check CONFIG_GRPC_XDS_CLIENT_TLS_CERT");
    let session = management.session();
    session.respond(Err(Status::internal("on fire")));
    server.wait_for_log(&format!(
        "management server unavailable, no configuration is active \
         error=the management server 127.0.0.1:{port} ended the stream (Internal: on fire)"
    ));
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 50)]);
    // It has never answered before.
    server.wait_for_log(&format!(
        "management server available server=\"127.0.0.1:{port}\""
    ));
    key(&server, "at last", "OK: OK 49 of 50/year");
    let (told, log) = logged(server, "rejects this client");
    assert!(!log.contains("available again"), "{log}");
    assert_eq!(told, 1, "{log}");
    assert_eq!(log.matches("nothing listens").count(), 1, "{log}");
}

#[test]
fn a_stream_that_closes_at_once_is_not_opened_in_a_hot_loop() {
    let management = Management::start();
    let server = asking(&management);
    // Between them are waits of 20, 20, 40, 80 and 100 ms, and of 100 ms from then on.
    let attempts = 10;
    let first = management.session().opened;
    for _ in 1..attempts {
        drop(management.session());
    }
    let took = management.session().opened - first;
    let least = Duration::from_millis(20 + 20 + 40 + 80 + 100 * (attempts - 4));
    assert!(took >= least, "{took:?}");
    let (told, log) = logged(server, "closed the stream");
    assert_eq!(told, 1, "{log}");
}

#[test]
fn a_stream_that_answers_and_closes_is_opened_ever_more_seldom_and_told_of_once() {
    let management = Management::start();
    let longest = ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "60s".to_owned());
    let server = start(&management.address().to_string(), [longest]);
    // Between them are waits of 20, 20, 40, 80, 160, 320 and 640 ms.
    let mut opened = Vec::new();
    for version in 1..=8 {
        let session = management.session();
        session.request();
        session.accepted(&version.to_string(), &[config("d", 50)]);
        opened.push(session.opened);
    }
    let took = opened[7] - opened[0];
    assert!(took >= Duration::from_millis(1_280), "{took:?}");
    key(&server, "meanwhile", "OK: OK 49 of 50/year");
    let (told, log) = logged(server, "closed the stream");
    assert_eq!(told, 1, "{log}");
    assert_eq!(log.matches("available again").count(), 1, "{log}");
}

#[test]
fn however_much_is_wrong_little_is_told() {
    let management = Management::start();
    let mut server = asking(&management);
    let session = management.session();
    session.request();
    let mut wrong = config("", 1);
    let keyless = RateLimitDescriptor {
        value: "value".to_owned(),
        ..RateLimitDescriptor::default()
    };
    wrong.descriptors = vec![keyless; 100_000];
    session.send("1", &[wrong]);
    let reason = session.refused("1", "");
    assert_eq!(reason.lines().count(), 101, "{reason}");
    assert!(reason.len() < 300_000, "{}", reason.len());
    assert!(reason.ends_with("\n... and at least 900 more"), "{reason}");
    // Two names that are alike as far as they are told.
    let long = format!("\u{1b}[2J{}", "x".repeat(200_000));
    let named = |end: &str| RateLimitConfig {
        name: format!("{long}{end}"),
        ..config("", 1)
    };
    session.send(&long, &[named("a"), named("b")]);
    let reason = session.refused(&long, "");
    assert_eq!(reason.lines().count(), 2, "{reason}");
    assert!(reason.len() < 2_000, "{}", reason.len());
    server.wait_for_log("... and at least 900 more");
    let (_, log) = logged(server, "");
    assert!(log.len() < 300_000, "{}", log.len());
    assert!(
        log.contains("[2Jxxx") && !log.contains("\u{1b}[2J"),
        "{log}"
    );
}

#[test]
fn a_refusal_that_is_answered_with_the_same_does_not_go_round_and_round() {
    let management = Management::start();
    let server = asking(&management);
    let session = management.session();
    session.request();
    let wrong = config("", 1);
    session.send("1", std::slice::from_ref(&wrong));
    let first = session.refused("1", "");
    let start = Instant::now();
    for version in 2..7 {
        // As go-control-plane does, at once.
        let version = version.to_string();
        session.send(&version, std::slice::from_ref(&wrong));
        assert_eq!(session.refused(&version, ""), first);
    }
    assert!(
        start.elapsed() >= Duration::from_millis(5 * 20),
        "{:?}",
        start.elapsed()
    );
    session.accepted("7", &[config("d", 50)]);
    key(&server, "at last", "OK: OK 49 of 50/year");
    let (told, log) = logged(server, "cannot have empty domain");
    assert_eq!(told, 1, "{log}");
}

#[test]
fn a_server_that_reads_no_answers_does_not_stop_us() {
    let management = Management::start();
    let mut server = asking(&management);
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 50)]);
    session.stop_reading();
    // The refusal of each is long, so that what the connection holds is soon full.
    for i in 0..250 {
        let mut wrong = config(&format!("d{i}"), 50);
        let rule = RateLimitDescriptor {
            key: String::new(),
            value: "x".repeat(70),
            ..RateLimitDescriptor::default()
        };
        wrong.descriptors.resize(110, rule);
        session.send("2", &[wrong]);
    }
    server.wait_for_log("does not read the answers to what it sends");
    assert!(server.log().contains("keeping the active configuration"));
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 60)]);
    key(&server, "again", "OK: OK 59 of 60/year");
}

#[test]
fn what_is_no_configuration_is_refused() {
    let management = Management::start();
    let server = asking(&management);
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 50)]);

    let broken = Any {
        type_url: TYPE_URL.to_owned(),
        value: vec![0x0a, 0xff],
    };
    let other = Any {
        type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(),
        value: Vec::new(),
    };
    session.send_any(
        "2",
        vec![
            resource(&config("d", 60)),
            broken,
            other,
            resource(&config("", 1)),
        ],
    );
    let reason = session.refused("2", "1");
    for expected in [
        "resource #2 cannot be decoded: ",
        "resource #3 is of type \"type.googleapis.com/envoy.config.cluster.v3.Cluster\", not \
         type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig",
        "cannot have empty domain",
    ] {
        assert!(reason.contains(expected), "{reason}");
    }
    key(&server, "2", "OK: OK 49 of 50/year");

    // Deeper than rules may be nested, and deeper than protobuf may be.
    for (depth, expected) in [
        (90, "descriptors are nested deeper than 64 levels"),
        (1_000, "resource #1 is nested too deep; nest"),
    ] {
        session.send("2", &[nested(depth)]);
        let reason = session.refused("2", "1");
        assert!(reason.contains(expected), "{reason}");
        assert!(reason.len() < 1_000, "{reason}");
    }

    session.respond(Ok(DiscoveryResponse {
        version_info: "3".to_owned(),
        type_url: "type.googleapis.com/envoy.config.listener.v3.Listener".to_owned(),
        nonce: "n3".to_owned(),
        resources: Vec::new(),
    }));
    let reason = session.refused("3", "1");
    assert!(reason.contains("Listener\", but only"), "{reason}");
    key(&server, "3", "OK: OK 48 of 50/year");
    session.accepted("4", &[config("d", 60)]);
    key(&server, "4", "OK: OK 57 of 60/year");
}

/// So many descriptors, each in the one before.
fn nested(depth: usize) -> RateLimitConfig {
    let mut config = config("d", 50);
    for _ in 0..depth {
        config.descriptors = vec![RateLimitDescriptor {
            key: "key".to_owned(),
            descriptors: config.descriptors,
            ..RateLimitDescriptor::default()
        }];
    }
    config
}

/// Five mebibytes in one message: above what gRPC reads by default.
fn huge() -> RateLimitConfig {
    let mut config = config("d", 50);
    for i in 0..5_000 {
        config.descriptors.push(RateLimitDescriptor {
            key: format!("{i:0>1024}"),
            ..RateLimitDescriptor::default()
        });
    }
    config
}

#[test]
fn a_message_that_is_too_large_says_what_to_raise() {
    let management = Management::start();
    let mut server = asking(&management);
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 40)]);
    session.send("2", &[huge()]);
    server.wait_for_log("; raise XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES");
    assert!(server.log().contains("keeping the active configuration"));
    key(&server, "too large", "OK: OK 39 of 40/year");
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 30)]);

    let raised = ("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", "8000000".to_owned());
    let server = start(&management.address().to_string(), [raised]);
    let session = management.session();
    session.request();
    session.accepted("2", &[huge()]);
    key(&server, "raised", "OK: OK 49 of 50/year");
}

#[test]
fn names_and_services_that_are_not_there() {
    let mut server = start("no-such-host.invalid:18000", []);
    server.wait_for_log(
        "the name of the management server no-such-host.invalid:18000 cannot be resolved",
    );
    // A gRPC server, but not a management server: this one.
    let management = Management::start();
    let another = asking(&management);
    let mut server = start(&another.address().to_string(), []);
    server.wait_for_log("is no management server: it does not serve AggregatedDiscoveryService");
}
