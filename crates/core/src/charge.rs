//! Charges, which a request sends to a store, and the decision that the store returns.

use crate::bucket::{State, Terms};
use crate::key::BucketKey;
use crate::time::Micros;

/// One bucket of a request, and what to take from it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Charge {
    /// The key of the bucket.
    pub key: BucketKey,
    /// The limit of the bucket.
    pub terms: Terms,
    /// Tokens to take, within ±[`MAX_HITS`]. 0 only checks that a token is left; negative hits are given back.
    pub hits: i64,
    /// When the hits are taken.
    pub payment: Payment,
    /// How the charge counts in its request.
    pub part: Part,
    /// The failure policy of the rule; `None` for the failure policy of the server.
    pub on_failure: Option<OnStoreFailure>,
}

/// Maximum number of hits of a charge.
///
/// It is more than any bucket holds, debt included, so that a larger number would change no answer. Lua's numbers
/// represent it exactly.
pub const MAX_HITS: i64 = 1 << 40;

/// When hits are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Payment {
    /// Before the work: the hits are taken only if the request is allowed and they fit.
    Prepaid,
    /// After the work: the hits are always taken, into debt if necessary.
    Postpaid,
    /// Never: the outcome says whether the hits would fit.
    Question,
    /// The hits are negative: they give back what a request had taken from this bucket before another bucket denied it. See
    /// [`State::given_back`].
    GivenBack {
        /// [`State::at`] of the bucket when the hits were taken.
        taken_at: Micros,
    },
}

/// How a charge counts in its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The request is denied if this charge is.
    Must,
    /// The charge belongs to the quota group with this number. A group is denied if one of its charges is. The request is
    /// denied if all groups are.
    Quota(u32),
    /// The charge never denies the request.
    Shadow,
    /// The charge never denies the request. It is decided as if it replaced other charges of the request.
    ///
    /// A candidate is taken if it fits, if all candidates with the same range fit, and if the request would be allowed
    /// without the replaced charges. Candidates are the last charges of a request and need no outcome.
    Candidate {
        /// Index of the first charge that the candidate replaces.
        from: u32,
        /// Index after the last charge that the candidate replaces. If it equals `from`, no charge is replaced, and the
        /// index only distinguishes candidates.
        to: u32,
    },
}

impl Part {
    /// Whether the charge is a candidate.
    #[must_use]
    pub fn is_candidate(self) -> bool {
        matches!(self, Self::Candidate { .. })
    }
}

/// Returns the charges before the candidates.
#[must_use]
pub fn without_candidates(charges: &[Charge]) -> &[Charge] {
    let first = charges.iter().position(|charge| charge.part.is_candidate());
    &charges[..first.unwrap_or(charges.len())]
}

/// A failure policy: what to do with charges while their store is unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnStoreFailure {
    /// Decide with buckets of this instance.
    Local,
    /// Admit the hits if a full bucket would.
    Allow,
    /// Deny the hits.
    Deny,
    /// Fail the request, so that the client decides.
    Error,
}

impl OnStoreFailure {
    /// All failure policies.
    pub const ALL: [Self; 4] = [Self::Local, Self::Allow, Self::Deny, Self::Error];

    /// The policy's name in configurations.
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

/// The decision on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request is allowed.
    pub admitted: bool,
    /// One outcome per charge, in the order of the charges. Candidates at the end may have none.
    pub outcomes: Vec<Outcome>,
    /// What the decision is based on.
    pub cause: Cause,
}

/// What a decision is based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Buckets in the store.
    Buckets,
    /// An earlier denial by the store, which this instance remembers.
    RememberedDenial,
    /// A failure policy, because the store is unavailable. Never [`OnStoreFailure::Error`], which makes no decision.
    Policy(OnStoreFailure),
}

/// The outcome of one charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the hits fit into the bucket, regardless of the request's other charges.
    pub admitted: bool,
    /// Number of whole tokens left after the request.
    pub remaining: u32,
    /// Microseconds until the same hits fit: 0 if they did, `None` if they never will.
    pub retry_in: Option<Micros>,
    /// Microseconds until the bucket is full or its window ends.
    pub full_in: Micros,
    /// The bucket after the request.
    pub state: State,
    /// The time of the decision by the store's clock.
    pub decided: Micros,
    /// What the outcome is based on.
    pub basis: Basis,
}

/// What the outcome of a charge is based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Basis {
    /// The bucket in the store.
    Bucket,
    /// The bucket as this instance remembers it.
    Remembered,
    /// A failure policy: the store of the bucket is unavailable.
    Policy,
}
