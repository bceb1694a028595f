//! The first words on a connection: the TLS handshake, and what HTTP/2 begins with. Whoever does not say
//! them in time is not waited for.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::rustls::{Error, InvalidMessage};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::connections::Connection;
use super::socket::Socket;
use crate::tls::{Certificates, advice};

/// The bytes that every HTTP/2 connection begins with, before any frame.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How connections are opened.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    /// What TLS handshakes are made with; `None` for plaintext.
    pub(super) certificates: Option<Arc<Certificates>>,
    /// How long it may take until HTTP/2 is spoken.
    pub(super) patience: Duration,
}

impl Opening {
    /// Opens a connection, up to the first frame; `None` when nothing was said on it, as by who only
    /// looks whether the port is open.
    pub(super) async fn open(&self, connection: Connection) -> io::Result<Option<Opened>> {
        let deadline = Instant::now() + self.patience;
        let (socket, place) = connection.into_parts();
        let mut stream = match &self.certificates {
            None => Either::Left(socket),
            Some(certificates) => {
                let handshake = certificates.acceptor().accept(socket);
                let done = timeout_at(deadline, handshake).await;
                match done.map_err(|_| late("it did not end the TLS handshake in time"))? {
                    Ok(stream) => Either::Right(Box::new(stream)),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                    Err(error) => return Err(explained(error)),
                }
            }
        };
        let preface = timeout_at(deadline, preface(&mut stream)).await;
        let said = preface.map_err(|_| late("it did not begin to speak HTTP/2 in time"))??;
        Ok(said.then_some(Opened {
            stream,
            replayed: 0,
            _place: place,
        }))
    }
}

/// Reads the preface, and whether there was anything to read.
async fn preface(stream: &mut Stream) -> io::Result<bool> {
    let mut bytes = [0; PREFACE.len()];
    let mut read = 0;
    while read < bytes.len() {
        match stream.read(&mut bytes[read..]).await? {
            0 if read == 0 => return Ok(false),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => read += more,
        }
        if !PREFACE.starts_with(&bytes[..read]) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                mistaken(&bytes[..read]),
            ));
        }
    }
    Ok(true)
}

/// What a client speaks that does not speak HTTP/2.
fn mistaken(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x16, 0x03, ..] => {
            "it speaks TLS, but this port serves plaintext: set GRPC_SERVER_USE_TLS=true here, \
             or have it speak plaintext"
        }
        [b'A'..=b'Z', b'A'..=b'Z', ..] => {
            "it speaks HTTP/1.1, but this port serves gRPC; PORT serves /json and /healthcheck"
        }
        _ => "it does not speak HTTP/2",
    }
}

/// A connection on which HTTP/2 is spoken.
#[derive(Debug)]
pub(super) struct Opened {
    stream: Stream,
    /// Bytes of the preface that have been read a second time, by the library.
    replayed: usize,
    _place: OwnedSemaphorePermit,
}

/// Plain, or with TLS.
type Stream = Either<Socket, Box<TlsStream<Socket>>>;

impl AsyncRead for Opened {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = &PREFACE[this.replayed..];
        if rest.is_empty() {
            return Pin::new(&mut this.stream).poll_read(context, into);
        }
        let count = rest.len().min(into.remaining());
        into.put_slice(&rest[..count]);
        this.replayed += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Opened {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

fn late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// A handshake that failed, so that one knows what to do where the library's words do not say it.
fn explained(error: io::Error) -> io::Error {
    let cause = error
        .get_ref()
        .and_then(|cause| cause.downcast_ref::<Error>());
    let advice = match cause {
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "it does not speak TLS, but this port serves nothing else: have it use TLS, \
             or set GRPC_SERVER_USE_TLS=false here"
        }
        Some(Error::NoCertificatesPresented) => {
            "it shows no certificate, but GRPC_CLIENT_TLS_CACERT asks for one"
        }
        Some(error @ Error::InvalidCertificate(wrong)) => {
            let advice = advice(wrong, "GRPC_CLIENT_TLS_CACERT", "see GRPC_CLIENT_TLS_SAN");
            let text = match advice.is_empty() {
                true => format!("GRPC_CLIENT_TLS_CACERT: {error}"),
                false => format!("GRPC_CLIENT_TLS_CACERT: {error}; {advice}"),
            };
            return io::Error::new(io::ErrorKind::InvalidData, text);
        }
        _ => return error,
    };
    io::Error::new(error.kind(), advice)
}
