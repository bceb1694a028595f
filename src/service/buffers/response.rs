//! Bodies of responses, which HTTP/2 receives in parts.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::body::{Body as _, Frame};
use tonic::Status;
use tonic::body::Body;

use super::ConnectionUsage;

/// Maximum number of bytes of a response that HTTP/2 receives at once: a frame of the default size.
const PART_BYTES: usize = 16 << 10;

/// Maximum number of bytes of a response that HTTP/2 buffers before it polls for more. A larger response is polled for
/// its end only when nearly all of it was sent; until then its bytes are counted here.
pub(in crate::service) const MAX_SEND_BUFFER: usize = 1 << 10;

/// What a poll of a body returns when it is ready.
type PolledFrame = Option<Result<Frame<Bytes>, Status>>;

/// The body of a response. The bytes that were not sent yet are counted.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    /// The part of the first message that HTTP/2 has not received.
    first: Bytes,
    /// Length of the part that HTTP/2 received last, of which it can still hold all.
    in_flight: usize,
    /// The frame that came instead of a first message; `Some(None)` if the body is empty. Boxed, as it is rare and large.
    other: Option<Box<PolledFrame>>,
    rest: Body,
    usage: Arc<ConnectionUsage>,
}

impl ResponseBody {
    /// Encodes the message of a unary call, so that its size is known. Messages of a stream come later, one at a time.
    pub(in crate::service) fn new(mut rest: Body, usage: Arc<ConnectionUsage>) -> Self {
        let (mut first, mut other) = (Bytes::new(), None);
        if !rest.is_end_stream() {
            // The next poll of the body registers a waker.
            let mut context = Context::from_waker(Waker::noop());
            match Pin::new(&mut rest).poll_frame(&mut context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => first = data,
                    Err(trailers) => other = Some(Box::new(Some(Ok(trailers)))),
                },
                Poll::Ready(frame) => other = Some(Box::new(frame)),
                Poll::Pending => {}
            }
        }
        usage.add_unread(first.len());
        Self {
            first,
            in_flight: 0,
            other,
            rest,
            usage,
        }
    }
}

impl hyper::body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let sent = mem::take(&mut this.in_flight);
        if sent > 0 {
            this.usage.remove_unread(sent);
            this.usage.reads.fetch_add(1, Relaxed);
        }
        if this.first.is_empty() {
            return match &mut this.other {
                // The next poll returns the end.
                Some(other) => Poll::Ready(other.take()),
                None => Pin::new(&mut this.rest).poll_frame(context),
            };
        }
        let part = this.first.split_to(PART_BYTES.min(this.first.len()));
        this.in_flight = part.len();
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.other.is_none() && self.rest.is_end_stream()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.usage.remove_unread(self.first.len() + self.in_flight);
    }
}
