//! Bodies of requests, which can be rejected while they arrive.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::Status;

use super::ConnectionUsage;
use crate::service::health::ConnectionWatches;

/// Maximum time in which the message of a unary call must arrive after its headers.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of header fields that are not counted; Envoy sends about fifteen.
const FREE_FIELDS: usize = 64;

/// Memory of a header field in bytes, without its name and value, which the maximum size of headers bounds.
const FIELD_BYTES: usize = 128;

/// A request of which a part has arrived.
#[derive(Debug, Default)]
pub(super) struct IncompleteRequest {
    pub(super) bytes: AtomicUsize,
    is_rejected: AtomicBool,
    waker: AtomicWaker,
}

impl IncompleteRequest {
    /// Rejects the request as soon as its task runs.
    pub(super) fn reject(&self) {
        self.is_rejected.store(true, Relaxed);
        self.waker.wake();
    }
}

/// The body of a request. The bytes that have arrived are counted until it is complete.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Incoming,
    usage: Arc<ConnectionUsage>,
    incomplete: Option<(u64, Arc<IncompleteRequest>)>,
    /// Whether the call is unary, so that its message must arrive in time.
    has_timeout: bool,
    timeout: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    /// Creates the body of a request with this number of header fields. Many fields are counted like a part of the
    /// body, because a field of one byte on the wire takes a hundred bytes in memory.
    pub(in crate::service) fn new(
        body: Incoming,
        header_fields: usize,
        usage: Arc<ConnectionUsage>,
    ) -> Self {
        let mut this = Self {
            body,
            usage,
            incomplete: None,
            has_timeout: false,
            timeout: None,
        };
        if header_fields > FREE_FIELDS {
            this.add(header_fields * FIELD_BYTES);
        }
        this
    }

    /// The health watches that the connection can still open.
    pub(in crate::service) fn watches(&self) -> ConnectionWatches {
        self.usage.watches.clone()
    }

    /// Bounds the time in which the message of a unary call must arrive. Messages of a stream can be far apart.
    pub(in crate::service) fn set_timeout(&mut self) {
        self.has_timeout = true;
    }

    /// Counts bytes of a request that is incomplete.
    fn add(&mut self, bytes: usize) {
        let usage = &self.usage;
        let (_, request) = self.incomplete.get_or_insert_with(|| {
            let number = usage.next_request.fetch_add(1, Relaxed);
            let request = Arc::default();
            usage.requests().insert(number, Arc::clone(&request));
            (number, request)
        });
        request.bytes.fetch_add(bytes, Relaxed);
        usage.incomplete.fetch_add(bytes, Relaxed);
        let thread = &usage.thread;
        if thread.incomplete.fetch_add(bytes, Relaxed) + bytes > thread.limits.bounds.incomplete {
            thread.evict_requests();
        }
    }

    /// Returns the error of a request that was rejected.
    fn rejection(&mut self, context: &mut Context<'_>) -> Option<Status> {
        let (_, request) = self.incomplete.as_ref()?;
        request.waker.register(context.waker());
        request.is_rejected.load(Relaxed).then(|| {
            Status::resource_exhausted(
                "too many incomplete requests, and this connection holds the most of them; send it again",
            )
        })
    }

    /// Returns the error of a message that did not arrive in time, once the timeout has passed.
    fn poll_timeout(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        if !self.has_timeout {
            return Poll::Pending;
        }
        let timeout = self
            .timeout
            .get_or_insert_with(|| Box::pin(sleep(ARRIVAL_TIMEOUT)));
        ready!(timeout.as_mut().poll(context));
        self.usage.thread.request_timed_out(&self.usage.peer);
        let seconds = ARRIVAL_TIMEOUT.as_secs();
        Poll::Ready(Status::deadline_exceeded(format!(
            "the request did not arrive completely within {seconds} s"
        )))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if let Some(rejection) = this.rejection(context) {
            return Poll::Ready(Some(Err(Box::new(rejection))));
        }
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            let error = ready!(this.poll_timeout(context));
            return Poll::Ready(Some(Err(Box::new(error))));
        };
        let Some(frame) = frame.transpose()? else {
            return Poll::Ready(None);
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        if bytes > 0 && !this.body.is_end_stream() {
            this.add(bytes);
            if let Some(rejection) = this.rejection(context) {
                return Poll::Ready(Some(Err(Box::new(rejection))));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some((number, request)) = self.incomplete.take() {
            self.usage.requests().remove(&number);
            self.usage.release_request(&request);
        }
    }
}
