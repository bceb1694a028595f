//! Changes in behavior, and their consequences for buckets.

use std::fmt;

use super::super::rule::Rule;

/// A change in behavior.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The kind of change.
    pub kind: Kind,
    /// The path of the rule, or the name of the domain.
    pub path: String,
    /// The position in the configuration, as `file:line`.
    pub at: Option<String>,
    /// The old value, in short.
    pub before: Option<String>,
    /// The new value, in short.
    pub after: Option<String>,
    /// The consequence for buckets, if the change can have one.
    pub buckets: Option<Buckets>,
    /// The change in a sentence.
    pub text: String,
    /// For [`Kind::Matching`], the ids of the rules that match before and after the change.
    pub(super) moved: Option<[Option<usize>; 2]>,
}

/// Kinds of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A domain is added.
    DomainAdded,
    /// A domain is removed.
    DomainRemoved,
    /// A rule is added.
    RuleAdded,
    /// A rule is removed.
    RuleRemoved,
    /// A removed rule and an added one have equal limits.
    Renamed,
    /// A limit admits more hits.
    Raised,
    /// A limit admits fewer hits.
    Lowered,
    /// A limit admits more in one respect and less in another.
    Mixed,
    /// A limit is added to a rule.
    LimitAdded,
    /// A limit is removed from a rule.
    LimitRemoved,
    /// The order of a rule's limits changes.
    Order,
    /// The algorithm of a limit changes.
    Algorithm,
    /// A rule becomes unlimited or limited.
    Unlimited,
    /// `hits` or `max_debt` of a limit change.
    Hits,
    /// The shadow mode of a rule changes.
    Shadow,
    /// The quota mode of a rule changes.
    Quota,
    /// The values that share a bucket change.
    Share,
    /// The failure policy of a rule changes.
    StoreFailure,
    /// The name of a limit or the limits that it replaces change.
    Name,
    /// The name of a rule in metrics changes.
    Metrics,
    /// The candidate limits of a rule change.
    Candidate,
    /// The metadata of a rule changes.
    Metadata,
    /// Another rule matches the descriptors.
    Matching,
}

/// Consequences of a change for buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buckets {
    /// Buckets keep the tokens taken.
    Kept,
    /// Buckets keep the tokens taken, up to the capacity and the debt of the new limit.
    Clamped,
    /// Other buckets are used, which are full.
    Reset,
    /// The buckets are no longer used.
    Left,
}

impl Kind {
    /// The name in JSON output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DomainAdded => "domain_added",
            Self::DomainRemoved => "domain_removed",
            Self::RuleAdded => "rule_added",
            Self::RuleRemoved => "rule_removed",
            Self::Renamed => "renamed",
            Self::Raised => "limit_raised",
            Self::Lowered => "limit_lowered",
            Self::Mixed => "limit_changed",
            Self::LimitAdded => "limit_added",
            Self::LimitRemoved => "limit_removed",
            Self::Order => "order",
            Self::Algorithm => "algorithm",
            Self::Unlimited => "unlimited",
            Self::Hits => "hits",
            Self::Shadow => "shadow_mode",
            Self::Quota => "quota_mode",
            Self::Share => "share_threshold",
            Self::StoreFailure => "on_store_failure",
            Self::Name => "name",
            Self::Metrics => "metrics",
            Self::Candidate => "candidate",
            Self::Metadata => "metadata",
            Self::Matching => "matching",
        }
    }
}

impl Buckets {
    /// The name in JSON output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Clamped => "clamped",
            Self::Reset => "anew",
            Self::Left => "left",
        }
    }
}

impl fmt::Display for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "buckets keep what was taken",
            Self::Clamped => "buckets keep what was taken, as far as the new limit goes",
            Self::Reset => "buckets start full",
            Self::Left => "its buckets are no longer used and expire",
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match self.buckets {
            Some(buckets) => write!(f, "; {buckets}"),
            None => Ok(()),
        }
    }
}

impl Change {
    /// Returns a change of a rule without values.
    pub(super) fn of(kind: Kind, rule: &Rule) -> Self {
        Self {
            kind,
            path: rule.path.clone(),
            at: Some(format!("{}:{}", rule.file, rule.line)),
            before: None,
            after: None,
            buckets: None,
            text: String::new(),
            moved: None,
        }
    }
}
