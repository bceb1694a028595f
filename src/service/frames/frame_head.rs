//! Heads of HTTP/2 frames (RFC 9113, section 4.1).

use std::ops::Range;

/// Length of the head of a frame.
pub(super) const HEAD_BYTES: usize = 9;

/// Maximum length of a payload. The library announces no larger one.
pub(super) const MAX_PAYLOAD: usize = 16_384;

/// Frame types.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const CONTINUATION: u8 = 9;

/// Flags of frames.
pub(super) const ACK: u8 = 0x1;
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameHead {
    /// Length of the payload.
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl FrameHead {
    /// Parses the head of the frame that begins with these bytes; `None` if there are too few.
    #[inline]
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, d, e, f, g] = bytes.first_chunk::<HEAD_BYTES>()?;
        Some(Self {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
        })
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Appends this head with another payload length.
    fn write(self, length: usize, to: &mut Vec<u8>) {
        let length = u32::try_from(length).unwrap_or_default().to_be_bytes();
        to.extend_from_slice(&length[1..]);
        to.extend_from_slice(&[self.kind, self.flags]);
        to.extend_from_slice(&self.stream.to_be_bytes());
    }

    /// Returns the range of the header block in the payload of HEADERS; `None` if there is more padding than payload.
    pub(super) fn fragment(self, payload: &[u8]) -> Option<Range<usize>> {
        let (mut begin, mut end) = (0, payload.len());
        if self.has(PADDED) {
            begin = 1;
            end = end.checked_sub(usize::from(*payload.first()?))?;
        }
        if self.has(PRIORITY) {
            begin += 5;
        }
        (begin <= end).then_some(begin..end)
    }

    /// Returns where the five octets of the priority begin, if there are any: before the header block at `block`.
    pub(super) fn priority(self, block: usize) -> usize {
        if self.has(PRIORITY) { block - 5 } else { block }
    }

    /// Encodes a header block as HEADERS with the properties of this head, without padding, and as many CONTINUATION as
    /// needed.
    pub(super) fn encode(self, priority: &[u8], block: &[u8]) -> Vec<u8> {
        let first = block.len().min(MAX_PAYLOAD - priority.len());
        let (first, rest) = block.split_at(first);
        let mut head = Self {
            flags: self.flags & !(PADDED | END_HEADERS),
            ..self
        };
        let mut frames = Vec::with_capacity(block.len() + 2 * HEAD_BYTES);
        if rest.is_empty() {
            head.flags |= END_HEADERS;
        }
        head.write(priority.len() + first.len(), &mut frames);
        frames.extend_from_slice(priority);
        frames.extend_from_slice(first);
        let mut rest = rest.chunks(MAX_PAYLOAD).peekable();
        while let Some(fragment) = rest.next() {
            let is_last = rest.peek().is_none();
            let head = Self {
                kind: CONTINUATION,
                flags: if is_last { END_HEADERS } else { 0 },
                ..head
            };
            head.write(fragment.len(), &mut frames);
            frames.extend_from_slice(fragment);
        }
        frames
    }
}
