//! Log events about configurations that were loaded or rejected.
//!
//! A management server or a script can change the configuration many times a second. The first events of an interval
//! are logged; after that, one event per interval has the latest outcome and the number of events that were omitted.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::rules::RuleSet;
use crate::source::{MistakeSummary, Rejection, summarize};

/// Length of an interval.
const INTERVAL: Duration = Duration::from_secs(10);

/// Number of events that are logged in an interval before the others are omitted.
const EVENTS: u32 = 5;

/// What happened to a configuration.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The configuration is active.
    Loaded {
        version: String,
        domains: usize,
        rules: usize,
        /// Parts of it without effect.
        ignored: Option<MistakeSummary>,
    },
    /// The configuration was rejected.
    Rejected {
        reason: Rejection,
        /// Whether a previous configuration stays active.
        has_active: bool,
    },
}

/// Logs outcomes, at a limited rate.
#[derive(Debug, Default)]
pub(super) struct LoadLog {
    /// End of the current interval.
    until: Option<Instant>,
    /// Number of events in the current interval.
    logged: u32,
    /// Number of events that were omitted.
    unlogged: u64,
    /// The latest outcome that was omitted.
    latest: Option<Outcome>,
}

impl Outcome {
    pub(super) fn loaded(version: String, loaded: &RuleSet) -> Self {
        let ignored = loaded.warnings();
        Self::Loaded {
            version,
            domains: loaded.domains().count(),
            rules: loaded.rules().len(),
            ignored: (!ignored.is_empty()).then(|| summarize(ignored)),
        }
    }

    fn write(&self, unlogged: u64) {
        if unlogged > 0 {
            tracing::warn!(
                unlogged,
                "configuration changes too often, logging only the latest change"
            );
        }
        match self {
            Self::Loaded {
                version,
                domains,
                rules,
                ignored,
            } => {
                if let Some(ignored) = ignored {
                    tracing::warn!("configuration has parts without effect\n{ignored}");
                }
                if *rules > 0 {
                    tracing::info!(domains, rules, version, "configuration loaded");
                } else {
                    tracing::warn!(
                        domains,
                        rules,
                        version,
                        "configuration loaded without rules, no request is limited"
                    );
                }
            }
            Self::Rejected { reason, has_active } => {
                let consequence = match has_active {
                    true => "keeping the active configuration",
                    false => "no configuration is active",
                };
                match reason {
                    Rejection::Unreadable(error) => {
                        tracing::error!(%error, "configuration cannot be read, {consequence}");
                    }
                    Rejection::Mistakes(mistakes) => {
                        tracing::error!("configuration rejected, {consequence}\n{mistakes}");
                    }
                }
            }
        }
    }
}

impl LoadLog {
    /// Logs an outcome, or stores it until the end of the interval.
    pub(super) fn add(&mut self, outcome: Outcome) {
        let now = Instant::now();
        if self.until.is_none_or(|until| until <= now) {
            self.flush();
            self.until = Some(now + INTERVAL);
            self.logged = 0;
        }
        if self.logged < EVENTS {
            self.logged += 1;
            outcome.write(0);
            return;
        }
        self.unlogged += 1;
        self.latest = Some(outcome);
    }

    /// Waits until there is an outcome to [`flush`](Self::flush).
    pub(super) async fn due(&self) {
        match (self.until, &self.latest) {
            (Some(until), Some(_)) => sleep_until(until).await,
            _ => std::future::pending().await,
        }
    }

    /// Logs the latest outcome that was omitted, if there is one.
    pub(super) fn flush(&mut self) {
        if let Some(outcome) = self.latest.take() {
            outcome.write(self.unlogged - 1);
            self.unlogged = 0;
            // It counts as the only event of the interval that begins.
            self.until = Some(Instant::now() + INTERVAL);
            self.logged = EVENTS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(rules: usize) -> Outcome {
        Outcome::Loaded {
            version: "v".to_owned(),
            domains: 1,
            rules,
            ignored: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_changes_one_per_interval_is_logged() {
        let mut log = LoadLog::default();
        for rules in 0..100 {
            log.add(loaded(rules));
        }
        assert_eq!((log.logged, log.unlogged), (EVENTS, 95));
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
        // The event of this interval was the one that was due.
        assert_eq!((log.logged, log.unlogged), (EVENTS, 10));
        log.due().await;
        log.flush();
        assert!(log.latest.is_none());
        // After an interval without changes, the first ones are logged again.
        tokio::time::advance(INTERVAL).await;
        log.add(loaded(1));
        assert_eq!((log.logged, log.unlogged), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn few_events_are_logged_immediately() {
        let mut log = LoadLog::default();
        for _ in 0..EVENTS {
            log.add(loaded(1));
        }
        assert!(log.latest.is_none());
    }
}
