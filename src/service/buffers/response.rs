//! The body of a response, handed to HTTP/2 piece by piece.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::body::{Body as _, Frame};
use tonic::Status;
use tonic::body::Body;

use super::Held;

/// The most bytes of a response that are handed to HTTP/2 at once: a frame of the usual size.
const PIECE: usize = 16 << 10;

/// The most bytes that HTTP/2 may hold of a response and ask for more. So a larger response is asked for its end only
/// when nearly all of it was sent, and until then it is counted here.
pub(in crate::service) const MAX_SEND_BUFFER: usize = 1 << 10;

/// The body of a response. What was not sent yet is counted.
#[derive(Debug)]
pub struct ResponseBody {
    /// The first message, as far as it was not handed on yet.
    first: Bytes,
    /// Bytes that HTTP/2 was handed last, and holds at the most.
    handed: usize,
    /// What came instead of a first message, or that nothing comes at all.
    early: Option<Option<Result<Frame<Bytes>, Status>>>,
    rest: Body,
    held: Arc<Held>,
}

impl ResponseBody {
    /// Encodes the message of a call with one message, so that its size is known. Messages of a stream come later, one at a time.
    pub(in crate::service) fn new(mut rest: Body, held: Arc<Held>) -> Self {
        let (mut first, mut early) = (Bytes::new(), None);
        if !rest.is_end_stream() {
            // The next poll of the body registers a waker of its own.
            let mut context = Context::from_waker(Waker::noop());
            match Pin::new(&mut rest).poll_frame(&mut context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => first = data,
                    Err(trailers) => early = Some(Some(Ok(trailers))),
                },
                Poll::Ready(other) => early = Some(other),
                Poll::Pending => {}
            }
        }
        held.add_unread(first.len());
        Self {
            first,
            handed: 0,
            early,
            rest,
            held,
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
        let sent = mem::take(&mut this.handed);
        if sent > 0 {
            this.held.remove_unread(sent);
            this.held.reads.fetch_add(1, Relaxed);
        }
        if this.first.is_empty() {
            return match &mut this.early {
                // What ended stays ended.
                Some(early) => Poll::Ready(mem::take(early)),
                None => Pin::new(&mut this.rest).poll_frame(context),
            };
        }
        let piece = this.first.split_to(PIECE.min(this.first.len()));
        this.handed = piece.len();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.early.is_none() && self.rest.is_end_stream()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.held.remove_unread(self.first.len() + self.handed);
    }
}
