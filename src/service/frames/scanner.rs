//! Scans the frames of a connection: charges those that carry no request to the budgets of the client, and finds header
//! blocks to rewrite.

use super::budget::Budget;
use super::floods::Flood;
use super::frame_head::{
    ACK, DATA, END_HEADERS, END_STREAM, FrameHead, HEAD_BYTES, HEADERS, MAX_PAYLOAD, RST_STREAM,
    SETTINGS,
};
use super::header_block::{Assembled, assemble, edited};
use super::hpack::AuthorityFilter;
use crate::clock::Clock;

/// Control frames that a connection can send: at once, per second, and for each request.
///
/// Clients send few. Those that estimate bandwidth send most (grpc-go, grpc-java, grpcio): at worst, for each response,
/// a PING and WINDOW_UPDATE of the connection and of the stream, and sometimes SETTINGS. A client with a small window
/// sends two WINDOW_UPDATE for each DATA frame of a response. Keepalive of Envoy and other clients adds a few frames
/// per second.
const CONTROL_BURST: u32 = 10_000;
const CONTROL_PER_SECOND: u32 = 100;
const CONTROL_PER_REQUEST: u32 = 10;

/// Cost of SETTINGS, which the library applies to each stream.
const SETTINGS_COST: u32 = 10;

/// Smaller DATA frames count as control frames: many of them carry little.
const SMALL_DATA: usize = 256;

/// Resets that a connection can send: at once, and per second beyond one for each two requests.
///
/// Envoy resets a call that times out. After a stall of this server, the calls of the whole stall are reset at once, as
/// many as the socket buffers hold: tens of thousands. A client that hedges resets up to half of its calls all the
/// time. A call that was sent completely pays for its own reset: it costs no more than others, and clients of Envoy
/// make Envoy reset as many as they cancel. A client that resets incomplete calls faster than this only causes work.
const RESET_BURST: u32 = 50_000;
const RESETS_PER_SECOND: u32 = 1_000;

/// A reset costs as much as two requests earn, or one that is complete.
const RESET_COST: u32 = 2;
const RESET_PER_REQUEST: u32 = 1;

/// What to do with bytes that were scanned.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    /// Number of bytes that can be passed on.
    pub(super) passed: usize,
    /// What follows them.
    pub(super) then: Then,
}

/// What follows the bytes that can be passed on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The next bytes cannot be scanned before there are this many.
    Needs(usize),
    /// This many bytes must be replaced.
    Replace(usize, Vec<u8>),
}

/// Scans the frames that a client sends.
#[derive(Debug)]
pub(super) struct FrameScanner {
    /// Number of the next bytes that belong to a frame that can be passed on.
    skip: usize,
    /// Maximum size of a header block that is read.
    max_block: usize,
    /// The last stream that the client has opened.
    last_stream: u32,
    filter: AuthorityFilter,
    control: Budget,
    resets: Budget,
}

impl FrameScanner {
    /// Creates a scanner that begins with the first frame of a connection. Larger header blocks than `max_block` are
    /// not read.
    pub(super) fn new(max_block: usize, clock: &Clock) -> Self {
        let now = clock();
        Self {
            skip: 0,
            max_block: max_block.saturating_add(HEAD_BYTES + MAX_PAYLOAD),
            last_stream: 0,
            filter: AuthorityFilter::default(),
            control: Budget::new(CONTROL_BURST, CONTROL_PER_SECOND, now),
            resets: Budget::new(
                RESET_BURST * RESET_COST,
                RESETS_PER_SECOND * RESET_COST,
                now,
            ),
        }
    }

    /// Scans the next bytes. The next call must begin with the bytes that were neither passed on nor replaced.
    ///
    /// # Errors
    /// [`Flood`] if the connection must be closed.
    pub(super) fn scan(&mut self, bytes: &[u8], clock: &Clock) -> Result<Scanned, Flood> {
        let mut passed = 0;
        loop {
            let skipped = self.skip.min(bytes.len() - passed);
            (passed, self.skip) = (passed + skipped, self.skip - skipped);
            let rest = &bytes[passed..];
            let Some(head) = FrameHead::read(rest) else {
                let then = Then::Needs(HEAD_BYTES);
                return Ok(Scanned { passed, then });
            };
            self.skip = HEAD_BYTES + head.length;
            if head.kind == HEADERS && head.length <= MAX_PAYLOAD {
                match self.block(head, rest) {
                    Block::Pass(length) => self.skip = length,
                    Block::Needs(length) => {
                        self.skip = 0;
                        let then = Then::Needs(length);
                        return Ok(Scanned { passed, then });
                    }
                    Block::Replace(length, with) => {
                        self.skip = 0;
                        self.charge(head, clock)?;
                        let then = Then::Replace(length, with);
                        return Ok(Scanned { passed, then });
                    }
                }
            }
            self.charge(head, clock)?;
        }
    }

    /// Charges a frame to the budgets. Must be called once for each frame.
    #[inline]
    fn charge(&mut self, head: FrameHead, clock: &Clock) -> Result<(), Flood> {
        if head.kind == DATA && head.has(END_STREAM) && head.length > 0 {
            self.resets.earn(RESET_COST - RESET_PER_REQUEST);
        }
        let cost = match head.kind {
            DATA if head.length >= SMALL_DATA => return Ok(()),
            HEADERS if head.stream > self.last_stream => {
                self.last_stream = head.stream;
                self.control.earn(CONTROL_PER_REQUEST);
                self.resets.earn(RESET_PER_REQUEST);
                return Ok(());
            }
            RST_STREAM => {
                let paid = self.resets.spend(RESET_COST, clock);
                return if paid { Ok(()) } else { Err(Flood::Resets) };
            }
            SETTINGS if !head.has(ACK) => SETTINGS_COST,
            _ => 1,
        };
        let paid = self.control.spend(cost, clock);
        if paid {
            Ok(())
        } else {
            Err(Flood::ControlFrames)
        }
    }

    /// Reads the header block that begins with this frame, once it is complete.
    fn block(&mut self, head: FrameHead, bytes: &[u8]) -> Block {
        let end = HEAD_BYTES + head.length;
        let Some(payload) = bytes.get(HEAD_BYTES..end) else {
            return Block::Needs(end);
        };
        // The library closes the connection if there is more padding than payload.
        let Some(fragment) = head.fragment(payload) else {
            return Block::Pass(end);
        };
        let priority = &payload[head.priority(fragment.start)..fragment.start];
        if head.has(END_HEADERS) {
            return self.rewrite((head, priority), &payload[fragment], end);
        }
        match assemble(&payload[fragment], bytes, end, self.max_block) {
            Assembled::Complete(block, end) => self.rewrite((head, priority), &block, end),
            Assembled::Needs(length) => Block::Needs(length),
            Assembled::Rejected => {
                // The library rejects the call, too.
                self.filter.forget_table();
                Block::Pass(end)
            }
        }
    }

    /// Rewrites a header block whose frames have `length` bytes together, if it has an invalid authority.
    fn rewrite(
        &mut self,
        (head, priority): (FrameHead, &[u8]),
        block: &[u8],
        length: usize,
    ) -> Block {
        match self.filter.read(block) {
            // The library closes the connection if the block is malformed.
            Ok(edits) if !edits.is_empty() => {
                let with = head.encode(priority, &edited(block, edits));
                Block::Replace(length, with)
            }
            _ => Block::Pass(length),
        }
    }
}

/// What to do with a header block.
enum Block {
    /// Pass it on: it has this many bytes.
    Pass(usize),
    /// It is incomplete before there are this many bytes.
    Needs(usize),
    /// Replace this many bytes.
    Replace(usize, Vec<u8>),
}
