//! The result of a request, computed from the outcomes of its charges.

use super::Request;
use crate::store::settle::is_allowed;
use crate::store::split::PartitionedStore;
use crate::store::{Basis, Cause, Charge, Decision, Outcome, StoreError};

impl<S: PartitionedStore> Request<'_, S> {
    /// Returns the result after the last call.
    pub(super) fn result(&mut self) -> Result<Decision, StoreError> {
        let (is_denied, is_denied_by_outcomes) = (self.is_denied(), self.is_denied_by_outcomes());
        let standby = self.standby();
        if let Some(standby) = standby.filter(|_| is_denied) {
            self.give_back_locally(standby);
        }
        match (self.failure.take(), standby) {
            (Some(error), None) => return Err(error),
            (Some(error), Some(_)) if is_denied && !is_denied_by_outcomes => return Err(error),
            (_, Some(standby)) => self.fill_outcomes(standby),
            (None, None) => {}
        }
        Ok(Decision {
            admitted: !is_denied,
            cause: self.cause(!is_denied),
            outcomes: self.final_outcomes(!is_denied),
        })
    }

    /// Returns [`Cause::Policy`] if other outcomes of the policies would have changed the result.
    fn cause(&self, admitted: bool) -> Cause {
        let counted = || { self.charges.iter().zip(&self.outcomes) }.take(self.counted);
        let is_by_policy =
            |outcome: &Option<Outcome>| outcome.is_some_and(|known| known.basis == Basis::Policy);
        let otherwise = counted().map(|(charge, outcome)| {
            let is_admitted = outcome.is_some_and(|known| known.admitted);
            let is_admitted = if is_by_policy(outcome) {
                !admitted
            } else {
                is_admitted
            };
            (charge.part, is_admitted)
        });
        let Some(standby) = self.standby().filter(|_| is_allowed(otherwise) != admitted) else {
            return Cause::Buckets;
        };
        // If a charge with the policy `error` had mattered, the result would be an error.
        let by_policy = counted()
            .filter(|(charge, outcome)| is_by_policy(outcome) && !standby.is_error(charge));
        let by_policy: Vec<Charge> = by_policy.map(|(charge, _)| charge.clone()).collect();
        Cause::Policy(standby.decided_for(&by_policy))
    }

    /// Returns the outcomes up to the first candidate without one.
    fn final_outcomes(&self, admitted: bool) -> Vec<Outcome> {
        let known = self.outcomes.iter().copied();
        let mut outcomes: Vec<Outcome> = known.map_while(|outcome| outcome).collect();
        if admitted {
            return outcomes;
        }
        // Taken hits are about to be given back, so the outcomes are computed without them.
        for taken in self.portions.iter().flat_map(|portion| &portion.taken) {
            let charge = &self.charges[taken.member];
            if let Some(outcome) = outcomes.get_mut(taken.member) {
                outcome.state = outcome.state.after(&charge.terms, -charge.hits);
                outcome.update(charge, outcome.decided);
            }
        }
        outcomes
    }
}
