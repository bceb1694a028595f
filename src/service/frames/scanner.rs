//! Follows the frames of a connection: which bytes are which frame, what the client spends on frames that carry no
//! request, and which header blocks to rewrite.

use std::fmt;
use std::ops::Range;

use super::budget::Budget;
use super::hpack::{Edit, Fields};
use crate::clock::Clock;

/// The length of a frame's head.
const HEAD: usize = 9;

/// The longest payload of a frame that the library accepts: it announces no other one.
const MAX_PAYLOAD: usize = 16_384;

/// The most frames that a header block may have here. The library accepts no more than ten with the default bound on
/// headers.
const MAX_FRAMES_OF_A_BLOCK: usize = 64;

/// Kinds of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;

/// Flags of frames.
const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Control frames that a connection may send: at once, per second, and for each request.
///
/// Clients send few. The most are those that measure the bandwidth (grpc-go, grpc-java, grpcio): a PING and a WINDOW_UPDATE
/// of the connection for each response at worst, one of the stream, and now and then SETTINGS; a client whose window is
/// small sends two WINDOW_UPDATE for each DATA frame of a response. Envoy and all others ask whether we are still there at
/// most some times a second.
const CONTROL_AT_ONCE: u32 = 10_000;
const CONTROL_PER_SECOND: u32 = 100;
const CONTROL_PER_REQUEST: u32 = 10;

/// What SETTINGS cost: they are applied to each stream.
const SETTINGS_COST: u32 = 10;

/// A DATA frame of fewer bytes counts as a control frame: many of them say little.
const SMALL_DATA: usize = 256;

/// Resets that a connection may send: at once, and per second beyond one for each two requests.
///
/// Envoy resets a call that times out. After a stall of this server, what comes at once is the calls of the whole stall, as
/// far as the buffers of the sockets hold them: tens of thousands. A client that hedges resets up to half of its calls for
/// as long as it lives. A call that was sent completely pays for its own reset: it costs no more than others, and a client
/// of Envoy makes Envoy reset as many as it cancels. A client that resets incomplete calls for long, faster than this, only
/// makes work.
const RESETS_AT_ONCE: u32 = 50_000;
const RESETS_PER_SECOND: u32 = 1_000;

/// A reset costs as much as two requests bring, or one that is complete.
const RESET_COST: u32 = 2;
const RESET_PER_REQUEST: u32 = 1;

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flood {
    /// Frames that carry no request.
    ControlFrames,
    /// Calls that are reset.
    Resets,
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ControlFrames => "too many control frames for its requests",
            Self::Resets => "too many resets for its requests",
        })
    }
}

/// What is to become of bytes that were looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    /// So many of them can be passed on.
    pub(super) passed: usize,
    pub(super) then: Then,
}

/// What comes after the bytes that can be passed on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing can be said of the next bytes before there are at least so many of them.
    Needs(usize),
    /// So many bytes are to be replaced by others.
    Replace(usize, Vec<u8>),
}

/// Follows the frames that a client sends.
#[derive(Debug)]
pub(super) struct FrameScanner {
    /// The bytes to come that belong to a frame that can be passed on.
    skip: usize,
    /// The longest header block that is read.
    max_block: usize,
    /// The last stream that the client has opened.
    last_stream: u32,
    fields: Fields,
    control: Budget,
    resets: Budget,
}

impl FrameScanner {
    /// Begins with the first frame, after so many bytes. Header blocks of more bytes than `max_block` are not read.
    pub(super) fn new(after: usize, max_block: usize, clock: &Clock) -> Self {
        let now = clock();
        Self {
            skip: after,
            max_block: max_block.saturating_add(HEAD + MAX_PAYLOAD),
            last_stream: 0,
            fields: Fields::default(),
            control: Budget::new(CONTROL_AT_ONCE, CONTROL_PER_SECOND, now),
            resets: Budget::new(
                RESETS_AT_ONCE * RESET_COST,
                RESETS_PER_SECOND * RESET_COST,
                now,
            ),
        }
    }

    /// Looks at the next bytes. What is passed on or replaced must not be shown again, and the rest must be.
    ///
    /// # Errors
    /// [`Flood`] if the connection is to be closed.
    pub(super) fn follow(&mut self, bytes: &[u8], clock: &Clock) -> Result<Scanned, Flood> {
        let mut passed = 0;
        loop {
            let skipped = self.skip.min(bytes.len() - passed);
            (passed, self.skip) = (passed + skipped, self.skip - skipped);
            let rest = &bytes[passed..];
            let Some(head) = Head::read(rest) else {
                let then = Then::Needs(HEAD);
                return Ok(Scanned { passed, then });
            };
            self.skip = HEAD + head.length;
            if head.kind == HEADERS && head.length <= MAX_PAYLOAD {
                match self.block(head, rest) {
                    Block::Passes(length) => self.skip = length,
                    Block::Needs(length) => {
                        self.skip = 0;
                        let then = Then::Needs(length);
                        return Ok(Scanned { passed, then });
                    }
                    Block::Becomes(length, with) => {
                        self.skip = 0;
                        self.count(head, clock)?;
                        let then = Then::Replace(length, with);
                        return Ok(Scanned { passed, then });
                    }
                }
            }
            self.count(head, clock)?;
        }
    }

    /// Counts a frame, once.
    #[inline]
    fn count(&mut self, head: Head, clock: &Clock) -> Result<(), Flood> {
        if head.kind == DATA && head.flags & END_STREAM != 0 && head.length > 0 {
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
                let enough = self.resets.spend(RESET_COST, clock);
                return if enough { Ok(()) } else { Err(Flood::Resets) };
            }
            SETTINGS if head.flags & ACK == 0 => SETTINGS_COST,
            _ => 1,
        };
        let enough = self.control.spend(cost, clock);
        if enough {
            Ok(())
        } else {
            Err(Flood::ControlFrames)
        }
    }

    /// Reads the header block that begins with this frame, once it is complete.
    fn block(&mut self, head: Head, bytes: &[u8]) -> Block {
        let end = HEAD + head.length;
        let Some(payload) = bytes.get(HEAD..end) else {
            return Block::Needs(end);
        };
        // The library ends the connection if there is more padding than payload.
        let Some(fragment) = head.fragment(payload) else {
            return Block::Passes(end);
        };
        let priority = &payload[head.priority(fragment.start)..fragment.start];
        if head.flags & END_HEADERS != 0 {
            return self.rewrite((head, priority), &payload[fragment], end);
        }
        match continued(&payload[fragment], bytes, end, self.max_block) {
            Continued::Whole(block, end) => self.rewrite((head, priority), &block, end),
            Continued::Needs(length) => Block::Needs(length),
            Continued::TooLong => {
                // The library rejects the call, too.
                self.fields.forget();
                Block::Passes(end)
            }
        }
    }

    /// Reads a header block of which all frames together have `length` bytes.
    fn rewrite(&mut self, (head, priority): (Head, &[u8]), block: &[u8], length: usize) -> Block {
        match self.fields.read(block) {
            // The library ends the connection if the block is malformed.
            Ok(edits) if !edits.is_empty() => {
                let with = head.frames(priority, &edited(block, edits));
                Block::Becomes(length, with)
            }
            _ => Block::Passes(length),
        }
    }
}

/// What is to become of a header block.
enum Block {
    /// It is passed on, so many bytes.
    Passes(usize),
    /// It is not complete before there are so many bytes.
    Needs(usize),
    /// So many bytes become others.
    Becomes(usize, Vec<u8>),
}

/// A header block that goes on after its first frame.
enum Continued {
    /// All of it, and where its last frame ends.
    Whole(Vec<u8>, usize),
    /// It is not complete before there are so many bytes.
    Needs(usize),
    /// It is longer than what is read, or it breaks off, which the library ends the connection for.
    TooLong,
}

/// Puts a header block together whose first frame ends at `end`.
fn continued(first: &[u8], bytes: &[u8], mut end: usize, most: usize) -> Continued {
    let mut block = first.to_vec();
    for _ in 1..MAX_FRAMES_OF_A_BLOCK {
        let Some(head) = Head::read(&bytes[end..]) else {
            return Continued::Needs(end + HEAD);
        };
        let begin = end + HEAD;
        end = begin + head.length;
        if head.kind != CONTINUATION || end > most {
            break;
        }
        let Some(payload) = bytes.get(begin..end) else {
            return Continued::Needs(end);
        };
        block.extend_from_slice(payload);
        if head.flags & END_HEADERS != 0 {
            return Continued::Whole(block, end);
        }
    }
    Continued::TooLong
}

/// A header block in which pieces were replaced.
fn edited(block: &[u8], edits: Vec<Edit>) -> Vec<u8> {
    let (mut new, mut at) = (Vec::with_capacity(block.len()), 0);
    for Edit { range, with } in edits {
        new.extend_from_slice(&block[at..range.start]);
        new.extend(with);
        at = range.end;
    }
    new.extend_from_slice(&block[at..]);
    new
}

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
struct Head {
    /// Of the payload.
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    /// Of the frame that begins with these bytes; `None` if there are too few.
    #[inline]
    fn read(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, d, e, f, g] = bytes.first_chunk::<HEAD>()?;
        Some(Self {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
        })
    }

    /// Appends this head, for a payload of so many bytes.
    fn write(self, length: usize, to: &mut Vec<u8>) {
        let length = u32::try_from(length).unwrap_or_default().to_be_bytes();
        to.extend_from_slice(&length[1..]);
        to.extend_from_slice(&[self.kind, self.flags]);
        to.extend_from_slice(&self.stream.to_be_bytes());
    }

    /// Where the header block is in the payload of HEADERS; `None` if there is more padding than payload.
    fn fragment(self, payload: &[u8]) -> Option<Range<usize>> {
        let (mut begin, mut end) = (0, payload.len());
        if self.flags & PADDED != 0 {
            begin = 1;
            end = end.checked_sub(usize::from(*payload.first()?))?;
        }
        if self.flags & PRIORITY != 0 {
            begin += 5;
        }
        (begin <= end).then_some(begin..end)
    }

    /// Where the five octets of the priority are, which are before the header block.
    fn priority(self, block: usize) -> usize {
        if self.flags & PRIORITY != 0 {
            block - 5
        } else {
            block
        }
    }

    /// HEADERS like this one and as many CONTINUATION as the header block needs, without padding.
    fn frames(self, priority: &[u8], block: &[u8]) -> Vec<u8> {
        let first = block.len().min(MAX_PAYLOAD - priority.len());
        let (first, rest) = block.split_at(first);
        let mut head = Self {
            flags: self.flags & !(PADDED | END_HEADERS),
            ..self
        };
        let mut frames = Vec::with_capacity(block.len() + 2 * HEAD);
        if rest.is_empty() {
            head.flags |= END_HEADERS;
        }
        head.write(priority.len() + first.len(), &mut frames);
        frames.extend_from_slice(priority);
        frames.extend_from_slice(first);
        let mut rest = rest.chunks(MAX_PAYLOAD).peekable();
        while let Some(fragment) = rest.next() {
            let flags = if rest.peek().is_none() {
                END_HEADERS
            } else {
                0
            };
            let head = Self {
                kind: CONTINUATION,
                flags,
                ..head
            };
            head.write(fragment.len(), &mut frames);
            frames.extend_from_slice(fragment);
        }
        frames
    }
}
