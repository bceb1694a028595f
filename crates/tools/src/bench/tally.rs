//! Counts and latencies of the calls that ended within an interval.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;
use tonic::Status;

use super::call::{self, Answer};
use ratekeeper_api::pb::rate_limit_response::Code;

/// Longest recorded duration; longer ones are recorded as this.
const LONGEST: Duration = Duration::from_secs(600);

/// Significant digits of a duration.
const DIGITS: u8 = 3;

/// The interval in which calls are counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interval {
    /// Start of the interval.
    pub start: Instant,
    /// End of the interval; `None` if it is unknown.
    pub end: Option<Instant>,
}

impl Interval {
    /// Whether a moment is in the interval.
    pub(super) fn contains(&self, moment: Instant) -> bool {
        self.start <= moment && self.end.is_none_or(|end| moment < end)
    }
}

/// Errors with one gRPC code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Errors {
    /// Number of errors.
    pub count: u64,
    /// Message of the first one.
    pub example: String,
}

/// Counts, and durations in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// Time from when a call was due (open loop) or sent (closed loop) until its response, without calls that lost their
    /// connection.
    pub latency: Histogram<u64>,
    /// Time from when calls of an open loop were due until they were sent.
    pub send_delay: Histogram<u64>,
    /// Number of OK verdicts.
    pub ok: u64,
    /// Number of OVER_LIMIT verdicts.
    pub over_limit: u64,
    /// Errors by the name of their code.
    pub errors: BTreeMap<&'static str, Errors>,
    /// Number of calls of an open loop that were not sent because too many were in flight.
    pub overflow: u64,
    /// Number of calls in flight when the measurement ended.
    pub unanswered: u64,
    /// When the last call ended.
    pub last: Option<Instant>,
}

impl Tally {
    /// An empty tally.
    pub(super) fn new() -> Self {
        Self {
            latency: histogram(),
            send_delay: histogram(),
            ok: 0,
            over_limit: 0,
            errors: BTreeMap::new(),
            overflow: 0,
            unanswered: 0,
            last: None,
        }
    }

    /// Counts a call that was due or sent at `then` and ended at `now`.
    pub(super) fn record(&mut self, then: Instant, now: Instant, answer: Answer) {
        self.last = self.last.max(Some(now));
        if !matches!(answer, Answer::Lost(_)) {
            self.latency.saturating_record(nanos(now - then));
        }
        match answer {
            Answer::Verdict(Code::OverLimit) => self.over_limit += 1,
            Answer::Verdict(_) => self.ok += 1,
            Answer::Refused(status) | Answer::Lost(status) => self.record_error(&status),
        }
    }

    /// Counts a call of an open loop that was sent with a delay.
    pub(super) fn record_sent(&mut self, delay: Duration) {
        self.send_delay.saturating_record(nanos(delay));
    }

    fn record_error(&mut self, status: &Status) {
        let errors = self.errors.entry(call::name(status.code())).or_default();
        if errors.count == 0 {
            status.message().clone_into(&mut errors.example);
        }
        errors.count += 1;
    }

    /// Number of calls that the server decided.
    pub(super) fn decisions(&self) -> u64 {
        self.ok + self.over_limit
    }

    /// Number of calls that failed.
    pub(super) fn failures(&self) -> u64 {
        self.errors.values().map(|errors| errors.count).sum()
    }

    /// Number of calls of an open loop that were sent.
    pub(super) fn sent(&self) -> u64 {
        self.send_delay.len()
    }

    /// Adds the tally of another thread.
    pub(super) fn merge(&mut self, other: &Self) -> anyhow::Result<()> {
        self.latency.add(&other.latency)?;
        self.send_delay.add(&other.send_delay)?;
        self.ok += other.ok;
        self.over_limit += other.over_limit;
        self.overflow += other.overflow;
        self.unanswered += other.unanswered;
        self.last = self.last.max(other.last);
        for (code, theirs) in &other.errors {
            let ours = self.errors.entry(code).or_default();
            if ours.count == 0 {
                ours.example.clone_from(&theirs.example);
            }
            ours.count += theirs.count;
        }
        Ok(())
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, nanos(LONGEST), DIGITS)
        .expect("the bounds are in order and the digits few")
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn threads_add_up() {
        let start = Instant::now();
        let mut one = Tally::new();
        one.record(start, start + ms(1), Answer::Verdict(Code::Ok));
        one.record_sent(ms(1));
        let mut two = Tally::new();
        two.record(start, start + ms(3), Answer::Verdict(Code::OverLimit));
        two.record(start, start + ms(9), Answer::Lost(Status::unavailable("a")));
        two.record(
            start,
            start + ms(8),
            Answer::Refused(Status::unavailable("b")),
        );
        one.merge(&two).unwrap();
        assert_eq!((one.ok, one.over_limit, one.sent()), (1, 1, 1));
        let errors = Errors {
            count: 2,
            example: "a".to_owned(),
        };
        assert_eq!(one.errors, BTreeMap::from([("UNAVAILABLE", errors)]));
        assert_eq!(one.latency.len(), 3, "a lost call has no latency");
        assert_eq!(one.last, Some(start + ms(9)));
    }

    #[test]
    fn an_interval_has_its_beginning_and_not_its_end() {
        let start = Instant::now();
        let interval = Interval {
            start,
            end: Some(start + ms(10)),
        };
        assert!(!interval.contains(start - ms(1)));
        assert!(interval.contains(start));
        assert!(interval.contains(start + ms(9)));
        assert!(!interval.contains(start + ms(10)));
    }
}
