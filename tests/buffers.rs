//! Clients that leave requests incomplete or responses unread: memory stays bounded, and other clients notice nothing.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{Builder, SendRequest, handshake};
use h2::{RecvStream, SendStream};
use prost::Message as _;
use ratekeeper::service::pb::RateLimitRequest;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::support::{Ratekeeper, TIMEOUT, ask, check, eventually};

/// The path of the one method.
const CALL: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

const RULES: &str = "
domain: d
descriptors:
  - {key: k, rate_limit: {unit: year, requests_per_unit: 5}}
  - {key: free, rate_limit: {unlimited: true}}
";

/// A request in its frame of gRPC.
fn message(request: &RateLimitRequest) -> Bytes {
    let encoded = request.encode_to_vec();
    let length = u32::try_from(encoded.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &encoded].concat().into()
}

/// Begins a call.
async fn begin(client: &mut SendRequest<Bytes>) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
    *client = client.clone().ready().await.unwrap();
    let request = http::Request::post(format!("http://localhost{CALL}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    client.send_request(request, false).unwrap()
}

/// A request of so many bytes that passes in several frames, as any client sends it.
fn large(name: &str) -> RateLimitRequest {
    ask("d", &[&format!("k={name}-{}", "x".repeat(30_000))])
}

fn stat(server: &Ratekeeper, name: &str) -> u64 {
    let stats = server.debug().get("/stats").body;
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("{name} is not in:\n{stats}"))
        .parse()
        .unwrap()
}

#[test]
fn incomplete_requests_do_not_keep_other_clients_out() {
    // Rejected calls end with the error itself.
    let environment = [("WORKER_THREADS", "1"), ("BAD_REQUEST_MODE", "error")];
    let environment = environment.map(|(name, value)| (name, value.to_owned()));
    let mut server = Ratekeeper::start(RULES, environment);
    let runtime = Runtime::new().unwrap();
    // Together twice what the server holds of incomplete requests.
    let part = Bytes::from(vec![0; 400_000]);
    let first = [&[0, 0, 6, 61, 168][..], &part[..]].concat();
    let (address, first) = (server.address(), Bytes::from(first));
    let held = runtime.block_on(async {
        let (mut rejected, mut kept) = (JoinSet::new(), Vec::new());
        for _ in 0..6 {
            let socket = TcpStream::connect(address).await.unwrap();
            let (mut client, connection) = handshake(socket).await.unwrap();
            tokio::spawn(connection);
            for _ in 0..60 {
                let (response, mut body) = begin(&mut client).await;
                body.send_data(first.clone(), false).unwrap();
                rejected.spawn(response);
                kept.push(body);
            }
            kept.shrink_to_fit();
        }
        // As many are rejected as are too many.
        for _ in 0..100 {
            let response = rejected.join_next().await.unwrap().unwrap().unwrap();
            assert_eq!(response.headers()["grpc-status"], "8", "{response:?}");
        }
        (rejected, kept)
    });
    for name in ["a", "b", "c"] {
        check(&server, name, large(name), "OK: OK 4 of 5/year");
    }
    assert!(stat(&server, "grpc.requests.evicted") >= 100);
    server.wait_until_logged("too many incomplete requests");
    let peak = server.peak_memory();
    assert!(peak < 250, "{peak} MiB");
    drop((held, runtime));
}

#[test]
fn a_request_that_does_not_arrive_in_time_is_rejected() {
    let server = Ratekeeper::start(RULES, []);
    let address = server.address();
    let (begun_only, in_part) = Runtime::new().unwrap().block_on(async {
        let socket = TcpStream::connect(address).await.unwrap();
        let (mut client, connection) = handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let (begun_only, _body) = begin(&mut client).await;
        let (in_part, mut body) = begin(&mut client).await;
        body.send_data(message(&large("x")).slice(..10_000), false)
            .unwrap();
        let both = async { (begun_only.await.unwrap(), in_part.await.unwrap()) };
        tokio::time::timeout(TIMEOUT, both).await.unwrap()
    });
    for response in [begun_only, in_part] {
        assert_eq!(response.headers()["grpc-status"], "4", "{response:?}");
    }
    assert_eq!(stat(&server, "grpc.requests.late"), 2);
}

#[test]
fn many_header_fields_are_bounded_as_incomplete_requests_are() {
    let server = Ratekeeper::start(RULES, [("WORKER_THREADS", "1".to_owned())]);
    let runtime = Runtime::new().unwrap();
    let address = server.address();
    let held = runtime.block_on(async {
        let mut held = Vec::new();
        for _ in 0..3 {
            let socket = TcpStream::connect(address).await.unwrap();
            let (mut client, connection) = handshake(socket).await.unwrap();
            tokio::spawn(connection);
            // Each field is one byte on the wire, as the table of the connection has it.
            for _ in 0..500 {
                client = client.clone().ready().await.unwrap();
                let mut request = http::Request::post(format!("http://localhost{CALL}"))
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .body(())
                    .unwrap();
                for _ in 0..3_000 {
                    let value = http::HeaderValue::from_static("1");
                    request.headers_mut().append("x", value);
                }
                held.push(client.send_request(request, false).unwrap());
            }
        }
        // Together three times what the server holds of incomplete requests.
        tokio::task::spawn_blocking(move || {
            eventually("requests are rejected", || {
                stat(&server, "grpc.requests.evicted") > 500
            });
            server
        })
        .await
        .map(|server| (held, server))
        .unwrap()
    });
    let (held, server) = held;
    check(&server, "others", large("a"), "OK: OK 4 of 5/year");
    let peak = server.peak_memory();
    assert!(peak < 300, "{peak} MiB");
    drop((held, runtime));
}

/// Sends calls of 250 descriptors on a connection whose client makes so much room for each response, and waits until
/// all of them are decided or the connection is closed. Returns the connection and the responses.
async fn read_nothing(
    address: SocketAddr,
    window: u32,
    calls: usize,
) -> (JoinSet<()>, Vec<RecvStream>) {
    let descriptors: Vec<String> = (0..250).map(|i| format!("k={i}")).collect();
    let descriptors: Vec<&str> = descriptors.iter().map(String::as_str).collect();
    let request = message(&ask("d", &descriptors));
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = Builder::new()
        .initial_window_size(window)
        .handshake(socket)
        .await
        .unwrap();
    let mut ends = JoinSet::new();
    ends.spawn(async move { drop(connection.await) });
    let mut bodies = Vec::new();
    for _ in 0..calls {
        let Ok(ready) = client.clone().ready().await else {
            break;
        };
        client = ready;
        let (response, mut body) = begin(&mut client).await;
        if body.send_data(request.clone(), true).is_err() {
            break;
        }
        // The head of a response needs no room.
        match response.await {
            Ok(response) => bodies.push(response.into_body()),
            Err(_) => break,
        }
    }
    (ends, bodies)
}

#[test]
fn responses_that_are_not_read_are_bounded_and_their_connections_closed() {
    for window in [0, 10_000] {
        let environment = [
            ("WORKER_THREADS", "1".to_owned()),
            ("RESPONSE_DYNAMIC_METADATA", "true".to_owned()),
        ];
        let mut server = Ratekeeper::start(RULES, environment);
        let runtime = Runtime::new().unwrap();
        let held = runtime.block_on(async {
            let mut held = Vec::new();
            while stat(&server, "grpc.connections.unread") < 2 {
                held.push(read_nothing(server.address(), window, 900).await);
                assert!(held.len() < 40, "nothing is closed");
            }
            held
        });
        check(
            &server,
            "meanwhile",
            ask("d", &["k=good"]),
            "OK: OK 4 of 5/year",
        );
        server.wait_until_logged("client does not read its responses");
        let peak = server.peak_memory();
        assert!(peak < 250, "{peak} MiB with a window of {window}");
        drop((held, runtime));
    }
}

#[test]
fn a_client_that_reads_nothing_for_a_while_is_disconnected() {
    let server = Ratekeeper::start(RULES, []);
    Runtime::new().unwrap().block_on(async {
        let (mut ends, _bodies) = read_nothing(server.address(), 0, 1).await;
        let ended = tokio::time::timeout(TIMEOUT, ends.join_next()).await;
        assert!(ended.is_ok(), "the connection is still open");
    });
    assert_eq!(stat(&server, "grpc.connections.unread"), 1);
}

#[test]
fn a_client_that_reads_slowly_keeps_its_connection() {
    let server = Ratekeeper::start(RULES, [("RESPONSE_DYNAMIC_METADATA", "true".to_owned())]);
    Runtime::new().unwrap().block_on(async {
        let (_ends, bodies) = read_nothing(server.address(), 1_000, 3).await;
        for mut body in bodies {
            let size = read(&mut body).await;
            assert!(size > 1_000, "{size}");
            let trailers = body.trailers().await.unwrap().unwrap();
            assert_eq!(trailers["grpc-status"], "0");
        }
    });
    assert_eq!(stat(&server, "grpc.connections.unread"), 0);
}

/// Reads a body in the pieces that its window allows.
async fn read(body: &mut RecvStream) -> usize {
    let mut size = 0;
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        assert!(piece.len() <= 1_000);
        size += piece.len();
        body.flow_control().release_capacity(piece.len()).unwrap();
    }
    size
}

#[test]
fn slow_readers_of_the_configuration_share_its_text() {
    let rules: String = (0..20_000)
        .map(|i| format!("  - {{key: a-rather-long-key-{i}, rate_limit: {{unit: year, requests_per_unit: 5}}}}\n"))
        .collect();
    let server = Ratekeeper::start(&format!("domain: d\ndescriptors:\n{rules}"), []);
    let text = server.debug().get("/rlconfig").body.len();
    assert!(text > 1_500_000, "{text}");
    let before = server.peak_memory();
    for (path, answers) in [
        ("/rlconfig", "200 OK"),
        ("/api/v1/configuration", "200 OK or 503"),
    ] {
        let readers: Vec<_> = (0..100)
            .map(|_| {
                let mut reader = std::net::TcpStream::connect(server.debug().address()).unwrap();
                let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
                reader.write_all(request.as_bytes()).unwrap();
                reader
            })
            .collect();
        // Each has been answered when its first bytes are there.
        for mut reader in &readers {
            let mut status = [0; 12];
            reader.read_exact(&mut status).unwrap();
            let status = std::str::from_utf8(&status[9..]).unwrap();
            assert!(answers.contains(status), "{path}: {status}");
        }
    }
    let grown = server.peak_memory() - before;
    assert!(grown < 150, "{grown} MiB more for texts of {text} bytes");
}
