//! How the calls of a rule come, counted so that `hits: auto` can see when they are charged.
//!
//! Three kinds of calls matter: *asks* (no hits of the descriptor's own, or zero), *reports* (hits of its own) and
//! *refunds* (negative hits). A rule that is asked and reported is charged after the request; one that is given hits
//! back is charged before it and corrected after it. Each must be a substantial share of the recent calls, so that
//! one odd call changes nothing for the other clients of a rule.
//!
//! [`CallCounts`] is pure: planning asks it what a call would make of it, and [`Usage`] stores that once the call
//! is decided. All counts of a rule are one word, so reading and writing them needs no lock.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::SmallVec;

use super::request::{Descriptor, Request};
use crate::bucket::Terms;
use crate::rules::{Hits, Limit};
use crate::store::Payment;

/// The counts are halved when there are so many: older calls count less and less.
const RECENT: u16 = 1_000;

/// A kind of call is a substantial part when it is at least one of so many.
const SUBSTANTIAL: u32 = 10;

/// Refunds are a substantial part when they are at least one of so many. Where Envoy gives an estimate back after each
/// request, they are about half of the calls. A higher share than for reports, because hits of denied requests are taken
/// from then on: a client above its limit whose hits are not given back would be denied for as long as it goes on.
const SUBSTANTIAL_REFUNDS: u32 = 4;

/// Asks are no longer when they are less than one of so many. The gap keeps a rule near the bound from changing all
/// the time.
const FEW_ASKS: u32 = 20;

/// Refunds are no longer when they are less than one of so many: while many long requests are under way, few end.
const FEW_REFUNDS: u32 = 50;

/// How often the larger of capacity and `max_debt` may be owed while hits are given back. Hits of denied requests are
/// taken until they are given back; what the bound cuts off would be given back without having been taken.
const HELD: u32 = 16;

// --- One call ---

/// What a descriptor does to its rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// Asks whether the request may pass: zero hits, or none at all (which take one).
    Ask,
    /// Brings hits of the descriptor's own: the cost of a request, known or estimated.
    Report,
    /// Gives hits back.
    Refund,
    /// Brings the hits of the request, which clients set before the work for some calls and not for others; or gives
    /// nothing back. Says nothing of the pattern.
    Other,
}

impl Call {
    pub(super) fn of(request: &Request, descriptor: &Descriptor) -> Self {
        match (descriptor.is_negative_hits, descriptor.hits_addend) {
            (true, Some(0)) => Self::Other,
            (true, _) => Self::Refund,
            (false, Some(0)) => Self::Ask,
            (false, Some(_)) => Self::Report,
            (false, None) if request.hits_addend == 0 => Self::Ask,
            (false, None) => Self::Other,
        }
    }
}

// --- What is made of calls ---

/// When the hits of a rule are taken, as its calls show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Pattern {
    /// Before the request: hits that do not fit are not taken.
    #[default]
    Prepaid,
    /// Asked before the request and reported after it: reports are taken in any case, asks when they are allowed.
    Reported,
    /// Taken before the request and given back after it: everything is taken in any case, so that what is given back
    /// has been taken.
    Refunded,
}

impl Pattern {
    /// The pattern that counts for a limit that says this of its hits.
    pub(super) fn under(self, configured: Hits) -> Self {
        match (configured, self) {
            (Hits::Prepaid, _) => Self::Prepaid,
            (Hits::Postpaid, Self::Prepaid) => Self::Reported,
            (Hits::Postpaid | Hits::Auto, pattern) => pattern,
        }
    }

    /// When the hits of a call are taken.
    pub(super) fn payment(self, call: Call, hits: i64) -> Payment {
        match (self, call) {
            (Self::Reported, Call::Report | Call::Refund | Call::Other) => Payment::Postpaid,
            // Zero hits take nothing, however they are paid.
            (Self::Refunded, _) if hits != 0 => Payment::Postpaid,
            (Self::Prepaid | Self::Reported | Self::Refunded, _) => Payment::Prepaid,
        }
    }

    /// The limit as the arithmetic needs it.
    pub(super) fn terms(self, limit: &Limit) -> Terms {
        match self {
            Self::Prepaid | Self::Reported => limit.terms(),
            Self::Refunded => {
                let most = limit.max_debt.max(limit.capacity());
                limit.terms_with_debt(most.saturating_mul(HELD))
            }
        }
    }

    /// The hits of one call. With refunds, an estimate and what is given back of it are cut alike, to what one call
    /// could take from a full bucket.
    pub(super) fn hits(self, limit: &Limit, hits: i64) -> i64 {
        match self {
            Self::Prepaid | Self::Reported => hits,
            Self::Refunded => {
                let most = i64::from(limit.capacity()) + i64::from(limit.max_debt);
                hits.clamp(-most, most)
            }
        }
    }
}

/// The recent calls of a rule, older ones counting less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallCounts {
    asks: u16,
    reports: u16,
    refunds: u16,
    pattern: Pattern,
    /// The pattern that counts instead: a recording says which it was.
    assumed: Option<Pattern>,
}

impl CallCounts {
    /// What they show.
    #[must_use]
    pub fn pattern(self) -> Pattern {
        self.assumed.unwrap_or(self.pattern)
    }

    /// Percent of the calls that asked, that reported and that gave back; zeros without calls.
    #[must_use]
    pub fn percents(self) -> [u32; 3] {
        let total = self.total().max(1);
        [self.asks, self.reports, self.refunds]
            .map(|part| (u32::from(part) * 100 + total / 2) / total)
    }

    fn total(self) -> u32 {
        u32::from(self.asks) + u32::from(self.reports) + u32::from(self.refunds)
    }

    /// The counts with more calls.
    fn after(self, more: Self) -> Self {
        if self.is_sure_of(more) {
            return self;
        }
        let mut sum = Self {
            asks: self.asks.saturating_add(more.asks),
            reports: self.reports.saturating_add(more.reports),
            refunds: self.refunds.saturating_add(more.refunds),
            ..self
        };
        while sum.total() >= u32::from(RECENT) {
            sum.asks /= 2;
            sum.reports /= 2;
            sum.refunds /= 2;
        }
        sum.pattern = sum.shown();
        sum
    }

    /// Whether these calls change nothing: all that came lately was of their kind. Most rules are like that, and
    /// their counts are then only read, which threads can do at the same time.
    fn is_sure_of(self, more: Self) -> bool {
        let all_of = |own: u16, more: u16| {
            let (own, more) = (u32::from(own), u32::from(more));
            own == self.total() && own >= u32::from(RECENT / 2) && more > 0
        };
        match (more.asks, more.reports, more.refunds) {
            (_, 0, 0) => all_of(self.asks, more.asks) || more.asks == 0,
            (0, _, 0) => all_of(self.reports, more.reports),
            (0, 0, _) => all_of(self.refunds, more.refunds),
            _ => false,
        }
    }

    /// The pattern that the counts show, coming from the one before.
    fn shown(self) -> Pattern {
        let (asks, reports) = (u32::from(self.asks), u32::from(self.reports));
        let (both, all) = (asks + reports, self.total());
        let refunds = all - both;
        let is_refunded = match self.pattern {
            Pattern::Refunded => refunds * FEW_REFUNDS >= all,
            _ => refunds * SUBSTANTIAL_REFUNDS >= all && both * SUBSTANTIAL >= all && refunds > 0,
        };
        // Without reports for long it is not the pattern any more. Asks that are never reported (requests that fail
        // cost nothing) do not end it: a client could make many of them.
        let is_reported = match self.pattern {
            Pattern::Reported => reports > 0 && asks * FEW_ASKS >= both,
            _ => reports * SUBSTANTIAL >= both && asks * SUBSTANTIAL >= both && both > 0,
        };
        match (is_refunded, is_reported) {
            (true, _) => Pattern::Refunded,
            (false, true) => Pattern::Reported,
            (false, false) => Pattern::Prepaid,
        }
    }
}

/// As `explain` shows it: `postpaid: asked and reported in 48 % / 52 % of the recent calls`.
impl fmt::Display for CallCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [asks, reports, refunds] = self.percents();
        match self.pattern {
            _ if self.total() == 0 => f.write_str("prepaid: no calls yet"),
            Pattern::Prepaid => write!(
                f,
                "prepaid: asked, reported and given back in {asks} % / {reports} % / {refunds} % of the recent calls"
            ),
            Pattern::Reported => write!(
                f,
                "postpaid: asked and reported in {asks} % / {reports} % of the recent calls"
            ),
            Pattern::Refunded => write!(
                f,
                "postpaid: hits are given back in {refunds} % of the recent calls"
            ),
        }
    }
}

// --- Counting ---

/// The recent calls of one rule, for all threads.
#[derive(Debug, Default)]
pub(super) struct Usage(AtomicU64);

impl Usage {
    pub(super) fn new(counts: CallCounts) -> Self {
        Self(AtomicU64::new(packed(counts)))
    }

    pub(super) fn counts(&self) -> CallCounts {
        unpacked(self.0.load(Ordering::Relaxed))
    }

    /// Counts calls; returns the counts when they show another pattern than before.
    fn count(&self, more: CallCounts) -> Option<CallCounts> {
        self.change(|counts| counts.after(more))
    }

    /// Has the rule be charged by this pattern, whatever its calls show.
    pub(super) fn assume(&self, assumed: Option<Pattern>) {
        self.change(|counts| CallCounts { assumed, ..counts });
    }

    fn change(&self, change: impl Fn(CallCounts) -> CallCounts) -> Option<CallCounts> {
        let mut before = self.0.load(Ordering::Relaxed);
        loop {
            let counts = unpacked(before);
            let new = change(counts);
            if new == counts {
                return None;
            }
            let stored = self.0.compare_exchange_weak(
                before,
                packed(new),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match stored {
                Ok(_) => return (new.pattern != counts.pattern).then_some(new),
                Err(other) => before = other,
            }
        }
    }
}

fn packed(counts: CallCounts) -> u64 {
    u64::from(counts.asks)
        | u64::from(counts.reports) << 16
        | u64::from(counts.refunds) << 32
        | (counts.pattern as u64) << 48
        | counts.assumed.map_or(0, |pattern| pattern as u64 + 1) << 56
}

fn unpacked(word: u64) -> CallCounts {
    let field = |shift: u32| {
        u16::try_from((word >> shift) & u64::from(u16::MAX)).expect("masked to 16 bits")
    };
    let pattern = |number: u64| match number {
        1 => Pattern::Reported,
        2 => Pattern::Refunded,
        _ => Pattern::Prepaid,
    };
    CallCounts {
        asks: field(0),
        reports: field(16),
        refunds: field(32),
        pattern: pattern((word >> 48) & 0xff),
        assumed: (word >> 56).checked_sub(1).map(pattern),
    }
}

// --- The calls of a request ---

/// What a request does to each rule, and what that shows.
#[derive(Debug, Default)]
pub(super) struct Uses(SmallVec<[Use; 2]>);

/// What a request does to one rule.
#[derive(Debug)]
struct Use {
    slot: usize,
    calls: CallCounts,
    pattern: Pattern,
}

impl Uses {
    /// The calls of a request, each with the slot of its rule; `usage` has those before it. What is
    /// decided of one takes all of them into account, and changes nothing yet.
    pub(super) fn new(calls: impl Iterator<Item = (usize, Call)>, usage: &[Usage]) -> Self {
        let mut uses: SmallVec<[Use; 2]> = calls.map(|(slot, call)| Use::new(slot, call)).collect();
        uses.sort_by_key(|one| one.slot);
        uses.dedup_by(|next, one| {
            let is_same = next.slot == one.slot;
            if is_same {
                one.add(next.calls);
            }
            is_same
        });
        for one in &mut uses {
            one.pattern = usage[one.slot].counts().after(one.calls).pattern();
        }
        Self(uses)
    }

    /// The pattern of a rule of the request.
    pub(super) fn pattern(&self, slot: usize) -> Pattern {
        let found = self.0.binary_search_by_key(&slot, |one| one.slot);
        found.map_or(Pattern::Prepaid, |place| self.0[place].pattern)
    }

    /// Counts them. A denied ask is followed by no report, so it does not count: however often a client repeats
    /// it, the reports of those that pass remain a substantial part. `changed` gets each rule whose pattern is
    /// another one now.
    pub(super) fn count(
        &self,
        passes: bool,
        usage: &[Usage],
        mut changed: impl FnMut(usize, CallCounts),
    ) {
        for one in &self.0 {
            let asks = if passes { one.calls.asks } else { 0 };
            let calls = CallCounts { asks, ..one.calls };
            if let Some(counts) = usage[one.slot].count(calls) {
                changed(one.slot, counts);
            }
        }
    }
}

impl Use {
    fn new(slot: usize, call: Call) -> Self {
        Self {
            slot,
            calls: CallCounts {
                asks: u16::from(call == Call::Ask),
                reports: u16::from(call == Call::Report),
                refunds: u16::from(call == Call::Refund),
                ..CallCounts::default()
            },
            pattern: Pattern::Prepaid,
        }
    }

    /// Another call of the request. However many descriptors it has, one request is one call of each kind, so that it
    /// cannot be a substantial part by itself.
    fn add(&mut self, more: CallCounts) {
        let calls = &mut self.calls;
        calls.asks = calls.asks.max(more.asks);
        calls.reports = calls.reports.max(more.reports);
        calls.refunds = calls.refunds.max(more.refunds);
    }
}

#[cfg(test)]
mod tests;
