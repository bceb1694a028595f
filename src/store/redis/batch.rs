//! Batches: requests that are decided together in one call of the script.

use std::collections::HashMap;
use std::iter;

use bb8_redis::redis::{Cmd, FromRedisValue, Value};
use smallvec::SmallVec;

use crate::bucket::State;
use crate::key::{BucketKey, Prehashed};
use crate::store::{Charge, Decision, Part, Payment, settle};
use crate::time::Micros;

/// Separates the two numbers in the part of a candidate. Requests have far fewer charges.
pub(super) const CANDIDATE_SHIFT: f64 = 67_108_864.0;

/// A batch, in which each bucket occurs once and equal requests are one entry with a count.
///
/// Counting equal requests as one moves a later one forward, before others of the batch. They are all in flight at
/// the same time, so they could have arrived in that order.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    /// The keys of the runs come first.
    keys: Vec<&'a BucketKey>,
    runs: Vec<Run<'a>>,
    entries: Vec<Entry<'a>>,
    /// The index of the entry of each request.
    requests: Vec<usize>,
}

/// Equal requests of a batch.
#[derive(Debug)]
struct Entry<'a> {
    charges: &'a [Charge],
    /// Indexes of the keys of the charges.
    places: SmallVec<[usize; 4]>,
    /// The latest entry before this one that begins with the same key.
    before: Option<usize>,
    /// Number of equal requests.
    count: usize,
}

/// Keys whose only entry has a single charge, with the same terms, hits and count for all of them. The script
/// decides these with the least work.
#[derive(Debug)]
struct Run<'a> {
    /// The charge of the first key.
    charge: &'a Charge,
    /// Number of equal requests for each key.
    count: usize,
    /// Indexes of the keys.
    places: Vec<usize>,
}

// --- Putting together ---

/// Collects requests. Keys are in order of arrival.
#[derive(Debug, Default)]
struct BatchBuilder<'a> {
    keys: Vec<KeyUse<'a>>,
    /// Indexes of keys by their hash.
    places: HashMap<u128, usize, Prehashed>,
    entries: Vec<Entry<'a>>,
}

/// A key and the entries that use it.
#[derive(Debug)]
struct KeyUse<'a> {
    key: &'a BucketKey,
    /// Number of entries with a charge of this key.
    entries: usize,
    /// The latest entry that begins with this key.
    latest: Option<usize>,
}

impl<'a> BatchBuilder<'a> {
    /// Returns the entry of a request, which is that of an equal one if there is one.
    fn add(&mut self, charges: &'a [Charge]) -> usize {
        let first = charges.first().and_then(|charge| self.place(charge));
        let before = first.and_then(|place| self.keys[place].latest);
        let mut alike = iter::successors(before, |&entry| self.entries[entry].before);
        if let Some(equal) = alike.find(|&entry| self.entries[entry].charges == charges) {
            self.entries[equal].count += 1;
            return equal;
        }
        let entry = Entry {
            charges,
            places: charges.iter().map(|charge| self.ask(charge)).collect(),
            before,
            count: 1,
        };
        if let Some(&first) = entry.places.first() {
            self.keys[first].latest = Some(self.entries.len());
        }
        self.entries.push(entry);
        self.entries.len() - 1
    }

    fn place(&self, charge: &Charge) -> Option<usize> {
        self.places.get(&charge.key.hash()).copied()
    }

    fn ask(&mut self, charge: &'a Charge) -> usize {
        let next = self.keys.len();
        let place = *self.places.entry(charge.key.hash()).or_insert(next);
        if place == next {
            self.keys.push(KeyUse {
                key: &charge.key,
                entries: 0,
                latest: None,
            });
        }
        self.keys[place].entries += 1;
        place
    }

    /// Returns the charge of an entry if it is the only one, no other entry uses its bucket, and its payment
    /// is common.
    fn alone(&self, entry: &Entry<'a>) -> Option<&'a Charge> {
        let [charge] = entry.charges else { return None };
        let is_rare = matches!(charge.payment, Payment::GivenBack { .. });
        (!is_rare && self.keys[entry.places[0]].entries == 1).then_some(charge)
    }

    fn runs(&self) -> Vec<Run<'a>> {
        let mut runs: Vec<Run<'a>> = Vec::new();
        for entry in &self.entries {
            let Some(charge) = self.alone(entry) else {
                continue;
            };
            // Batches have charges of few limits, so this list is short.
            let run = runs.iter_mut().find(|run| run.takes(charge, entry.count));
            match run {
                Some(run) => run.places.push(entry.places[0]),
                None => runs.push(Run {
                    charge,
                    count: entry.count,
                    places: vec![entry.places[0]],
                }),
            }
        }
        runs
    }
}

impl Run<'_> {
    fn takes(&self, charge: &Charge, count: usize) -> bool {
        let asks = |charge: &Charge| (charge.hits, charge.payment, charge.terms);
        self.count == count && asks(self.charge) == asks(charge)
    }
}

impl<'a> Batch<'a> {
    /// Creates a batch. No request may name a bucket twice.
    pub(super) fn new(requests: impl Iterator<Item = &'a [Charge]>) -> Self {
        let mut draft = BatchBuilder::default();
        let requests = requests.map(|charges| draft.add(charges)).collect();
        let runs = draft.runs();
        // The new index of each key.
        let mut stands = vec![usize::MAX; draft.keys.len()];
        let mut keys = Vec::with_capacity(draft.keys.len());
        let of_runs = runs.iter().flat_map(|run| run.places.iter().copied());
        for place in of_runs.chain(0..draft.keys.len()) {
            if stands[place] == usize::MAX {
                stands[place] = keys.len();
                keys.push(draft.keys[place].key);
            }
        }
        for entry in &mut draft.entries {
            for place in &mut entry.places {
                *place = stands[*place];
            }
        }
        Self {
            keys,
            runs,
            entries: draft.entries,
            requests,
        }
    }
}

// --- Asking and understanding ---

impl Batch<'_> {
    /// Number of requests.
    pub(super) fn requests(&self) -> usize {
        self.requests.len()
    }

    /// Number of buckets.
    pub(super) fn buckets(&self) -> usize {
        self.keys.len()
    }

    /// Returns the call that decides the batch with the script of this hash.
    pub(super) fn command(&self, script: &str) -> Cmd {
        let (runs, others) = self.packed();
        let of_keys: usize = self.keys.iter().map(|key| key.as_str().len()).sum();
        let size = of_keys + runs.0.len() + others.0.len() + 64;
        let mut command = Cmd::with_capacity(self.keys.len() + 5, size);
        command.arg("EVALSHA").arg(script).arg(self.keys.len());
        for key in &self.keys {
            command.arg(key.as_str());
        }
        command.arg(runs.0).arg(others.0);
        command
    }

    /// The arguments of the script: runs, and all other entries.
    fn packed(&self) -> (PackedNumbers, PackedNumbers) {
        let (mut runs, mut others) = (PackedNumbers::default(), PackedNumbers::default());
        let mut in_runs = 0;
        for run in &self.runs {
            in_runs += run.places.len();
            runs.pack(exact(run.places.len() as u64));
            runs.pack(exact(run.count as u64));
            runs.pack_charge(run.charge);
        }
        // No other entry has a bucket of a run.
        let not_in_runs = |entry: &&Entry<'_>| entry.places.iter().all(|&place| place >= in_runs);
        for entry in self.entries.iter().filter(not_in_runs) {
            others.pack(exact(entry.count as u64));
            others.pack(exact(entry.charges.len() as u64));
            for (charge, &place) in entry.charges.iter().zip(&entry.places) {
                others.pack(exact(place as u64 + 1));
                others.pack(match charge.part {
                    Part::Shadow => 0.0,
                    Part::Must => 1.0,
                    Part::Quota(group) => 2.0 + f64::from(group),
                    Part::Candidate { from, to } => {
                        -(f64::from(from) * CANDIDATE_SHIFT + f64::from(to) + 1.0)
                    }
                });
                others.pack_charge(charge);
                if let Payment::GivenBack { taken_at } = charge.payment {
                    others.pack(exact(taken_at));
                }
            }
        }
        (runs, others)
    }

    /// The decisions, in the order of the requests, from what the script read and when. It took what
    /// these take.
    pub(super) fn decisions(&self, reply: Reply) -> Option<Vec<Decision>> {
        let mut states = reply.values;
        if states.len() != self.keys.len() {
            return None;
        }
        let mut decisions = Vec::with_capacity(self.requests.len());
        let mut next_of_entry = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            next_of_entry.push(decisions.len());
            for _ in 0..entry.count {
                let stored = |i: usize| states[entry.places[i]];
                let decision = settle(entry.charges, stored, reply.now).decision;
                for (&place, outcome) in entry.places.iter().zip(&decision.outcomes) {
                    states[place] = Some(outcome.state);
                }
                decisions.push(Some(decision));
            }
        }
        let in_order = self.requests.iter().map(|&entry| {
            let next = next_of_entry[entry];
            next_of_entry[entry] += 1;
            decisions[next].take()
        });
        in_order.collect()
    }
}

/// Numbers in the script's format: little-endian doubles.
#[derive(Debug, Default)]
struct PackedNumbers(Vec<u8>);

impl PackedNumbers {
    fn pack(&mut self, number: f64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// Adds a charge without its key and part.
    fn pack_charge(&mut self, charge: &Charge) {
        let hits = exact(charge.hits.unsigned_abs());
        self.pack(if charge.hits < 0 { -hits } else { hits });
        self.pack(match charge.payment {
            Payment::Prepaid => 0.0,
            Payment::Postpaid => 1.0,
            Payment::Question => 2.0,
            Payment::GivenBack { .. } => 3.0,
        });
        self.pack(f64::from(charge.terms.capacity()));
        self.pack(exact(charge.terms.ceiling()));
        self.pack(f64::from(charge.terms.refill()));
        self.pack(exact(charge.terms.period()));
    }
}

/// Converts a number to one that the script can represent. Hits, ceilings, periods and indexes are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "nothing is lost below 2^53")]
fn exact(number: u64) -> f64 {
    debug_assert!(number < 1 << 53);
    number as f64
}

/// Reply of the script: the values that it read, and the time.
#[derive(Debug)]
pub(super) struct Reply {
    now: Micros,
    values: Vec<Option<State>>,
}

impl Reply {
    /// Parses a reply. Returns `None` if it is not one of the script.
    pub(super) fn parse(reply: &[Value]) -> Option<Self> {
        let (now, values) = reply.split_last()?;
        Some(Self {
            now: u64::from_redis_value_ref(now).ok()?,
            values: values.iter().map(state).collect(),
        })
    }
}

/// Decodes the value of a key. A value that is not a bucket counts as none, as in the script.
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
    let refill = u32::try_from(next()?).ok()?;
    let period = next()?;
    (period >= 1 && part < period).then_some(State {
        at,
        whole,
        part,
        refill,
        period,
    })
}
