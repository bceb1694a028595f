//! The line that tells a person at a terminal how it goes, and how long the server has been silent.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Back to the beginning of the line, which is cleared.
const CLEAR: &str = "\r\x1b[2K";

/// How it goes.
#[derive(Debug)]
pub(super) struct Progress {
    answered: Arc<AtomicU64>,
    seen: u64,
    /// When the last answers were seen to have come.
    news: Instant,
    looked: Instant,
    shown: bool,
}

impl Progress {
    /// Watches a count of answers.
    pub(super) fn new(answered: Arc<AtomicU64>) -> Self {
        Self {
            answered,
            seen: 0,
            news: Instant::now(),
            looked: Instant::now(),
            shown: io::stderr().is_terminal(),
        }
    }

    /// The first call is about to be sent.
    pub(super) fn begin(&mut self) {
        self.news = Instant::now();
        self.looked = self.news;
    }

    /// Writes the line, which says how long it is until then; returns for how long no answer has come.
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
                "{CLEAR}{answered} answers, {rate:.0} per second{left}"
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
