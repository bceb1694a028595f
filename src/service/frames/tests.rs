//! Traffic of the library's own client and of clients that encode in any way that HPACK allows, split into reads of any
//! size.

pub(super) mod encoder;
mod floods;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, Request, Response};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::runtime::{Builder, Runtime};

use super::*;
use encoder::{a_call, encoded};

/// Maximum size of headers that the server accepts.
const HEADER_BYTES: usize = 16_384;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Reads the preface, as the server does, and inspects what follows.
async fn frames<S: AsyncRead + Unpin>(mut stream: S) -> Frames<S> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await.unwrap();
    let reporter = FloodReporter::new(FloodCount::default(), "a test".to_owned(), Arc::new(|| 0));
    Frames::new(stream, HEADER_BYTES, reporter)
}

/// A stream whose reads return at most as many bytes as `sizes` says, which is repeated.
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

/// Maximum numbers of bytes of the reads.
fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(
        prop_oneof![1_usize..30, 1_usize..3_000, Just(100_000)],
        1..10,
    )
}

/// Encodes a frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// What a client sends first.
fn begun() -> Vec<u8> {
    [PREFACE, &frame(4, 0, 0, &[])].concat()
}

/// Returns what is passed on of bytes that are read in parts of these sizes, and whether the connection was closed.
fn passed(bytes: &[u8], sizes: &[usize], room: usize) -> (Vec<u8>, bool) {
    runtime().block_on(async {
        let mut frames = frames(Split::new(bytes, sizes)).await;
        let (mut passed, mut buffer) = (Vec::new(), vec![0; room]);
        loop {
            match frames.read(&mut buffer).await {
                Ok(0) => return (passed, false),
                Ok(count) => passed.extend_from_slice(&buffer[..count]),
                Err(_) => return (passed, true),
            }
            let held = frames.held.capacity();
            assert!(
                held <= 2 * (HEADER_BYTES + 2 * 16_393 + READ_BYTES),
                "{held} bytes"
            );
        }
    })
}

/// Serves at most `most` requests, and returns their heads.
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

// --- The client of the library ---

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
            // The server can have responded already.
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
    fn valid_traffic_is_passed_on_unchanged(
        requests in vec((valid(), headers()), 1..12),
        sizes in sizes(),
    ) {
        let (client, server) = tokio::io::duplex(1 << 16);
        let split = Split::new(server, &sizes);
        let sent = Arc::clone(&split.read);
        let seen = Arc::default();
        let serving = async {
            let mut passed = Split::new(frames(split).await, &[100_000]);
            passed.read = Arc::clone(&seen);
            served(passed, usize::MAX).await
        };
        let (called, served) = runtime()
            .block_on(async { tokio::join!(call(client, &requests), serving) });
        called.unwrap();
        let served = served.unwrap();
        prop_assert!(*sent.lock().unwrap() == *seen.lock().unwrap());
        prop_assert_eq!(served.len(), requests.len());
        for (request, (authority, _)) in served.iter().zip(&requests) {
            prop_assert_eq!(request.uri().authority().unwrap().as_str(), authority);
        }
    }
}

// --- Clients that encode in any way that HPACK allows ---

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn calls_with_any_authority_are_served(calls in vec(a_call(), 1..30), sizes in sizes()) {
        let bytes = encoded(&calls);
        let requests = runtime().block_on(async {
            let (mut client, server) = tokio::io::duplex(1 << 20);
            let sending = async {
                client.write_all(&bytes).await.unwrap();
                // Wait until the server has served all of them and closes.
                let _ = client.read_to_end(&mut Vec::new()).await;
            };
            let serving = async {
                let server = frames(Split::new(server, &sizes)).await;
                served(server, calls.len()).await
            };
            tokio::join!(serving, sending).0
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

    /// Bytes can violate any rule of HTTP/2. What is passed on does not depend on how they are split, and little is
    /// held back.
    #[test]
    fn splitting_does_not_change_what_is_passed_on(
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

/// A header block that is longer than the server accepts is passed on instead of being held back, and so is what
/// follows it.
#[test]
fn an_endless_block_is_not_held_back() {
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
