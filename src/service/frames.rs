//! What a client sends on an HTTP/2 connection, on its way to the library that serves it.
//!
//! The library rejects calls that we must serve, and serves connections that we must close, and cannot be configured in
//! either respect:
//!
//! - An `:authority` that is no authority of a URI makes it reset the call. Envoy sends the name of its cluster, which need
//!   not be one (`outbound|8081||ratelimit.default.svc.cluster.local`); gRPC clients send the path of a Unix socket. As in
//!   envoyproxy/ratelimit, the authority means nothing here, so its value is replaced by one of the same length.
//! - It answers any number of control frames, and either bounds resets by their number at one instant, which punishes Envoy
//!   for a stall of this server, or not at all. Here, a connection has a budget of both, which grows with time and requests.
//!
//! Bytes go straight to the library's buffer. Only a header block that is not complete yet is held back, and only one that
//! is rewritten is copied.

mod budget;
mod floods;
mod hpack;
mod huffman;
mod scanner;

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use floods::{FloodCount, FloodReporter};

use scanner::{FrameScanner, Then};

/// The most bytes that are read at once while some are held back.
const READ: usize = 8 << 10;

/// What was held back keeps its memory for the next time, if it is no more than this.
const KEPT: usize = 1 << 10;

/// A connection whose frames are followed.
#[derive(Debug)]
pub struct Frames<S> {
    stream: S,
    follower: FrameScanner,
    held: Held,
    watch: FloodReporter,
}

/// Bytes that were read and not passed on yet.
#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    /// So many of them were passed on.
    passed: usize,
    /// So many of them may be.
    ready: usize,
    /// The rest says nothing before it has so many bytes.
    needs: usize,
}

impl<S> Frames<S> {
    /// Follows the frames on `stream`, which begin after `preface` bytes, for a library that accepts headers of so many
    /// bytes.
    pub fn new(stream: S, preface: usize, header_bytes: usize, watch: FloodReporter) -> Self {
        Self {
            stream,
            follower: FrameScanner::new(preface, header_bytes, watch.clock()),
            held: Held::default(),
            watch,
        }
    }
}

impl<S: AsyncRead + Unpin> Frames<S> {
    /// Reads straight into the reader's buffer, and holds back what cannot be passed on. Whether there is something to
    /// pass on now.
    fn poll_straight(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let begin = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        let read = &into.filled()[begin..];
        if read.is_empty() {
            return Poll::Ready(Ok(true));
        }
        let followed = self
            .follower
            .follow(read, self.watch.clock())
            .map_err(|flood| self.watch.closes(flood))?;
        self.held.hold(&read[followed.passed..], followed.then);
        into.set_filled(begin + followed.passed);
        Poll::Ready(Ok(followed.passed > 0))
    }

    /// Reads more to what is held back. Whether there was more.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [MaybeUninit::uninit(); READ];
        let mut more = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut more))?;
        self.held.bytes.extend_from_slice(more.filled());
        Poll::Ready(Ok(!more.filled().is_empty()))
    }

    /// Looks at what is held back and can be looked at.
    fn follow_held(&mut self) -> io::Result<()> {
        let rest = &self.held.bytes[self.held.ready..];
        let followed = self
            .follower
            .follow(rest, self.watch.clock())
            .map_err(|flood| self.watch.closes(flood))?;
        self.held.advance(followed.passed, followed.then);
        Ok(())
    }
}

impl Held {
    /// Holds bytes back, none of which may be passed on.
    fn hold(&mut self, bytes: &[u8], then: Then) {
        self.bytes.extend_from_slice(bytes);
        self.advance(0, then);
    }

    /// Lets more bytes be passed on.
    fn advance(&mut self, count: usize, then: Then) {
        self.ready += count;
        match then {
            Then::Needs(needs) => self.needs = needs,
            Then::Replace(length, with) => {
                let end = self.ready + with.len();
                self.bytes.splice(self.ready..self.ready + length, with);
                (self.ready, self.needs) = (end, 0);
            }
        }
    }

    /// Whether what may not be passed on can be looked at again.
    fn can_be_followed(&self) -> bool {
        let rest = self.bytes.len() - self.ready;
        rest > 0 && rest >= self.needs
    }

    /// Passes on what may be passed on. Whether there was something.
    fn pass(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let count = (self.ready - self.passed).min(into.remaining());
        into.put_slice(&self.bytes[self.passed..self.passed + count]);
        self.passed += count;
        if self.passed == self.ready {
            self.bytes.drain(..self.passed);
            (self.passed, self.ready) = (0, 0);
            if self.bytes.is_empty() {
                self.needs = 0;
                if self.bytes.capacity() > KEPT {
                    self.bytes = Vec::new();
                }
            }
        }
        count > 0
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frames<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.held.bytes.is_empty() {
                if ready!(this.poll_straight(context, into))? {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            if this.held.pass(into) {
                return Poll::Ready(Ok(()));
            }
            if this.held.can_be_followed() {
                this.follow_held()?;
            } else if !ready!(this.poll_more(context))? {
                // The client has closed in the middle of a frame. The library is to see that.
                this.held.ready = this.held.bytes.len();
                this.held.pass(into);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
