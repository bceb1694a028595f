//! Failure policies for the charges whose partition is unavailable.

use std::mem;

use super::{Mode, Request, Taken, in_mode};
use crate::store::fallback::Standby;
use crate::store::split::PartitionedStore;
use crate::store::{Basis, Charge, Outcome, StoreError};

impl<'a, S: PartitionedStore> Request<'a, S> {
    pub(super) fn standby(&self) -> Option<&'a Standby> {
        self.context.shared.standby.as_ref()
    }

    /// Leaves a portion to the failure policies because its partition returned an error.
    pub(super) fn give_up(&mut self, portion: usize, error: StoreError) {
        if let Some(standby) = self.standby() {
            standby.warn(&error);
        }
        let portion = &mut self.portions[portion];
        portion.is_unavailable = true;
        // Nothing is known to have been taken, so the policies must take.
        portion.is_requested = false;
        self.failure = Some(error);
    }

    /// Decides the charges of unavailable partitions by their policies. Once the request is denied, they only return what
    /// the charges would get.
    ///
    /// Candidates are left out, as they always are while the store is unavailable.
    pub(super) fn apply_policies(&mut self, mode: Mode) {
        let Some(standby) = self.standby() else {
            return;
        };
        let mode = if self.is_denied() { Mode::Query } else { mode };
        let members = self.members_for_policies(standby, mode);
        if members.is_empty() {
            return;
        }
        let has_split_quotas = self.has_split_quotas();
        let charges = members.iter().map(|&member| &self.charges[member]);
        let charges: Vec<Charge> = charges
            .map(|charge| in_mode(charge, mode, has_split_quotas))
            .collect();
        let decision = standby.stand_in(&charges);
        for ((member, charge), outcome) in members.into_iter().zip(&charges).zip(decision.outcomes)
        {
            let is_local = charge.is_taking() && standby.is_local(charge);
            if decision.admitted && outcome.admitted && is_local {
                self.taken_locally.push(Taken {
                    member,
                    at: outcome.state.at,
                });
            }
            self.outcomes[member] = Some(outcome);
        }
    }

    /// Returns the charges that policies decide in this mode, and marks their portions as requested.
    fn members_for_policies(&mut self, standby: &Standby, mode: Mode) -> Vec<usize> {
        let mut members: Vec<usize> = Vec::new();
        for portion in &mut self.portions {
            if portion.is_unavailable && !portion.is_requested {
                portion.is_requested = mode == Mode::Take;
                members.extend(&portion.members);
            }
        }
        members.retain(|&member| {
            let is_error = standby.is_error(&self.charges[member]);
            member < self.counted && !is_error && !self.is_done(member, mode)
        });
        members
    }

    /// Gives back what was taken from local buckets, and updates the outcomes of policies accordingly.
    pub(super) fn give_back_locally(&mut self, standby: &Standby) {
        let taken = mem::take(&mut self.taken_locally);
        let refunds: Vec<Charge> = taken.iter().map(|taken| self.refund(taken)).collect();
        if !refunds.is_empty() {
            standby.stand_in(&refunds);
        }
        for (charge, outcome) in self.charges.iter().zip(&mut self.outcomes) {
            if outcome.is_some_and(|known| known.basis == Basis::Policy) && charge.is_taking() {
                *outcome = query(standby, charge);
            }
        }
    }

    /// Sets the outcomes of undecided charges, on which the request does not depend, to those of a full bucket.
    pub(super) fn fill_outcomes(&mut self, standby: &Standby) {
        for (charge, outcome) in self.charges[..self.counted].iter().zip(&mut self.outcomes) {
            if outcome.is_none() {
                *outcome = query(standby, charge);
            }
        }
    }
}

/// Returns what a charge would get by its policy.
fn query(standby: &Standby, charge: &Charge) -> Option<Outcome> {
    let charge = in_mode(charge, Mode::Query, false);
    standby.stand_in(&[charge]).outcomes.pop()
}
