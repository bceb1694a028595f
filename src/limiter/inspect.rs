//! Looks at single buckets, and changes them, for people: over any store, by what it can do anyway.
//!
//! To look is to ask without taking ([`Payment::Question`]); to reset is to give back more than a bucket can hold;
//! to set is to look and then to take, or give back, the difference in any case. So whatever the store does (share,
//! remember, fall back), it does here, too, and says so. Each bucket is asked for by itself: when one Redis of two
//! is away, the buckets of the other are none the worse.

mod bucket;

use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::explain::{Explanation, explain};
use super::plan::bucket_keys;
use super::request::{BadRequest, Descriptor, Entry, Request};
use super::verdict::decided_by;
use super::{InForce, LimiterSettings, Snapshot};
use crate::bucket::{Share, Terms};
use crate::key::{BucketKey, NotAKey};
use crate::rules::{Limit, Limits, Rule};
use crate::store::{Cause, Charge, MAX_HITS, Outcome, Part, Payment, Store, StoreError};
use crate::text::Text;

pub use bucket::Bucket;

/// Looks at buckets and changes them.
#[derive(Debug)]
pub struct Inspector<S> {
    store: S,
    rules: Arc<InForce>,
    settings: LimiterSettings,
    timeout: Duration,
    /// What buckets of this instance have of each limit while the store fails.
    share: Share,
}

/// Which buckets are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Those of a descriptor: one for each limit of its rule.
    Descriptor {
        /// The domain.
        domain: Text,
        /// What it is made of.
        entries: Vec<Entry>,
    },
    /// The one with this key.
    Key(String),
}

/// Why a bucket cannot be looked at or changed.
#[derive(Debug, Error)]
pub enum InspectError {
    /// What is asked makes no sense.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// The key tells nothing.
    #[error(transparent)]
    NotAKey(#[from] NotAKey),
    /// No configuration has been loaded yet.
    #[error("no rate limit configuration loaded; there are no buckets yet")]
    NotLoaded,
    /// No rule applies.
    #[error("no rule applies to this descriptor, so it has no bucket; /api/v1/explain tells why")]
    NoRule,
    /// The rule limits nothing.
    #[error("the rule {0} is unlimited, so it has no bucket")]
    Unlimited(String),
    /// The configuration in force has no such bucket.
    #[error("no rule of the configuration in force makes this key{0}")]
    UnknownKey(String),
    /// It is not said which one to set.
    #[error(
        "the rule {rule} has several limits with a bucket each; name one of them by \"key\": {keys}"
    )]
    Several {
        /// Its path.
        rule: String,
        /// Their keys.
        keys: String,
    },
    /// So many tokens cannot be.
    #[error("{tokens} tokens cannot be in a bucket of {limit}; set {least} to {most}")]
    OutOfRange {
        /// What was asked for.
        tokens: i64,
        /// The limit, or what this instance has of it.
        limit: String,
        /// The deepest debt.
        least: i64,
        /// A full bucket.
        most: i64,
    },
    /// There is nothing to change.
    #[error(
        "nothing was changed: the store does not answer, and what this rule does then ({0}) knows no buckets"
    )]
    NoBucket(&'static str),
    /// What was found and what was changed are not the same bucket.
    #[error(
        "the store failed, or came back, between looking and setting, and another bucket was changed than \
         was looked at; look again"
    )]
    Torn,
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A bucket to be asked for.
struct Target {
    key: BucketKey,
    rule: Arc<Rule>,
    limit: Limit,
    /// The limit as requests are charged under it.
    terms: Terms,
}

impl<S: Store> Inspector<S> {
    /// Looks into a store by these rules, as a limiter with these settings does. The store may take so long; while
    /// it fails, buckets of this instance have that share of each limit.
    #[must_use]
    pub fn new(
        store: S,
        rules: Arc<InForce>,
        settings: LimiterSettings,
        (timeout, share): (Duration, Share),
    ) -> Self {
        Self {
            store,
            rules,
            settings,
            timeout,
            share,
        }
    }

    /// Tells which rule and buckets a descriptor meets, and why not others.
    ///
    /// # Errors
    /// When there are no rules yet, or the descriptor is larger than a request may be.
    pub fn explain(&self, domain: &str, entries: &[Entry]) -> Result<Explanation, InspectError> {
        let snapshot = self.rules.snapshot().ok_or(InspectError::NotLoaded)?;
        alone(domain, entries).check(&self.settings.bounds)?;
        let explained = explain(&snapshot.rules, &self.settings.keys, domain, entries);
        let calls = explained.rule.as_ref();
        let calls = calls.map(|rule| snapshot.call_counts(rule.id));
        Ok(Explanation { calls, ..explained })
    }

    /// Looks at buckets, and changes nothing.
    ///
    /// # Errors
    /// When there are no such buckets, or the store cannot be asked.
    pub async fn peek(&self, which: &Which) -> Result<Vec<Bucket>, InspectError> {
        let mut buckets = Vec::new();
        for target in self.targets(which)? {
            buckets.push(self.ask(target, Payment::Question, 0).await?);
        }
        Ok(buckets)
    }

    /// Fills buckets.
    ///
    /// # Errors
    /// When there are no such buckets, or the store cannot be asked; then it is unknown whether some were filled.
    pub async fn reset(&self, which: &Which) -> Result<Vec<Bucket>, InspectError> {
        let mut buckets = Vec::new();
        for target in self.targets(which)? {
            let bucket = self.ask(target, Payment::Prepaid, -MAX_HITS).await?;
            buckets.push(bucket.changed()?);
        }
        Ok(buckets)
    }

    /// Brings a bucket to so many tokens: takes, or gives back, the difference to what it has. What others take in
    /// between is taken as well.
    ///
    /// # Errors
    /// When there is no such bucket, or more than one, when it cannot hold so many, or when the store cannot be asked;
    /// then it is unknown whether it was changed.
    pub async fn set(&self, which: &Which, tokens: i64) -> Result<Vec<Bucket>, InspectError> {
        let mut targets = self.targets(which)?;
        if targets.len() > 1 {
            let keys = targets
                .iter()
                .map(|target| format!("{:?}", target.key.as_str()));
            return Err(InspectError::Several {
                rule: targets[0].rule.path.clone(),
                keys: keys.collect::<Vec<_>>().join(", "),
            });
        }
        let target = targets.pop().ok_or(InspectError::NoRule)?;
        let again = Target {
            key: target.key.clone(),
            rule: Arc::clone(&target.rule),
            limit: target.limit.clone(),
            terms: target.terms,
        };
        let found = self.ask(target, Payment::Question, 0).await?.changed()?;
        found.check(tokens)?;
        let hits = found.tokens() - tokens;
        let bucket = self.ask(again, Payment::Postpaid, hits).await?;
        match bucket.decided_by == found.decided_by {
            true => Ok(vec![bucket]),
            false => Err(InspectError::Torn),
        }
    }

    async fn ask(
        &self,
        target: Target,
        payment: Payment,
        hits: i64,
    ) -> Result<Bucket, InspectError> {
        let charge = Charge {
            key: target.key.clone(),
            terms: target.terms,
            hits,
            payment,
            part: Part::Must,
            on_failure: target.rule.on_store_failure,
        };
        let deadline = Instant::now() + self.timeout;
        let decision = self.store.decide([charge].into(), deadline).await?;
        let [Outcome { state, decided, .. }] = decision.outcomes[..] else {
            unreachable!("a store gives one outcome per charge");
        };
        let terms = match decision.cause {
            Cause::Policy(_) => target.terms.shared(self.share),
            Cause::Buckets | Cause::RememberedDenial => target.terms,
        };
        Ok(Bucket {
            key: target.key,
            rule: target.rule.path.clone(),
            limit: target.limit,
            decided_by: decided_by(decision.cause),
            terms,
            state,
            at: decided,
        })
    }

    // --- Which buckets ---

    fn targets(&self, which: &Which) -> Result<Vec<Target>, InspectError> {
        let snapshot = self.rules.snapshot().ok_or(InspectError::NotLoaded)?;
        match which {
            Which::Descriptor { domain, entries } => self.of_descriptor(&snapshot, domain, entries),
            Which::Key(key) => self.of_key(&snapshot, key),
        }
    }

    fn of_descriptor(
        &self,
        snapshot: &Snapshot,
        domain: &Text,
        entries: &[Entry],
    ) -> Result<Vec<Target>, InspectError> {
        let request = alone(domain.clone(), entries);
        request.check(&self.settings.bounds)?;
        let rules = &snapshot.rules;
        let pairs = entries.iter().map(|entry| (&entry.key, &entry.value));
        let found = rules.domain(domain).and_then(|domain| domain.find(pairs));
        let rule = &rules.rules()[found.ok_or(InspectError::NoRule)?.rule.id];
        let Limits::Limited(limits) = &rule.limits else {
            return Err(InspectError::Unlimited(rule.path.clone()));
        };
        let keys = bucket_keys(rules, &self.settings.keys, domain, &request.descriptors[0]);
        let pattern = snapshot.call_counts(rule.id).pattern();
        let targets = limits.iter().zip(keys).map(|(limit, key)| Target {
            key: key.placed(limit.placement()),
            rule: Arc::clone(rule),
            limit: limit.clone(),
            terms: pattern.under(limit.hits).terms(limit),
        });
        Ok(targets.collect())
    }

    fn of_key(&self, snapshot: &Snapshot, key: &str) -> Result<Vec<Target>, InspectError> {
        let parsed = self.settings.keys.parse(key)?;
        let entries: Vec<Entry> = parsed
            .entries
            .into_iter()
            .map(|(key, value)| Entry { key, value })
            .collect();
        let targets = match self.of_descriptor(snapshot, &parsed.domain, &entries) {
            Err(InspectError::NoRule | InspectError::Unlimited(_)) => Vec::new(),
            targets => targets?,
        };
        let keys: Vec<_> = targets
            .iter()
            .map(|target| format!("{:?}", target.key.as_str()))
            .collect();
        let named = targets.into_iter().nth(parsed.index);
        match named.filter(|target| target.key.as_str() == key) {
            Some(target) => Ok(vec![target]),
            None if keys.is_empty() => Err(InspectError::UnknownKey(String::new())),
            None => Err(InspectError::UnknownKey(format!(
                "; that of the same descriptor is now {}",
                keys.join(", ")
            ))),
        }
    }
}

/// A request of one descriptor.
fn alone(domain: impl Into<Text>, entries: &[Entry]) -> Request {
    let descriptor = Descriptor {
        entries: entries.to_vec(),
        ..Descriptor::default()
    };
    Request {
        domain: domain.into(),
        descriptors: vec![descriptor],
        hits_addend: 0,
    }
}
