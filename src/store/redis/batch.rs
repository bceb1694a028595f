//! Requests that are decided together, in one call of the script.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use bb8_redis::redis::{FromRedisValue, Script, ScriptInvocation, Value};

use crate::bucket::{Micros, State};
use crate::key::BucketKey;
use crate::store::{Charge, Decision, Part, Payment, settle};

/// A batch: each bucket once, equal requests as one entry with a count.
///
/// Counting equal requests as one moves a later one forward, before others of the batch. They are all in
/// flight at the same time, so that is an order they could have come in.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    keys: Vec<&'a BucketKey>,
    entries: Vec<Entry<'a>>,
}

/// A request, as often as it is asked.
#[derive(Debug)]
struct Entry<'a> {
    charges: &'a [Charge],
    /// The places of their keys.
    places: Vec<usize>,
    /// Which requests of the batch it stands for, in their order.
    requests: Vec<usize>,
}

impl<'a> Batch<'a> {
    /// Puts requests together. None may name a bucket twice.
    pub(super) fn new(requests: impl IntoIterator<Item = &'a [Charge]>) -> Self {
        let mut batch = Self {
            keys: Vec::new(),
            entries: Vec::new(),
        };
        let mut places: HashMap<&BucketKey, usize> = HashMap::new();
        let mut equal: HashMap<&[Charge], usize> = HashMap::new();
        for (request, charges) in requests.into_iter().enumerate() {
            match equal.entry(charges) {
                Slot::Occupied(entry) => batch.entries[*entry.get()].requests.push(request),
                Slot::Vacant(slot) => {
                    slot.insert(batch.entries.len());
                    let keys = &mut batch.keys;
                    let mut place = |charge: &'a Charge| {
                        *places.entry(&charge.key).or_insert_with(|| {
                            keys.push(&charge.key);
                            keys.len() - 1
                        })
                    };
                    batch.entries.push(Entry {
                        charges,
                        places: charges.iter().map(&mut place).collect(),
                        requests: vec![request],
                    });
                }
            }
        }
        batch
    }

    /// The call that decides it.
    pub(super) fn invocation<'s>(&self, script: &'s Script) -> ScriptInvocation<'s> {
        let mut invocation = script.prepare_invoke();
        for key in &self.keys {
            invocation.key(key.as_str());
        }
        let charges: usize = self.entries.iter().map(|entry| entry.charges.len()).sum();
        let mut packed = Vec::with_capacity((2 * self.entries.len() + 8 * charges) * 8);
        let mut pack = |number: f64| packed.extend_from_slice(&number.to_le_bytes());
        for entry in &self.entries {
            pack(exact(entry.requests.len() as u64));
            pack(exact(entry.charges.len() as u64));
            for (charge, &place) in entry.charges.iter().zip(&entry.places) {
                pack(exact(place as u64 + 1));
                numbers(charge).into_iter().for_each(&mut pack);
            }
        }
        invocation.arg(packed);
        invocation
    }

    /// The decisions, in the order of the requests, from what the script read and when. It took what
    /// these take.
    pub(super) fn decisions(&self, reply: &Reply) -> Option<Vec<Decision>> {
        if reply.values.len() != self.keys.len() {
            return None;
        }
        let mut stored = reply.values.clone();
        let count = self.entries.iter().map(|entry| entry.requests.len()).sum();
        let mut decisions = vec![None; count];
        for entry in &self.entries {
            for &request in &entry.requests {
                let states: Vec<_> = entry.places.iter().map(|&place| stored[place]).collect();
                let settled = settle(entry.charges, &states, reply.now);
                for (&place, state) in entry.places.iter().zip(settled.states) {
                    stored[place] = Some(state);
                }
                decisions[request] = Some(settled.decision);
            }
        }
        decisions.into_iter().collect()
    }
}

/// A charge as the script reads it, but for its key.
fn numbers(charge: &Charge) -> [f64; 7] {
    let hits = exact(charge.hits.unsigned_abs());
    [
        if charge.hits < 0 { -hits } else { hits },
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
        exact(charge.terms.ceiling()),
        f64::from(charge.terms.drip()),
        exact(charge.terms.period()),
    ]
}

/// A number that the script can hold: hits, ceilings, periods and places are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "nothing is lost below 2^53")]
fn exact(number: u64) -> f64 {
    debug_assert!(number < 1 << 53);
    number as f64
}

/// What the script read, and when.
#[derive(Debug)]
pub(super) struct Reply {
    now: Micros,
    values: Vec<Option<State>>,
}

impl Reply {
    /// Reads the reply; `None` when it is not the script's.
    pub(super) fn parse(reply: &[Value]) -> Option<Self> {
        let (now, values) = reply.split_last()?;
        Some(Self {
            now: u64::from_redis_value_ref(now).ok()?,
            values: values.iter().map(state).collect(),
        })
    }
}

/// What a key held. Anything but a bucket counts as none, as in the script.
fn state(value: &Value) -> Option<State> {
    let Value::BulkString(bytes) = value else {
        return None;
    };
    let bytes: &[u8; 40] = bytes.as_slice().try_into().ok()?;
    let mut numbers = bytes.chunks_exact(8).map(|chunk| {
        let number = f64::from_le_bytes(chunk.try_into().expect("chunks of 8"));
        let fits = number >= 0.0 && number < (1_u64 << 53) as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be one that a u64 holds"
        )]
        fits.then_some(number as u64)
    });
    let mut next = || numbers.next().flatten();
    let (at, whole, part) = (next()?, next()?, next()?);
    let drip = u32::try_from(next()?).ok()?;
    let period = next()?;
    (period >= 1 && part < period).then_some(State {
        at,
        whole,
        part,
        drip,
        period,
    })
}
