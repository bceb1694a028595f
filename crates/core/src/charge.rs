//! Charges: what a request asks of a store, and what the store answers.

use crate::bucket::{State, Terms};
use crate::key::BucketKey;
use crate::time::Micros;

/// What a request asks of one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Charge {
    /// The bucket.
    pub key: BucketKey,
    /// The limit that it is charged under.
    pub terms: Terms,
    /// Tokens to take, within ±[`MAX_HITS`]; 0 asks whether one is left, negative gives back.
    pub hits: i64,
    /// When the hits are taken.
    pub payment: Payment,
    /// How the charge counts in its request.
    pub part: Part,
    /// What becomes of it when the store cannot decide, if not what becomes of most.
    pub on_failure: Option<OnStoreFailure>,
}

/// The most hits a charge can carry. More than any bucket holds, debt included, so that capping
/// at it changes no answer, and exact in a script's numbers.
pub const MAX_HITS: i64 = 1 << 40;

/// When hits are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Payment {
    /// Asked for before the work: taken only when the request is admitted and they fit.
    Prepaid,
    /// Reported after the work: taken in any case, into debt if need be.
    Postpaid,
    /// Never taken: what would they get?
    Question,
    /// Negative hits that were taken a moment ago by a request that was then denied elsewhere.
    /// [`State::given_back`] says how much of them comes back.
    GivenBack {
        /// [`State::at`] of the bucket when they were taken.
        taken_at: Micros,
    },
}

/// How a charge counts in its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Vetoes the request when denied.
    Must,
    /// One charge of a numbered group; a group is denied when one of its charges is. Vetoes the
    /// request only when every group is denied.
    Quota(u32),
    /// Never vetoes.
    Shadow,
    /// Never vetoes, and is taken as if it stood in for other charges of the request: when it fits, and so
    /// do all others of this same part, and the request would pass without those others. Candidates
    /// are the last charges of a request, and need no outcome.
    Candidate {
        /// The place of the first charge that it stands in for, among those of the request.
        from: u32,
        /// The place after the last of them. Where it is the first one's, the candidate stands in for none, and
        /// the number only tells candidates apart.
        to: u32,
    },
}

impl Part {
    /// Whether the charge is only tried.
    #[must_use]
    pub fn is_candidate(self) -> bool {
        matches!(self, Self::Candidate { .. })
    }
}

/// The charges that count: those before the candidates.
#[must_use]
pub fn without_candidates(charges: &[Charge]) -> &[Charge] {
    let first = charges.iter().position(|charge| charge.part.is_candidate());
    &charges[..first.unwrap_or(charges.len())]
}

/// What becomes of a charge that the store cannot decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnStoreFailure {
    /// Buckets of this instance decide.
    Local,
    /// It is admitted wherever a full bucket would.
    Allow,
    /// It is denied.
    Deny,
    /// The request gets no decision but an error, so that the caller decides.
    Error,
}

impl OnStoreFailure {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Local, Self::Allow, Self::Deny, Self::Error];

    /// Its name, as configurations write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Error => "error",
        }
    }
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request passes.
    pub admitted: bool,
    /// One outcome per charge, in their order; candidates at the end may have none.
    pub outcomes: Vec<Outcome>,
    /// What decided.
    pub cause: Cause,
}

/// What decided a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The buckets of the store.
    Buckets,
    /// A denial by the store that this instance remembers.
    RememberedDenial,
    /// A failure policy, because the store is unavailable. Never [`OnStoreFailure::Error`], which makes no decision.
    Policy(OnStoreFailure),
}

/// What a store says of one charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the charge, alone, would have passed.
    pub admitted: bool,
    /// Whole tokens left after the request.
    pub remaining: u32,
    /// Microseconds until the same hits would pass: 0 when they did, `None` when they never will.
    pub retry_in: Option<Micros>,
    /// Microseconds until the bucket is full, or its window ends.
    pub full_in: Micros,
    /// The bucket after the request.
    pub state: State,
    /// When that was, on the store's clock.
    pub decided: Micros,
    /// What it rests on.
    pub basis: Basis,
}

/// What an outcome rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Basis {
    /// The bucket, as the store has just read it.
    Bucket,
    /// The bucket, as this instance remembers it.
    Remembered,
    /// A failure policy: the store of the bucket is unavailable.
    Policy,
}
