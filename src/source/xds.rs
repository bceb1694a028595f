//! Rules from a management server such as Envoy Gateway, by xDS: one stream of aggregated discovery,
//! state of the world.
//!
//! [`Client::next`] gives what the server sends, [`Client::answer`] tells it whether that was taken.
//! In between, the client connects, waits and connects again, for ever: what is in force stays while
//! the server is away. It runs only while `next` is awaited; there is no task of its own.
//!
//! Each stream begins anew, without the version of the one before: servers count versions from 1
//! whenever they start, and one that took our old version for its own would never send anything.

mod backoff;
mod connection;
mod resources;
mod stream;
mod trouble;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderMap;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use backoff::Backoff;
use pb::google::rpc;
use pb::{DiscoveryResponse, Node};
use resources::Fingerprint;
use stream::{Event, SILENCE, Stream};
use trouble::{Trouble, shown};

pub use backoff::Retry;
pub use ratekeeper_api::xds as pb;
pub use resources::Update;

/// The type of the resources that are asked for.
pub const TYPE_URL: &str = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig";

/// Which management server, and how to speak to it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its host and port.
    pub server: String,
    /// What it knows this server by.
    pub node_id: String,
    /// What else it is told of this server.
    pub node_metadata: Vec<(String, String)>,
    /// Headers of the stream. Their values should be marked as sensitive.
    pub headers: HeaderMap,
    /// Files for TLS; plaintext without.
    pub tls: Option<TlsFiles>,
    /// The most bytes of a message that is read.
    pub max_message: usize,
    /// How often the stream is asked whether it is still alive.
    pub keepalive: Duration,
    /// How long to wait before trying again.
    pub retry: Retry,
}

/// Where certificates are. They are read whenever a connection is made, so that those of a long-lived
/// connection may be replaced meanwhile: the next one has the new ones.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// The certificate of this server and its key, for a management server that asks for it.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Who may have signed the certificate of the management server; whom the system trusts, if none.
    pub authority: Option<PathBuf>,
    /// The name in the certificate of the management server, if it is not its host's.
    pub server_name: Option<String>,
}

/// A client of a management server.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    backoff: Backoff,
    stream: Option<Stream>,
    /// What was told of the server, until a stream has lived for long: each is told once, not per retry.
    told: Told,
    /// What was accepted last, on any stream.
    accepted: Option<Fingerprint>,
    /// What was rejected after that, and why; `None` when the latest configuration was accepted.
    refused: Option<(Fingerprint, String)>,
    /// What [`Client::answer`] will answer.
    unanswered: Option<Response>,
    /// Whether the server has ever sent anything.
    has_answered: bool,
    /// Whether there is a stream, for those who look on.
    connected: Arc<AtomicBool>,
}

/// What the log knows of a server.
#[derive(Debug, Default)]
struct Told {
    /// The failure that was told last.
    failing: Option<Trouble>,
    /// After that, that it answers again.
    answers: bool,
    /// That it took a stream and sends nothing.
    silent: bool,
}

/// What an answer needs to know of its response.
#[derive(Debug)]
struct Response {
    fingerprint: Fingerprint,
    version: String,
    nonce: String,
}

impl Client {
    /// A client that has not connected yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            backoff: Backoff::new(settings.retry.clone()),
            settings,
            stream: None,
            told: Told::default(),
            accepted: None,
            refused: None,
            unanswered: None,
            has_answered: false,
            connected: Arc::default(),
        }
    }

    /// Whether there is a stream, from now on.
    #[must_use]
    pub fn connected(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.connected)
    }

    /// Waits until the server sends something that it has not sent before, and which has to be
    /// answered next. Cancelling loses nothing but the attempt to connect.
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
                        self.silent();
                        Ok(())
                    }
                    Err(trouble) => Err(trouble),
                },
            };
            if let Err(trouble) = outcome {
                self.failed(trouble);
            }
        }
    }

    /// Tells the server that what [`next`](Self::next) gave was taken, or why not.
    pub fn answer(&mut self, outcome: Result<(), String>) {
        let Some(response) = self.unanswered.take() else {
            return;
        };
        match &outcome {
            Ok(()) => {
                self.accepted = Some(response.fingerprint);
                self.refused = None;
            }
            Err(reason) => self.refused = Some((response.fingerprint, reason.clone())),
        }
        if let Some(stream) = &mut self.stream {
            stream.answer(&response, outcome);
        }
    }

    // --- Connecting ---

    async fn connect(&mut self) -> Result<(), Trouble> {
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

    fn failed(&mut self, trouble: Trouble) {
        let stream = self.stream.take();
        self.connected.store(false, Ordering::Relaxed);
        let lived = stream.as_ref().map(Stream::lived).unwrap_or_default();
        if self.backoff.worked(lived) {
            self.backoff.succeeded();
        }
        if self.backoff.is_well(lived) {
            self.told = Told::default();
        }
        let retry_in = self.backoff.failed();
        let is_known = self.told.failing.as_ref() == Some(&trouble);
        // A server that comes and goes is logged once, and once more if it was logged as available and did not answer.
        let is_as_told = !self.told.answers || stream.is_some_and(|stream| stream.has_answered());
        if is_known && is_as_told {
            tracing::debug!(error = %trouble, ?retry_in, "management server still unavailable");
            return;
        }
        tracing::warn!(
            error = %trouble,
            ?retry_in,
            "management server unavailable, {}",
            self.consequence()
        );
        self.told.failing = Some(trouble);
        self.told.answers = false;
    }

    /// Logs once that the server accepted the stream and has sent nothing.
    fn silent(&mut self) {
        if std::mem::replace(&mut self.told.silent, true) {
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

    /// Returns what holds until the server sends a configuration.
    fn consequence(&self) -> &'static str {
        match self.accepted {
            Some(_) => "keeping the active configuration",
            None => "no configuration is active",
        }
    }

    // --- Responses ---

    /// What there is to load; nothing when it is known already, and then it is answered as before.
    fn consider(&mut self, response: DiscoveryResponse) -> Option<Update> {
        self.told.silent = false;
        if self.told.failing.is_some() && !std::mem::replace(&mut self.told.answers, true) {
            let again = if self.has_answered { " again" } else { "" };
            let server = &self.settings.server;
            tracing::info!(server, "management server available{again}");
        }
        self.has_answered = true;
        let stream = self.stream.as_mut()?;
        let fingerprint = resources::fingerprint(&response);
        // Only the latest verdict is repeated. What was accepted before a rejection is loaded again, so that the
        // status shows that the rejected configuration was rolled back.
        let known = match &self.refused {
            Some((refused, reason)) => (*refused == fingerprint).then(|| Err(reason.clone())),
            None => (self.accepted == Some(fingerprint)).then_some(Ok(())),
        };
        let is_repeated = stream.heard(fingerprint);
        let told = Response {
            fingerprint,
            version: response.version_info.clone(),
            nonce: response.nonce.clone(),
        };
        let Some(outcome) = known else {
            // What became of it is logged where it is loaded.
            tracing::debug!(
                server = self.settings.server,
                version = shown(&told.version),
                resources = response.resources.len(),
                "configuration received from the management server"
            );
            self.unanswered = Some(told);
            return Some(Update::new(response));
        };
        tracing::debug!(
            version = shown(&told.version),
            "known configuration received again from the management server"
        );
        // Some servers answer a refusal with the same again, at once. That must not go round and round.
        let delay = if is_repeated {
            self.backoff.pause()
        } else {
            Duration::ZERO
        };
        stream.answer_later(&told, outcome, delay);
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

/// Why a response is not accepted, for the server.
fn refusal(reason: String) -> rpc::Status {
    rpc::Status {
        code: tonic::Code::InvalidArgument.into(),
        message: reason,
    }
}
