//! Decides the charges of one request on the states of their buckets. Pure: the memory store runs
//! it under its locks, the Redis store on what the script read (the script having decided likewise).

use super::{Charge, Decision, Outcome, Part, Payment};
use crate::bucket::{Micros, State};

/// Decides `charges` on `states`, which are those of their buckets [at `now`](State::at), in the same
/// order, and leaves in `states` what the request makes of them.
///
/// The request is admitted when no `must` charge is denied and, if there are quota groups, one of
/// them is admitted. Then every charge that fits is taken; otherwise nothing prepaid is. Reports of
/// what is already done (postpaid hits, hits given back) count in any case.
pub fn settle(charges: &[Charge], states: &mut [State], now: Micros) -> Decision {
    let fits: Vec<bool> = charges
        .iter()
        .zip(&*states)
        .map(|(charge, state)| state.admits(&charge.terms, charge.hits))
        .collect();
    let admitted = passes(charges, &fits);
    let outcomes = charges
        .iter()
        .zip(states)
        .zip(fits)
        .map(|((charge, state), fits)| {
            let reported = charge.hits < 0 || charge.payment == Payment::Postpaid;
            if reported || (admitted && fits) {
                *state = state.after(&charge.terms, charge.hits);
            }
            Outcome {
                admitted: fits,
                remaining: state.remaining(&charge.terms),
                retry_in: if fits {
                    Some(0)
                } else {
                    state.retry_in(&charge.terms, charge.hits, now)
                },
                full_in: state.full_in(now),
            }
        })
        .collect();
    Decision { admitted, outcomes }
}

/// Whether a request passes whose charges, each alone, fit or not.
fn passes(charges: &[Charge], fits: &[bool]) -> bool {
    let denied = |part: Part| {
        charges
            .iter()
            .zip(fits)
            .any(|(c, fits)| c.part == part && !fits)
    };
    if denied(Part::Must) {
        return false;
    }
    let mut groups = charges
        .iter()
        .filter(|c| matches!(c.part, Part::Quota(_)))
        .peekable();
    groups.peek().is_none() || groups.any(|c| !denied(c.part))
}
