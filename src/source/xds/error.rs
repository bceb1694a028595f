//! Errors of the stream to the management server, as sentences: what failed, why, and what to do.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use tonic::{Code, Status};

use super::{Settings, TlsFiles};

/// Maximum number of characters of a server's text that are logged.
const MAX_PRINTED: usize = 300;

/// An error of the stream. It is printed as a sentence without a period.
#[derive(Debug, Clone)]
pub(super) struct StreamError {
    sentence: String,
    /// Whether the connection was closed without a reason.
    is_unexplained: bool,
}

/// Errors that differ only in numbers are equal: an error about an expired certificate contains the time.
impl PartialEq for StreamError {
    fn eq(&self, other: &Self) -> bool {
        let words = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
        words(&self.sentence) == words(&other.sentence)
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl StreamError {
    fn new(sentence: String) -> Self {
        Self {
            sentence,
            is_unexplained: false,
        }
    }

    /// A file of [`TlsFiles`] is missing or invalid.
    pub(super) fn of_file(option: &str, wrong: &str) -> Self {
        Self::new(format!("{option}: {wrong}"))
    }

    /// The files of [`TlsFiles`] do not make a TLS client.
    pub(super) fn of_certificates(error: &(dyn Error + 'static)) -> Self {
        Self::new(format!(
            "TLS to the management server cannot be set up ({}); check that \
             CONFIG_GRPC_XDS_CLIENT_TLS_CERT and _KEY belong together, and that \
             CONFIG_GRPC_XDS_SERVER_TLS_CACERT is set or the system has certificates",
            root_cause(error)
        ))
    }

    /// The server does not answer in time.
    pub(super) fn no_answer(settings: &Settings, waited: Duration) -> Self {
        Self::new(format!(
            "the management server {} does not answer within {waited:?}; check \
             CONFIG_GRPC_XDS_SERVER_URL and the network in between",
            settings.server
        ))
    }

    /// The server does not read from the connection.
    pub(super) fn not_reading(settings: &Settings) -> Self {
        let server = &settings.server;
        Self::new(format!(
            "the management server {server} does not read the answers to what it sends"
        ))
    }

    /// The server ended the stream with the status OK.
    pub(super) fn closed(settings: &Settings) -> Self {
        let server = &settings.server;
        Self::new(format!("the management server {server} closed the stream"))
    }

    /// A connection could not be established, or it was closed.
    pub(super) fn of_connection(settings: &Settings, error: &(dyn Error + 'static)) -> Self {
        let server = &settings.server;
        let cause = root_cause(error);
        let kind = causes(error).find_map(|cause| {
            let error = cause.downcast_ref::<io::Error>()?;
            Some(error.kind())
        });
        let is_name = causes(error).any(|cause| cause.to_string() == "dns error");
        Self::new(match kind {
            _ if is_name => format!(
                "the name of the management server {server} cannot be resolved ({cause}); check \
                 CONFIG_GRPC_XDS_SERVER_URL"
            ),
            Some(io::ErrorKind::ConnectionRefused) => format!(
                "nothing listens at the management server's address {server}; check \
                 CONFIG_GRPC_XDS_SERVER_URL, and that it runs"
            ),
            Some(io::ErrorKind::TimedOut) => format!(
                "the management server {server} does not answer ({cause}); check \
                 CONFIG_GRPC_XDS_SERVER_URL and the network in between"
            ),
            Some(io::ErrorKind::InvalidData) if settings.tls.is_some() => format!(
                "TLS to the management server {server} fails ({cause}); check {}",
                tls_hint(&cause)
            ),
            _ => {
                return Self {
                    sentence: format!(
                        "the connection to the management server {server} broke ({cause})"
                    ),
                    is_unexplained: true,
                };
            }
        })
    }

    /// Adds a hint about likely causes if the server has sent nothing before.
    pub(super) fn with_hint(self, settings: &Settings) -> Self {
        if !self.is_unexplained {
            return self;
        }
        let guess = match &settings.tls {
            None => "if it speaks TLS, set CONFIG_GRPC_XDS_SERVER_USE_TLS=true",
            Some(TlsFiles { identity: None, .. }) => {
                "if it wants a certificate, set CONFIG_GRPC_XDS_CLIENT_TLS_CERT"
            }
            Some(_) => "check that it trusts CONFIG_GRPC_XDS_CLIENT_TLS_CERT",
        };
        Self::new(format!("{}; {guess}", self.sentence))
    }

    /// The stream ended with a status, which the server sent or the client made from a connection error.
    pub(super) fn of_stream(settings: &Settings, status: &Status) -> Self {
        let server = &settings.server;
        let message = printable(status.message());
        if message
            .to_lowercase()
            .replace('_', " ")
            .contains("too many pings")
        {
            return Self::new(format!(
                "the management server {server} rejects the frequency of keepalive pings; \
                 raise XDS_CLIENT_KEEPALIVE_INTERVAL"
            ));
        }
        match (status.source(), status.code()) {
            (_, Code::OutOfRange) if message.contains("too large") => Self::new(format!(
                "the management server {server} sent a message of more than {} bytes ({message}); \
                 raise XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES",
                settings.max_message
            )),
            (Some(source), _) => Self::of_connection(settings, source),
            (None, Code::Unimplemented) => Self::new(format!(
                "{server} is no management server: it does not serve AggregatedDiscoveryService; \
                 check CONFIG_GRPC_XDS_SERVER_URL"
            )),
            (None, Code::Unauthenticated | Code::PermissionDenied) => Self::new(format!(
                "the management server {server} rejects this client ({message}); check \
                 CONFIG_GRPC_XDS_CLIENT_TLS_CERT and CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS"
            )),
            (None, code) => Self::new(format!(
                "the management server {server} ended the stream ({code:?}: {message})"
            )),
        }
    }
}

/// Returns a server's text escaped and truncated for the log.
pub(super) fn printable(message: &str) -> String {
    let end = message.char_indices().nth(MAX_PRINTED);
    match end {
        Some((end, _)) => format!("{}...", message[..end].escape_debug()),
        None => message.escape_debug().to_string(),
    }
}

/// Returns what to check after a TLS error.
fn tls_hint(cause: &str) -> &'static str {
    if cause.contains("corrupt message") {
        "that it speaks TLS: CONFIG_GRPC_XDS_SERVER_USE_TLS=true asks for it"
    } else if cause.contains("not valid for name") || cause.contains("NotValidForName") {
        "CONFIG_GRPC_XDS_SERVER_TLS_SAN, the name in its certificate"
    } else if cause.contains("xpired") || cause.contains("not valid yet") {
        "the dates of its certificate, and the clock of this machine"
    } else if cause.contains("CaUsedAsEndEntity") {
        "its certificate, which is an authority's own (CA:TRUE): put this very certificate into \
         CONFIG_GRPC_XDS_SERVER_TLS_CACERT, or have the authority sign one for the server"
    } else if cause.contains("fatal alert") {
        "CONFIG_GRPC_XDS_CLIENT_TLS_CERT, which it may not trust"
    } else {
        "CONFIG_GRPC_XDS_SERVER_TLS_CACERT, who signed its certificate"
    }
}

/// Returns the text of the innermost source of an error.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    causes(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
