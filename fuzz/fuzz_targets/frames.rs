//! What a client sends on an HTTP/2 connection: any bytes, read in parts of any size, are passed on alike; what the
//! library's own client sends is passed on as it is; and a call with any authority is served.
#![no_main]

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{client, server};
use http::uri::Authority;
use http::{Request, Response};
use libfuzzer_sys::fuzz_target;
use ratekeeper::service::{FloodCount, FloodReporter, Frames, PREFACE};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::runtime::{Builder, Runtime};

const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const HEADER_BYTES: usize = 16_384;

fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime without drivers")
}

/// Reads the preface, as the server does, and inspects what follows.
async fn frames<S: AsyncRead + Unpin>(mut stream: S) -> Frames<S> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await.expect("a preface");
    let reporter = FloodReporter::new(FloodCount::default(), "a fuzzer".to_owned(), Arc::new(|| 0));
    Frames::new(stream, HEADER_BYTES, reporter)
}

/// A stream that is read in parts of these sizes, and remembers what was read.
struct Split<S> {
    stream: S,
    sizes: Vec<u8>,
    turn: usize,
    read: Arc<Mutex<Vec<u8>>>,
}

impl<S> Split<S> {
    fn new(stream: S, sizes: &[u8]) -> Self {
        Self { stream, sizes: sizes.to_vec(), turn: 0, read: Arc::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Split<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let size = match this.sizes.get(this.turn % this.sizes.len().max(1)) {
            None | Some(0) => into.remaining(),
            Some(&size) => usize::from(size).min(into.remaining()),
        };
        let mut space = vec![0; size];
        let mut part = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut this.stream).poll_read(context, &mut part))?;
        this.turn += 1;
        this.read.lock().expect("it is not poisoned").extend_from_slice(part.filled());
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

/// What is passed on, and whether the connection was closed.
async fn passed(bytes: &[u8], sizes: &[u8]) -> (Vec<u8>, bool) {
    let (mut passed, mut buffer) = (Vec::new(), [0; 4_096]);
    let mut frames = frames(Split::new(bytes, sizes)).await;
    loop {
        match frames.read(&mut buffer).await {
            Ok(0) => return (passed, false),
            Ok(count) => passed.extend_from_slice(&buffer[..count]),
            Err(_) => return (passed, true),
        }
    }
}

/// The authorities of so many calls that are served; then perhaps waits for the client to close.
async fn served<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    calls: usize,
    waits: bool,
) -> Vec<String> {
    let mut connection = server::handshake(stream).await.expect("a connection");
    let mut seen = Vec::new();
    while seen.len() < calls {
        let call = connection.accept().await.expect("a call");
        let (request, mut answer) = call.expect("no error");
        let sent: Result<h2::SendStream<Bytes>, _> = answer.send_response(Response::new(()), true);
        sent.expect("an answer");
        seen.push(request.uri().authority().expect("an authority").to_string());
    }
    while waits && connection.accept().await.is_some() {}
    seen
}

async fn by_the_library(authorities: &[Authority], sizes: &[u8]) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let split = Split::new(far, sizes);
    let sent = Arc::clone(&split.read);
    let seen = Arc::default();
    let serving = async {
        let mut passed = Split::new(frames(split).await, &[]);
        passed.read = Arc::clone(&seen);
        served(passed, authorities.len(), true).await
    };
    let calling = async {
        let (mut client, connection) = client::handshake(near).await.expect("a connection");
        let calls = async {
            for authority in authorities {
                client = client.ready().await.expect("room");
                let request = Request::get(format!("http://{authority}/")).body(()).expect("a request");
                let (response, _) = client.send_request(request, true).expect("a call");
                response.await.expect("an answer");
            }
            drop(client);
        };
        tokio::join!(calls, connection).1.expect("a good end");
    };
    let (seen_authorities, ()) = tokio::join!(serving, calling);
    assert!(authorities.iter().map(Authority::as_str).eq(&seen_authorities));
    assert!(*sent.lock().expect("it is not poisoned") == *seen.lock().expect("it is not poisoned"));
}

/// Literals of this form: 0x40, 0x00 and 0x10.
async fn by_hand(authorities: &[(u8, Vec<u8>)], sizes: &[u8]) {
    let (mut near, far) = tokio::io::duplex(1 << 16);
    let mut bytes = [PREFACE, SETTINGS].concat();
    for ((form, authority), stream) in authorities.iter().zip((1_u32..).step_by(2)) {
        // An empty one is not put into the dynamic table by any encoder.
        let form = match (form % 3, authority.len()) {
            (0, 1..) => 0x41,
            (1, _) => 0x01,
            _ => 0x11,
        };
        let length = u8::try_from(authority.len()).expect("it is short");
        let block = [&[0x83, 0x86, 0x84, form, length][..], authority].concat();
        bytes.extend([0, 0, u8::try_from(block.len()).expect("it is short"), 1, 5]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(block);
    }
    let sending = async {
        near.write_all(&bytes).await.expect("room");
        // Until the server has served all of them, and closes.
        let _ = near.read_to_end(&mut Vec::new()).await;
    };
    let serving = async {
        let server = frames(Split::new(far, sizes)).await;
        served(server, authorities.len(), false).await
    };
    let (seen, ()) = tokio::join!(serving, sending);
    for (seen, (_, authority)) in seen.iter().zip(authorities) {
        match Authority::try_from(&authority[..]) {
            Ok(valid) => assert_eq!(valid.as_str(), seen),
            Err(_) => assert_eq!(seen.len(), authority.len().max(1)),
        }
    }
}

fuzz_target!(|input: (Vec<u8>, Vec<u8>, Vec<(u8, Vec<u8>)>)| {
    let (bytes, sizes, mut authorities) = input;
    authorities.truncate(20);
    authorities.iter_mut().for_each(|(_, authority)| authority.truncate(100));
    let valid = authorities.iter().filter_map(|(_, authority)| Authority::try_from(&authority[..]).ok());
    let valid: Vec<Authority> = valid.collect();
    runtime().block_on(async {
        let bytes = [PREFACE, &bytes].concat();
        assert!(passed(&bytes, &[]).await == passed(&bytes, &sizes).await);
        by_the_library(&valid, &sizes).await;
        by_hand(&authorities, &sizes).await;
    });
});
