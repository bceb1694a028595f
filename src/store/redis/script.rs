//! The script's calling convention: charges to arguments, reply to states.

use bb8_redis::redis::{Script, ScriptInvocation};

use crate::bucket::{Micros, State};
use crate::store::{Charge, Part, Payment};

/// The text of the script that decides a request.
pub const SOURCE: &str = include_str!("decide.lua");

/// The call that decides `charges`.
pub(super) fn invocation<'a>(script: &'a Script, charges: &[Charge]) -> ScriptInvocation<'a> {
    let mut invocation = script.prepare_invoke();
    let mut packed = Vec::with_capacity(charges.len() * 7 * size_of::<f64>());
    for charge in charges {
        invocation.key(charge.key.as_str());
        for number in numbers(charge) {
            packed.extend_from_slice(&number.to_le_bytes());
        }
    }
    invocation.arg(packed);
    invocation
}

/// A charge as the script reads it; all of these are integers below 2^53, which doubles hold exactly.
#[expect(
    clippy::cast_precision_loss,
    reason = "hits, ceiling and period are bounded well below 2^53"
)]
fn numbers(charge: &Charge) -> [f64; 7] {
    [
        charge.hits as f64,
        match charge.payment {
            Payment::Prepaid => 0.0,
            Payment::Postpaid => 1.0,
        },
        match charge.part {
            Part::Shadow => 0.0,
            Part::Must => 1.0,
            Part::Quota(group) => 2.0 + f64::from(group),
        },
        f64::from(charge.terms.capacity()),
        charge.terms.ceiling() as f64,
        f64::from(charge.terms.drip()),
        charge.terms.period() as f64,
    ]
}

/// What the script saw: its time, and each bucket at that time before anything was taken. `None`
/// when the reply has another shape.
pub(super) fn parse_reply(charges: &[Charge], reply: &[i64]) -> Option<(Micros, Vec<State>)> {
    let (&now, states) = reply.split_first()?;
    if states.len() != 3 * charges.len() {
        return None;
    }
    let states = charges
        .iter()
        .zip(states.chunks_exact(3))
        .map(|(charge, state)| {
            Some(State {
                at: u64::try_from(state[0]).ok()?,
                whole: u64::try_from(state[1]).ok()?,
                part: u64::try_from(state[2]).ok()?,
                drip: charge.terms.drip(),
                period: charge.terms.period(),
            })
        })
        .collect::<Option<_>>()?;
    Some((u64::try_from(now).ok()?, states))
}
