//! Configuration from an xDS management server such as Envoy Gateway: one aggregated discovery stream, state of the world.
//!
//! [`Client::next`] returns a new configuration, and [`Client::report`] sends its ACK or NACK. The client reconnects forever,
//! and the active configuration is kept while the server is unavailable. The client has no task of its own: it runs while
//! `next` is awaited.
//!
//! Each stream starts without a version. Servers count versions from 1 after each start, and a server that mistook the
//! version of an earlier stream for its own would send nothing.

mod backoff;
mod connection;
mod error;
mod resources;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderMap;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use backoff::Backoff;
use error::{StreamError, printable};
use pb::google::rpc;
use pb::{DiscoveryResponse, Node};
use resources::Fingerprint;
use stream::{Event, SILENCE, Stream};

pub use backoff::Retry;
pub use ratekeeper_api::xds as pb;
pub use resources::Update;

/// The type of the requested resources.
pub const TYPE_URL: &str = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig";

/// Settings of the connection to a management server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Host and port.
    pub server: String,
    /// Node ID of this server.
    pub node_id: String,
    /// Node metadata of this server.
    pub node_metadata: Vec<(String, String)>,
    /// Headers of the stream. Their values should be marked as sensitive.
    pub headers: HeaderMap,
    /// Files for TLS. `None`: plaintext.
    pub tls: Option<TlsFiles>,
    /// Maximum size of a received message in bytes.
    pub max_message: usize,
    /// Interval of keepalive pings.
    pub keepalive: Duration,
    /// Waits before attempts to reconnect.
    pub retry: Retry,
}

/// Paths of certificates. They are read for each connection, so that certificates can be rotated.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// Client certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// CA certificates that sign the management server's certificate. `None`: the system's.
    pub authority: Option<PathBuf>,
    /// Name in the management server's certificate. `None`: its host.
    pub server_name: Option<String>,
}

/// A client of a management server.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    backoff: Backoff,
    stream: Option<Stream>,
    /// What has been logged since the last stable stream, so that an error is not logged for each attempt.
    logged: Logged,
    /// The configuration that was accepted last, on any stream.
    accepted: Option<Fingerprint>,
    /// The latest configuration and its mistakes, if it was rejected.
    rejected: Option<(Fingerprint, String)>,
    /// The response that [`Client::report`] acknowledges.
    unacknowledged: Option<Response>,
    /// Whether the server has ever sent a response.
    has_response: bool,
    /// Whether there is a stream, for the admin API.
    connected: Arc<AtomicBool>,
}

/// What has been logged about a server.
#[derive(Debug, Default)]
struct Logged {
    /// The latest logged error.
    error: Option<StreamError>,
    /// Whether a response after that error was logged.
    recovery: bool,
    /// Whether it was logged that the server sends no configuration.
    silence: bool,
}

/// A response, as far as its ACK or NACK needs it.
#[derive(Debug)]
struct Response {
    fingerprint: Fingerprint,
    version: String,
    nonce: String,
}

impl Client {
    /// Creates a client. It connects when [`next`](Self::next) is first awaited.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            backoff: Backoff::new(settings.retry.clone()),
            settings,
            stream: None,
            logged: Logged::default(),
            accepted: None,
            rejected: None,
            unacknowledged: None,
            has_response: false,
            connected: Arc::default(),
        }
    }

    /// Returns a flag that is true while there is a stream.
    #[must_use]
    pub fn connected(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.connected)
    }

    /// Waits until the server sends a new configuration, which must be [reported](Self::report) before the next call. The only
    /// thing that is lost by cancelling is an attempt to connect.
    pub async fn next(&mut self) -> Update {
        loop {
            let outcome = match &mut self.stream {
                None => self.connect().await,
                Some(stream) => match stream.next().await {
                    Ok(Event::Response(response)) => match self.consider(response) {
                        Some(update) => return update,
                        None => Ok(()),
                    },
                    Ok(Event::Silence) => {
                        self.log_silence();
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = outcome {
                self.failed(error);
            }
        }
    }

    /// Sends the ACK of the configuration that [`next`](Self::next) returned, or the NACK with its mistakes.
    pub fn report(&mut self, outcome: Result<(), String>) {
        let Some(response) = self.unacknowledged.take() else {
            return;
        };
        match &outcome {
            Ok(()) => {
                self.accepted = Some(response.fingerprint);
                self.rejected = None;
            }
            Err(reason) => self.rejected = Some((response.fingerprint, reason.clone())),
        }
        if let Some(stream) = &mut self.stream {
            stream.acknowledge(&response, outcome);
        }
    }

    // --- Connecting ---

    async fn connect(&mut self) -> Result<(), StreamError> {
        self.backoff.wait().await;
        tracing::debug!(
            server = self.settings.server,
            "connecting to the management server"
        );
        let channel = connection::connect(&self.settings).await?;
        self.stream = Some(Stream::open(channel, &self.settings));
        self.connected.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn failed(&mut self, error: StreamError) {
        let stream = self.stream.take();
        self.connected.store(false, Ordering::Relaxed);
        let age = stream.as_ref().map(Stream::age).unwrap_or_default();
        if self.backoff.is_success(age) {
            self.backoff.succeeded();
        }
        if self.backoff.is_stable(age) {
            self.logged = Logged::default();
        }
        let retry_in = self.backoff.failed();
        let is_logged = self.logged.error.as_ref() == Some(&error);
        // A server that fails repeatedly is logged once. After a logged recovery, a stream without a response is logged again.
        let is_unchanged =
            !self.logged.recovery || stream.is_some_and(|stream| stream.has_response());
        if is_logged && is_unchanged {
            tracing::debug!(%error, ?retry_in, "management server still unavailable");
            return;
        }
        tracing::warn!(%error, ?retry_in, "management server unavailable, {}", self.consequence());
        self.logged.error = Some(error);
        self.logged.recovery = false;
    }

    /// Logs that the server accepted the stream but sends no configuration.
    fn log_silence(&mut self) {
        if std::mem::replace(&mut self.logged.silence, true) {
            return;
        }
        let Settings {
            server, node_id, ..
        } = &self.settings;
        tracing::warn!(
            server,
            waited = ?SILENCE,
            "management server has sent no configuration, {}; \
             check that it has one for node id {node_id:?} (CONFIG_GRPC_XDS_NODE_ID)",
            self.consequence()
        );
    }

    fn consequence(&self) -> &'static str {
        match self.accepted {
            Some(_) => "keeping the active configuration",
            None => "no configuration is active",
        }
    }

    // --- Responses ---

    /// Returns the configuration in a response if it is new. A known configuration is acknowledged as before.
    fn consider(&mut self, response: DiscoveryResponse) -> Option<Update> {
        self.logged.silence = false;
        if self.logged.error.is_some() && !std::mem::replace(&mut self.logged.recovery, true) {
            let again = if self.has_response { " again" } else { "" };
            let server = &self.settings.server;
            tracing::info!(server, "management server available{again}");
        }
        self.has_response = true;
        let stream = self.stream.as_mut()?;
        let fingerprint = resources::fingerprint(&response);
        // Only the latest ACK or NACK is repeated. A configuration that was accepted before a rejection is loaded again, so that
        // the admin API shows that the rejected one was rolled back.
        let known = match &self.rejected {
            Some((rejected, reason)) => (*rejected == fingerprint).then(|| Err(reason.clone())),
            None => (self.accepted == Some(fingerprint)).then_some(Ok(())),
        };
        let is_repeated = stream.record(fingerprint);
        let received = Response {
            fingerprint,
            version: response.version_info.clone(),
            nonce: response.nonce.clone(),
        };
        let Some(outcome) = known else {
            tracing::debug!(
                server = self.settings.server,
                version = printable(&received.version),
                resources = response.resources.len(),
                "configuration received from the management server"
            );
            self.unacknowledged = Some(received);
            return Some(Update::new(response));
        };
        tracing::debug!(
            version = printable(&received.version),
            "known configuration received again from the management server"
        );
        // Some servers respond to a NACK with the same configuration immediately, which must not become a tight loop.
        let delay = if is_repeated {
            self.backoff.pause()
        } else {
            Duration::ZERO
        };
        stream.acknowledge_later(&received, outcome, delay);
        None
    }
}

impl Settings {
    fn node(&self) -> Node {
        let text = |text: &String| Value {
            kind: Some(Kind::StringValue(text.clone())),
        };
        let fields = self.node_metadata.iter();
        let fields = fields.map(|(key, value)| (key.clone(), text(value)));
        Node {
            id: self.node_id.clone(),
            metadata: Some(Struct {
                fields: fields.collect(),
            }),
            user_agent_name: env!("CARGO_PKG_NAME").to_owned(),
            user_agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Returns the status of a NACK.
fn nack_status(reason: String) -> rpc::Status {
    rpc::Status {
        code: tonic::Code::InvalidArgument.into(),
        message: reason,
    }
}
