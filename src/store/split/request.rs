//! One request over several partitions: what is sent to which partition, and in which order.

mod calls;
mod policies;
mod result;

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Context, Job, PartitionedStore};
use crate::store::settle::is_allowed;
use crate::store::{Charge, Decision, Outcome, Part, Payment, StoreError};
use crate::time::Micros;

/// The minimum time that must remain after two round trips. It covers the delays of timers and threads.
const MARGIN: Duration = Duration::from_millis(1);

/// A request that is being decided.
pub(super) struct Request<'a, S> {
    context: &'a Context<S>,
    charges: &'a [Charge],
    /// Number of charges that are not candidates. They come first.
    counted: usize,
    deadline: Instant,
    /// In ascending order of their partitions.
    portions: Vec<Portion>,
    /// The outcomes that are known so far, by charge.
    outcomes: Vec<Option<Outcome>>,
    /// Whether a call has been made, so that the next one has less than the whole time.
    has_sent: bool,
    /// Hits that were taken from local buckets and are given back if the request is denied.
    taken_locally: Vec<Taken>,
    /// The latest error of a partition that is unavailable.
    failure: Option<StoreError>,
}

/// The charges of a request in one partition.
struct Portion {
    partition: u32,
    /// Indices of the charges.
    members: SmallVec<[usize; 4]>,
    /// Whether the partition is unavailable, so that failure policies decide.
    is_unavailable: bool,
    /// Whether the hits have been requested with [`Mode::Take`].
    is_requested: bool,
    /// Hits that were taken and are given back if the request is denied.
    taken: Vec<Taken>,
}

/// Hits that were taken by one charge.
struct Taken {
    /// Index of the charge.
    member: usize,
    /// When they were taken, by the clock of the bucket's server.
    at: Micros,
}

/// How a partition treats charges.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Takes the hits, if the charges in the partition allow it.
    Take,
    /// Returns what the charges would get. Takes nothing, except that postpaid hits are counted.
    Query,
}

/// The portions that one round trip is sent to.
#[derive(Default)]
struct Step {
    take: Vec<usize>,
    query: Vec<usize>,
}

impl<'a, S: PartitionedStore> Request<'a, S> {
    /// Groups the charges of a job by partition.
    pub(super) fn new(context: &'a Context<S>, job: &'a Job) -> Self {
        let charges = &job.charges;
        let mut portions: Vec<Portion> = Vec::new();
        for (member, charge) in charges.iter().enumerate() {
            let partition = context.store.partition(charge);
            match portions.binary_search_by_key(&partition, |portion| portion.partition) {
                Ok(known) => portions[known].members.push(member),
                Err(at) => portions.insert(at, Portion::new(partition, member)),
            }
        }
        Self {
            context,
            charges,
            counted: job.counted,
            deadline: job.deadline,
            portions,
            outcomes: vec![None; charges.len()],
            has_sent: false,
            taken_locally: Vec::new(),
            failure: None,
        }
    }

    /// Decides the request while `concurrent` requests, itself included, are being decided.
    ///
    /// If it is not admitted, the caller must send the [refunds](Self::refunds).
    pub(super) async fn decide(&mut self, concurrent: usize) -> Result<Decision, StoreError> {
        let now = Instant::now();
        self.recall_denials(now);
        self.find_unavailable();
        self.apply_policies(Mode::Take);
        if !self.is_denied()
            && let Some(scarce) = self.scarce_portion(concurrent, now)
        {
            let mut others = self.pending_portions();
            others.retain(|&at| at != scarce);
            self.send(Step {
                take: vec![scarce],
                query: others,
            })
            .await;
            self.apply_policies(Mode::Take);
        }
        let pending = self.pending_portions();
        let step = match self.is_denied() {
            true => Step {
                query: pending,
                ..Step::default()
            },
            false => Step {
                take: pending,
                ..Step::default()
            },
        };
        self.send(step).await;
        self.apply_policies(Mode::Take);
        self.result()
    }

    /// Sets the outcomes of charges that are known to be denied.
    fn recall_denials(&mut self, now: Instant) {
        let denials = &self.context.shared.denials;
        for (charge, outcome) in self.charges.iter().zip(&mut self.outcomes) {
            *outcome = denials
                .known(charge, now)
                .filter(|outcome| !outcome.admitted);
        }
    }

    /// Marks the partitions that are known to be unavailable.
    fn find_unavailable(&mut self) {
        if self.standby().is_none() {
            return;
        }
        for portion in &mut self.portions {
            let charge = &self.charges[portion.members[0]];
            if let Some(error) = self.context.store.unavailable(charge) {
                portion.is_unavailable = true;
                self.failure = Some(error);
            }
        }
    }

    /// Returns the portion to take first, alone, if one is scarce and the deadline leaves time for two round trips.
    ///
    /// Of several scarce portions, it is the one with the longest refill. All servers choose the same, and the requests
    /// that it admits go on to buckets with a faster refill.
    fn scarce_portion(&self, concurrent: usize, now: Instant) -> Option<usize> {
        let available = || { (0..).zip(&self.portions) }.filter(|(_, one)| !one.is_unavailable);
        let scarce = available().filter_map(|(at, portion)| {
            Some((at, self.refill_time_if_scarce(portion, concurrent, now)?))
        });
        // The first of equals.
        let (first, _) = scarce.min_by_key(|(_, refill)| Reverse(*refill))?;
        let others = || available().filter(|(at, _)| *at != first);
        others().next()?;
        let trips = &self.context.round_trips;
        let partition = |(_, portion): (usize, &Portion)| portion.partition;
        let all = trips.estimate(available().map(partition))?;
        let second = trips.estimate(others().map(partition))?;
        (now + all + second + MARGIN <= self.deadline).then_some(first)
    }

    /// Returns the time in microseconds in which the hits of this request are refilled in the scarce buckets of a
    /// portion, or `None` if no bucket is scarce.
    ///
    /// A bucket is scarce if its known remaining tokens allow at most as many such requests as are being decided.
    fn refill_time_if_scarce(
        &self,
        portion: &Portion,
        concurrent: usize,
        now: Instant,
    ) -> Option<u128> {
        let refill_time = |&member: &usize| {
            let charge = &self.charges[member];
            let known = self.context.shared.denials.known(charge, now)?;
            let hits = charge.hits.max(1).unsigned_abs();
            let can_deny = charge.part != Part::Shadow;
            let is_scarce = u64::from(known.remaining) / hits <= concurrent as u64;
            let terms = &charge.terms;
            (can_deny && is_scarce).then(|| match terms.refill() {
                0 => u128::MAX,
                refill => u128::from(hits) * u128::from(terms.period()) / u128::from(refill),
            })
        };
        portion.members.iter().filter_map(refill_time).max()
    }

    /// Returns the available portions whose hits have not been requested.
    fn pending_portions(&self) -> Vec<usize> {
        { (0..).zip(&self.portions) }
            .filter(|(_, portion)| !portion.is_requested && !portion.is_unavailable)
            .map(|(at, _)| at)
            .collect()
    }

    // --- What is known so far ---

    /// Returns whether the request is allowed if `unknown` returns whether a charge without an outcome is admitted.
    fn is_allowed_if(&self, unknown: impl Fn(usize) -> bool) -> bool {
        let votes = self.charges.iter().zip(&self.outcomes).enumerate();
        let votes = votes.map(|(member, (charge, outcome))| {
            let is_admitted = match outcome {
                Some(outcome) => outcome.admitted,
                // More hits than the bucket can ever hold.
                None if charge.hits.max(1) > i64::from(charge.terms.capacity()) => false,
                None => unknown(member),
            };
            (charge.part, is_admitted)
        });
        let votes: SmallVec<[_; 8]> = votes.collect();
        is_allowed(votes.iter().copied())
    }

    /// Returns whether neither a partition nor a policy decides a charge, because its policy is `error`.
    fn is_undecidable(&self, member: usize) -> bool {
        let is_unavailable = || {
            let mut portions = self.portions.iter().filter(|one| one.is_unavailable);
            portions.any(|portion| portion.members.contains(&member))
        };
        self.failure.is_some()
            && self.outcomes[member].is_none()
            && (self.standby()).is_none_or(|standby| standby.is_error(&self.charges[member]))
            && is_unavailable()
    }

    /// Returns whether the known outcomes deny the request.
    fn is_denied_by_outcomes(&self) -> bool {
        !self.is_allowed_if(|_| true)
    }

    /// Returns whether the request can no longer be admitted: it is denied, or depends on an undecidable charge.
    fn is_denied(&self) -> bool {
        !self.is_allowed_if(|member| !self.is_undecidable(member))
    }

    /// Returns whether quotas of one group are in several partitions, so that none of them sees all votes.
    fn has_split_quotas(&self) -> bool {
        let has_quota = |portion: &&Portion| {
            let mut members = portion.members.iter();
            members.any(|&member| matches!(self.charges[member].part, Part::Quota(_)))
        };
        self.portions.iter().filter(has_quota).count() > 1
    }

    /// Returns whether a call in a mode has nothing to do for a charge: its hits were reported, or its outcome is known.
    fn is_done(&self, member: usize, mode: Mode) -> bool {
        let is_report = self.charges[member].is_report();
        (is_report || mode == Mode::Query) && self.outcomes[member].is_some()
    }

    // --- Refunds ---

    /// Returns the charges that give back what was taken, one list per partition.
    pub(super) fn refunds(&self) -> Vec<Arc<[Charge]>> {
        let taken = self.portions.iter().map(|portion| &portion.taken);
        taken
            .filter(|taken| !taken.is_empty())
            .map(|taken| taken.iter().map(|taken| self.refund(taken)).collect())
            .collect()
    }

    fn refund(&self, taken: &Taken) -> Charge {
        let charge = &self.charges[taken.member];
        Charge {
            hits: -charge.hits,
            payment: Payment::GivenBack { taken_at: taken.at },
            part: Part::Shadow,
            ..charge.clone()
        }
    }
}

/// Returns a charge as it is sent in a mode.
///
/// With quotas in several partitions, each is sent as a shadow charge: a quota that is denied in one partition may be
/// admitted by another, so the request decides itself.
fn in_mode(charge: &Charge, mode: Mode, has_split_quotas: bool) -> Charge {
    let mut charge = charge.clone();
    match mode {
        Mode::Take if has_split_quotas && matches!(charge.part, Part::Quota(_)) => {
            charge.part = Part::Shadow;
        }
        Mode::Take => {}
        Mode::Query => {
            charge.part = Part::Shadow;
            if !charge.is_report() {
                charge.payment = Payment::Question;
            }
        }
    }
    charge
}

impl Portion {
    fn new(partition: u32, member: usize) -> Self {
        Self {
            partition,
            members: SmallVec::from_iter([member]),
            is_unavailable: false,
            is_requested: false,
            taken: Vec::new(),
        }
    }
}
