//! Rules: the limits and settings of descriptors that end at a node of the tree.

use std::sync::Arc;

use super::limit::Limit;
use ratekeeper_core::charge::OnStoreFailure;

/// The limits and settings at a node of the tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The index in [`RuleSet::rules`](super::RuleSet::rules).
    pub id: usize,
    /// The [`id`](super::Domain::id) of the domain.
    pub domain: usize,
    /// The domain and the entries, such as `shop.path_/cart.user`. Patterns and missing values are as configured.
    pub path: String,
    /// The limits of descriptors that end here.
    pub limits: Limits,
    /// Candidate limits: decided for the same requests and recorded, but without effect on responses.
    pub candidates: Vec<Limit>,
    /// Whether the limits are only counted and reported, and never deny.
    pub shadow_mode: bool,
    /// Whether the rule denies only if all quota rules of a request do.
    pub quota_mode: bool,
    /// Whether metrics show the values of all entries.
    pub detailed_metric: bool,
    /// Dynamic metadata of the response.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// The failure policy of the rule; `None` for the server's.
    pub on_store_failure: Option<OnStoreFailure>,
    /// The name of the file that contains the rule.
    pub file: Arc<str>,
    /// The line in that file, from 1. If the configuration has no lines, the number of the descriptor.
    pub line: usize,
}

/// The limits of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limits {
    /// No limit: all requests are allowed, and none is counted.
    Unlimited {
        /// The name of the rule; empty if it has none.
        name: String,
        /// Names of limits that do not apply to a request that this rule matches.
        replaces: Vec<String>,
    },
    /// Limits, all of which must admit a request. Never empty.
    Limited(Vec<Limit>),
}
