//! Decides the charges of one request on what is stored for their buckets. Pure: the memory store runs
//! it under its locks, the Redis store on what the script read (the script having decided likewise).

use super::{Charge, Decision, Outcome, Part, Payment};
use crate::bucket::{Micros, State};

/// What a request gets, and what it makes of its buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The answer.
    pub decision: Decision,
    /// The buckets after it, in the order of the charges.
    pub states: Vec<State>,
    /// Whether each of them has to be written.
    pub is_changed: Vec<bool>,
}

/// Decides `charges` at `now` on what is stored for each of their buckets, in the same order.
///
/// The request is admitted when no `must` charge is denied and, if there are quota groups, one of
/// them is admitted. Then every charge that fits is taken; otherwise nothing prepaid is. Reports of
/// what is already done (postpaid hits, hits given back) count in any case.
pub fn settle(charges: &[Charge], stored: &[Option<State>], now: Micros) -> Settled {
    let before: Vec<State> = charges
        .iter()
        .zip(stored)
        .map(|(charge, stored)| match stored {
            Some(state) => state.at(&charge.terms, now),
            None => State::full(&charge.terms, now),
        })
        .collect();
    let fits: Vec<bool> = charges
        .iter()
        .zip(&before)
        .map(|(charge, state)| state.admits(&charge.terms, charge.hits))
        .collect();
    let admitted = passes(charges, &fits);
    let states: Vec<State> = (0..charges.len())
        .map(|i| match charges[i].is_report() || (admitted && fits[i]) {
            true => before[i].after(&charges[i].terms, charges[i].hits),
            false => before[i],
        })
        .collect();
    let is_healed = |i: usize| {
        stored[i].is_some_and(|stored: State| stored.needs_healing(&charges[i].terms, now))
    };
    Settled {
        is_changed: (0..charges.len())
            .map(|i| states[i] != before[i] || is_healed(i))
            .collect(),
        decision: Decision {
            admitted,
            outcomes: (0..charges.len())
                .map(|i| outcome(&charges[i], fits[i], &states[i], now))
                .collect(),
        },
        states,
    }
}

impl Charge {
    /// Whether it tells of what is done already, rather than asks for it.
    pub(super) fn is_report(&self) -> bool {
        self.hits < 0 || self.payment == Payment::Postpaid
    }
}

/// What a charge gets that fits or not, when this is its bucket afterwards.
pub(super) fn outcome(charge: &Charge, fits: bool, state: &State, now: Micros) -> Outcome {
    Outcome {
        admitted: fits,
        remaining: state.remaining(&charge.terms),
        retry_in: match fits {
            true => Some(0),
            false => state.retry_in(&charge.terms, charge.hits, now),
        },
        full_in: state.full_in(now),
        state: *state,
        decided: now,
    }
}

/// Whether a request passes whose charges, each alone, fit or not.
pub(super) fn passes(charges: &[Charge], fits: &[bool]) -> bool {
    let denied = |part: Part| {
        charges
            .iter()
            .zip(fits)
            .any(|(charge, fits)| charge.part == part && !fits)
    };
    if denied(Part::Must) {
        return false;
    }
    let mut groups = charges
        .iter()
        .filter(|charge| matches!(charge.part, Part::Quota(_)))
        .peekable();
    groups.peek().is_none() || groups.any(|charge| !denied(charge.part))
}
