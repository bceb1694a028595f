//! Which rule and buckets a descriptor meets, and why not others: for people.

use std::fmt;
use std::sync::Arc;

use super::plan::{bucket_keys, candidate_keys};
use super::request::{Descriptor, Entry};
use super::usage::{CallCounts, Pattern};
use crate::key::{BucketKey, KeyFormat};
use crate::rules::{End, Hits, Limit, Limits, Rule, RuleSet, Trace};

/// How a descriptor fares.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The way through the tree.
    pub trace: Trace,
    /// The rule at its end, if there is one.
    pub rule: Option<Arc<Rule>>,
    /// Its limits, each with the bucket of the descriptor.
    pub limits: Vec<(Limit, BucketKey)>,
    /// The limits that are tried beside them, likewise.
    pub candidates: Vec<(Limit, BucketKey)>,
    /// How the rule is used on a running server.
    pub calls: Option<CallCounts>,
}

/// Explains how a descriptor would fare, if it came alone.
#[must_use]
pub fn explain(rules: &RuleSet, keys: &KeyFormat, domain: &str, entries: &[Entry]) -> Explanation {
    let pairs: Vec<_> = entries
        .iter()
        .map(|entry| (&entry.key, &entry.value))
        .collect();
    let trace = rules.trace(domain, &pairs);
    let rule = match trace.end {
        End::Rule { id, .. } => Some(Arc::clone(&rules.rules()[id])),
        _ => None,
    };
    let descriptor = Descriptor {
        entries: entries.to_vec(),
        ..Descriptor::default()
    };
    let limits = rule.as_ref().map(|rule| &rule.limits);
    let limits = match limits {
        Some(Limits::Limited(limits)) => {
            let keys = bucket_keys(rules, keys, domain, &descriptor);
            limits.iter().cloned().zip(keys).collect()
        }
        _ => Vec::new(),
    };
    let tried = rule.iter().flat_map(|rule| rule.candidates.iter().cloned());
    let candidates = tried.zip(candidate_keys(rules, keys, domain, &descriptor));
    Explanation {
        candidates: candidates.collect(),
        trace,
        rule,
        limits,
        calls: None,
    }
}

impl Explanation {
    /// When the hits of the rule are taken, where its limits leave that to its use.
    fn hits(&self) -> Option<String> {
        let says = |hits: Hits| self.limits.iter().any(|(limit, _)| limit.hits == hits);
        let calls = self.calls?;
        let is_refunded = calls.pattern() == Pattern::Refunded;
        match (says(Hits::Auto), says(Hits::Postpaid) && is_refunded) {
            (true, _) => Some(format!("hits: auto ({calls})")),
            (false, true) => Some(format!("hits: postpaid ({calls})")),
            (false, false) => None,
        }
    }
}

/// The way, then the limits of the rule, each with its bucket, and how the rule counts.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trace.fmt(f)?;
        let Some(rule) = &self.rule else {
            return Ok(());
        };
        if let Limits::Unlimited { .. } = rule.limits {
            f.write_str("unlimited: everything passes, nothing is counted\n")?;
        }
        for (limit, key) in &self.limits {
            writeln!(f, "limit {limit}\n  bucket {key}")?;
        }
        if let Some(hits) = self.hits() {
            writeln!(f, "{hits}")?;
        }
        if rule.shadow_mode {
            f.write_str("shadow mode: being over is counted, but the request passes\n")?;
        }
        if rule.quota_mode {
            f.write_str("quota mode: the request is denied only when all its quotas are over\n")?;
        }
        for (limit, key) in &self.candidates {
            writeln!(
                f,
                "candidate {limit}: only counted, denies nothing\n  bucket {key}"
            )?;
        }
        Ok(())
    }
}
