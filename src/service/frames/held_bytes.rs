//! Bytes of a connection that were read and not passed on yet.

use tokio::io::ReadBuf;

use super::scanner::Then;

/// The buffer keeps its memory for the next use if it is no larger than this.
const KEPT_CAPACITY: usize = 1 << 10;

/// Bytes that were read and not passed on yet. The first of them are released: they can be passed on. The others are
/// unscanned.
#[derive(Debug, Default)]
pub(super) struct HeldBytes {
    bytes: Vec<u8>,
    /// Number of bytes that were passed on.
    passed: usize,
    /// Number of bytes that can be passed on, including those that were.
    released: usize,
    /// The unscanned bytes cannot be scanned before there are this many.
    needed: usize,
}

impl HeldBytes {
    /// Creates a buffer of bytes that can be passed on.
    pub(super) fn released(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            released: bytes.len(),
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Holds back bytes that were scanned, none of which can be passed on.
    pub(super) fn hold(&mut self, bytes: &[u8], then: Then) {
        self.bytes.extend_from_slice(bytes);
        self.release(0, then);
    }

    /// Appends bytes that were not scanned.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the bytes that are not released.
    pub(super) fn unscanned(&self) -> &[u8] {
        &self.bytes[self.released..]
    }

    /// Returns whether there are enough bytes to scan.
    pub(super) fn can_be_scanned(&self) -> bool {
        let count = self.unscanned().len();
        count > 0 && count >= self.needed
    }

    /// Releases the next `count` bytes.
    pub(super) fn release(&mut self, count: usize, then: Then) {
        self.released += count;
        match then {
            Then::Needs(needed) => self.needed = needed,
            Then::Replace(length, with) => {
                let end = self.released + with.len();
                self.bytes
                    .splice(self.released..self.released + length, with);
                (self.released, self.needed) = (end, 0);
            }
        }
    }

    /// Releases all bytes, scanned or not.
    pub(super) fn release_all(&mut self) {
        self.released = self.bytes.len();
    }

    /// Copies released bytes to `into`. Returns whether there were any.
    pub(super) fn pass_on(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let count = (self.released - self.passed).min(into.remaining());
        into.put_slice(&self.bytes[self.passed..self.passed + count]);
        self.passed += count;
        if self.passed == self.released {
            self.bytes.drain(..self.passed);
            (self.passed, self.released) = (0, 0);
            if self.bytes.is_empty() {
                self.needed = 0;
                if self.bytes.capacity() > KEPT_CAPACITY {
                    self.bytes = Vec::new();
                }
            }
        }
        count > 0
    }
}
