//! One request over several places: what is sent where, and what the replies come to.

use std::sync::Arc;

use futures_util::future::join_all;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::Places;
use super::suspects::Suspects;
use crate::bucket::Micros;
use crate::store::settle::passes;
use crate::store::{Cause, Charge, Decision, Outcome, Part, Payment, StoreError};

/// A request while it is being decided.
pub(super) struct Request<'a, S> {
    store: &'a S,
    suspects: &'a Suspects,
    charges: &'a [Charge],
    deadline: Instant,
    /// By place, ascending.
    portions: Vec<Portion>,
    /// What is known of each charge so far.
    outcomes: Vec<Option<Outcome>>,
}

/// The charges in one place.
struct Portion {
    place: u32,
    /// Where they are among those of the request.
    members: SmallVec<[usize; 4]>,
    /// It was told to take.
    is_told: bool,
    /// What it took that has to be given back when the request is denied.
    taken: Vec<Taken>,
}

/// Hits that were taken, by the place of their charge, and when by the bucket's own time.
struct Taken {
    member: usize,
    taken_at: Micros,
}

impl<'a, S: Places> Request<'a, S> {
    pub(super) fn new(
        store: &'a S,
        suspects: &'a Suspects,
        charges: &'a [Charge],
        deadline: Instant,
    ) -> Self {
        let mut portions: Vec<Portion> = Vec::new();
        for (member, charge) in charges.iter().enumerate() {
            let place = store.place(charge);
            match portions.binary_search_by_key(&place, |portion| portion.place) {
                Ok(known) => portions[known].members.push(member),
                Err(at) => portions.insert(at, Portion::new(place, member)),
            }
        }
        Self {
            store,
            suspects,
            charges,
            deadline,
            portions,
            outcomes: vec![None; charges.len()],
        }
    }

    /// Decides it; what it took [in vain](Self::in_vain), if it was not admitted, is still to be given back.
    pub(super) async fn decide(&mut self) -> Result<Decision, StoreError> {
        let suspects = self.suspects;
        let places = self.portions.iter().map(|portion| portion.place);
        if suspects.has_any(self.charges) || suspects.has_place(places) {
            self.ask().await?;
            if !self.is_lost() {
                let scarcest = self.scarcest();
                self.take(&[scarcest]).await?;
            }
        }
        if !self.is_lost() {
            self.take(&self.not_told()).await?;
        }
        let admitted = !self.is_lost();
        if !admitted {
            self.denying().for_each(|charge| suspects.remember(charge));
            self.report(&self.not_told()).await?;
        }
        Ok(Decision {
            admitted,
            outcomes: self.told(admitted),
            cause: Cause::Buckets,
        })
    }

    // --- What is sent ---

    /// Asks everywhere what the charges would get.
    async fn ask(&mut self) -> Result<(), StoreError> {
        let everywhere: Vec<usize> = (0..self.portions.len()).collect();
        let question = |charge: &Charge| {
            Some(Charge {
                payment: Payment::Question,
                part: Part::Shadow,
                ..charge.clone()
            })
        };
        self.send(&everywhere, question).await
    }

    /// Takes in these portions what can be had, if the vetoes there allow it.
    async fn take(&mut self, portions: &[usize]) -> Result<(), StoreError> {
        // A quota denied in one place need not be the last one: the vote is taken here then.
        let quotas_apart = self.quotas_are_apart();
        for &portion in portions {
            self.portions[portion].is_told = true;
        }
        let vote = |charge: &Charge| {
            let mut charge = charge.clone();
            if quotas_apart && matches!(charge.part, Part::Quota(_)) {
                charge.part = Part::Shadow;
            }
            Some(charge)
        };
        self.send(portions, vote).await
    }

    /// Brings to these portions what counts in a denied request, too.
    async fn report(&mut self, portions: &[usize]) -> Result<(), StoreError> {
        let report = |charge: &Charge| {
            charge.is_report().then(|| Charge {
                part: Part::Shadow,
                ..charge.clone()
            })
        };
        self.send(portions, report).await
    }

    /// Sends portions, as far as `put` makes a charge of theirs one to send, all at once.
    ///
    /// The replies of all are noted even when one fails: what was taken must be known.
    async fn send(
        &mut self,
        portions: &[usize],
        put: impl Fn(&Charge) -> Option<Charge>,
    ) -> Result<(), StoreError> {
        let calls = portions.iter().filter_map(|&portion| {
            let members = self.portions[portion].members.iter();
            let (members, charges): (Vec<usize>, Vec<Charge>) = members
                .filter_map(|&member| Some((member, put(&self.charges[member])?)))
                .unzip();
            let charges: Arc<[Charge]> = charges.into();
            let (store, deadline) = (self.store, self.deadline);
            (!members.is_empty()).then_some(async move {
                let decision = store.decide(Arc::clone(&charges), deadline).await;
                (portion, members, charges, decision)
            })
        });
        let mut failure = None;
        for (portion, members, charges, decision) in join_all(calls).await {
            match decision {
                Ok(decision) => self.note(portion, &members, &charges, &decision),
                Err(error) => {
                    self.suspects.remember_place(self.portions[portion].place);
                    failure = Some(error);
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn note(&mut self, portion: usize, members: &[usize], charges: &[Charge], decision: &Decision) {
        for ((&member, charge), outcome) in members.iter().zip(charges).zip(&decision.outcomes) {
            let is_prepaid = charge.payment == Payment::Prepaid && charge.hits > 0;
            if decision.admitted && outcome.admitted && is_prepaid {
                self.portions[portion].taken.push(Taken {
                    member,
                    taken_at: outcome.state.at,
                });
            }
            self.outcomes[member] = Some(*outcome);
        }
    }

    /// The portions that were not told to take.
    fn not_told(&self) -> Vec<usize> {
        let portions = (0..).zip(&self.portions);
        let not_told = portions.filter(|(_, portion)| !portion.is_told);
        not_told.map(|(at, _)| at).collect()
    }

    fn quotas_are_apart(&self) -> bool {
        let has_quota = |portion: &&Portion| {
            let mut members = portion.members.iter();
            members.any(|&member| matches!(self.charges[member].part, Part::Quota(_)))
        };
        self.portions.iter().filter(has_quota).count() > 1
    }

    /// The portion where fewest such requests fit into what is left, after all have been asked.
    fn scarcest(&self) -> usize {
        let fitting = |&member: &usize| {
            let (charge, outcome) = (&self.charges[member], self.outcomes[member]?);
            let is_veto = charge.part != Part::Shadow;
            is_veto.then(|| u64::from(outcome.remaining) / charge.hits.max(1).unsigned_abs())
        };
        let fitting_all = |portion: &Portion| {
            let fitting = portion.members.iter().filter_map(fitting).min();
            fitting.unwrap_or(u64::MAX)
        };
        let portions = (0..).zip(&self.portions);
        let scarcest = portions.min_by_key(|(_, portion)| fitting_all(portion));
        scarcest.map_or(0, |(at, _)| at)
    }

    // --- What it comes to ---

    /// Whether what is known so far denies the request.
    fn is_lost(&self) -> bool {
        // What is not known yet may pass.
        let known = self.charges.iter().zip(&self.outcomes);
        let is_denied = |outcome: &Option<Outcome>| outcome.is_some_and(|known| !known.admitted);
        let fares = known.map(|(charge, outcome)| (charge.part, !is_denied(outcome)));
        !passes(fares)
    }

    /// The charges that deny it.
    fn denying(&self) -> impl Iterator<Item = &Charge> {
        let known = self.charges.iter().zip(&self.outcomes);
        let denied = known.filter(|(charge, outcome)| {
            charge.part != Part::Shadow && outcome.is_some_and(|known| !known.admitted)
        });
        denied.map(|(charge, _)| charge)
    }

    /// What its charges get, now that all are known.
    fn told(&self, admitted: bool) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = self.outcomes.iter().copied().flatten().collect();
        if admitted {
            return outcomes;
        }
        // As if nothing had been taken, which is about to be so.
        for taken in self.portions.iter().flat_map(|portion| &portion.taken) {
            let (charge, outcome) = (&self.charges[taken.member], &mut outcomes[taken.member]);
            outcome.state = outcome.state.after(&charge.terms, -charge.hits);
            outcome.tell(charge, outcome.decided);
        }
        outcomes
    }

    /// What gives back, in each place, what was taken there and must not be.
    pub(super) fn in_vain(&self) -> Vec<Arc<[Charge]>> {
        let taken = self.portions.iter().map(|portion| &portion.taken);
        let give_back = |taken: &Taken| {
            let charge = &self.charges[taken.member];
            Charge {
                hits: -charge.hits,
                payment: Payment::GivenBack {
                    taken_at: taken.taken_at,
                },
                part: Part::Shadow,
                ..charge.clone()
            }
        };
        taken
            .filter(|taken| !taken.is_empty())
            .map(|taken| taken.iter().map(give_back).collect())
            .collect()
    }
}

impl Portion {
    fn new(place: u32, member: usize) -> Self {
        Self {
            place,
            members: SmallVec::from_iter([member]),
            is_told: false,
            taken: Vec::new(),
        }
    }
}
