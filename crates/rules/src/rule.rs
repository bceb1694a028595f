//! A rule: what applies to the descriptors that end at a node of the tree.

use std::sync::Arc;

use super::limit::Limit;
use ratekeeper_core::charge::OnStoreFailure;

/// A node that owns limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its place in [`RuleSet::rules`](super::RuleSet::rules).
    pub id: usize,
    /// The [`id`](super::Domain::id) of its domain.
    pub domain: usize,
    /// Domain and entries, such as `shop.path_/cart.user`; patterns and missing values as configured.
    pub path: String,
    /// What applies to descriptors that end here.
    pub limits: Limits,
    /// Limits that are tried beside them: computed on the same requests, counted, and never told.
    pub candidates: Vec<Limit>,
    /// Counted and reported, but never denied.
    pub shadow_mode: bool,
    /// Denies only together with all other quota rules of a request.
    pub quota_mode: bool,
    /// Metrics show the values of all entries.
    pub detailed_metric: bool,
    /// What to send back as dynamic metadata.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// What to do while the store cannot be reached, if not what the server does.
    pub on_store_failure: Option<OnStoreFailure>,
    /// The file that it came from.
    pub file: Arc<str>,
    /// The line in that file, from 1; where there are no lines, which descriptor it is.
    pub line: usize,
}

/// The limits of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limits {
    /// Admits everything and counts nothing.
    Unlimited {
        /// The name; empty when there is none.
        name: String,
        /// Names of limits that do not apply to a request that meets this rule.
        replaces: Vec<String>,
    },
    /// All must admit; never empty.
    Limited(Vec<Limit>),
}
