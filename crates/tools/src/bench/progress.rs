//! The progress line on a terminal, and the time since the last response.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Returns to the start of the line and clears it.
const CLEAR: &str = "\r\x1b[2K";

/// Progress of a run.
#[derive(Debug)]
pub(super) struct Progress {
    answered: Arc<AtomicU64>,
    seen: u64,
    /// When responses were last seen to arrive.
    news: Instant,
    looked: Instant,
    shown: bool,
}

impl Progress {
    /// Watches a count of responses.
    pub(super) fn new(answered: Arc<AtomicU64>) -> Self {
        Self {
            answered,
            seen: 0,
            news: Instant::now(),
            looked: Instant::now(),
            shown: io::stderr().is_terminal(),
        }
    }

    /// Marks the start of the run.
    pub(super) fn begin(&mut self) {
        self.news = Instant::now();
        self.looked = self.news;
    }

    /// Writes the line with the time left, and returns the time since the last response.
    pub(super) fn look(&mut self, until: Option<Instant>) -> io::Result<Duration> {
        let answered = self.answered.load(Ordering::Relaxed);
        let now = Instant::now();
        let fresh = answered - self.seen;
        let since = now - self.looked;
        if fresh > 0 {
            self.news = now;
        }
        self.seen = answered;
        self.looked = now;
        if self.shown && !since.is_zero() {
            let rate = fresh as f64 / since.as_secs_f64();
            let left = until.map_or_else(String::new, |until| {
                let left = until.saturating_duration_since(now).as_secs_f64();
                format!(", {left:.0} s left")
            });
            write!(
                io::stderr(),
                "{CLEAR}{answered} responses, {rate:.0} per second{left}"
            )?;
        }
        Ok(now - self.news)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            // A terminal that is gone needs no clearing.
            let _ = write!(io::stderr(), "{CLEAR}");
        }
    }
}
