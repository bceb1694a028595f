//! Limits as they are configured: rate, capacity, algorithm, name.

use std::fmt;

use ratekeeper_core::bucket::{MAX_PERIOD, Terms};
use ratekeeper_core::key::Placement;
use ratekeeper_core::time::Micros;

/// The unit of a limit's period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// 1 second.
    Second,
    /// 60 seconds.
    Minute,
    /// 3,600 seconds.
    Hour,
    /// 86,400 seconds.
    Day,
    /// 7 days. Windows begin on Thursdays, because the Unix epoch does.
    Week,
    /// 30 days, as in envoyproxy/ratelimit.
    Month,
    /// 365 days, as in envoyproxy/ratelimit.
    Year,
}

impl Unit {
    /// All units, shortest first.
    pub const ALL: [Self; 7] = [
        Self::Second,
        Self::Minute,
        Self::Hour,
        Self::Day,
        Self::Week,
        Self::Month,
        Self::Year,
    ];

    /// The unit's name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// The unit with this name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|unit| unit.name().eq_ignore_ascii_case(name))
    }

    /// The unit's length in seconds.
    #[must_use]
    pub fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 7 * 86_400,
            Self::Month => 30 * 86_400,
            Self::Year => 365 * 86_400,
        }
    }

    /// Maximum number of units in a period: as many as fit into [`MAX_PERIOD`].
    #[must_use]
    pub fn max_multiplier(self) -> u32 {
        let most = MAX_PERIOD / (self.seconds() * 1_000_000);
        u32::try_from(most).expect("100 years in seconds are a u32")
    }
}

/// The algorithm of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Algorithm {
    /// A token bucket, which is refilled continuously.
    #[default]
    TokenBucket,
    /// A fixed window, which is reset at the end of each period since the Unix epoch.
    FixedWindow,
}

impl Algorithm {
    /// The algorithm's name in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TokenBucket => "token_bucket",
            Self::FixedWindow => "fixed_window",
        }
    }
}

/// Whether hits are taken before the work or reported after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Hits {
    /// Before the work: denied hits are not taken.
    Prepaid,
    /// After the work: hits are taken in any case. A request without hits is a check, which takes one hit if it is allowed.
    Postpaid,
    /// Detected from the rule's calls on this instance: postpaid while they report hits after checks, or give hits back.
    #[default]
    Auto,
}

impl Hits {
    /// The name in configurations and options.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepaid => "prepaid",
            Self::Postpaid => "postpaid",
            Self::Auto => "auto",
        }
    }
}

/// A limit of a rule, or a limit that a request contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Tokens that are refilled in a period; 0 denies everything.
    pub requests_per_unit: u32,
    /// The unit of the period.
    pub unit: Unit,
    /// Number of units in a period; at least 1.
    pub unit_multiplier: u32,
    /// Tokens in a full bucket; for a fixed window, the hits of one window.
    pub burst: u32,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Whether hits are prepaid or postpaid.
    pub hits: Hits,
    /// Maximum debt of postpaid hits, in tokens.
    pub max_debt: u32,
    /// The name in responses; empty if the limit has none.
    pub name: String,
    /// Names of limits that do not apply to a request that this limit applies to.
    pub replaces: Vec<String>,
}

impl Limit {
    /// Returns a limit with the defaults: its capacity and its maximum debt equal the rate.
    #[must_use]
    pub fn new(requests_per_unit: u32, unit: Unit, algorithm: Algorithm) -> Self {
        Self {
            requests_per_unit,
            unit,
            unit_multiplier: 1,
            burst: requests_per_unit,
            algorithm,
            hits: Hits::Auto,
            max_debt: requests_per_unit,
            name: String::new(),
            replaces: Vec::new(),
        }
    }

    /// The period in microseconds; at most [`MAX_PERIOD`].
    #[must_use]
    pub fn period(&self) -> Micros {
        let seconds = self.unit.seconds() * u64::from(self.unit_multiplier);
        seconds.saturating_mul(1_000_000).min(MAX_PERIOD)
    }

    /// Tokens in a full bucket: 0 if the bucket is never refilled.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        match self.algorithm {
            Algorithm::TokenBucket if self.requests_per_unit == 0 => 0,
            Algorithm::TokenBucket | Algorithm::FixedWindow => self.burst,
        }
    }

    /// The limit in the numbers that the arithmetic needs.
    #[must_use]
    pub fn terms(&self) -> Terms {
        self.terms_with_debt(self.max_debt)
    }

    /// The limit in the numbers that the arithmetic needs, with another maximum debt.
    #[must_use]
    pub fn terms_with_debt(&self, max_debt: u32) -> Terms {
        let (rate, period) = (self.requests_per_unit, self.period());
        match self.algorithm {
            Algorithm::TokenBucket => Terms::token_bucket(rate, period, self.burst, max_debt),
            Algorithm::FixedWindow => Terms::fixed_window(self.burst, period, max_debt),
        }
    }

    /// Which store holds the limit's buckets.
    #[must_use]
    pub fn placement(&self) -> Placement {
        match self.unit {
            Unit::Second => Placement::PerSecond,
            _ => Placement::Common,
        }
    }
}

/// Formats the limit in words, such as `10 per minute, token bucket of 20`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per ", self.requests_per_unit)?;
        if self.unit_multiplier != 1 {
            write!(f, "{} ", self.unit_multiplier)?;
        }
        f.write_str(self.unit.name())?;
        match self.algorithm {
            Algorithm::FixedWindow => f.write_str(", fixed window")?,
            Algorithm::TokenBucket => write!(f, ", token bucket of {}", self.burst)?,
        }
        match self.hits {
            Hits::Auto => {}
            Hits::Prepaid => f.write_str(", prepaid")?,
            Hits::Postpaid => {
                write!(f, ", postpaid with a debt of at most {}", self.max_debt)?;
            }
        }
        if !self.name.is_empty() {
            write!(f, ", named {:?}", self.name)?;
        }
        if !self.replaces.is_empty() {
            write!(f, ", replaces {}", self.replaces.join(", "))?;
        }
        Ok(())
    }
}
