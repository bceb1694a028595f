//! Assembles header blocks that span several frames.

use super::frame_head::{CONTINUATION, END_HEADERS, FrameHead, HEAD_BYTES};
use super::hpack::Edit;

/// Maximum number of frames of a header block. The library accepts at most ten with the default bound on headers.
const MAX_FRAMES: usize = 64;

/// A header block that continues after its first frame.
pub(super) enum Assembled {
    /// The complete block, and where its last frame ends.
    Complete(Vec<u8>, usize),
    /// The block is incomplete before there are this many bytes.
    Needs(usize),
    /// The block is too long, or another frame interrupts it, for which the library closes the connection.
    Rejected,
}

/// Assembles a header block whose first frame has the fragment `first` and ends at `end` of `bytes`.
pub(super) fn assemble(first: &[u8], bytes: &[u8], mut end: usize, max_bytes: usize) -> Assembled {
    let mut block = first.to_vec();
    for _ in 1..MAX_FRAMES {
        let Some(head) = FrameHead::read(&bytes[end..]) else {
            return Assembled::Needs(end + HEAD_BYTES);
        };
        let begin = end + HEAD_BYTES;
        end = begin + head.length;
        if head.kind != CONTINUATION || end > max_bytes {
            break;
        }
        let Some(payload) = bytes.get(begin..end) else {
            return Assembled::Needs(end);
        };
        block.extend_from_slice(payload);
        if head.has(END_HEADERS) {
            return Assembled::Complete(block, end);
        }
    }
    Assembled::Rejected
}

/// Returns a header block with edits applied, which must be in ascending order.
pub(super) fn edited(block: &[u8], edits: Vec<Edit>) -> Vec<u8> {
    let (mut new, mut at) = (Vec::with_capacity(block.len()), 0);
    for Edit { range, with } in edits {
        new.extend_from_slice(&block[at..range.start]);
        new.extend(with);
        at = range.end;
    }
    new.extend_from_slice(&block[at..]);
    new
}
