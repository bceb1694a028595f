//! One thing that changes.

use std::fmt;

use super::super::rule::Rule;

/// Something that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What kind of thing.
    pub kind: Kind,
    /// The path of the rule, or the name of the domain.
    pub path: String,
    /// Where that is configured, as `file:line`.
    pub at: Option<String>,
    /// What was, in short.
    pub before: Option<String>,
    /// What is to be, in short.
    pub after: Option<String>,
    /// What becomes of buckets, where that is a question.
    pub buckets: Option<Buckets>,
    /// The change in a sentence.
    pub text: String,
    /// Of [`Kind::Matching`], the rules that are met before and afterwards, by their ids.
    pub(super) moved: Option<[Option<usize>; 2]>,
}

/// What changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A domain comes.
    DomainAdded,
    /// A domain goes.
    DomainRemoved,
    /// A rule comes.
    RuleAdded,
    /// A rule goes.
    RuleRemoved,
    /// A rule that goes and one that comes limit the same.
    Renamed,
    /// A limit admits more.
    Raised,
    /// A limit admits less.
    Lowered,
    /// A limit admits more in one way and less in another.
    Mixed,
    /// A rule has one limit more.
    LimitAdded,
    /// A rule has one limit less.
    LimitRemoved,
    /// Limits of a rule changed places.
    Order,
    /// A limit counts in windows, or no longer.
    Algorithm,
    /// A rule begins or ceases to be unlimited.
    Unlimited,
    /// Hits are asked for or reported, or how deep into debt.
    Hits,
    /// A rule is enforced, or only counted.
    Shadow,
    /// A rule begins or ceases to be a quota.
    Quota,
    /// Values begin or cease to share a bucket.
    Share,
    /// What a rule does while the store fails.
    StoreFailure,
    /// Which limits a rule takes the place of, or what it is called.
    Name,
    /// What metrics call a rule.
    Metrics,
    /// What is tried beside a rule's limits.
    Candidate,
    /// What a rule sends back.
    Metadata,
    /// Descriptors meet another rule.
    Matching,
}

/// What becomes of buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buckets {
    /// They keep what was taken.
    Kept,
    /// Likewise, but nobody has more taken than the new limit has.
    Clamped,
    /// Others take their place, which are full.
    Anew,
    /// Nobody asks for them any more.
    Left,
}

impl Kind {
    /// The name for programs.
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
    /// The name for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Clamped => "clamped",
            Self::Anew => "anew",
            Self::Left => "left",
        }
    }
}

impl fmt::Display for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "buckets keep what was taken",
            Self::Clamped => "buckets keep what was taken, as far as the new limit goes",
            Self::Anew => "buckets start full",
            Self::Left => "its buckets are left to be forgotten",
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
    /// A change of a rule, of which nothing more is known yet.
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
