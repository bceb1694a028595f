//! Decides the charges of one request on what is stored for their buckets. Pure: the memory store runs
//! it under its locks, the Redis store on what the script read (the script having decided likewise).

use smallvec::SmallVec;

use crate::bucket::State;
use crate::charge::{Basis, Cause, Charge, Decision, Outcome, Part, Payment};
use crate::time::Micros;

/// What a request gets, and which of its buckets that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The answer; its outcomes have the buckets after the request.
    pub decision: Decision,
    /// Whether each of these buckets has to be written.
    pub is_changed: SmallVec<[bool; 8]>,
}

/// Decides `charges` at `now`; `stored` tells what is stored for the bucket of the charge at a place.
///
/// The request is admitted when no `must` charge is denied and, if there are quota groups, one of
/// them is admitted. Then every charge that fits is taken; otherwise nothing prepaid is. Reports of
/// what is already done (postpaid hits, hits given back) count in any case. A candidate is taken when the
/// request would pass with it.
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
            is_changed.push(stored.is_some_and(|stored| stored.needs_healing(&charge.terms, now)));
            let state = match stored {
                Some(state) => state.at(&charge.terms, now),
                None => State::full(&charge.terms, now),
            };
            Outcome::alone(charge, state, now)
        })
        .collect();
    let fares = charges.iter().zip(&outcomes);
    let admitted = passes(fares.map(|(charge, outcome)| (charge.part, outcome.admitted)));
    for (i, charge) in charges.iter().enumerate() {
        let passes = match charge.part {
            Part::Candidate { .. } => would_pass(charges, &outcomes, charge.part),
            Part::Must | Part::Quota(_) | Part::Shadow => admitted,
        };
        let outcome = &mut outcomes[i];
        if charge.is_report() || (passes && outcome.admitted && charge.takes()) {
            let before = outcome.state;
            outcome.state = charge.after(before);
            is_changed[i] |= outcome.state != before;
        }
        outcome.tell(charge, now);
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
    /// Whether it tells of what is done already, rather than asks for it.
    pub fn is_report(&self) -> bool {
        match self.payment {
            Payment::Prepaid => self.hits < 0,
            Payment::Postpaid | Payment::GivenBack { .. } => true,
            Payment::Question => false,
        }
    }

    /// Whether its hits, once taken, have to be given back when the request is denied.
    #[must_use]
    pub fn is_taking(&self) -> bool {
        self.payment == Payment::Prepaid && self.hits > 0
    }

    /// Whether its hits are taken at all.
    fn takes(&self) -> bool {
        self.payment != Payment::Question
    }

    /// The bucket with its hits taken.
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
    /// What a charge would get on a bucket in this state; still to be [told](Self::tell) what the
    /// bucket means to the caller once it is known what was taken.
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

    /// Works out what the bucket, as it is after the request, means to the caller.
    pub fn tell(&mut self, charge: &Charge, now: Micros) {
        self.remaining = self.state.remaining(&charge.terms);
        self.full_in = self.state.full_in(now);
        self.retry_in = match self.admitted {
            true => Some(0),
            false => self.state.retry_in(&charge.terms, charge.hits, now),
        };
    }
}

/// Whether the request would pass if the candidates of this part were limits like others, in the place of the
/// charges that they stand in for.
pub fn would_pass(charges: &[Charge], outcomes: &[Outcome], candidate: Part) -> bool {
    let Part::Candidate { from, to } = candidate else {
        return false;
    };
    let fares = (0..).zip(charges.iter().zip(outcomes));
    passes(fares.map(|(place, (charge, outcome))| {
        let part = match charge.part {
            part if part == candidate => Part::Must,
            part => part,
        };
        (part, outcome.admitted || (from..to).contains(&place))
    }))
}

/// Whether a request passes whose charges, by their parts, are admitted each alone, or not.
pub fn passes(fares: impl Iterator<Item = (Part, bool)> + Clone) -> bool {
    let denied = |part: Part| {
        let mut fares = fares.clone();
        fares.any(|(other, admitted)| other == part && !admitted)
    };
    if denied(Part::Must) {
        return false;
    }
    let groups = fares.clone().map(|(part, _)| part);
    let mut groups = groups
        .filter(|part| matches!(part, Part::Quota(_)))
        .peekable();
    groups.peek().is_none() || groups.any(|group| !denied(group))
}
