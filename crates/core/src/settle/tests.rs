//! Properties of decisions, for any charges and any states of their buckets.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::bucket::Terms;
use crate::key::{BucketKey, KeyFormat, LimitTag, Segment};

const SECOND: Micros = 1_000_000;

/// Some day in 2026.
const NOW: Micros = 1_790_000_000 * SECOND;

fn key(index: usize) -> BucketKey {
    let format = KeyFormat::new("");
    let value = index.to_string();
    let stem = format.stem("test", [(&b"bucket"[..], Segment::Value(value.as_bytes()))]);
    let tag = LimitTag {
        index: 0,
        is_window: false,
        override_period: None,
    };
    format.key(&stem, tag)
}

fn terms() -> impl Strategy<Value = Terms> {
    (1..20_u32, 1..100_u64, 0..20_u32, 0..20_u32, 0..4).prop_map(
        |(rate, seconds, capacity, debt, kind)| match kind {
            0 => Terms::fixed_window(capacity, seconds * SECOND, debt),
            _ => Terms::token_bucket(rate, seconds * SECOND, capacity, debt),
        },
    )
}

fn payment() -> impl Strategy<Value = Payment> {
    prop_oneof![
        5 => Just(Payment::Prepaid),
        2 => Just(Payment::Postpaid),
        1 => Just(Payment::Question),
    ]
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        3 => Just(Part::Must),
        2 => (0..3_u32).prop_map(Part::Quota),
        1 => Just(Part::Shadow),
    ]
}

/// A charge, and what is stored for its bucket: hits taken under other terms, a while ago.
#[derive(Debug, Clone)]
struct Sample {
    charge: Charge,
    stored: Option<State>,
}

fn sample(part: impl Strategy<Value = Part>) -> impl Strategy<Value = Sample> {
    let hits = prop_oneof![8 => 0..8_i64, 1 => -8..0_i64, 1 => Just(1 << 40)];
    let stored = prop::option::of((terms(), any::<bool>(), 0..25_i64, 0..200 * SECOND));
    (terms(), hits, payment(), part, stored).prop_map(|(terms, hits, payment, part, stored)| {
        let stored = stored.map(|(other, is_changed, taken, age)| {
            let then = NOW - age;
            let under = if is_changed { other } else { terms };
            State::full(&under, then).after(&under, taken)
        });
        let charge = Charge {
            key: key(0),
            terms,
            hits,
            payment,
            part,
            on_failure: None,
        };
        Sample { charge, stored }
    })
}

fn numbered(sample: Vec<Sample>) -> Vec<Sample> {
    let number = |(index, mut sample): (usize, Sample)| {
        sample.charge.key = key(index);
        sample
    };
    sample.into_iter().enumerate().map(number).collect()
}

fn request() -> impl Strategy<Value = Vec<Sample>> {
    prop::collection::vec(sample(part()), 1..7).prop_map(numbered)
}

/// A request with candidates, all of which replace the same charges.
fn with_candidates() -> impl Strategy<Value = (Vec<Sample>, usize)> {
    let counted = prop::collection::vec(sample(part()), 1..5);
    let candidates = prop::collection::vec(sample(Just(Part::Shadow)), 1..3);
    (counted, candidates, any::<[prop::sample::Index; 2]>()).prop_map(
        |(counted, candidates, range)| {
            let count = counted.len();
            let [a, b] = range.map(|index| u32::try_from(index.index(count + 1)).unwrap());
            let part = Part::Candidate {
                from: a.min(b),
                to: a.max(b),
            };
            let candidates = candidates.into_iter().map(|mut sample| {
                sample.charge.part = part;
                sample
            });
            (
                numbered(counted.into_iter().chain(candidates).collect()),
                count,
            )
        },
    )
}

fn settled(sample: &[Sample]) -> Settled {
    let charges: Vec<Charge> = sample.iter().map(|sample| sample.charge.clone()).collect();
    settle(&charges, |index| sample[index].stored, NOW)
}

/// The bucket of a charge before the request.
fn before(sample: &Sample) -> State {
    let terms = &sample.charge.terms;
    match sample.stored {
        Some(state) => state.at(terms, NOW),
        None => State::full(terms, NOW),
    }
}

/// The rule in plain words: no `must` charge is denied, and not every quota group is.
fn is_allowed_by_definition(charges: &[(Part, bool)]) -> bool {
    let must = charges
        .iter()
        .all(|&(part, admitted)| part != Part::Must || admitted);
    let quota = |&&(part, _): &&(Part, bool)| matches!(part, Part::Quota(_));
    let group = |&(part, _): &(Part, bool)| match part {
        Part::Quota(group) => group,
        _ => u32::MAX,
    };
    let groups: BTreeSet<u32> = charges.iter().filter(quota).map(group).collect();
    let denied = charges
        .iter()
        .filter(quota)
        .filter(|(_, admitted)| !admitted);
    let denied: BTreeSet<u32> = denied.map(group).collect();
    must && (groups.is_empty() || groups != denied)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// A request is allowed by its charges' parts, and each charge is taken as its payment says.
    #[test]
    fn takes_all_or_nothing_prepaid(sample in request()) {
        let settled = settled(&sample);
        let decision = &settled.decision;
        let charges: Vec<(Part, bool)> = sample
            .iter()
            .map(|sample| (sample.charge.part, before(sample).admits(&sample.charge.terms, sample.charge.hits)))
            .collect();
        prop_assert_eq!(decision.admitted, is_allowed_by_definition(&charges));
        for ((sample, outcome), (_, fits)) in sample.iter().zip(&decision.outcomes).zip(charges) {
            prop_assert_eq!(outcome.admitted, fits);
            let Charge { terms, hits, payment, .. } = &sample.charge;
            let is_taken = match payment {
                Payment::Prepaid => *hits < 0 || (decision.admitted && fits),
                Payment::Postpaid => true,
                Payment::Question | Payment::GivenBack { .. } => false,
            };
            let expected = match is_taken {
                true => before(sample).after(terms, *hits),
                false => before(sample),
            };
            prop_assert_eq!(outcome.state, expected);
        }
    }

    /// The fields of an outcome describe its bucket after the request.
    #[test]
    fn outcomes_describe_the_bucket_after_the_request(sample in request()) {
        for (sample, outcome) in sample.iter().zip(settled(&sample).decision.outcomes) {
            let Charge { terms, hits, .. } = &sample.charge;
            prop_assert_eq!(outcome.remaining, outcome.state.remaining(terms));
            prop_assert_eq!(outcome.full_in, outcome.state.full_in(NOW));
            match outcome.admitted {
                true => prop_assert_eq!(outcome.retry_in, Some(0)),
                false => prop_assert_eq!(outcome.retry_in, outcome.state.retry_in(terms, *hits, NOW)),
            }
        }
    }

    /// A store that writes only the buckets marked as changed gives the same answers later as one that writes all.
    #[test]
    fn only_changed_buckets_need_be_written(sample in request(), later in 0..300 * SECOND) {
        let settled = settled(&sample);
        let outcomes = settled.decision.outcomes.iter().zip(settled.is_changed);
        for (sample, (outcome, is_changed)) in sample.iter().zip(outcomes) {
            let terms = &sample.charge.terms;
            let kept = match is_changed {
                true => Some(outcome.state),
                false => sample.stored,
            };
            let kept = kept.map_or_else(|| State::full(terms, NOW + later), |state| state.at(terms, NOW + later));
            prop_assert_eq!(kept, outcome.state.at(terms, NOW + later));
        }
    }

    /// Candidates change neither the decision nor any outcome of the other charges.
    #[test]
    fn candidates_change_nothing((sample, count) in with_candidates()) {
        let (with, without) = (settled(&sample), settled(&sample[..count]));
        prop_assert_eq!(with.decision.admitted, without.decision.admitted);
        prop_assert_eq!(&with.decision.outcomes[..count], &without.decision.outcomes[..]);
    }

    /// Prepaid candidates are taken exactly if the request would be allowed with them in place of what they replace.
    #[test]
    fn candidates_are_decided_as_if_they_replaced_their_charges((sample, count) in with_candidates()) {
        let settled = settled(&sample);
        let Part::Candidate { from, to } = sample[count].charge.part else {
            unreachable!("the charges from `count` on are candidates");
        };
        let replaced = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
        let counted = (0..sample.len()).filter(|index| !replaced.contains(index));
        let charges: Vec<(Part, bool)> = counted
            .map(|index| {
                let part = match sample[index].charge.part {
                    Part::Candidate { .. } => Part::Must,
                    part => part,
                };
                (part, settled.decision.outcomes[index].admitted)
            })
            .collect();
        // A replaced quota group counts as admitted, and so lets the other groups pass.
        let replaces_quota = sample[replaced].iter().any(|sample| matches!(sample.charge.part, Part::Quota(_)));
        let must_pass = charges.iter().all(|&(part, admitted)| part != Part::Must || admitted);
        for (sample, outcome) in sample.iter().zip(&settled.decision.outcomes).skip(count) {
            let Charge { terms, hits, payment, .. } = &sample.charge;
            if *payment != Payment::Prepaid || *hits <= 0 {
                continue;
            }
            let is_taken = outcome.state != before(sample);
            prop_assert_eq!(outcome.state, match is_taken {
                true => before(sample).after(terms, *hits),
                false => before(sample),
            });
            match replaces_quota {
                true => prop_assert!(!is_taken || must_pass),
                false => prop_assert_eq!(is_taken, is_allowed_by_definition(&charges)),
            }
        }
    }
}
