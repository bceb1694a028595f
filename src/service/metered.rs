//! Bounds what requests that are still coming in take up together.
//!
//! A request that is not complete is held in memory until it is, and a client may begin a thousand of them
//! on each connection, each as large as a request may be. Nearly all requests come in one piece, and are
//! not even counted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tonic::Status;

/// Bytes that the requests of a thread may take up before they are complete.
#[derive(Debug, Clone)]
pub struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    /// So many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    fn take(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        let order = Ordering::Relaxed;
        self.0.fetch_update(order, order, less).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The body of a request, of which only so much is taken in as there is room for.
#[derive(Debug)]
pub struct Metered {
    body: Incoming,
    taken: usize,
    allowance: Allowance,
}

impl Metered {
    pub(super) fn new(body: Incoming, allowance: Allowance) -> Self {
        Self {
            body,
            taken: 0,
            allowance,
        }
    }
}

impl Body for Metered {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        let frame = frame?;
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        if bytes > 0 && !this.body.is_end_stream() {
            if !this.allowance.take(bytes) {
                return Poll::Ready(Some(Err(Box::new(Status::resource_exhausted(
                    "too many large requests come in at once; send it again",
                )))));
            }
            this.taken += bytes;
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

impl Drop for Metered {
    fn drop(&mut self) {
        if self.taken > 0 {
            self.allowance.give_back(self.taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_bounded_and_comes_back() {
        let allowance = Allowance::new(10);
        assert!(allowance.take(4));
        assert!(allowance.clone().take(6));
        assert!(!allowance.take(1));
        allowance.give_back(6);
        assert!(!allowance.take(7));
        assert!(allowance.take(6));
    }
}
