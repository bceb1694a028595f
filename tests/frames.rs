//! What clients send on their HTTP/2 connections that is not the message of a call: authorities that are none, floods of
//! control frames, resets.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;

use prost::Message as _;
use ratekeeper::service::pb::RateLimitResponse;
use ratekeeper::service::pb::rate_limit_response::Code;
use serde_json::json;

use crate::hostile::frame;
use crate::support::{Ratekeeper, TIMEOUT, ask, client};

const RULES: &str = "
domain: d
descriptors: [{key: k, rate_limit: {unit: year, requests_per_unit: 1000000}}]
";

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const CALL: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// Authorities that clients send and no URI has.
const AUTHORITIES: [&[u8]; 8] = [
    b"outbound|8081||ratelimit.default.svc.cluster.local",
    b"[::1",
    b"a b",
    b"r\xe4te",
    b"/run/x.sock",
    b"run%2Fx.sock",
    b"a:b:c",
    b"",
];

/// A connection on which a test writes frames by itself.
struct Raw {
    stream: TcpStream,
    seen: Vec<u8>,
}

/// A frame that the server sent.
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Raw {
    fn connect(server: &Ratekeeper) -> Self {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut raw = Self {
            stream,
            seen: Vec::new(),
        };
        raw.send(&[PREFACE, &frame(4, 0, 0, &[])].concat());
        raw
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn next(&mut self) -> Frame {
        loop {
            if let [a, b, c, kind, _, rest @ ..] = &self.seen[..]
                && let Some((stream, rest)) = rest.split_first_chunk::<4>()
            {
                let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
                if let Some(payload) = rest.get(..length) {
                    let frame = Frame {
                        kind: *kind,
                        stream: u32::from_be_bytes(*stream),
                        payload: payload.to_vec(),
                    };
                    self.seen.drain(..9 + length);
                    return frame;
                }
            }
            let mut buffer = [0; 4096];
            let read = self.stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the server has closed");
            self.seen.extend(&buffer[..read]);
        }
    }

    /// The server's decision on the call of this stream.
    fn decision(&mut self, stream: u32) -> RateLimitResponse {
        loop {
            let frame = self.next();
            assert_ne!(frame.kind, 7, "GOAWAY: {:?}", frame.payload);
            if frame.stream == stream {
                assert_ne!(frame.kind, 3, "RST_STREAM: {:?}", frame.payload);
                if frame.kind == 0 {
                    return RateLimitResponse::decode(&frame.payload[5..]).unwrap();
                }
            }
        }
    }
}

/// The header block of a call, with the `:authority` as it is encoded here.
fn block(authority: &[u8]) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    block.extend(authority);
    for (index, value) in [(4, CALL), (0x0f, "application/grpc")] {
        block.push(index);
        if index == 0x0f {
            // content-type, by its place in the static table: 31.
            block.push(16);
        }
        block.push(u8::try_from(value.len()).unwrap());
        block.extend(value.as_bytes());
    }
    for text in ["te", "trailers"] {
        if text == "te" {
            block.push(0);
        }
        block.push(u8::try_from(text.len()).unwrap());
        block.extend(text.as_bytes());
    }
    block
}

/// A call on a stream.
fn call(stream: u32, authority: &[u8]) -> Vec<u8> {
    let message = ask("d", &["k=1"]).encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let message = [&[0][..], &length, &message].concat();
    let headers = frame(1, 4, stream, &block(authority));
    [headers, frame(0, 1, stream, &message)].concat()
}

/// An authority, and how it is encoded: a literal that refers to the static table.
fn literal(authority: &[u8]) -> Vec<u8> {
    let length = u8::try_from(authority.len()).unwrap();
    [&[0x41, length], authority].concat()
}

fn reset(stream: u32) -> Vec<u8> {
    frame(3, 0, stream, &8_u32.to_be_bytes())
}

fn stats(server: &Ratekeeper, line: &str) {
    let stats = server.debug().get("/stats").body;
    assert!(stats.lines().any(|found| found == line), "{line}: {stats}");
}

fn others_are_served(server: &Ratekeeper) {
    let answer = server.ask(ask("d", &["k=other"])).unwrap();
    assert_eq!(answer.overall_code(), Code::Ok);
}

// --- Authorities ---

#[test]
fn a_call_with_any_authority_is_decided() {
    let server = Ratekeeper::start(RULES, []);
    for authority in AUTHORITIES {
        let mut raw = Raw::connect(&server);
        // The second one refers to the entry that the first one has put into the dynamic table.
        for (stream, encoded) in [(1, literal(authority)), (3, vec![0xbe])] {
            raw.send(&call(stream, &encoded));
            let decision = raw.decision(stream);
            assert_eq!(decision.overall_code(), Code::Ok, "{authority:?}");
        }
        // The empty value of the static table.
        raw.send(&call(5, &[0x81]));
        assert_eq!(raw.decision(5).overall_code(), Code::Ok);
    }
}

#[test]
fn a_client_of_another_implementation_is_served_over_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rls.sock");
    let environment = [("GRPC_UDS", path.to_str().unwrap().to_owned())];
    let _server = Ratekeeper::start(RULES, environment);
    let address = format!("unix:{}", path.display());
    let request = json!({
        "domain": "d",
        "descriptors": [{"entries": [{"key": "k", "value": "v"}]}],
    });
    let request = request.to_string();
    let path = path.to_str().unwrap();
    let quoted = path.replace('/', "%2F");
    for authority in [
        &[][..],
        &[path],
        &[&quoted],
        &["outbound|8081||x"],
        &["a b"],
    ] {
        let arguments = [&["call", &address, &request][..], authority].concat();
        let answer = client(arguments);
        assert_eq!(answer["overallCode"], "OK", "{authority:?}: {answer}");
    }
}

/// The ports that speak HTTP/1.1 do not look at what a client calls them, either.
#[test]
fn an_http_port_answers_under_any_name() {
    let server = Ratekeeper::start(RULES, []);
    for authority in AUTHORITIES {
        for port in [server.http(), server.debug()] {
            let mut stream = TcpStream::connect(port.address()).unwrap();
            stream.set_read_timeout(Some(TIMEOUT)).unwrap();
            let head = [
                b"GET /healthcheck HTTP/1.1\r\nConnection: close\r\nHost: ",
                authority,
                b"\r\n\r\n",
            ];
            stream.write_all(&head.concat()).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{authority:?}");
        }
    }
}

// --- Floods ---

/// Sends bytes until the server closes the connection; how often.
fn flood(server: &Ratekeeper, mut next: impl FnMut() -> Vec<u8>) -> u32 {
    let mut raw = Raw::connect(server);
    // What the server answers must find room, or it reads no more.
    let mut answers = raw.stream.try_clone().unwrap();
    let reader = thread::spawn(move || io::copy(&mut answers, &mut io::sink()));
    let mut sent = 0;
    while raw.stream.write_all(&next()).is_ok() {
        sent += 1;
        assert!(sent < 10_000, "the connection goes on");
    }
    drop(raw);
    // Whether the end was a reset does not matter.
    let _ = reader.join().unwrap();
    sent
}

#[test]
fn a_flood_of_control_frames_ends_its_connection() {
    let mut server = Ratekeeper::start(RULES, []);
    let kinds = [
        frame(6, 0, 0, &[0; 8]),
        frame(4, 0, 0, &[]),
        // The window of all streams, back and forth.
        frame(4, 0, 0, &[0, 4, 0, 1, 0, 0]),
        frame(2, 0, 1, &[0, 0, 0, 0, 7]),
        frame(8, 0, 0, &[0, 0, 0, 1]),
        frame(0xbe, 0, 0, &[1; 20]),
    ];
    let count = kinds.len();
    for kind in kinds {
        flood(&server, || kind.repeat(500));
        others_are_served(&server);
    }
    server.wait_until_logged("connection closed because of a flood");
    stats(&server, &format!("grpc.connections.flooded: {count}"));
}

/// As after a stall of the server that was longer than the timeout of its client.
#[test]
fn a_connection_outlives_many_resets_at_once() {
    let server = Ratekeeper::start(RULES, []);
    let mut raw = Raw::connect(&server);
    let streams = |from: u32, count: u32| (from..from + 2 * count).step_by(2);
    server.signal("STOP");
    // 500 calls in flight, all of them reset; then many that are reset as soon as they begin.
    let calls = streams(1, 500).flat_map(|stream| call(stream, &literal(b"h")));
    raw.send(&calls.collect::<Vec<u8>>());
    raw.send(&streams(1, 500).flat_map(reset).collect::<Vec<u8>>());
    server.signal("CONT");
    for from in [1_001, 11_001, 21_001] {
        let bytes =
            streams(from, 5_000).flat_map(|stream| [call(stream, &[0x81]), reset(stream)].concat());
        raw.send(&bytes.collect::<Vec<u8>>());
    }
    raw.send(&call(31_001, &[0x81]));
    assert_eq!(raw.decision(31_001).overall_code(), Code::Ok);
    stats(&server, "grpc.connections.accepted: 1");
    stats(&server, "grpc.connections.flooded: 0");
}

#[test]
fn calls_that_are_reset_for_ever_end_their_connection_not_the_server() {
    let mut server = Ratekeeper::start(RULES, []);
    others_are_served(&server);
    let before = server.peak_memory();
    let mut stream = 1;
    flood(&server, || {
        let mut bytes = Vec::new();
        for _ in 0..1_000 {
            bytes.extend(frame(1, 4, stream, &block(&[0x81])));
            bytes.extend(reset(stream));
            stream += 2;
        }
        bytes
    });
    others_are_served(&server);
    server.wait_until_logged("connection closed because of a flood");
    stats(&server, "grpc.connections.flooded: 1");
    let grown = server.peak_memory() - before;
    assert!(grown < 48, "{grown} MiB more");
}
