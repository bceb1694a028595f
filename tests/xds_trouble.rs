//! What goes wrong between a server and its management server: the rules in force stay, the log says
//! once what is wrong, nothing goes round and round, and all is well again afterwards.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use prost_types::Any;
use ratekeeper::source::xds::TYPE_URL;
use ratekeeper::source::xds::pb::{
    DiscoveryResponse, RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
};
use tempfile::TempDir;
use tonic::Status;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::{
    Authority, Certified, Form, Management, Pair, Ratekeeper, ask, check, free_port, mutual,
    resource, typed,
};

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
    server.wait_for_log("; the rules in force stay");
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
    server.wait_for_log("answers again");
    key(&server, "back", "OK: OK 47 of 50/year");
    session.accepted("2", &[config("d", 60)]);
    key(&server, "changed", "OK: OK 56 of 60/year");
    let (loads, log) = logged(server, "rules in force domains=1");
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
    server.wait_for_log("refuses this client (not you); check CONFIG_GRPC_XDS_CLIENT_TLS_CERT");
    let session = management.session();
    session.respond(Err(Status::internal("on fire")));
    server.wait_for_log("ended the stream (Internal: on fire); no rules are in force yet");
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 50)]);
    // It has never answered before.
    server.wait_for_log(&format!("the management server 127.0.0.1:{port} answers"));
    key(&server, "at last", "OK: OK 49 of 50/year");
    let (told, log) = logged(server, "refuses this client");
    assert!(!log.contains("answers again"), "{log}");
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
    assert_eq!(log.matches("answers again").count(), 1, "{log}");
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
    server.wait_for_log("does not read the answers to what it sends; the rules in force stay");
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
    server.wait_for_log("; raise XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES; the rules in force stay");
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

// --- TLS ---

/// A directory as Kubernetes mounts a TLS secret, and the environment that names it.
struct Secret {
    directory: TempDir,
}

impl Secret {
    fn of(authority: &Authority) -> Self {
        let directory = tempfile::tempdir().unwrap();
        authority.mount(&authority.certify("client"), directory.path());
        Self { directory }
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let file = |name: &str| {
            let path = self.directory.path().join(name);
            path.to_str().unwrap().to_owned()
        };
        vec![
            ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true".to_owned()),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", file("tls.crt")),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", file("tls.key")),
            ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", file("ca.crt")),
        ]
    }
}

#[test]
fn rotated_certificates_are_used_for_the_next_connection() {
    let authority = Authority::new("old");
    let secret = Secret::of(&authority);
    let management = Management::start_with_tls(&authority, &authority.certify("management"));
    let port = management.address().port();
    let name = ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "management".to_owned());
    let environment = secret.environment().into_iter().chain([name]);
    let mut server = start(&format!("127.0.0.1:{port}"), environment);
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 50)]);

    // The files change; the stream goes on.
    let authority = Authority::new("new");
    authority.mount(&authority.certify("client"), secret.directory.path());
    session.accepted("2", &[config("d", 60)]);
    key(&server, "the same stream", "OK: OK 59 of 60/year");

    // Then the management server comes back with its own new ones, and trusts no old one.
    drop((session, management));
    let tls = mutual(&authority, &authority.certify("management"));
    let management = Management::start_on(port, Some(tls));
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 70)]);
    server.wait_for_log("answers again");
    key(&server, "the next", "OK: OK 68 of 70/year");
}

#[test]
fn files_that_are_missing_or_wrong_are_read_again() {
    let authority = Authority::new("right");
    let secret = Secret::of(&authority);
    let management = Management::start_with_tls(&authority, &authority.certify("localhost"));
    let port = management.address().port();
    let (certificate, key_file) = (
        secret.directory.path().join("tls.crt"),
        secret.directory.path().join("tls.key"),
    );
    fs::remove_file(&certificate).unwrap();
    let mut server = start(&format!("localhost:{port}"), secret.environment());
    server.wait_for_log("tls.crt does not exist; check what is mounted; no rules are in force yet");
    fs::write(&certificate, "not PEM").unwrap();
    server.wait_for_log("tls.crt has no certificate in PEM");
    fs::write(&certificate, authority.certify("client").certificate).unwrap();
    server.wait_for_log("CONFIG_GRPC_XDS_CLIENT_TLS_CERT and _KEY belong together");
    let text = "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n";
    fs::write(&key_file, text).unwrap();
    authority.mount(&authority.certify("client"), secret.directory.path());
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 50)]);
    key(&server, "at last", "OK: OK 49 of 50/year");
}

#[test]
fn a_certificate_that_signed_itself_is_trusted_when_the_file_has_it() {
    let clients = Authority::new("clients");
    let secret = Secret::of(&clients);
    let pair = Pair::openssl(secret.directory.path(), "management", Form::Ca);
    let certified = Certified {
        certificate: fs::read_to_string(&pair.certificate).unwrap(),
        key: fs::read_to_string(&pair.key).unwrap(),
    };
    let management = Management::start_with_tls(&clients, &certified);
    let address = format!("localhost:{}", management.address().port());
    let mut server = start(&address, secret.environment());
    server.wait_for_log("put this very certificate into CONFIG_GRPC_XDS_SERVER_TLS_CACERT");
    fs::copy(&pair.certificate, secret.directory.path().join("ca.crt")).unwrap();
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 50)]);
    key(&server, "trusted", "OK: OK 49 of 50/year");
}

#[test]
fn tls_that_fails_says_which_side_is_wrong() {
    let right = Authority::new("right");
    let wrong = Authority::new("wrong");
    let management = Management::start_with_tls(&right, &right.certify("localhost"));
    let address = format!("localhost:{}", management.address().port());
    let plaintext = Management::start();

    let secret = Secret::of(&right);
    let refused = |address: &str, environment: Vec<(&'static str, String)>, text: &str| {
        let mut server = start(address, environment);
        server.wait_for_log(text);
        assert_eq!(server.health(""), ServingStatus::NotServing);
    };
    // Its certificate is signed by somebody else.
    wrong.mount(&right.certify("client"), secret.directory.path());
    refused(
        &address,
        secret.environment(),
        "UnknownIssuer); check CONFIG_GRPC_XDS_SERVER_TLS_CACERT",
    );
    // Ours is.
    right.mount(&wrong.certify("client"), secret.directory.path());
    refused(
        &address,
        secret.environment(),
        " CONFIG_GRPC_XDS_CLIENT_TLS_CERT",
    );
    // It is for another name.
    right.mount(&right.certify("client"), secret.directory.path());
    let name = ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "somebody.else".to_owned());
    let mut named = secret.environment();
    named.push(name);
    refused(&address, named, "check CONFIG_GRPC_XDS_SERVER_TLS_SAN");
    // We have none, and it wants one.
    let without = secret
        .environment()
        .into_iter()
        .filter(|(name, _)| !name.contains("CLIENT"));
    refused(
        &address,
        without.collect(),
        " CONFIG_GRPC_XDS_CLIENT_TLS_CERT",
    );
    // One side speaks TLS and the other does not.
    refused(
        &address,
        Vec::new(),
        "if it speaks TLS, set CONFIG_GRPC_XDS_SERVER_USE_TLS=true",
    );
    let address = format!("localhost:{}", plaintext.address().port());
    refused(
        &address,
        secret.environment(),
        "TLS to the management server",
    );
}

// --- A peer that is silent ---

/// Passes bytes on between clients and a server. Connections can be cut so that nobody is told: they
/// stay open, and nothing comes any more.
struct Wire {
    address: SocketAddr,
    /// So many connections are cut: the first ones.
    cut: Arc<AtomicUsize>,
}

impl Wire {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let cut = Arc::new(AtomicUsize::new(0));
        let is_cut = Arc::clone(&cut);
        thread::spawn(move || {
            for (number, client) in listener.incoming().enumerate() {
                let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                pass(client, server, number, Arc::clone(&is_cut));
                pass(back.0, back.1, number, Arc::clone(&is_cut));
            }
        });
        Self { address, cut }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, number: usize, cut: Arc<AtomicUsize>) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if number < cut.load(Ordering::SeqCst) {
                continue;
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

#[test]
fn a_peer_that_is_silent_is_noticed() {
    let management = Management::start();
    let wire = Wire::to(management.address());
    let keepalive = ("XDS_CLIENT_KEEPALIVE_INTERVAL", "2s".to_owned());
    let mut server = start(&wire.address.to_string(), [keepalive]);
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 50)]);
    wire.cut.store(1, Ordering::SeqCst);
    server.wait_for_log("the rules in force stay");
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 60)]);
    key(&server, "again", "OK: OK 59 of 60/year");
}

#[test]
fn a_management_server_that_has_nothing_for_us_is_told_of() {
    let management = Management::start();
    let mut server = asking(&management);
    let session = management.session();
    session.request();
    server.wait_for_log(
        "has sent no configuration; check that it has one for node id \"default\" \
         (CONFIG_GRPC_XDS_NODE_ID); no rules are in force yet",
    );
    session.accepted("1", &[config("d", 50)]);
    key(&server, "late", "OK: OK 49 of 50/year");
}

// --- Options ---

/// Starts the server with these variables; it does not start, and says this.
fn refused(given: &[(&str, &str)], texts: &[&str]) {
    let environment = given.iter().copied();
    let environment = environment.chain([("CONFIG_TYPE", "grpc_xds_sotw")]);
    let printed = typed(["serve"], environment);
    assert_eq!(printed.code, 2, "{given:?}: {}", printed.stderr);
    for text in texts {
        assert!(
            printed.stderr.contains(text),
            "{given:?}: {}",
            printed.stderr
        );
    }
    assert!(!printed.stderr.contains("s3cret"), "{}", printed.stderr);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for (name, value, text) in [
        ("CONFIG_GRPC_XDS_SERVER_URL", "envoy-gateway", "host:port"),
        ("CONFIG_GRPC_XDS_SERVER_URL", "unix:///run/xds", "host:port"),
        ("CONFIG_GRPC_XDS_SERVER_URL", "http://a:1/path", "host:port"),
        ("CONFIG_GRPC_XDS_NODE_METADATA", "a=1,b", "key=value pairs"),
        (
            "CONFIG_GRPC_XDS_NODE_METADATA",
            "a=1,a=2",
            "write each key once",
        ),
        (
            "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS",
            "s3cret",
            "name:value pairs",
        ),
        (
            "CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL",
            "0s",
            "longer than 0",
        ),
        (
            "CONFIG_GRPC_XDS_SERVER_TLS_SAN",
            "two words",
            "the name in the certificate",
        ),
        ("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", "1.5", "from 0 to 1"),
        ("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", "-1", "whole number"),
        ("CONFIG_PATH", "/etc/rules", "leave one of them out"),
    ] {
        refused(&[(name, value)], &[name, text]);
    }
    let tls = ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true");
    let (certificate, key) = (
        ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", "/tls.crt"),
        ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", "/tls.key"),
    );
    refused(&[tls, certificate], &[key.0, "the file of its key"]);
    refused(&[tls, key], &[certificate.0, "the file of its certificate"]);
}
