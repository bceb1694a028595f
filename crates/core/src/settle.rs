//! Decides the charges of one request, given the stored states of their buckets.
//!
//! The memory store calls [`settle()`] under its locks. The Redis script contains the same algorithm, and the Redis store
//! calls [`settle()`] with the states that the script has read to compute the outcomes.

use smallvec::SmallVec;

use crate::bucket::State;
use crate::charge::{Basis, Cause, Charge, Decision, Outcome, Part, Payment};
use crate::time::Micros;

/// The decision on a request, and the buckets that it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The decision; its outcomes contain the states of the buckets after the request.
    pub decision: Decision,
    /// For each charge, whether its bucket must be written.
    pub is_changed: SmallVec<[bool; 8]>,
}

/// Decides `charges` at `now`. `stored` returns the stored state of the bucket of the charge with an index.
///
/// The request is allowed if no `must` charge is denied and, if there are quota groups, one of them is admitted. Then every
/// charge that fits is taken, otherwise no prepaid charge is. Reports (postpaid hits and hits given back) are taken in any
/// case. A candidate is taken if the request would be allowed with it.
pub fn settle(
    charges: &[Charge],
    mut stored: impl FnMut(usize) -> Option<State>,
    now: Micros,
) -> Settled {
    let mut is_changed = SmallVec::with_capacity(charges.len());
    let mut outcomes: Vec<Outcome> = charges
        .iter()
        .enumerate()
        .map(|(i, charge)| {
            let stored = stored(i);
            is_changed.push(stored.is_some_and(|stored| stored.needs_rewrite(&charge.terms, now)));
            let state = match stored {
                Some(state) => state.at(&charge.terms, now),
                None => State::full(&charge.terms, now),
            };
            Outcome::alone(charge, state, now)
        })
        .collect();
    let admitted = is_allowed(
        charges
            .iter()
            .zip(&outcomes)
            .map(|(charge, outcome)| (charge.part, outcome.admitted)),
    );
    for (i, charge) in charges.iter().enumerate() {
        let is_allowed = match charge.part {
            Part::Candidate { .. } => is_allowed_with(charges, &outcomes, charge.part),
            Part::Must | Part::Quota(_) | Part::Shadow => admitted,
        };
        let outcome = &mut outcomes[i];
        if charge.is_report() || (is_allowed && outcome.admitted && charge.takes()) {
            let before = outcome.state;
            outcome.state = charge.after(before);
            is_changed[i] |= outcome.state != before;
        }
        outcome.update(charge, now);
    }
    Settled {
        decision: Decision {
            admitted,
            outcomes,
            cause: Cause::Buckets,
        },
        is_changed,
    }
}

impl Charge {
    /// Whether the charge reports work that is done, so that its hits are taken in any case.
    #[must_use]
    pub fn is_report(&self) -> bool {
        match self.payment {
            Payment::Prepaid => self.hits < 0,
            Payment::Postpaid | Payment::GivenBack { .. } => true,
            Payment::Question => false,
        }
    }

    /// Whether hits that were taken must be given back if another store denies the request.
    #[must_use]
    pub fn is_taking(&self) -> bool {
        self.payment == Payment::Prepaid && self.hits > 0
    }

    /// Whether the hits are taken if the request is allowed and they fit.
    fn takes(&self) -> bool {
        self.payment != Payment::Question
    }

    /// Returns the bucket with the hits taken.
    fn after(&self, before: State) -> State {
        match self.payment {
            Payment::GivenBack { taken_at } => {
                before.given_back(&self.terms, self.hits.unsigned_abs(), taken_at)
            }
            _ => before.after(&self.terms, self.hits),
        }
    }
}

impl Outcome {
    /// Returns the outcome of a charge on a bucket in this state, before the request is decided.
    ///
    /// Call [`update`](Self::update) once the state after the request is known.
    #[must_use]
    pub fn alone(charge: &Charge, state: State, now: Micros) -> Self {
        Self {
            admitted: state.admits(&charge.terms, charge.hits),
            remaining: 0,
            retry_in: None,
            full_in: 0,
            state,
            decided: now,
            basis: Basis::Bucket,
        }
    }

    /// Computes the fields that follow from [`state`](Self::state): the remaining tokens and the waiting times.
    pub fn update(&mut self, charge: &Charge, now: Micros) {
        self.remaining = self.state.remaining(&charge.terms);
        self.full_in = self.state.full_in(now);
        self.retry_in = match self.admitted {
            true => Some(0),
            false => self.state.retry_in(&charge.terms, charge.hits, now),
        };
    }
}

/// Whether the request would be allowed if the candidates with this part replaced other charges and could deny.
#[must_use]
pub fn is_allowed_with(charges: &[Charge], outcomes: &[Outcome], candidate: Part) -> bool {
    let Part::Candidate { from, to } = candidate else {
        return false;
    };
    let outcomes = (0..).zip(charges.iter().zip(outcomes));
    is_allowed(outcomes.map(|(index, (charge, outcome))| {
        let part = match charge.part {
            part if part == candidate => Part::Must,
            part => part,
        };
        (part, outcome.admitted || (from..to).contains(&index))
    }))
}

/// Whether a request is allowed, given the part of each charge and whether its hits fit.
#[must_use]
pub fn is_allowed(charges: impl Iterator<Item = (Part, bool)> + Clone) -> bool {
    let denied = |part: Part| {
        let mut charges = charges.clone();
        charges.any(|(other, admitted)| other == part && !admitted)
    };
    if denied(Part::Must) {
        return false;
    }
    let groups = charges.clone().map(|(part, _)| part);
    let mut groups = groups
        .filter(|part| matches!(part, Part::Quota(_)))
        .peekable();
    groups.peek().is_none() || groups.any(|group| !denied(group))
}

#[cfg(test)]
mod tests;
