//! Inspects and edits what a client sends on an HTTP/2 connection, before the HTTP/2 library reads it.
//!
//! The library rejects calls that must be served, and serves connections that must be closed. It cannot be configured
//! in either respect:
//!
//! - It resets calls whose `:authority` is not the authority of a URI. Envoy sends the name of its cluster, which can
//!   be another text (`outbound|8081||ratelimit.default.svc.cluster.local`); gRPC clients send the path of a Unix
//!   socket. ratekeeper does not use the authority, so an invalid value is replaced by a valid one of the same length.
//! - It answers any number of control frames. It bounds resets either by their number at one moment, which punishes
//!   Envoy for a stall of this server, or not at all. Here, a connection has a budget for both, which grows with time
//!   and with requests.
//!
//! Bytes are read directly into the buffer of the library. Only an incomplete header block is held back, and only a
//! header block that is rewritten is copied.

mod budget;
mod floods;
mod frame_head;
mod header_block;
mod held_bytes;
mod hpack;
mod huffman;
mod scanner;

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use floods::{FloodCount, FloodReporter};

use held_bytes::HeldBytes;
use scanner::FrameScanner;

/// The bytes that a client sends first on an HTTP/2 connection, before any frame.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Maximum number of bytes that are read at once while some are held back.
const READ_BYTES: usize = 8 << 10;

/// A connection whose frames are inspected.
#[derive(Debug)]
pub struct Frames<S> {
    stream: S,
    scanner: FrameScanner,
    held: HeldBytes,
    reporter: FloodReporter,
}

impl<S> Frames<S> {
    /// Inspects the frames on `stream`, from which the [`PREFACE`] has been read already. The library receives the
    /// preface again.
    ///
    /// `max_header_bytes` is the maximum size of headers that the library accepts.
    pub fn new(stream: S, max_header_bytes: usize, reporter: FloodReporter) -> Self {
        Self {
            stream,
            scanner: FrameScanner::new(max_header_bytes, reporter.clock()),
            held: HeldBytes::released(PREFACE),
            reporter,
        }
    }
}

impl<S: AsyncRead + Unpin> Frames<S> {
    /// Reads into the buffer of the caller, and holds back what must not be passed on yet. Returns whether the buffer
    /// has new bytes, or the client has closed.
    fn poll_direct(
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
        let scanned = self
            .scanner
            .scan(read, self.reporter.clock())
            .map_err(|flood| self.reporter.report(flood))?;
        self.held.hold(&read[scanned.passed..], scanned.then);
        into.set_filled(begin + scanned.passed);
        Poll::Ready(Ok(scanned.passed > 0))
    }

    /// Reads more bytes after those that are held back. Returns whether there were any.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [MaybeUninit::uninit(); READ_BYTES];
        let mut more = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut more))?;
        self.held.extend(more.filled());
        Poll::Ready(Ok(!more.filled().is_empty()))
    }

    /// Inspects the bytes that are held back.
    fn scan_held(&mut self) -> io::Result<()> {
        let scanned = self
            .scanner
            .scan(self.held.unscanned(), self.reporter.clock())
            .map_err(|flood| self.reporter.report(flood))?;
        self.held.release(scanned.passed, scanned.then);
        Ok(())
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
            if this.held.is_empty() {
                if ready!(this.poll_direct(context, into))? {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            if this.held.pass_on(into) {
                return Poll::Ready(Ok(()));
            }
            if this.held.can_be_scanned() {
                this.scan_held()?;
            } else if !ready!(this.poll_more(context))? {
                // The client closed in the middle of a frame. The library handles that.
                this.held.release_all();
                this.held.pass_on(into);
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
