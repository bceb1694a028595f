//! One discovery stream: its requests, the responses, and the ACKs and NACKs of responses.

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

use super::error::StreamError;
use super::pb::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use super::pb::{DiscoveryRequest, DiscoveryResponse};
use super::resources::Fingerprint;
use super::{Response, Settings, TYPE_URL, nack_status};

/// Time without a response after which a warning is logged.
pub(super) const SILENCE: Duration = Duration::from_secs(15);

/// Capacity of the queue of requests. There is one request per response, so a full queue means that the server does not read.
const QUEUE: usize = 4;

/// An event on a stream.
#[derive(Debug)]
pub(super) enum Event {
    Response(DiscoveryResponse),
    /// No response was received within [`SILENCE`] of opening the stream. Occurs once.
    Silence,
}

type Responses = dyn AnyStream<Item = Result<DiscoveryResponse, Status>> + Send;

/// An open stream.
pub(super) struct Stream {
    settings: Settings,
    opened: Instant,
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Pin<Box<Responses>>,
    /// The latest version that was accepted on this stream.
    version: String,
    /// The latest response.
    last: Option<Fingerprint>,
    /// A delayed request and when it is sent.
    due: Option<(Instant, DiscoveryRequest)>,
    /// When [`Event::Silence`] occurs.
    silence: Option<Instant>,
    /// Whether the queue of requests was full.
    is_queue_full: bool,
}

impl Stream {
    /// Opens a stream and sends the first request. Whether the server accepts the stream is unknown until it responds, because
    /// many servers send nothing before they have a configuration.
    pub(super) fn open(channel: Channel, settings: &Settings) -> Self {
        let (requests, unsent) = mpsc::channel(QUEUE);
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
            is_queue_full: false,
        };
        let first = stream.request();
        stream.send(first);
        stream
    }

    /// Waits for the next event, and sends a delayed request when it is due.
    ///
    /// # Errors
    /// If the stream has ended.
    pub(super) async fn next(&mut self) -> Result<Event, StreamError> {
        loop {
            if self.is_queue_full {
                return Err(StreamError::not_reading(&self.settings));
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
    ) -> Result<Event, StreamError> {
        match response {
            Some(Ok(response)) => {
                self.silence = None;
                // The server ignores the answer to an earlier response.
                self.due = None;
                Ok(Event::Response(response))
            }
            Some(Err(status)) => {
                let error = StreamError::of_stream(&self.settings, &status);
                Err(match self.last {
                    Some(_) => error,
                    None => error.with_hint(&self.settings),
                })
            }
            None => Err(StreamError::closed(&self.settings)),
        }
    }

    /// Returns the time since the stream was opened.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Returns whether the server has sent a response.
    pub(super) fn has_response(&self) -> bool {
        self.last.is_some()
    }

    /// Records a response. Returns whether it equals the one before.
    pub(super) fn record(&mut self, fingerprint: Fingerprint) -> bool {
        self.last.replace(fingerprint) == Some(fingerprint)
    }

    /// Sends the ACK or NACK of a response.
    pub(super) fn acknowledge(&mut self, response: &Response, outcome: Result<(), String>) {
        let request = self.acknowledgment(response, outcome);
        self.send(request);
    }

    /// Sends the ACK or NACK of a response after a delay, while [`next`](Self::next) is awaited.
    pub(super) fn acknowledge_later(
        &mut self,
        response: &Response,
        outcome: Result<(), String>,
        delay: Duration,
    ) {
        let request = self.acknowledgment(response, outcome);
        self.due = Some((Instant::now() + delay, request));
    }

    fn acknowledgment(
        &mut self,
        response: &Response,
        outcome: Result<(), String>,
    ) -> DiscoveryRequest {
        if outcome.is_ok() {
            self.version.clone_from(&response.version);
        }
        DiscoveryRequest {
            response_nonce: response.nonce.clone(),
            error_detail: outcome.err().map(nack_status),
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

    /// Queues a request without waiting, so that a server that does not read does not block the caller.
    fn send(&mut self, request: DiscoveryRequest) {
        match self.requests.try_send(request) {
            Err(TrySendError::Full(_)) => self.is_queue_full = true,
            // If the stream has ended, `next` returns the error.
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
