use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, Request, Response};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::runtime::{Builder, Runtime};

use super::huffman;
use super::*;
use crate::clock::Clock;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Headers that the server accepts.
const HEADER_BYTES: usize = 16_384;

fn still() -> Clock {
    Arc::new(|| 0)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn frames<S>(stream: S, clock: Clock) -> Frames<S> {
    let watch = FloodReporter::new(FloodCount::default(), "a test".to_owned(), clock);
    Frames::new(stream, PREFACE.len(), HEADER_BYTES, watch)
}

/// A stream from which no more than so many bytes are read at once: these numbers, again and again.
#[derive(Debug)]
struct Split<S> {
    stream: S,
    sizes: Vec<usize>,
    turn: usize,
    read: Arc<Mutex<Vec<u8>>>,
}

impl<S> Split<S> {
    fn new(stream: S, sizes: &[usize]) -> Self {
        Self {
            stream,
            sizes: sizes.to_vec(),
            turn: 0,
            read: Arc::default(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Split<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut space = vec![0; this.sizes[this.turn % this.sizes.len()].min(into.remaining())];
        let mut part = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut this.stream).poll_read(context, &mut part))?;
        this.turn += 1;
        this.read.lock().unwrap().extend_from_slice(part.filled());
        into.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Split<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// Numbers of bytes to read at once.
fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(
        prop_oneof![1_usize..30, 1_usize..3_000, Just(100_000)],
        1..10,
    )
}

/// The frames that carry a header block, in pieces of so many bytes.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn begun() -> Vec<u8> {
    [PREFACE, &frame(4, 0, 0, &[])].concat()
}

/// What is passed on of bytes that are read in parts of these sizes, and whether the connection was closed.
fn passed(bytes: &[u8], sizes: &[usize], room: usize) -> (Vec<u8>, bool) {
    runtime().block_on(async {
        let mut frames = frames(Split::new(bytes, sizes), still());
        let (mut passed, mut buffer) = (Vec::new(), vec![0; room]);
        loop {
            match frames.read(&mut buffer).await {
                Ok(0) => return (passed, false),
                Ok(count) => passed.extend_from_slice(&buffer[..count]),
                Err(_) => return (passed, true),
            }
            let held = frames.held.bytes.capacity();
            assert!(
                held <= 2 * (HEADER_BYTES + 2 * 16_393 + READ),
                "{held} bytes"
            );
        }
    })
}

/// Serves what comes, so many requests at most; their heads.
async fn served<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    most: usize,
) -> Result<Vec<Request<()>>, h2::Error> {
    let mut builder = h2::server::Builder::new();
    builder.max_header_list_size(u32::try_from(HEADER_BYTES).unwrap());
    let mut connection = builder.handshake::<_, Bytes>(stream).await?;
    let mut requests = Vec::new();
    while requests.len() < most
        && let Some(request) = connection.accept().await
    {
        let (request, mut answer) = request?;
        answer.send_response(Response::new(()), true)?;
        requests.push(request.map(drop));
    }
    Ok(requests)
}

// --- The library's own client ---

fn valid() -> impl Strategy<Value = String> {
    "([a-z]{1,5}@)?([a-z0-9._-]{1,20}|\\[::1\\]|[!$&'()*+,;=~a-zA-Z]{1,9})(:[0-9]{1,4})?"
        .prop_filter("no authority", |text| text.parse::<Authority>().is_ok())
}

fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    vec(("x-[a-d]{1,3}", "[ -~]{0,60}|[a-z]{0,4000}"), 0..6)
}

async fn call(
    stream: DuplexStream,
    requests: &[(String, Vec<(String, String)>)],
) -> Result<(), h2::Error> {
    let (client, connection) = h2::client::handshake(stream).await?;
    let calls = async {
        for (authority, headers) in requests {
            let mut request = Request::post(format!("http://{authority}/service/method"));
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let mut client = client.clone().ready().await?;
            let (response, mut body) = client.send_request(request.body(()).unwrap(), false)?;
            // The server may have answered already.
            let _ = body.send_data(Bytes::from_static(b"data"), true);
            response.await?;
        }
        drop(client);
        Ok(())
    };
    let (done, ended) = tokio::join!(calls, connection);
    done.and(ended)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn valid_traffic_passes_byte_for_byte(
        requests in vec((valid(), headers()), 1..12),
        sizes in sizes(),
    ) {
        let (client, server) = tokio::io::duplex(1 << 16);
        let split = Split::new(server, &sizes);
        let sent = Arc::clone(&split.read);
        let passed = Split::new(frames(split, still()), &[100_000]);
        let seen = Arc::clone(&passed.read);
        let (called, served) = runtime().block_on(async {
            tokio::join!(call(client, &requests), served(passed, usize::MAX))
        });
        called.unwrap();
        let served = served.unwrap();
        prop_assert!(*sent.lock().unwrap() == *seen.lock().unwrap());
        prop_assert_eq!(served.len(), requests.len());
        for (request, (authority, _)) in served.iter().zip(&requests) {
            prop_assert_eq!(request.uri().authority().unwrap().as_str(), authority);
        }
    }
}

// --- Clients that encode in any way that the specification allows ---

/// How to encode a field.
#[derive(Debug, Clone)]
struct Form {
    /// 0: indexed where it can be; 1 to 3: a literal, with a new entry, without one, and never with one.
    literal: u8,
    /// Whether the name refers to a table where it can, and to the dynamic one rather than the static one.
    by_index: bool,
    dynamic: bool,
    coded: (bool, bool),
}

fn form() -> impl Strategy<Value = Form> {
    (0..4_u8, any::<bool>(), any::<bool>(), any::<(bool, bool)>()).prop_map(
        |(literal, by_index, dynamic, coded)| Form {
            literal,
            by_index,
            dynamic,
            coded,
        },
    )
}

type Field = (Vec<u8>, Vec<u8>);

/// The dynamic table of a client, newest first.
#[derive(Debug, Default)]
struct Encoder {
    table: VecDeque<Field>,
}

impl Encoder {
    const STATIC: [(usize, &'static [u8], &'static [u8]); 6] = [
        (1, b":authority", b""),
        (3, b":method", b"POST"),
        (4, b":path", b"/"),
        (6, b":scheme", b"http"),
        (58, b"user-agent", b""),
        (32, b"cookie", b""),
    ];

    fn field(&mut self, (name, value): &Field, form: &Form, block: &mut Vec<u8>) {
        let whole = Self::STATIC
            .iter()
            .find(|entry| entry.1 == name && entry.2 == value);
        let whole = whole.map(|entry| entry.0);
        let entered = self
            .table
            .iter()
            .position(|entry| (&entry.0, &entry.1) == (name, value));
        // Nobody spells an empty value out that a table has (see `Fields::read`).
        let is_indexed = form.literal == 0 || whole == Some(1);
        if let (true, Some(index)) = (is_indexed, entered.map(|place| place + 62).or(whole)) {
            return integer(0x80, 7, index, block);
        }
        let (first, bits) = [(0x40, 6), (0x40, 6), (0x00, 4), (0x10, 4)][usize::from(form.literal)];
        let of_static = Self::STATIC.iter().find(|entry| entry.1 == name);
        let of_static = of_static.map(|entry| entry.0);
        let entered = self.table.iter().position(|entry| entry.0 == *name);
        let entered = entered.map(|place| place + 62).filter(|_| form.dynamic);
        match entered.or(of_static).filter(|_| form.by_index) {
            Some(index) => integer(first, bits, index, block),
            None => {
                block.push(first);
                string(name, form.coded.0, block);
            }
        }
        string(value, form.coded.1, block);
        if form.literal < 2 {
            self.table.push_front((name.clone(), value.clone()));
            let size = |table: &VecDeque<Field>| -> usize {
                table
                    .iter()
                    .map(|(name, value)| name.len() + value.len() + 32)
                    .sum()
            };
            while size(&self.table) > 4096 {
                self.table.pop_back();
            }
        }
    }
}

pub(super) fn integer(first: u8, bits: u32, value: usize, to: &mut Vec<u8>) {
    let most = (1 << bits) - 1;
    if value < most {
        return to.push(first | u8::try_from(value).unwrap());
    }
    to.push(first | u8::try_from(most).unwrap());
    let mut rest = value - most;
    while rest >= 0x80 {
        to.push(0x80 | u8::try_from(rest & 0x7f).unwrap());
        rest >>= 7;
    }
    to.push(u8::try_from(rest).unwrap());
}

pub(super) fn string(text: &[u8], coded: bool, to: &mut Vec<u8>) {
    let (flag, text) = match coded {
        true => (0x80, huffman::encode(text)),
        false => (0, text.to_vec()),
    };
    integer(flag, 7, text.len(), to);
    to.extend(text);
}

/// How to put a header block into frames.
#[derive(Debug, Clone)]
struct Framing {
    padding: Option<u8>,
    priority: bool,
    /// Where it is cut, for CONTINUATION.
    cuts: Vec<usize>,
}

fn framing() -> impl Strategy<Value = Framing> {
    let cuts = prop_oneof![Just(vec![]), vec(0_usize..200, 0..4)];
    (any::<Option<u8>>(), any::<bool>(), cuts).prop_map(|(padding, priority, cuts)| Framing {
        padding,
        priority,
        cuts,
    })
}

fn framed(stream: u32, block: &[u8], framing: &Framing) -> Vec<u8> {
    let (mut rest, mut fragments) = (block, Vec::new());
    for &cut in &framing.cuts {
        let (fragment, more) = rest.split_at(cut.min(rest.len()));
        fragments.push(fragment);
        rest = more;
    }
    fragments.push(rest);
    let last = fragments.len() - 1;
    let mut bytes = Vec::new();
    for (place, fragment) in fragments.into_iter().enumerate() {
        let end = if place == last { 4 } else { 0 };
        if place > 0 {
            bytes.extend(frame(9, end, stream, fragment));
            continue;
        }
        let (mut flags, mut payload) = (1 | end, Vec::new());
        if let Some(padding) = framing.padding {
            flags |= 8;
            payload.push(padding);
        }
        if framing.priority {
            flags |= 0x20;
            payload.extend([0, 0, 0, 0, 7]);
        }
        payload.extend(fragment);
        payload.resize(payload.len() + usize::from(framing.padding.unwrap_or(0)), 0);
        bytes.extend(frame(1, flags, stream, &payload));
    }
    bytes
}

fn authority() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        valid().prop_map(String::into_bytes),
        Just(b"outbound|8081||ratelimit.default.svc.cluster.local".to_vec()),
        Just(b"[::1".to_vec()),
        Just(vec![]),
        vec(any::<u8>(), 0..40),
        vec(any::<u8>(), 0..2_500),
    ]
}

#[derive(Debug, Clone)]
struct Call {
    authority: Vec<u8>,
    headers: Vec<Field>,
    forms: Vec<Form>,
    framing: Framing,
}

fn a_call() -> impl Strategy<Value = Call> {
    let name = prop_oneof![
        Just("user-agent"),
        Just("cookie"),
        Just("x-a"),
        Just("x-b"),
        Just("x-c")
    ];
    let header = (name, "[!-~]{0,40}|[a-z]{300}")
        .prop_map(|(name, value)| (name.as_bytes().to_vec(), value.into_bytes()));
    (authority(), vec(header, 0..6), vec(form(), 10), framing()).prop_map(
        |(authority, headers, forms, framing)| Call {
            authority,
            headers,
            forms,
            framing,
        },
    )
}

fn encoded(calls: &[Call]) -> Vec<u8> {
    let (mut bytes, mut encoder) = (begun(), Encoder::default());
    for (call, stream) in calls.iter().zip((1..).step_by(2)) {
        let mut block = Vec::new();
        let pseudo = [
            (b":method".to_vec(), b"POST".to_vec()),
            (b":authority".to_vec(), call.authority.clone()),
            (b":scheme".to_vec(), b"http".to_vec()),
            (b":path".to_vec(), b"/".to_vec()),
        ];
        for (field, form) in pseudo.iter().chain(&call.headers).zip(&call.forms) {
            encoder.field(field, form, &mut block);
        }
        bytes.extend(framed(stream, &block, &call.framing));
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn calls_with_any_authority_are_served(calls in vec(a_call(), 1..30), sizes in sizes()) {
        let bytes = encoded(&calls);
        let requests = runtime().block_on(async {
            let (mut client, server) = tokio::io::duplex(1 << 20);
            let sending = async {
                client.write_all(&bytes).await.unwrap();
                // Until the server has served all of them, and closes.
                let _ = client.read_to_end(&mut Vec::new()).await;
            };
            let server = frames(Split::new(server, &sizes), still());
            tokio::join!(served(server, calls.len()), sending).0
        });
        let requests = requests.unwrap();
        prop_assert_eq!(requests.len(), calls.len());
        for (request, call) in requests.iter().zip(&calls) {
            let seen = request.uri().authority().unwrap().as_str();
            match Authority::try_from(&call.authority[..]) {
                Ok(authority) => prop_assert_eq!(seen, authority.as_str()),
                Err(_) => prop_assert_eq!(seen.to_owned(), "a".repeat(call.authority.len().max(1))),
            }
            let mut headers = HeaderMap::new();
            for (name, value) in &call.headers {
                let name = http::HeaderName::from_bytes(name).unwrap();
                headers.append(name, http::HeaderValue::from_bytes(value).unwrap());
            }
            prop_assert_eq!(request.headers(), &headers);
        }
    }

    /// Bytes that may break any rule: what is passed on does not depend on how they are split, and little is held back.
    #[test]
    fn any_bytes_pass_alike_however_they_are_split(
        calls in vec(a_call(), 0..5),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        tail in vec(any::<u8>(), 0..300),
        sizes in sizes(),
        room in prop_oneof![1_usize..40, Just(8_192)],
    ) {
        let mut bytes = [encoded(&calls), tail].concat();
        let after = PREFACE.len();
        for (place, byte) in changes {
            let place = after + place.index(bytes.len() - after);
            bytes[place] = byte;
        }
        let whole = passed(&bytes, &[100_000], 1 << 20);
        let split = passed(&bytes, &sizes, room);
        prop_assert!(whole == split);
    }
}

/// A block that goes on for longer than any that is served is passed on instead of being held back, and so are those
/// that come after it.
#[test]
fn a_block_without_end_is_not_held_back() {
    let endless = |frames: usize, fragment: &[u8]| {
        let mut bytes = [begun(), frame(1, 1, 1, &[0x83])].concat();
        for _ in 0..frames {
            bytes.extend(frame(9, 0, 1, fragment));
        }
        bytes
    };
    for bytes in [endless(10, &[0x83; 16_384]), endless(100, &[])] {
        for sizes in [&[100_000][..], &[7, 1_000]] {
            assert_eq!(passed(&bytes, sizes, 8_192), (bytes.clone(), false));
        }
    }
}

// --- FloodCount ---

/// A connection under a clock that the test moves.
struct Connection {
    follower: FrameScanner,
    now: Arc<AtomicU64>,
    clock: Clock,
    stream: u32,
}

impl Connection {
    fn new() -> Self {
        let now = Arc::new(AtomicU64::new(1_000_000));
        let shown = Arc::clone(&now);
        let clock: Clock = Arc::new(move || shown.load(Ordering::Relaxed));
        Self {
            follower: FrameScanner::new(0, HEADER_BYTES, &clock),
            now,
            clock,
            stream: 1,
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), scanner::Flood> {
        let followed = self.follower.follow(bytes, &self.clock)?;
        assert_eq!(followed.passed, bytes.len());
        Ok(())
    }

    /// A call without its message; its stream.
    fn begin(&mut self) -> u32 {
        let stream = self.stream;
        self.stream += 2;
        let headers = frame(1, 4, stream, &[0x83, 0x84, 0x86, 0xbe]);
        self.send(&headers).unwrap();
        stream
    }

    /// A complete call; its stream.
    fn call(&mut self) -> u32 {
        let stream = self.begin();
        self.send(&frame(0, 1, stream, &[0; 60])).unwrap();
        stream
    }

    fn later(&mut self, micros: u64) {
        self.now.fetch_add(micros, Ordering::Relaxed);
    }
}

fn ping() -> Vec<u8> {
    frame(6, 0, 0, &[0; 8])
}

/// Frames that say nothing, each kind.
fn idle() -> [(&'static str, Vec<u8>); 9] {
    [
        ("PING", ping()),
        ("SETTINGS", frame(4, 0, 0, &[])),
        ("SETTINGS that acknowledge", frame(4, 1, 0, &[])),
        ("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 0, 7])),
        ("WINDOW_UPDATE", frame(8, 0, 0, &[0, 0, 0, 1])),
        ("an unknown kind", frame(0xbe, 0, 0, &[1; 20])),
        ("empty DATA", frame(0, 0, 1, &[])),
        ("CONTINUATION", frame(9, 0, 1, &[])),
        ("HEADERS of an old stream", frame(1, 4, 1, &[])),
    ]
}

#[test]
fn a_flood_of_any_control_frame_is_cut_off() {
    for (kind, bytes) in idle() {
        let mut connection = Connection::new();
        connection.call();
        let mut sent = 0;
        // A thousand each second, for a minute.
        let flood = loop {
            connection.later(1_000);
            match connection.send(&bytes) {
                Ok(()) => sent += 1,
                Err(flood) => break flood,
            }
            assert!(sent < 60_000, "{kind}");
        };
        assert_eq!(flood, scanner::Flood::ControlFrames, "{kind}");
        assert!(sent >= 1_000, "{kind}: {sent}");
    }
}

#[test]
fn what_clients_send_is_no_flood() {
    // Keepalive, and nothing else, a hundred times a second for an hour.
    let mut silent = Connection::new();
    for _ in 0..360_000 {
        silent.later(10_000);
        silent.send(&ping()).unwrap();
    }
    // What a client sends that measures its bandwidth at each response, and opens its windows at each.
    let mut busy = Connection::new();
    for _ in 0..100_000 {
        let stream = busy.call();
        let update = |stream| frame(8, 0, stream, &[0, 0, 0, 60]);
        let bytes = [
            ping(),
            update(0),
            update(stream),
            update(0),
            frame(6, 1, 0, &[0; 8]),
        ];
        busy.send(&bytes.concat()).unwrap();
    }
    // A message of four megabytes, in frames of 1 kB: this is no control frame.
    let mut large = Connection::new();
    let stream = large.call();
    for _ in 0..4_096 {
        large.send(&frame(0, 0, stream, &[0; 1_024])).unwrap();
    }
    assert!(
        large
            .follower
            .follow(&ping().repeat(9_000), &large.clock)
            .is_ok()
    );
}

#[test]
fn the_resets_of_a_stall_are_no_flood_and_those_of_an_attack_are() {
    let reset = |stream| frame(3, 0, stream, &[0, 0, 0, 8]);
    // All calls of a stall of six seconds, at 5,000 calls a second.
    let mut stalled = Connection::new();
    for _ in 0..10 {
        for _ in 0..30_000 {
            let stream = stalled.call();
            stalled.send(&reset(stream)).unwrap();
        }
        stalled.later(60_000_000);
    }
    // Each second call, for ever.
    let mut hedging = Connection::new();
    for _ in 0..200_000 {
        hedging.call();
        let stream = hedging.call();
        hedging.send(&reset(stream)).unwrap();
    }
    // Complete calls that a client of Envoy cancels, all of them, 20,000 a second.
    let mut cancelled = Connection::new();
    for _ in 0..200_000 {
        cancelled.later(50);
        let stream = cancelled.call();
        cancelled.send(&reset(stream)).unwrap();
    }
    // 20,000 calls a second, all reset before they are complete.
    let mut attacker = Connection::new();
    let mut sent = 0;
    let flood = loop {
        attacker.later(50);
        let stream = attacker.begin();
        match attacker.send(&reset(stream)) {
            Ok(()) => sent += 1,
            Err(flood) => break flood,
        }
        assert!(sent < 200_000);
    };
    assert_eq!(flood, scanner::Flood::Resets);
    assert!(sent > 50_000, "{sent}");
}
