//! Recording: what was asked, when, and what came of it, a line of JSON for each request. `ratekeeper replay` plays
//! them; docs/rehearsal.md has the format.
//!
//! A sample is of buckets, not of requests: it is told by a hash of what the bucket is called, so that all that is asked of
//! one is recorded or nothing of it. A request is recorded when one of its descriptors is in the sample; those
//! that are not say so, and a replay takes their answers as they were.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use super::plan::{find, segments};
use super::request::{Descriptor, Override, Request};
use super::usage::Pattern;
use super::verdict::{Code, Verdict};
use super::{RECORD_VERSION, Snapshot};
use crate::clock::Clock;
use crate::key::Segment;
use crate::store::Outcome;
use crate::telemetry::metrics::DecidedBy;
use crate::telemetry::recording::Lines;
use crate::text::Text;
use crate::time::Micros;

/// The part of all buckets that is recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Hashes below it are in; `None` for all.
    below: Option<u64>,
}

impl Sample {
    /// That part, from 0 to 1.
    #[must_use]
    pub fn new(share: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float is clamped to what a u64 holds"
        )]
        let below = (share * 2_f64.powi(64)) as u64;
        Self {
            below: (share < 1.0).then_some(below),
        }
    }
}

/// Records the requests that a limiter decides.
pub struct Record {
    lines: Lines,
    sample: Sample,
    /// For requests that no store decides.
    clock: Clock,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("sample", &self.sample)
            .finish_non_exhaustive()
    }
}

impl Record {
    /// Records a sample as these lines.
    #[must_use]
    pub fn new(lines: Lines, sample: Sample, clock: Clock) -> Self {
        Self {
            lines,
            sample,
            clock,
        }
    }

    /// Records a request and its verdict, if it is in the sample.
    pub(super) fn keep(&self, request: &Request, outcomes: &[Outcome], verdict: &Verdict) {
        let is_sampled = |descriptor| self.sampled(request, descriptor, &verdict.snapshot);
        if self.sample.below.is_some() && !request.descriptors.iter().any(is_sampled) {
            return;
        }
        let time = outcomes
            .first()
            .map_or_else(|| (self.clock)(), |outcome| outcome.decided);
        self.lines.push(|line| {
            begin(line, time, request);
            for (index, descriptor) in request.descriptors.iter().enumerate() {
                if index > 0 {
                    line.push(b',');
                }
                self.descriptor(line, (request, descriptor), index, verdict);
            }
            end(line, verdict);
        });
    }

    fn sampled(&self, request: &Request, descriptor: &Descriptor, snapshot: &Snapshot) -> bool {
        self.sample
            .below
            .is_none_or(|below| identity(request, descriptor, snapshot) < below)
    }

    fn descriptor(
        &self,
        line: &mut Vec<u8>,
        (request, descriptor): (&Request, &Descriptor),
        index: usize,
        verdict: &Verdict,
    ) {
        line.extend_from_slice(b"{\"entries\":[");
        for (index, entry) in descriptor.entries.iter().enumerate() {
            line.extend_from_slice(if index > 0 { b",[" } else { b"[" });
            sent(line, &entry.key);
            line.push(b',');
            sent(line, &entry.value);
            line.push(b']');
        }
        line.push(b']');
        if let Some(limit) = descriptor.limit {
            own_limit(line, limit);
        }
        if let Some(hits) = descriptor.hits_addend {
            number(line, b",\"hits_addend\":", hits);
        }
        if descriptor.is_negative_hits {
            line.extend_from_slice(b",\"is_negative_hits\":true");
        }
        let snapshot = &verdict.snapshot;
        let pattern = verdict.statuses[index].pattern;
        if pattern != Pattern::Prepaid {
            line.extend_from_slice(b",\"asked\":true");
        }
        if !self.sampled(request, descriptor, snapshot) {
            line.extend_from_slice(b",\"sampled\":false");
        } else if pattern == Pattern::Refunded {
            // Older versions read no other fields than these, and take the bucket for sampled in any case.
            line.extend_from_slice(b",\"sampled\":true");
        }
        if verdict.statuses[index].code == Code::OverLimit {
            line.extend_from_slice(b",\"code\":\"OVER_LIMIT\"");
        }
        line.push(b'}');
    }
}

// --- Lines ---

fn begin(line: &mut Vec<u8>, time: Micros, request: &Request) {
    number(line, b"{\"v\":", RECORD_VERSION.into());
    number(line, b",\"time\":", time);
    line.extend_from_slice(b",\"domain\":");
    sent(line, &request.domain);
    if request.hits_addend > 0 {
        number(line, b",\"hits_addend\":", request.hits_addend.into());
    }
    line.extend_from_slice(b",\"descriptors\":[");
}

fn end(line: &mut Vec<u8>, verdict: &Verdict) {
    line.extend_from_slice(match verdict.code {
        Code::Ok => b"],\"code\":\"OK\"",
        Code::OverLimit => b"],\"code\":\"OVER_LIMIT\"",
    });
    let decided_by = verdict.decided_by();
    if decided_by != DecidedBy::Buckets {
        line.extend_from_slice(b",\"cause\":");
        text(line, decided_by.name());
    }
    line.extend_from_slice(b"}\n");
}

fn own_limit(line: &mut Vec<u8>, limit: Override) {
    let requests = limit.requests_per_unit.into();
    number(line, b",\"limit\":{\"requests_per_unit\":", requests);
    line.extend_from_slice(b",\"unit\":");
    text(line, limit.unit.name());
    if limit.unit_multiplier > 1 {
        let multiplier = limit.unit_multiplier.into();
        number(line, b",\"unit_multiplier\":", multiplier);
    }
    line.push(b'}');
}

fn number(line: &mut Vec<u8>, before: &[u8], number: u64) {
    line.extend_from_slice(before);
    // Without the machinery of formats, which costs as much as the rest. Writing to memory does not fail.
    let _ = serde_json::to_writer(line, &number);
}

/// What a client sent, as JSON has it: a text, or, where it is no UTF-8, an object that says how it is encoded.
fn sent(line: &mut Vec<u8>, sent: &Text) {
    match sent.as_str() {
        Some(plain) => text(line, plain),
        None => {
            line.extend_from_slice(b"{\"percent_encoded\":");
            text(line, &sent.percent_encoded());
            line.push(b'}');
        }
    }
}

/// The text as JSON has it.
fn text(line: &mut Vec<u8>, text: &str) {
    // Writing a text to memory does not fail.
    let _ = serde_json::to_writer(line, text);
}

// --- Samples ---

/// A hash of what the bucket of a descriptor is called; the same at all instances and after a restart.
fn identity(request: &Request, descriptor: &Descriptor, snapshot: &Snapshot) -> u64 {
    let mut hasher = SipHasher13::new();
    let mut add = |text: &[u8]| {
        hasher.write_usize(text.len());
        hasher.write(text);
    };
    add(request.domain.as_bytes());
    let domain = snapshot.rules.domain(&request.domain);
    let found = domain.and_then(|domain| find(domain, descriptor));
    for (key, segment) in segments(descriptor, found.as_ref()) {
        add(key);
        match segment {
            Segment::Value(value) => add(value),
            // No value is as long as this says.
            Segment::Pattern(pattern) => {
                add(b"");
                add(pattern.as_bytes());
            }
        }
    }
    hasher.finish()
}

// --- How rules were used ---

impl Snapshot {
    /// Has the descriptor's rule be charged by this pattern from now on; `None`: as its calls show.
    pub fn assume(&self, domain: &Text, descriptor: &Descriptor, pattern: Option<Pattern>) {
        let Some(domain) = self.rules.domain(domain) else {
            return;
        };
        let found = find(domain, descriptor).filter(|_| descriptor.limit.is_none());
        // Of a descriptor that nothing limits, nothing is known.
        if found.is_some() || descriptor.limit.is_some() {
            self.usage[self.slot(domain, found.as_ref())].assume(pattern);
        }
    }
}
