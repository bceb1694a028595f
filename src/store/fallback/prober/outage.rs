//! An outage: how soon the server is probed, and what is logged.
//!
//! A server can answer probes but fail requests, as one behind a proxy that hangs does. Its breaker then opens again soon
//! after each time that it was closed (it flaps). Each time, the first probe is sent later, and only some openings are logged.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::store::StoreError;

/// The wait between the opening of the breaker and the first probe, and the maximum wait between probes, both before a
/// random reduction of up to a half. They are short, so that a server is used within a second of its return.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// The maximum wait between the opening of a flapping breaker and the first probe.
const LONGEST_FIRST_WAIT: Duration = Duration::from_millis(600);

/// The time for which a breaker must have been closed for its next opening to be a new outage.
const CALM: Duration = Duration::from_secs(5);

/// The number of openings of one outage that are each logged. After them, one line per interval is logged.
const LOGGED_OPENINGS: u32 = 2;
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Maximum number of causes that are logged while the breaker is open.
const MAX_CAUSES: usize = 8;

/// The server that is unavailable.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject {
    /// Redis as a whole.
    Redis,
    /// A node of a Redis Cluster.
    Node {
        /// Whether an error concerns the whole cluster, so that it is not logged for each node.
        is_cluster_error: fn(&StoreError) -> bool,
    },
}

impl Subject {
    fn begin_message(self) -> &'static str {
        match self {
            Self::Redis => "redis unavailable, applying failure policy",
            Self::Node { .. } => "cluster node unavailable, applying failure policy",
        }
    }

    fn flapping_message(self) -> &'static str {
        match self {
            Self::Redis => "redis answers probes but fails requests, applying failure policy",
            Self::Node { .. } => {
                "cluster node answers probes but fails requests, applying failure policy"
            }
        }
    }

    fn new_cause_message(self) -> &'static str {
        match self {
            Self::Redis => "redis still unavailable, with another error",
            Self::Node { .. } => "cluster node still unavailable, with another error",
        }
    }

    fn end_message(self) -> &'static str {
        match self {
            Self::Redis => "redis available again",
            Self::Node { .. } => "cluster node available again",
        }
    }

    fn is_cluster_error(self, error: &StoreError) -> bool {
        matches!(self, Self::Node { is_cluster_error } if is_cluster_error(error))
    }
}

/// When a breaker opened, and how many requests the failure policy had decided by then.
#[derive(Debug, Clone, Copy)]
struct Opening {
    at: Instant,
    fallback_decisions: u64,
}

/// One or more openings of a breaker, each soon after the breaker was closed.
#[derive(Debug)]
pub(super) struct Outage {
    subject: Subject,
    first: Opening,
    latest: Opening,
    openings: u32,
    closed: Instant,
    /// Whether the latest opening was logged.
    is_logged: bool,
    /// When an opening was last logged.
    logged: Instant,
    /// The causes that were logged since the latest opening.
    causes: Vec<String>,
}

impl Outage {
    /// Continues `previous` if its breaker was closed recently, or else begins an outage. `fallback_decisions` is the
    /// number of requests that the failure policy has decided so far.
    pub(super) fn begin(previous: Option<Self>, subject: Subject, fallback_decisions: u64) -> Self {
        let now = Instant::now();
        let opening = Opening {
            at: now,
            fallback_decisions,
        };
        let outage = previous.filter(|outage| now < outage.closed + CALM);
        let outage = outage.unwrap_or(Self {
            subject,
            first: opening,
            latest: opening,
            openings: 0,
            closed: now,
            is_logged: false,
            logged: now,
            causes: Vec::new(),
        });
        Self {
            openings: outage.openings + 1,
            latest: opening,
            causes: Vec::new(),
            is_logged: false,
            ..outage
        }
    }

    /// Returns the wait before the first probe.
    pub(super) fn first_wait(&self) -> Duration {
        let doublings = (self.openings - 1).min(5);
        (FIRST_WAIT * (1 << doublings)).min(LONGEST_FIRST_WAIT)
    }

    /// Returns the maximum wait between two probes.
    pub(super) fn longest_wait(&self) -> Duration {
        LONGEST_WAIT.max(self.first_wait())
    }

    /// Whether the breaker has opened too often for each opening to be logged.
    fn is_flapping(&self) -> bool {
        self.openings > LOGGED_OPENINGS
    }

    /// Logs that the breaker opened.
    pub(super) fn log_begin(&mut self, error: &StoreError, policy: &'static str) {
        if self.subject.is_cluster_error(error) {
            return;
        }
        self.is_logged = true;
        self.causes.push(cause(error));
        let now = Instant::now();
        if !self.is_flapping() {
            tracing::warn!(%error, policy, "{}", self.subject.begin_message());
        } else if self.openings == LOGGED_OPENINGS + 1 || self.logged + LOG_EVERY <= now {
            let openings = self.openings;
            let fallback_decisions = self.latest.fallback_decisions - self.first.fallback_decisions;
            tracing::warn!(
                %error, policy, openings, fallback_decisions, "{}", self.subject.flapping_message()
            );
        } else {
            return;
        }
        self.logged = now;
    }

    /// Logs why a probe failed unless that cause was logged.
    pub(super) fn log_new_cause(&mut self, error: &StoreError) {
        let cause = cause(error);
        if self.subject.is_cluster_error(error)
            || self.causes.len() >= MAX_CAUSES
            || self.causes.contains(&cause)
        {
            return;
        }
        self.causes.push(cause);
        if !self.is_flapping() {
            let message = match self.is_logged {
                true => self.subject.new_cause_message(),
                false => self.subject.begin_message(),
            };
            tracing::warn!(%error, "{message}");
            self.is_logged = true;
        }
    }

    /// Records that the breaker was closed, and logs it unless the breaker is flapping.
    pub(super) fn end(&mut self, address: &str, fallback_decisions: u64) {
        self.closed = Instant::now();
        if !self.is_flapping() && self.is_logged {
            self.log_end(address, self.latest, fallback_decisions);
        }
    }

    /// Waits until the breaker has stayed closed for a while, and then logs the end of a flapping outage.
    pub(super) async fn log_end_of_flapping(
        &self,
        address: &str,
        fallback_decisions: impl Fn() -> u64,
    ) {
        sleep_until(self.closed + CALM).await;
        if self.is_flapping() {
            self.log_end(address, self.first, fallback_decisions());
        }
    }

    fn log_end(&self, addr: &str, since: Opening, fallback_decisions: u64) {
        let outage = self.closed - since.at;
        let fallback_decisions = fallback_decisions - since.fallback_decisions;
        tracing::warn!(
            addr,
            ?outage,
            fallback_decisions,
            "{}",
            self.subject.end_message()
        );
    }
}

/// Returns the text of an error without digits: errors that differ only in numbers, such as a time, have the same cause.
fn cause(error: &StoreError) -> String {
    let text = error.to_string();
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flapping_breaker_is_probed_later_each_time() {
        let mut previous = None;
        for first in [50, 100, 200, 400, 600, 600] {
            let mut outage = Outage::begin(previous, Subject::Redis, 0);
            let (wait, longest) = (outage.first_wait(), outage.longest_wait());
            assert_eq!(wait, Duration::from_millis(first));
            assert!(wait <= longest && longest < Duration::from_secs(1));
            outage.end("there", 0);
            previous = Some(outage);
            advance(CALM - Duration::from_millis(1)).await;
        }
        advance(Duration::from_millis(1)).await;
        let next = Outage::begin(previous, Subject::Redis, 0);
        assert_eq!(next.first_wait(), FIRST_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn causes_that_differ_only_in_numbers_are_logged_once() {
        let failed = |cause: &str| StoreError::Unreachable {
            address: "there:1".to_owned(),
            cause: cause.to_owned(),
        };
        let mut outage = Outage::begin(None, Subject::Redis, 0);
        outage.log_begin(&failed("refused (os error 111)"), "local");
        outage.log_new_cause(&failed("refused (os error 112)"));
        assert_eq!(outage.causes.len(), 1);
        outage.log_new_cause(&failed("NOAUTH"));
        outage.log_new_cause(&failed("refused (os error 111)"));
        outage.log_new_cause(&failed("NOAUTH"));
        assert_eq!(outage.causes.len(), 2);
        for cause in 'a'..='z' {
            outage.log_new_cause(&failed(&cause.to_string()));
        }
        assert_eq!(outage.causes.len(), MAX_CAUSES);
    }
}
