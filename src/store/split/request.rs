//! One request over several places: what is sent where, and what the replies come to.

use std::cmp::Reverse;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Places, Work};
use crate::store::fallback::Standby;
use crate::store::settle::is_allowed;
use crate::store::{Basis, Cause, Charge, Decision, Outcome, Part, Payment, StoreError};
use crate::time::Micros;

/// What is left of the time of a request after two round trips, at least: timers and threads are late by less.
const MARGIN: Duration = Duration::from_millis(1);

/// A request while it is being decided.
pub(super) struct Request<'a, S> {
    work: &'a Work<S>,
    charges: &'a [Charge],
    /// How many of the charges are no candidates.
    counted: usize,
    deadline: Instant,
    /// By place, ascending.
    portions: Vec<Portion>,
    /// What is known of each charge so far.
    outcomes: Vec<Option<Outcome>>,
    /// A call was made already, so that another one has not all of the time.
    has_sent: bool,
    /// What was taken from local buckets, as far as it has to be given back when the request is denied.
    taken_locally: Vec<Taken>,
    /// Why a place is unavailable.
    failure: Option<StoreError>,
}

/// The charges in one place.
struct Portion {
    place: u32,
    /// Where they are among those of the request.
    members: SmallVec<[usize; 4]>,
    /// The place is unavailable: policies decide.
    is_away: bool,
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

/// What a place is to do with its charges.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Take what can be had, if the vetoes there allow it.
    Take,
    /// Say what could be had, and count what is only reported.
    Ask,
}

impl<'a, S: Places> Request<'a, S> {
    /// A request of these charges, of which the first `counted` are no candidates.
    pub(super) fn new(
        work: &'a Work<S>,
        (charges, counted): (&'a [Charge], usize),
        deadline: Instant,
    ) -> Self {
        let mut portions: Vec<Portion> = Vec::new();
        for (member, charge) in charges.iter().enumerate() {
            let place = work.store.place(charge);
            match portions.binary_search_by_key(&place, |portion| portion.place) {
                Ok(known) => portions[known].members.push(member),
                Err(at) => portions.insert(at, Portion::new(place, member)),
            }
        }
        Self {
            work,
            charges,
            counted,
            deadline,
            portions,
            outcomes: vec![None; charges.len()],
            has_sent: false,
            taken_locally: Vec::new(),
            failure: None,
        }
    }

    /// Decides it while so many requests, itself included, compete; what it took [in vain](Self::in_vain), if it was
    /// not admitted, is still to be given back.
    pub(super) async fn decide(&mut self, competing: usize) -> Result<Decision, StoreError> {
        let now = Instant::now();
        self.recall(now);
        self.find_away();
        self.stand_in(Order::Take);
        if !self.is_denied()
            && let Some(first) = self.first(competing, now)
        {
            let others = self.others(&[first]);
            self.send((&[first], &others)).await;
            self.stand_in(Order::Take);
        }
        let rest = self.not_told();
        match self.is_denied() {
            true => self.send((&[], &rest)).await,
            false => self.send((&rest, &[])).await,
        }
        self.stand_in(Order::Take);
        self.verdict()
    }

    // --- What is planned ---

    /// Takes over what is known to deny.
    fn recall(&mut self, now: Instant) {
        let denials = &self.work.context.denials;
        for (charge, outcome) in self.charges.iter().zip(&mut self.outcomes) {
            *outcome = denials
                .known(charge, now)
                .filter(|outcome| !outcome.admitted);
        }
    }

    /// Finds the places that are known to be unavailable.
    fn find_away(&mut self) {
        if self.standby().is_none() {
            return;
        }
        for portion in &mut self.portions {
            let charge = &self.charges[portion.members[0]];
            if let Some(error) = self.work.store.turns_away(charge) {
                portion.is_away = true;
                self.failure = Some(error);
            }
        }
    }

    /// The portion to take first, by itself, if one is scarce and there is time for two round trips.
    ///
    /// Of several, the one that takes longest to be refilled: all servers choose the same, and what passes there passes
    /// where more comes back.
    fn first(&self, competing: usize, now: Instant) -> Option<usize> {
        let here = || (0..).zip(&self.portions).filter(|(_, one)| !one.is_away);
        let scarce =
            here().filter_map(|(at, portion)| Some((at, self.scarce(portion, competing, now)?)));
        // The first of equals.
        let (first, _) = scarce.min_by_key(|(_, refill)| Reverse(*refill))?;
        let others = || here().filter(|(at, _)| *at != first);
        others().next()?;
        let trips = &self.work.round_trips;
        let place = |(_, portion): (usize, &Portion)| portion.place;
        let all = trips.estimate(here().map(place))?;
        let second = trips.estimate(others().map(place))?;
        (now + all + second + MARGIN <= self.deadline).then_some(first)
    }

    /// How long it takes until the hits of this request come back to the scarce buckets of a portion, in microseconds;
    /// `None` when none is scarce. A bucket is scarce when no more such requests fit into what is known to be
    /// left than compete.
    fn scarce(&self, portion: &Portion, competing: usize, now: Instant) -> Option<u128> {
        let refill = |&member: &usize| {
            let charge = &self.charges[member];
            let known = self.work.context.denials.known(charge, now)?;
            let hits = charge.hits.max(1).unsigned_abs();
            let is_veto = charge.part != Part::Shadow;
            let is_scarce = u64::from(known.remaining) / hits <= competing as u64;
            let terms = &charge.terms;
            (is_veto && is_scarce).then(|| match terms.refill() {
                0 => u128::MAX,
                refill => u128::from(hits) * u128::from(terms.period()) / u128::from(refill),
            })
        };
        portion.members.iter().filter_map(refill).max()
    }

    /// The portions that can be asked and were not told to take.
    fn not_told(&self) -> Vec<usize> {
        let portions = (0..).zip(&self.portions);
        let not_told = portions.filter(|(_, portion)| !portion.is_told && !portion.is_away);
        not_told.map(|(at, _)| at).collect()
    }

    /// These without others.
    fn others(&self, others: &[usize]) -> Vec<usize> {
        let mut rest = self.not_told();
        rest.retain(|at| !others.contains(at));
        rest
    }

    // --- What is sent ---

    /// Has some portions take and others asked, all at once.
    ///
    /// The replies of all are noted even when one fails: what was taken must be known.
    async fn send(&mut self, (take, ask): (&[usize], &[usize])) {
        let is_first = !mem::replace(&mut self.has_sent, true);
        let orders = [(take, Order::Take), (ask, Order::Ask)];
        let mut calls = Vec::new();
        for (portions, order) in orders {
            for &at in portions {
                let (members, charges) = self.ordered(at, order);
                self.portions[at].is_told |= order == Order::Take;
                if !members.is_empty() {
                    calls.push(self.call(at, members, charges));
                }
            }
        }
        for (at, members, charges, decision) in join_all(calls).await {
            match decision {
                Ok(decision) => self.note(at, &members, &charges, &decision),
                Err(error) => {
                    if is_first {
                        self.work.round_trips.failed(self.portions[at].place);
                    }
                    self.lose(at, error);
                }
            }
        }
    }

    /// Asks a place, and notes how long that takes.
    fn call(
        &self,
        at: usize,
        members: Vec<usize>,
        charges: Arc<[Charge]>,
    ) -> impl Future<Output = Reply> + use<'a, S> {
        let (work, place, deadline) = (self.work, self.portions[at].place, self.deadline);
        async move {
            let began = Instant::now();
            let decision = work
                .store
                .decide(Arc::clone(&charges), deadline.into_std())
                .await;
            let took = began.elapsed();
            // What failed would have taken longer, or takes no time at all.
            let took = if decision.is_ok() { took } else { 2 * took };
            work.round_trips.took(place, took);
            (at, members, charges, decision)
        }
    }

    /// The charges of a portion as they are sent with an order: what was reported is not reported again, and what is
    /// known to deny is not asked.
    fn ordered(&self, at: usize, order: Order) -> (Vec<usize>, Arc<[Charge]>) {
        let quotas_apart = self.quotas_are_apart();
        let members = self.portions[at].members.iter().copied();
        let members: Vec<usize> = members.filter(|&one| !self.is_done(one, order)).collect();
        let charges = members.iter().map(|&member| &self.charges[member]);
        let charges = charges.map(|charge| ordered(charge, order, quotas_apart));
        (members.clone(), charges.collect())
    }

    /// Whether nothing is left of an order for a charge: what it reports was counted, or what it would get is known.
    fn is_done(&self, member: usize, order: Order) -> bool {
        let is_report = self.charges[member].is_report();
        (is_report || order == Order::Ask) && self.outcomes[member].is_some()
    }

    fn note(&mut self, at: usize, members: &[usize], charges: &[Charge], decision: &Decision) {
        for ((&member, charge), outcome) in members.iter().zip(charges).zip(&decision.outcomes) {
            if decision.admitted && outcome.admitted && charge.is_taking() {
                self.portions[at].taken.push(Taken {
                    member,
                    taken_at: outcome.state.at,
                });
            }
            self.outcomes[member] = Some(*outcome);
        }
    }

    fn quotas_are_apart(&self) -> bool {
        let has_quota = |portion: &&Portion| {
            let mut members = portion.members.iter();
            members.any(|&member| matches!(self.charges[member].part, Part::Quota(_)))
        };
        self.portions.iter().filter(has_quota).count() > 1
    }

    // --- What is decided without a place ---

    fn standby(&self) -> Option<&'a Standby> {
        self.work.context.standby.as_ref()
    }

    /// Leaves a portion to the policies of its charges: its place failed.
    fn lose(&mut self, at: usize, error: StoreError) {
        if let Some(standby) = self.standby() {
            standby.warn(&error);
        }
        self.portions[at].is_away = true;
        // Whatever was asked of it before, it has not taken anything that is known.
        self.portions[at].is_told = false;
        self.failure = Some(error);
    }

    /// Has policies decide the charges whose place is unavailable; only asks them once the request is denied.
    /// Candidates are left out, as always while the store does not decide.
    fn stand_in(&mut self, order: Order) {
        let Some(standby) = self.standby() else {
            return;
        };
        let order = if self.is_denied() { Order::Ask } else { order };
        let quotas_apart = self.quotas_are_apart();
        let mut members: Vec<usize> = Vec::new();
        for portion in &mut self.portions {
            if portion.is_away && !portion.is_told {
                portion.is_told = order == Order::Take;
                members.extend(&portion.members);
            }
        }
        members.retain(|&member| {
            let is_error = standby.is_error(&self.charges[member]);
            member < self.counted && !is_error && !self.is_done(member, order)
        });
        if members.is_empty() {
            return;
        }
        let charges = members.iter().map(|&member| &self.charges[member]);
        let charges: Vec<Charge> = charges
            .map(|charge| ordered(charge, order, quotas_apart))
            .collect();
        let decision = standby.stand_in(&charges);
        for ((member, charge), outcome) in members.into_iter().zip(&charges).zip(decision.outcomes)
        {
            let is_local = charge.is_taking() && standby.is_local(charge);
            if decision.admitted && outcome.admitted && is_local {
                self.taken_locally.push(Taken {
                    member,
                    taken_at: outcome.state.at,
                });
            }
            self.outcomes[member] = Some(outcome);
        }
    }

    /// Gives back what local buckets gave, and has policies say again what their charges would get.
    fn take_back_locally(&mut self, standby: &Standby) {
        let taken = mem::take(&mut self.taken_locally);
        let given: Vec<Charge> = taken.iter().map(|taken| self.given_back(taken)).collect();
        if !given.is_empty() {
            standby.stand_in(&given);
        }
        for (charge, outcome) in self.charges.iter().zip(&mut self.outcomes) {
            if outcome.is_some_and(|known| known.basis == Basis::Policy) && charge.is_taking() {
                *outcome = ask(standby, charge);
            }
        }
    }

    // --- What it comes to ---

    /// Whether it passes; what is not known yet counts as `unknown` says of it.
    fn passes(&self, unknown: impl Fn(usize) -> bool) -> bool {
        let fares = self.charges.iter().zip(&self.outcomes).enumerate();
        let fares = fares.map(|(member, (charge, outcome))| {
            let is_admitted = match outcome {
                Some(outcome) => outcome.admitted,
                // More than the bucket can ever hold is asked of it.
                None if charge.hits.max(1) > i64::from(charge.terms.capacity()) => false,
                None => unknown(member),
            };
            (charge.part, is_admitted)
        });
        let fares: SmallVec<[_; 8]> = fares.collect();
        is_allowed(fares.iter().copied())
    }

    /// Whether no place and no policy says what a charge gets: its policy is to give an error.
    fn is_undecidable(&self, member: usize) -> bool {
        let is_error = |standby: &Standby| standby.is_error(&self.charges[member]);
        let mut away = self.portions.iter().filter(|portion| portion.is_away);
        self.failure.is_some()
            && self.outcomes[member].is_none()
            && self.standby().is_none_or(is_error)
            && away.any(|portion| portion.members.contains(&member))
    }

    /// Whether what is known so far denies the request.
    fn is_lost(&self) -> bool {
        !self.passes(|_| true)
    }

    /// Whether it cannot be admitted any more: it is denied, or depends on what nobody decides.
    fn is_denied(&self) -> bool {
        !self.passes(|member| !self.is_undecidable(member))
    }

    /// The answer, now that all is known that can be.
    fn verdict(&mut self) -> Result<Decision, StoreError> {
        let (is_denied, is_lost) = (self.is_denied(), self.is_lost());
        let standby = self.standby();
        if let Some(standby) = standby.filter(|_| is_denied) {
            self.take_back_locally(standby);
        }
        match (self.failure.take(), standby) {
            (Some(error), None) => return Err(error),
            (Some(error), Some(_)) if is_denied && !is_lost => return Err(error),
            (_, Some(standby)) => self.fill(standby),
            (None, None) => {}
        }
        Ok(Decision {
            admitted: !is_denied,
            cause: self.cause(!is_denied),
            outcomes: self.told(!is_denied),
        })
    }

    /// Says of charges that nobody decided, and that the request does not depend on, what a full bucket would say.
    fn fill(&mut self, standby: &Standby) {
        for (charge, outcome) in self.charges[..self.counted].iter().zip(&mut self.outcomes) {
            if outcome.is_none() {
                *outcome = ask(standby, charge);
            }
        }
    }

    /// What decided it: policies, if it would have got another answer had they said otherwise.
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
        // What says `error` was not decided, or it would not be decided.
        let by_policy = counted()
            .filter(|(charge, outcome)| is_by_policy(outcome) && !standby.is_error(charge));
        let by_policy: Vec<Charge> = by_policy.map(|(charge, _)| charge.clone()).collect();
        Cause::Policy(standby.decided_for(&by_policy))
    }

    /// What its charges get. Candidates end where one was not decided.
    fn told(&self, admitted: bool) -> Vec<Outcome> {
        let known = self.outcomes.iter().copied();
        let mut outcomes: Vec<Outcome> = known.map_while(|outcome| outcome).collect();
        if admitted {
            return outcomes;
        }
        // As if nothing had been taken, which is about to be so.
        for taken in self.portions.iter().flat_map(|portion| &portion.taken) {
            let charge = &self.charges[taken.member];
            if let Some(outcome) = outcomes.get_mut(taken.member) {
                outcome.state = outcome.state.after(&charge.terms, -charge.hits);
                outcome.update(charge, outcome.decided);
            }
        }
        outcomes
    }

    /// What gives back, in each place, what was taken there and must not be.
    pub(super) fn in_vain(&self) -> Vec<Arc<[Charge]>> {
        let taken = self.portions.iter().map(|portion| &portion.taken);
        taken
            .filter(|taken| !taken.is_empty())
            .map(|taken| taken.iter().map(|taken| self.given_back(taken)).collect())
            .collect()
    }

    fn given_back(&self, taken: &Taken) -> Charge {
        let charge = &self.charges[taken.member];
        Charge {
            hits: -charge.hits,
            payment: Payment::GivenBack {
                taken_at: taken.taken_at,
            },
            part: Part::Shadow,
            ..charge.clone()
        }
    }
}

/// What a charge would get by its policy.
fn ask(standby: &Standby, charge: &Charge) -> Option<Outcome> {
    let question = ordered(charge, Order::Ask, false);
    standby.stand_in(&[question]).outcomes.pop()
}

/// What came of a call: of which portion, for which of its charges, and as which they were sent.
type Reply = (
    usize,
    Vec<usize>,
    Arc<[Charge]>,
    Result<Decision, StoreError>,
);

/// The charge as it is sent with an order. A quota that is denied in one place need not be the last one: where
/// quotas are apart, the vote is taken here.
fn ordered(charge: &Charge, order: Order, quotas_apart: bool) -> Charge {
    let mut charge = charge.clone();
    match order {
        Order::Take if quotas_apart && matches!(charge.part, Part::Quota(_)) => {
            charge.part = Part::Shadow;
        }
        Order::Take => {}
        Order::Ask => {
            charge.part = Part::Shadow;
            if !charge.is_report() {
                charge.payment = Payment::Question;
            }
        }
    }
    charge
}

impl Portion {
    fn new(place: u32, member: usize) -> Self {
        Self {
            place,
            members: SmallVec::from_iter([member]),
            is_away: false,
            is_told: false,
            taken: Vec::new(),
        }
    }
}
