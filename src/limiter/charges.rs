//! From limits to charges: when hits are taken, and each bucket once.

use std::collections::HashMap;

use super::Snapshot;
use crate::key::Prehashed;
use crate::rules::Hits;
use crate::store::{Charge, MAX_HITS, Payment};

/// When the hits of a limit are taken; remembers that a rule was asked with zero hits, as this request does
/// or does not.
pub(super) fn payment(snapshot: &Snapshot, slot: usize, configured: Hits, asks: bool) -> Payment {
    match configured {
        Hits::Prepaid => Payment::Prepaid,
        Hits::Postpaid => Payment::Postpaid,
        Hits::Auto => {
            if asks {
                snapshot.remember_asked(slot);
            }
            if snapshot.asked(slot) {
                Payment::Postpaid
            } else {
                Payment::Prepaid
            }
        }
    }
}

/// Charges, each bucket once: what is named twice is charged the sum.
#[derive(Default)]
pub(super) struct Charges {
    pub(super) list: Vec<Charge>,
    /// By the hash of their keys.
    places: HashMap<u128, usize, Prehashed>,
}

impl Charges {
    /// The place of the charge on that bucket. When requests bring different limits for one bucket, the
    /// first one counts.
    pub(super) fn add(&mut self, charge: Charge) -> usize {
        let next = self.list.len();
        let place = *self.places.entry(charge.key.hash()).or_insert(next);
        if place == next {
            self.list.push(Charge {
                hits: capped(charge.hits),
                ..charge
            });
        } else {
            let first = &mut self.list[place];
            first.hits = capped(first.hits.saturating_add(charge.hits));
            if charge.payment == Payment::Postpaid {
                first.payment = Payment::Postpaid;
            }
        }
        place
    }
}

fn capped(hits: i64) -> i64 {
    hits.clamp(-MAX_HITS, MAX_HITS)
}
