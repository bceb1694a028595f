//! One stream of discovery: the first request, what the server sends, and the answers to it.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use futures_util::TryFutureExt as _;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream as AnyStream, StreamExt as _};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Extensions, Request, Response as Answer, Status};

use super::pb::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use super::pb::{DiscoveryRequest, DiscoveryResponse};
use super::resources::Fingerprint;
use super::trouble::Trouble;
use super::{Response, Settings, TYPE_URL, refusal};

/// After so long without a response, a person may want to know.
pub(super) const SILENCE: Duration = Duration::from_secs(15);

/// Requests that the connection has not taken yet. There is one per response, so two are rare; with
/// more, the server does not read.
const UNSENT: usize = 4;

/// What happens on a stream.
#[derive(Debug)]
pub(super) enum Event {
    Response(DiscoveryResponse),
    /// There was no response for [`SILENCE`] since the stream was opened. It is told once.
    Silence,
}

type Responses = dyn AnyStream<Item = Result<DiscoveryResponse, Status>> + Send;

/// An open stream.
pub(super) struct Stream {
    settings: Settings,
    opened: Instant,
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Pin<Box<Responses>>,
    /// The version that was accepted last, on this stream.
    version: String,
    /// What the last response said.
    last: Option<Fingerprint>,
    /// An answer that is not to be sent before this.
    due: Option<(Instant, DiscoveryRequest)>,
    /// When it will have been silent for long.
    silence: Option<Instant>,
    /// An answer could not be sent.
    is_clogged: bool,
}

impl Stream {
    /// Sends the first request. Nothing is known yet of whether the server takes it: many answer
    /// nothing at all before they have something to send.
    pub(super) fn open(channel: Channel, settings: &Settings) -> Self {
        let (requests, unsent) = mpsc::channel(UNSENT);
        let metadata = MetadataMap::from_headers(settings.headers.clone());
        let call =
            Request::from_parts(metadata, Extensions::default(), ReceiverStream::new(unsent));
        let max_message = settings.max_message;
        let responses = async move {
            let mut client = AggregatedDiscoveryServiceClient::new(channel)
                .max_decoding_message_size(max_message);
            let answer = client.stream_aggregated_resources(call).await;
            answer.map(Answer::into_inner)
        };
        let mut stream = Self {
            settings: settings.clone(),
            opened: Instant::now(),
            requests,
            responses: Box::pin(responses.try_flatten_stream()),
            version: String::new(),
            last: None,
            due: None,
            silence: Some(Instant::now() + SILENCE),
            is_clogged: false,
        };
        let first = stream.request();
        stream.send(first);
        stream
    }

    /// Waits for what happens next; the answer that is due is sent meanwhile.
    ///
    /// # Errors
    /// When the stream has ended.
    pub(super) async fn next(&mut self) -> Result<Event, Trouble> {
        loop {
            if self.is_clogged {
                return Err(Trouble::clogged(&self.settings));
            }
            let due = self.due.as_ref().map(|(due, _)| *due);
            tokio::select! {
                response = self.responses.next() => return self.received(response),
                () = reached(due) => {
                    if let Some((_, request)) = self.due.take() {
                        self.send(request);
                    }
                }
                () = reached(self.silence) => {
                    self.silence = None;
                    return Ok(Event::Silence);
                }
            }
        }
    }

    fn received(
        &mut self,
        response: Option<Result<DiscoveryResponse, Status>>,
    ) -> Result<Event, Trouble> {
        match response {
            Some(Ok(response)) => {
                self.silence = None;
                // An answer to the one before would come too late to mean anything.
                self.due = None;
                Ok(Event::Response(response))
            }
            Some(Err(status)) => {
                let trouble = Trouble::of_stream(&self.settings, &status);
                Err(match self.last {
                    Some(_) => trouble,
                    None => trouble.at_first(&self.settings),
                })
            }
            None => Err(Trouble::closed(&self.settings)),
        }
    }

    /// For how long it has been open.
    pub(super) fn lived(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Whether the server has sent anything on it.
    pub(super) fn has_answered(&self) -> bool {
        self.last.is_some()
    }

    /// Notes what a response says, and whether that was the same as in the one before.
    pub(super) fn heard(&mut self, fingerprint: Fingerprint) -> bool {
        self.last.replace(fingerprint) == Some(fingerprint)
    }

    /// Accepts a response, or says why not.
    pub(super) fn answer(&mut self, response: &Response, outcome: Result<(), String>) {
        let request = self.answer_to(response, outcome);
        self.send(request);
    }

    /// Likewise, after a while and while [`next`](Self::next) is awaited.
    pub(super) fn answer_later(
        &mut self,
        response: &Response,
        outcome: Result<(), String>,
        delay: Duration,
    ) {
        let request = self.answer_to(response, outcome);
        self.due = Some((Instant::now() + delay, request));
    }

    fn answer_to(&mut self, response: &Response, outcome: Result<(), String>) -> DiscoveryRequest {
        if outcome.is_ok() {
            self.version.clone_from(&response.version);
        }
        DiscoveryRequest {
            response_nonce: response.nonce.clone(),
            error_detail: outcome.err().map(refusal),
            ..self.request()
        }
    }

    fn request(&self) -> DiscoveryRequest {
        DiscoveryRequest {
            version_info: self.version.clone(),
            node: Some(self.settings.node()),
            type_url: TYPE_URL.to_owned(),
            ..DiscoveryRequest::default()
        }
    }

    /// Sends a request without waiting: a server that does not read must not stop whoever answers.
    fn send(&mut self, request: DiscoveryRequest) {
        match self.requests.try_send(request) {
            Err(TrySendError::Full(_)) => self.is_clogged = true,
            // When the stream has ended, `next` will tell why.
            Ok(()) | Err(TrySendError::Closed(_)) => {}
        }
    }
}

async fn reached(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("version", &self.version)
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}
