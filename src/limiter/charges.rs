//! Charges, each bucket once.

use std::collections::HashMap;

use crate::key::Prehashed;
use crate::store::{Charge, MAX_HITS, Part, Payment};

/// Up to so many charges, looking through them is faster than a map of them.
const FEW: usize = 8;

/// Charges, each bucket once: what is named twice is charged the sum.
#[derive(Default)]
pub(super) struct Charges {
    pub(super) list: Vec<Charge>,
    /// By the hash of their keys; empty while there are few.
    places: HashMap<u128, usize, Prehashed>,
}

impl Charges {
    /// Returns the place of the charge on the bucket of `charge`, adding one if there is none.
    ///
    /// A request can bring two limits of its own for one bucket. The one with the smaller capacity counts, whatever
    /// their order; among quotas, one of which is enough, the larger one.
    pub(super) fn add(&mut self, charge: Charge) -> usize {
        match self.place(charge.key.hash()) {
            Some(place) => {
                let first = &mut self.list[place];
                let (known, new) = (first.terms.capacity(), charge.terms.capacity());
                let counts = match charge.part {
                    Part::Quota(_) => new > known,
                    Part::Must | Part::Shadow | Part::Candidate { .. } => new < known,
                };
                if counts {
                    first.terms = charge.terms;
                }
                first.hits = capped(first.hits.saturating_add(charge.hits));
                if charge.payment == Payment::Postpaid {
                    first.payment = Payment::Postpaid;
                }
                place
            }
            None => {
                self.list.push(Charge {
                    hits: capped(charge.hits),
                    ..charge
                });
                self.remember();
                self.list.len() - 1
            }
        }
    }

    fn place(&self, hash: u128) -> Option<usize> {
        if self.list.len() <= FEW {
            self.list
                .iter()
                .position(|charge| charge.key.hash() == hash)
        } else {
            self.places.get(&hash).copied()
        }
    }

    /// Remembers where the latest is, and all before it once they are no longer few.
    fn remember(&mut self) {
        let first = match self.list.len() {
            ..=FEW => return,
            count if count == FEW + 1 => 0,
            count => count - 1,
        };
        let new = self.list.iter().enumerate().skip(first);
        self.places
            .extend(new.map(|(place, charge)| (charge.key.hash(), place)));
    }
}

fn capped(hits: i64) -> i64 {
    hits.clamp(-MAX_HITS, MAX_HITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::Terms;
    use crate::key::{KeyFormat, LimitTag};
    use crate::rules::{Algorithm, Limit, Unit};

    #[test]
    fn a_bucket_that_is_named_again_is_charged_the_sum_however_many_there_are() {
        let tag = LimitTag {
            index: 0,
            is_window: false,
            override_period: None,
        };
        let keys = KeyFormat::new("");
        let mut charges = Charges::default();
        for round in 1..=3 {
            for bucket in 0..3 * FEW {
                let place = charges.add(Charge {
                    key: keys.key(&keys.stem(bucket.to_string(), []), tag),
                    terms: Terms::fixed_window(1, 1, 0),
                    hits: 2,
                    payment: Payment::Prepaid,
                    part: Part::Must,
                    on_failure: None,
                });
                assert_eq!(place, bucket, "round {round}");
            }
        }
        assert!(charges.list.iter().all(|charge| charge.hits == 6));
        assert_eq!(charges.list.len(), 3 * FEW);
    }

    #[test]
    fn the_stricter_of_two_limits_of_one_bucket_counts_in_either_order() {
        let tag = LimitTag {
            index: 0,
            is_window: false,
            override_period: Some((1, "hour")),
        };
        let keys = KeyFormat::new("");
        let key = keys.key("d|k=v", tag);
        let charged = |part: Part, limits: [u32; 2]| {
            let mut charges = Charges::default();
            for requests in limits {
                charges.add(Charge {
                    key: key.clone(),
                    terms: Limit::new(requests, Unit::Hour, Algorithm::TokenBucket).terms(),
                    hits: 1,
                    payment: Payment::Prepaid,
                    part,
                    on_failure: None,
                });
            }
            charges
                .list
                .iter()
                .map(|charge| charge.terms.capacity())
                .collect::<Vec<_>>()
        };
        for limits in [[10, 2], [2, 10]] {
            assert_eq!(charged(Part::Must, limits), [2], "{limits:?}");
            assert_eq!(charged(Part::Quota(0), limits), [10], "{limits:?}");
        }
        for limits in [[10, 0], [0, 10]] {
            assert_eq!(charged(Part::Must, limits), [0], "{limits:?}");
        }
    }
}
