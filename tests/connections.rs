//! Connections to the gRPC port: how they begin, how many there are, how old they grow, and what they may
//! carry.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use ratekeeper::service::pb::RateLimitRequest;
use ratekeeper::service::pb::rate_limit_service_client::RateLimitServiceClient;
use tokio::runtime::Runtime;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{Ratekeeper, Redis, TIMEOUT, ask, eventually, typed};

const RULES: &str = "
domain: d
descriptors: [{key: k, rate_limit: {unit: year, requests_per_unit: 1000000}}]
";

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// The kind of frame that tells a connection to end.
const GOAWAY: u8 = 7;

fn with(environment: &[(&'static str, &str)]) -> Ratekeeper {
    Ratekeeper::start(
        RULES,
        environment
            .iter()
            .map(|&(name, value)| (name, value.to_owned())),
    )
}

fn connect(server: &Ratekeeper) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Everything that the server sends until it closes.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    if let Err(error) = stream.read_to_end(&mut bytes) {
        assert!(
            error.kind() == std::io::ErrorKind::ConnectionReset,
            "{error}"
        );
    }
    bytes
}

/// The kinds of the frames in what a server sent.
fn kinds(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [a, b, c, kind, ..] = bytes {
        kinds.push(*kind);
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    kinds
}

#[test]
fn whoever_does_not_begin_is_not_waited_for() {
    let mut server = with(&[("GRPC_HANDSHAKE_TIMEOUT", "200ms")]);
    for begun in [&b""[..], &PREFACE[..10]] {
        let mut stream = connect(&server);
        stream.write_all(begun).unwrap();
        assert_eq!(rest(&mut stream), b"");
    }
    server.wait_for_log("did not send the HTTP/2 preface in time");
    // Whoever has begun may be silent for longer.
    let mut stream = connect(&server);
    stream.write_all(&[PREFACE, SETTINGS].concat()).unwrap();
    let mut silent = connect(&server);
    rest(&mut silent);
    // A ping, and its answer.
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    stream.write_all(&ping).unwrap();
    let mut seen = Vec::<u8>::new();
    while !seen
        .windows(8)
        .any(|eight| eight == [1, 2, 3, 4, 5, 6, 7, 8])
    {
        let mut buffer = [0; 256];
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "it closed");
        seen.extend(&buffer[..read]);
    }
}

#[test]
fn who_speaks_something_else_is_told_of_with_advice() {
    for (bytes, advice) in [
        (
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            "GRPC_SERVER_USE_TLS",
        ),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1"),
        (b"\x00\x01\x02\x03", "does not use HTTP/2"),
    ] {
        let mut server = with(&[]);
        let mut stream = connect(&server);
        stream.write_all(bytes).unwrap();
        rest(&mut stream);
        server.wait_for_log(advice);
        assert!(
            server
                .debug()
                .get("/stats")
                .body
                .contains("grpc.connections.failed: 1")
        );
    }
}

#[test]
fn a_look_whether_the_port_is_open_is_nothing_to_tell() {
    let server = with(&[]);
    drop(connect(&server));
    eventually("it has been seen", || {
        let stats = server.debug().get("/stats").body;
        stats.contains("accepted: 1") && stats.contains("open: 0")
    });
    assert!(server.debug().get("/stats").body.contains("failed: 0"));
}

#[test]
fn there_are_no_more_connections_than_allowed() {
    let mut server = with(&[("GRPC_MAX_CONNECTIONS", "3")]);
    let begun = [PREFACE, SETTINGS].concat();
    let mut held: Vec<_> = (0..3).map(|_| connect(&server)).collect();
    for stream in &mut held {
        stream.write_all(&begun).unwrap();
        // So that it has a place.
        stream.read_exact(&mut [0; 9]).unwrap();
    }
    for _ in 0..50 {
        assert_eq!(rest(&mut connect(&server)), b"");
    }
    server.wait_for_log("GRPC_MAX_CONNECTIONS");
    let stats = server.debug().get("/stats").body;
    for line in ["open: 3", "accepted: 3", "refused: 50"] {
        assert!(stats.contains(line), "{stats}");
    }
    let metrics = server.debug().get("/metrics").body;
    for (end, value) in [
        ("", 3),
        ("_max", 3),
        ("_accepted_total", 3),
        ("_rejected_total", 50),
        ("_failed_total", 0),
    ] {
        let line = format!("ratekeeper_grpc_connections{end} {value}");
        assert!(
            metrics.lines().any(|shown| shown == line),
            "{line}: {metrics}"
        );
    }
    drop(held);
    eventually("a place is free", || {
        server.debug().get("/stats").body.contains("open: 0")
    });
    assert!(server.ask(ask("d", &["k=1"])).is_ok());
}

#[test]
fn an_old_connection_is_told_to_end_and_no_call_is_lost() {
    let server = with(&[("GRPC_MAX_CONNECTION_AGE", "100ms")]);
    let mut stream = connect(&server);
    stream.write_all(&[PREFACE, SETTINGS].concat()).unwrap();
    let mut seen = Vec::new();
    while !kinds(&seen).contains(&GOAWAY) {
        let mut buffer = [0; 256];
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "it closed without a word: {:?}", kinds(&seen));
        seen.extend(&buffer[..read]);
    }
    Runtime::new().unwrap().block_on(async {
        let mut client = server.client().await;
        let accepted = || server.debug().get("/stats").body;
        // Calls go on over connections that end all the while.
        while !accepted().contains("accepted: 5") {
            client.should_rate_limit(ask("d", &["k=1"])).await.unwrap();
        }
    });
}

#[test]
fn what_goes_on_for_too_long_on_an_old_connection_is_cut() {
    let server = with(&[
        ("GRPC_MAX_CONNECTION_AGE", "100ms"),
        ("GRPC_MAX_CONNECTION_AGE_GRACE", "100ms"),
    ]);
    Runtime::new().unwrap().block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address())).unwrap();
        let mut client = HealthClient::new(endpoint.connect().await.unwrap());
        let request = HealthCheckRequest::default();
        let mut watch = client.watch(request).await.unwrap().into_inner();
        assert!(watch.message().await.unwrap().is_some());
        assert!(watch.message().await.is_err(), "it is cut");
    });
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn health_watches_of_a_connection_are_bounded() {
    let server = with(&[]);
    Runtime::new().unwrap().block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address())).unwrap();
        let connect = async || HealthClient::new(endpoint.connect().await.unwrap());
        let mut client = connect().await;
        let mut watches = Vec::new();
        for _ in 0..16 {
            let watch = client.watch(HealthCheckRequest::default()).await.unwrap();
            watches.push(watch.into_inner());
        }
        let rejected = client.watch(HealthCheckRequest::default()).await;
        assert_eq!(rejected.unwrap_err().code(), Code::ResourceExhausted);
        let mut other = connect().await;
        let request = HealthCheckRequest::default();
        let mut watch = other.watch(request).await.unwrap().into_inner();
        assert!(watch.message().await.unwrap().is_some());
    });
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn headers_that_are_too_large_end_their_call_alone() {
    let server = with(&[("GRPC_MAX_HEADER_BYTES", "4096")]);
    Runtime::new().unwrap().block_on(async {
        let mut client = server.client().await;
        for (bytes, passes) in [(100, true), (3_000, true), (8_000, false), (100, true)] {
            let answer = client.should_rate_limit(with_header(bytes)).await;
            assert_eq!(answer.is_ok(), passes, "{bytes}: {answer:?}");
        }
    });
    assert_eq!(server.stop().code(), Some(0));
}

fn with_header(bytes: usize) -> tonic::Request<RateLimitRequest> {
    let mut call = tonic::Request::new(ask("d", &["k=1"]));
    let value = "x".repeat(bytes).parse().unwrap();
    call.metadata_mut().insert("x-large", value);
    call
}

/// Envoy passes trace headers of its clients on, and takes 60 KiB of them.
#[test]
fn headers_as_large_as_envoy_takes_are_read() {
    let server = with(&[]);
    Runtime::new().unwrap().block_on(async {
        let mut client = server.client().await;
        for bytes in [16_000, 60_000, 100_000] {
            let answer = client.should_rate_limit(with_header(bytes)).await;
            assert!(answer.is_ok(), "{bytes}: {answer:?}");
        }
    });
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn headers_that_are_many_times_too_large_may_end_their_connection() {
    let server = with(&[("GRPC_MAX_HEADER_BYTES", "4096")]);
    Runtime::new().unwrap().block_on(async {
        let mut client = server.client().await;
        assert!(client.should_rate_limit(with_header(60_000)).await.is_err());
        // Others are served, and so is this client once it is connected again.
        let mut other = server.client().await;
        assert!(other.should_rate_limit(with_header(100)).await.is_ok());
    });
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn calls_beyond_the_bound_of_a_connection_wait() {
    let server = with(&[("GRPC_MAX_CONCURRENT_STREAMS", "1")]);
    Runtime::new().unwrap().block_on(async {
        let mut client = server.client().await;
        // After this one, the client knows the bound.
        client.should_rate_limit(ask("d", &["k=1"])).await.unwrap();
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let mut client = client.clone();
                tokio::spawn(async move { client.should_rate_limit(ask("d", &["k=1"])).await })
            })
            .collect();
        for call in calls {
            assert!(call.await.unwrap().is_ok());
        }
    });
}

fn unix(path: &Path) -> Ratekeeper {
    with(&[("GRPC_UDS", path.to_str().unwrap())])
}

#[test]
fn a_unix_socket_takes_the_place_of_the_port() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rls.sock");
    // What a server that was killed has left behind.
    drop(UnixListener::bind(&path).unwrap());
    let server = unix(&path);
    Runtime::new().unwrap().block_on(async {
        let endpoint = Endpoint::from_shared(format!("unix://{}", path.display())).unwrap();
        let mut client = RateLimitServiceClient::new(endpoint.connect().await.unwrap());
        assert!(client.should_rate_limit(ask("d", &["k=1"])).await.is_ok());
    });
    assert_eq!(server.http().get("/healthcheck").status, 200);
    let again = typed(
        ["serve"],
        [
            ("GRPC_UDS", path.to_str().unwrap()),
            ("CONFIG_PATH", "/nonexistent"),
        ],
    );
    assert_eq!(again.code, 1);
    assert!(
        again.stderr.contains("GRPC_UDS") && again.stderr.contains("in use"),
        "{}",
        again.stderr
    );
    assert!(
        UnixStream::connect(&path).is_ok(),
        "the first one is still there"
    );
    assert_eq!(server.stop().code(), Some(0));
    assert!(!path.exists(), "it cleans up");
}

#[test]
fn what_is_no_socket_is_not_replaced_by_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("precious");
    fs::write(&path, "text").unwrap();
    let printed = typed(["serve"], [("GRPC_UDS", path.to_str().unwrap())]);
    assert_eq!(printed.code, 1);
    assert!(
        printed.stderr.contains("not a socket"),
        "{}",
        printed.stderr
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "text");
}

/// Many connections, each with a call: all are answered, and none stays behind.
#[test]
fn many_connections_are_served_and_forgotten() {
    let server = with(&[]);
    Runtime::new().unwrap().block_on(async {
        let calls: Vec<_> = (0..500)
            .map(|_| {
                let address = format!("http://{}", server.address());
                tokio::spawn(async move {
                    let mut client = RateLimitServiceClient::connect(address).await.unwrap();
                    client.should_rate_limit(ask("d", &["k=1"])).await.unwrap();
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
    });
    eventually("none is left", || {
        server.debug().get("/stats").body.contains("open: 0")
    });
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn connections_leave_open_files_for_redis_health_and_reloads() {
    let redis = Redis::start();
    let directory = tempfile::tempdir().unwrap();
    let rules = directory.path().join("ratelimit.yaml");
    fs::write(&rules, RULES).unwrap();
    let mut server = Ratekeeper::run(
        Command::new("sh")
            .args(["-c", "ulimit -n 256 && exec \"$0\" \"$@\""])
            .args([env!("CARGO_BIN_EXE_ratekeeper"), "serve", "--config"])
            .arg(&rules)
            .env_clear()
            .envs(["GRPC_HOST", "HOST", "DEBUG_HOST"].map(|name| (name, "127.0.0.1")))
            .envs(["GRPC_PORT", "PORT", "DEBUG_PORT"].map(|name| (name, "0")))
            .envs([
                ("REDIS_URL", redis.url().as_str()),
                ("REDIS_TIMEOUT", "20s"),
                ("WORKER_THREADS", "1"),
            ]),
    );
    server.wait_until_logged("does not fit into the limit of open files");
    let busy: Vec<TcpStream> = (0..400)
        .filter_map(|_| TcpStream::connect(server.address()).ok())
        .collect();
    assert!(busy.len() > 256);
    // Over a port of HTTP, from the Redis, which nothing was asked of before.
    let asked = r#"{"domain": "d", "descriptors": [{"entries": [{"key": "k", "value": "x"}]}]}"#;
    let page = server.http().send("POST", "/json", asked);
    assert_eq!(page.status, 200, "{}", page.body);
    assert_eq!(server.http().get("/healthcheck").status, 200);
    fs::write(&rules, RULES.replace("unit: year", "unit: month")).unwrap();
    eventually("the new configuration is active", || {
        server.debug().get("/rlconfig").body.contains("unit=MONTH")
    });
    drop(busy);
}
