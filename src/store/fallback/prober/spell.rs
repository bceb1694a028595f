//! What is told of a breaker that opens, and how soon its store is probed then.
//!
//! A store may answer probes and fail its work, as one does behind a proxy that hangs. Its breaker opens again as soon
//! as it was closed: each time, the probe comes later, and only now and then is that told.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::store::StoreError;

/// How long after the breaker opened the first probe goes out, and how long after one another the last ones
/// do: each time somewhat less, by chance, so that a fleet does not probe in step. A store is asked again within
/// a second of its return.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// The same of a breaker that opens again and again.
const LONGEST_FIRST_WAIT: Duration = Duration::from_millis(600);

/// How long a breaker must have been closed for its next opening to have nothing to do with the last one.
const CALM: Duration = Duration::from_secs(5);

/// So many openings, one soon after the other, are told one by one; then one line stands for all of such a time.
const TOLD_ONE_BY_ONE: u32 = 2;
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The most causes that are told while it is open.
const MOST_CAUSES: usize = 8;

/// What opens.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject {
    /// All that decides.
    Redis,
    /// A node of a cluster.
    Node {
        /// Whether a cause is told of the cluster, and not of each of its nodes.
        is_told: fn(&StoreError) -> bool,
    },
}

impl Subject {
    /// That it opened, by one that is told one by one.
    fn opening(self) -> &'static str {
        match self {
            Self::Redis => "Redis does not decide; requests are decided by policy until it does",
            Self::Node { .. } => {
                "a node of the Redis Cluster does not decide; requests for it are decided by policy until it does"
            }
        }
    }

    fn returns(self) -> &'static str {
        match self {
            Self::Redis => {
                "Redis comes and goes: it answers when it is probed, but not its requests; these are decided by \
                 policy, most of the time"
            }
            Self::Node { .. } => {
                "a node of the Redis Cluster comes and goes: it answers when it is probed, but not its requests; these \
                 are decided by policy, most of the time"
            }
        }
    }

    fn other_cause(self) -> &'static str {
        match self {
            Self::Redis => "Redis still does not decide, but for another cause by now",
            Self::Node { .. } => {
                "a node of the Redis Cluster still does not decide, but for another cause by now"
            }
        }
    }

    fn closing(self) -> &'static str {
        match self {
            Self::Redis => "Redis decides again; requests so far were decided by policy",
            Self::Node { .. } => {
                "a node of the Redis Cluster decides again; requests for it so far were decided by policy"
            }
        }
    }

    fn is_told_elsewhere(self, error: &StoreError) -> bool {
        matches!(self, Self::Node { is_told } if is_told(error))
    }
}

/// Openings of a breaker, one soon after the other.
#[derive(Debug)]
pub(super) struct Spell {
    subject: Subject,
    /// That it is open was told.
    is_told: bool,
    /// When it first opened, and how many requests the store had not decided by then.
    since: Instant,
    before: u64,
    /// The same of the last time.
    last: (Instant, u64),
    openings: u32,
    closed: Instant,
    /// When an opening was last told.
    told: Instant,
    /// What has been told of why it is open.
    causes: Vec<String>,
}

impl Spell {
    /// What began with the opening before, or begins now; `decided` is how many requests the store did not decide so
    /// far.
    pub(super) fn opens(before: Option<Self>, subject: Subject, decided: u64) -> Self {
        let now = Instant::now();
        let spell = before.filter(|spell| now < spell.closed + CALM);
        let spell = spell.unwrap_or(Self {
            subject,
            is_told: false,
            since: now,
            before: decided,
            last: (now, decided),
            openings: 0,
            closed: now,
            told: now,
            causes: Vec::new(),
        });
        Self {
            openings: spell.openings + 1,
            last: (now, decided),
            causes: Vec::new(),
            is_told: false,
            ..spell
        }
    }

    /// How long to wait before the first probe, and at most between any two.
    pub(super) fn waits(&self) -> (Duration, Duration) {
        let doublings = (self.openings - 1).min(5);
        let first = (FIRST_WAIT * (1 << doublings)).min(LONGEST_FIRST_WAIT);
        (first, LONGEST_WAIT.max(first))
    }

    /// Tells that it opened.
    pub(super) fn tell_opening(&mut self, error: &StoreError, policy: &'static str) {
        if self.subject.is_told_elsewhere(error) {
            return;
        }
        self.is_told = true;
        self.causes.push(cause(error));
        let now = Instant::now();
        if self.openings <= TOLD_ONE_BY_ONE {
            tracing::warn!(%error, policy, "{}", self.subject.opening());
        } else if self.openings == TOLD_ONE_BY_ONE + 1 || self.told + TOLD_EVERY <= now {
            let (openings, requests) = (self.openings, self.last.1 - self.before);
            tracing::warn!(
                %error, policy, openings, requests, "{}", self.subject.returns()
            );
        } else {
            return;
        }
        self.told = now;
    }

    /// Tells why it is still open, if that is something new.
    pub(super) fn tell_cause(&mut self, error: &StoreError) {
        let cause = cause(error);
        if self.subject.is_told_elsewhere(error) {
            return;
        }
        if self.causes.len() < MOST_CAUSES && !self.causes.contains(&cause) {
            self.causes.push(cause);
            if self.openings <= TOLD_ONE_BY_ONE {
                let text = match self.is_told {
                    true => self.subject.other_cause(),
                    false => self.subject.opening(),
                };
                tracing::warn!(%error, "{text}");
                self.is_told = true;
            }
        }
    }

    /// It was closed. Tells so, unless that means little.
    pub(super) fn closes(&mut self, address: &str, decided: u64) {
        self.closed = Instant::now();
        if self.openings <= TOLD_ONE_BY_ONE && self.is_told {
            let (since, before) = self.last;
            self.tell_closing(address, since.elapsed(), decided - before);
        }
    }

    /// Once it has stayed closed for a while: tells what was not told when it was closed.
    pub(super) async fn calms_down(&self, address: &str, decided: impl Fn() -> u64) {
        sleep_until(self.closed + CALM).await;
        if self.openings > TOLD_ONE_BY_ONE {
            self.tell_closing(address, self.closed - self.since, decided() - self.before);
        }
    }

    fn tell_closing(&self, address: &str, after: Duration, requests: u64) {
        tracing::warn!(address, ?after, requests, "{}", self.subject.closing());
    }
}

/// What makes two errors the same; numbers such as a time do not.
fn cause(error: &StoreError) -> String {
    let text = error.to_string();
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_breaker_that_opens_again_and_again_is_probed_later_each_time() {
        let mut before = None;
        for first in [50, 100, 200, 400, 600, 600] {
            let mut spell = Spell::opens(before, Subject::Redis, 0);
            let (wait, longest) = spell.waits();
            assert_eq!(wait, Duration::from_millis(first));
            assert!(wait <= longest && longest < Duration::from_secs(1));
            spell.closes("there", 0);
            before = Some(spell);
            advance(CALM - Duration::from_millis(1)).await;
        }
        advance(Duration::from_millis(1)).await;
        assert_eq!(
            Spell::opens(before, Subject::Redis, 0).waits().0,
            FIRST_WAIT
        );
    }

    #[tokio::test(start_paused = true)]
    async fn causes_are_new_once_and_not_for_their_numbers() {
        let failed = |cause: &str| StoreError::Unreachable {
            address: "there:1".to_owned(),
            cause: cause.to_owned(),
        };
        let mut spell = Spell::opens(None, Subject::Redis, 0);
        spell.tell_opening(&failed("refused (os error 111)"), "local");
        spell.tell_cause(&failed("refused (os error 112)"));
        assert_eq!(spell.causes.len(), 1);
        spell.tell_cause(&failed("NOAUTH"));
        spell.tell_cause(&failed("refused (os error 111)"));
        spell.tell_cause(&failed("NOAUTH"));
        assert_eq!(spell.causes.len(), 2);
        for cause in 'a'..='z' {
            spell.tell_cause(&failed(&cause.to_string()));
        }
        assert_eq!(spell.causes.len(), MOST_CAUSES);
    }
}
