//! The text of all metrics for whoever asks, of which only a few are held at once.
//!
//! It may have many megabytes, and somebody who reads it slowly holds it for as long. So when a few are being read, who
//! asks then gets the latest of them, as long as it is not old.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// How many are written anew for each who asks.
const FEW: usize = 4;

/// For how long one is told again.
const FRESH: Duration = Duration::from_secs(15);

/// The texts that are being read, oldest first.
#[derive(Debug, Default)]
pub(super) struct Copies(Mutex<Vec<(Instant, Weak<str>)>>);

impl Copies {
    /// What `write` writes, or wrote lately.
    pub(super) fn latest(&self, write: impl FnOnce() -> String) -> Bytes {
        // Who asks meanwhile waits, rather than have another one written.
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(_, text)| text.strong_count() > 0);
        let latest = held
            .last()
            .filter(|(written, _)| held.len() >= FEW && written.elapsed() < FRESH);
        let text = latest
            .and_then(|(_, text)| text.upgrade())
            .unwrap_or_else(|| {
                let text = Arc::<str>::from(write());
                held.push((Instant::now(), Arc::downgrade(&text)));
                text
            });
        Bytes::from_owner(Copy(text))
    }
}

struct Copy(Arc<str>);

impl AsRef<[u8]> for Copy {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_held_and_what_is_read_is_written_anew() {
        let (copies, mut written) = (Copies::default(), 0);
        let mut next = || {
            copies.latest(|| {
                written += 1;
                written.to_string()
            })
        };
        for expected in ["1", "2", "3"] {
            assert_eq!(next(), expected);
        }
        let mut held: Vec<_> = (0..FEW).map(|_| next()).collect();
        assert_eq!(next(), held[FEW - 1]);
        held.remove(0);
        assert_ne!(next(), held[FEW - 2]);
    }
}
