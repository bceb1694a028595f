//! Opens gRPC connections: the TLS handshake and the HTTP/2 preface, within a timeout.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::rustls::{Error, InvalidMessage};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::frames::PREFACE;
use super::socket::Socket;
use crate::tls::{Certificates, advice};

/// How connections are opened.
#[derive(Debug, Clone)]
pub(super) struct Handshake {
    /// Certificates of the TLS handshake; `None` for plaintext.
    pub(super) certificates: Option<Arc<Certificates>>,
    /// Maximum time until the client has sent the preface.
    pub(super) timeout: Duration,
}

/// A connection in plaintext or with TLS.
pub(super) type Stream = Either<Socket, Box<TlsStream<Socket>>>;

impl Handshake {
    /// Opens a connection and reads the preface; `None` if the client closes it without sending anything, as port
    /// scanners and TCP probes do.
    pub(super) async fn open(&self, socket: Socket) -> io::Result<Option<Stream>> {
        let deadline = Instant::now() + self.timeout;
        let mut stream = match &self.certificates {
            None => Either::Left(socket),
            Some(certificates) => {
                let accepted = timeout_at(deadline, certificates.acceptor().accept(socket)).await;
                match accepted.map_err(|_| {
                    timed_out("the client did not complete the TLS handshake in time")
                })? {
                    Ok(stream) => Either::Right(Box::new(stream)),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                    Err(error) => return Err(with_advice(error)),
                }
            }
        };
        let preface = timeout_at(deadline, read_preface(&mut stream)).await;
        let is_open = preface
            .map_err(|_| timed_out("the client did not send the HTTP/2 preface in time"))??;
        Ok(is_open.then_some(stream))
    }
}

/// Reads the preface. Returns whether the client has sent anything.
async fn read_preface(stream: &mut Stream) -> io::Result<bool> {
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
                other_protocol(&bytes[..read]),
            ));
        }
    }
    Ok(true)
}

/// Describes the protocol of a client that does not send HTTP/2, and what to do.
fn other_protocol(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x16, 0x03, ..] => {
            "the client uses TLS, but this port is plaintext; set GRPC_SERVER_USE_TLS=true, or configure the client for plaintext"
        }
        [b'A'..=b'Z', b'A'..=b'Z', ..] => {
            "the client uses HTTP/1.1, but this is the gRPC port; /json and /healthcheck are on PORT"
        }
        _ => "the client does not use HTTP/2",
    }
}

fn timed_out(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, message)
}

/// Replaces the error of a TLS handshake by one that says what to do, where the text of the library does not.
fn with_advice(error: io::Error) -> io::Error {
    let cause = error
        .get_ref()
        .and_then(|cause| cause.downcast_ref::<Error>());
    let text = match cause {
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "the client does not use TLS, but this port requires it; configure the client for TLS, or set GRPC_SERVER_USE_TLS=false"
        }
        Some(Error::NoCertificatesPresented) => {
            "the client sent no certificate, but GRPC_CLIENT_TLS_CACERT requires one"
        }
        Some(error @ Error::InvalidCertificate(cause)) => {
            let advice = advice(cause, "GRPC_CLIENT_TLS_CACERT", "see GRPC_CLIENT_TLS_SAN");
            let text = match advice.is_empty() {
                true => format!("GRPC_CLIENT_TLS_CACERT: {error}"),
                false => format!("GRPC_CLIENT_TLS_CACERT: {error}; {advice}"),
            };
            return io::Error::new(io::ErrorKind::InvalidData, text);
        }
        _ => return error,
    };
    io::Error::new(error.kind(), text)
}
