//! The log lines on configurations that were loaded or rejected.
//!
//! A management server or a script can change the configuration many times a second. The first lines of an interval
//! are written; after that, one line per interval has the latest outcome and the number of lines that were left out.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::rules::RuleSet;
use crate::source::{Refusal, Told, shown_mistakes};

/// The time in which lines are counted.
const INTERVAL: Duration = Duration::from_secs(10);

/// Lines that are written in an interval before the others are left out.
const LINES: u32 = 5;

/// What a line reports.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A configuration was put in force.
    Loaded {
        domains: usize,
        rules: usize,
        /// What has no effect in it.
        ignored: Option<Told>,
    },
    /// A configuration was rejected.
    Rejected {
        reason: Refusal,
        /// What is in force instead.
        kept: &'static str,
    },
}

/// Lines written and left out.
#[derive(Debug, Default)]
pub(super) struct LoadLog {
    /// The end of the interval in which lines are counted.
    until: Option<Instant>,
    lines: u32,
    /// How many lines were left out.
    unlogged: u64,
    /// The outcome that is not logged yet.
    latest: Option<Outcome>,
}

impl Outcome {
    pub(super) fn of_loaded(loaded: &RuleSet) -> Self {
        let ignored = loaded.warnings();
        Self::Loaded {
            domains: loaded.domains().count(),
            rules: loaded.rules().len(),
            ignored: (!ignored.is_empty()).then(|| shown_mistakes(ignored)),
        }
    }

    fn write(&self, unlogged: u64) {
        if unlogged > 0 {
            tracing::warn!(
                unlogged,
                "the configuration changes so often that only the latest change is logged"
            );
        }
        match self {
            Self::Loaded {
                domains,
                rules,
                ignored,
            } => {
                if let Some(ignored) = ignored {
                    tracing::warn!("parts of the configuration have no effect\n{ignored}");
                }
                if *rules > 0 {
                    tracing::info!(domains, rules, "rules in force");
                } else {
                    tracing::warn!(
                        "the configuration is right but has no rules: nothing is limited"
                    );
                }
            }
            Self::Rejected { reason, kept } => match reason {
                Refusal::Unreadable(error) => {
                    tracing::error!(%error, "the configuration cannot be read; {kept}");
                }
                Refusal::Mistakes(mistakes) => {
                    tracing::error!("the configuration has mistakes; {kept}\n{mistakes}");
                }
            },
        }
    }
}

impl LoadLog {
    /// Logs an outcome, or keeps it for the end of the interval.
    pub(super) fn add(&mut self, outcome: Outcome) {
        let now = Instant::now();
        if self.until.is_none_or(|until| until <= now) {
            self.flush();
            self.until = Some(now + INTERVAL);
            self.lines = 0;
        }
        if self.lines < LINES {
            self.lines += 1;
            outcome.write(0);
            return;
        }
        self.unlogged += 1;
        self.latest = Some(outcome);
    }

    /// Waits until there is something to [`flush`](Self::flush).
    pub(super) async fn due(&self) {
        match (self.until, &self.latest) {
            (Some(until), Some(_)) => sleep_until(until).await,
            _ => std::future::pending().await,
        }
    }

    /// Logs the latest outcome that was left out, if there is one.
    pub(super) fn flush(&mut self) {
        if let Some(outcome) = self.latest.take() {
            outcome.write(self.unlogged - 1);
            self.unlogged = 0;
            // That was the line of the interval that begins.
            self.until = Some(Instant::now() + INTERVAL);
            self.lines = LINES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(rules: usize) -> Outcome {
        Outcome::Loaded {
            domains: 1,
            rules,
            ignored: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_flood_one_line_per_interval_is_left() {
        let mut log = LoadLog::default();
        for rules in 0..100 {
            log.add(loaded(rules));
        }
        assert_eq!((log.lines, log.unlogged), (LINES, 95));
        let start = Instant::now();
        log.due().await;
        assert_eq!(start.elapsed(), INTERVAL);
        assert!(matches!(
            log.latest,
            Some(Outcome::Loaded { rules: 99, .. })
        ));
        log.flush();
        for rules in 0..10 {
            log.add(loaded(rules));
        }
        // The line of this interval was the one that was due.
        assert_eq!((log.lines, log.unlogged), (LINES, 10));
        log.due().await;
        log.flush();
        assert!(log.latest.is_none());
        // After a quiet interval all is as at first.
        tokio::time::advance(INTERVAL).await;
        log.add(loaded(1));
        assert_eq!((log.lines, log.unlogged), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn few_lines_are_written_at_once() {
        let mut log = LoadLog::default();
        for _ in 0..LINES {
            log.add(loaded(1));
        }
        assert!(log.latest.is_none());
    }
}
