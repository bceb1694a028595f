//! What keeps the management server's configuration away, in a sentence: what, why, and what to do.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use tonic::{Code, Status};

use super::{Settings, TlsFiles};

/// The longest text of a server that is repeated, in characters.
const MAX_SHOWN: usize = 300;

/// A sentence without its end.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    sentence: String,
    /// The connection ended, and the other side did not say why.
    is_unexplained: bool,
}

/// Two that differ only in numbers are the same trouble: TLS tells the time with an expired certificate.
impl PartialEq for Trouble {
    fn eq(&self, other: &Self) -> bool {
        let words = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
        words(&self.sentence) == words(&other.sentence)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl Trouble {
    fn new(sentence: String) -> Self {
        Self {
            sentence,
            is_unexplained: false,
        }
    }

    /// A file of [`TlsFiles`] is of no use.
    pub(super) fn of_file(option: &str, wrong: &str) -> Self {
        Self::new(format!("{option}: {wrong}"))
    }

    /// The files are there, but do not make a client.
    pub(super) fn of_certificates(error: &(dyn Error + 'static)) -> Self {
        Self::new(format!(
            "TLS to the management server cannot be set up ({}); check that \
             CONFIG_GRPC_XDS_CLIENT_TLS_CERT and _KEY belong together, and that \
             CONFIG_GRPC_XDS_SERVER_TLS_CACERT is set or the system has certificates",
            root(error)
        ))
    }

    /// The server does not answer at all.
    pub(super) fn no_answer(settings: &Settings, waited: Duration) -> Self {
        Self::new(format!(
            "the management server {} does not answer within {waited:?}; check \
             CONFIG_GRPC_XDS_SERVER_URL, and what stands between",
            settings.server
        ))
    }

    /// The server does not take what it is sent.
    pub(super) fn clogged(settings: &Settings) -> Self {
        let server = &settings.server;
        Self::new(format!(
            "the management server {server} does not read the answers to what it sends"
        ))
    }

    /// The server ended the stream, and calls that right.
    pub(super) fn closed(settings: &Settings) -> Self {
        let server = &settings.server;
        Self::new(format!("the management server {server} closed the stream"))
    }

    /// No connection came about, or it broke.
    pub(super) fn of_connection(settings: &Settings, error: &(dyn Error + 'static)) -> Self {
        let server = &settings.server;
        let cause = root(error);
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
                 CONFIG_GRPC_XDS_SERVER_URL, and what stands between"
            ),
            Some(io::ErrorKind::InvalidData) if settings.tls.is_some() => format!(
                "TLS to the management server {server} fails ({cause}); check {}",
                blamed(&cause)
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

    /// With what it may mean when nothing was heard from the server before.
    pub(super) fn at_first(self, settings: &Settings) -> Self {
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

    /// The stream ended with a status, the server's own or one for what happened to the connection.
    pub(super) fn of_stream(settings: &Settings, status: &Status) -> Self {
        let server = &settings.server;
        let message = shown(status.message());
        if message
            .to_lowercase()
            .replace('_', " ")
            .contains("too many pings")
        {
            return Self::new(format!(
                "the management server {server} does not want to be asked so often whether it is alive; \
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
                "the management server {server} refuses this client ({message}); check \
                 CONFIG_GRPC_XDS_CLIENT_TLS_CERT and CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS"
            )),
            (None, code) => Self::new(format!(
                "the management server {server} ended the stream ({code:?}: {message})"
            )),
        }
    }
}

/// What a server says, fit for a log.
pub(super) fn shown(message: &str) -> String {
    let end = message.char_indices().nth(MAX_SHOWN);
    match end {
        Some((end, _)) => format!("{}...", message[..end].escape_debug()),
        None => message.escape_debug().to_string(),
    }
}

/// The option to check for what TLS complains of.
fn blamed(cause: &str) -> &'static str {
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

/// What an error says at its end, where the cause is.
fn root(error: &(dyn Error + 'static)) -> String {
    causes(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
