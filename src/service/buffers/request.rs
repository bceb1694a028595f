//! The body of a request, which can be rejected while it arrives.

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

use super::Held;

/// How long the message of a call with one message may take to arrive, once it is waited for.
const ARRIVAL_TIME: Duration = Duration::from_secs(10);

/// Requests with no more header fields are not counted for them; Envoy sends about fifteen.
const FEW_FIELDS: usize = 64;

/// What a header field takes in memory, without its name and value, which the length of a header list bounds.
const FIELD_BYTES: usize = 128;

/// A request of which a part has arrived.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    pub(super) bytes: AtomicUsize,
    is_rejected: AtomicBool,
    waker: AtomicWaker,
}

impl Arriving {
    /// Has the request rejected as soon as its task runs.
    pub(super) fn reject(&self) {
        self.is_rejected.store(true, Relaxed);
        self.waker.wake();
    }
}

/// The body of a request. What has arrived of it is counted until it is complete.
#[derive(Debug)]
pub struct RequestBody {
    body: Incoming,
    held: Arc<Held>,
    arriving: Option<(u64, Arc<Arriving>)>,
    /// Whether the call has one message, which must arrive in time.
    is_bounded_in_time: bool,
    late: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    /// The body of a request with so many header fields. Few fields cost little; many are counted like a part of the body,
    /// since a field that takes one byte on the wire takes a hundred here.
    pub(in crate::service) fn new(body: Incoming, header_fields: usize, held: Arc<Held>) -> Self {
        let mut this = Self {
            body,
            held,
            arriving: None,
            is_bounded_in_time: false,
            late: None,
        };
        if header_fields > FEW_FIELDS {
            this.add(header_fields * FIELD_BYTES);
        }
        this
    }

    /// Bounds the time in which the message must arrive, for calls with one message. Messages of a stream may be far apart.
    pub(in crate::service) fn must_arrive_in_time(&mut self) {
        self.is_bounded_in_time = true;
    }

    /// Counts a part of a request that is not complete.
    fn add(&mut self, bytes: usize) {
        let held = &self.held;
        let (_, arriving) = self.arriving.get_or_insert_with(|| {
            let (order, arriving) = (held.begun.fetch_add(1, Relaxed), Arc::default());
            held.arriving().insert(order, Arc::clone(&arriving));
            (order, arriving)
        });
        arriving.bytes.fetch_add(bytes, Relaxed);
        held.incomplete.fetch_add(bytes, Relaxed);
        let thread = &held.thread;
        if thread.incomplete.fetch_add(bytes, Relaxed) + bytes > thread.limits.bounds.incomplete {
            thread.evict_requests();
        }
    }

    /// Why the request is rejected, if it is.
    fn rejection(&mut self, context: &mut Context<'_>) -> Option<Status> {
        let (_, arriving) = self.arriving.as_ref()?;
        arriving.waker.register(context.waker());
        arriving.is_rejected.load(Relaxed).then(|| {
            Status::resource_exhausted(
                "too many incomplete requests, and this connection holds the most of them; send it again",
            )
        })
    }

    /// Waits for the end of the time that the message may take.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        if !self.is_bounded_in_time {
            return Poll::Pending;
        }
        let late = self
            .late
            .get_or_insert_with(|| Box::pin(sleep(ARRIVAL_TIME)));
        ready!(late.as_mut().poll(context));
        self.held.thread.is_late(&self.held.peer);
        let seconds = ARRIVAL_TIME.as_secs();
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
            let late = ready!(this.poll_late(context));
            return Poll::Ready(Some(Err(Box::new(late))));
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
        if let Some((order, arriving)) = self.arriving.take() {
            self.held.arriving().remove(&order);
            self.held.forget_request(&arriving);
        }
    }
}
