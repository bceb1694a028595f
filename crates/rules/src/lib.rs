//! Rules: parses a configuration into an immutable tree, and finds the limits that apply to a descriptor.
//!
//! - [`RuleSet::load`] parses the texts of all files and returns the rules, or the errors in all files.
//!   [`RuleSet::load_values`] does the same for JSON values.
//! - [`Domain::find`] walks a descriptor through the tree.
//! - [`RuleSet::trace`] explains that walk and lists near misses.
//!
//! The language is that of envoyproxy/ratelimit with some additions; [`schema()`] describes it.
//!
//! This crate reads no file, no clock and no environment.
//!
//! ```
//! use ratekeeper_rules::{LoadOptions, RuleSet, SourceFile};
//!
//! let text = "
//! domain: shop
//! descriptors:
//!   - key: path
//!     value: /cart
//!     rate_limit: { unit: second, requests_per_unit: 10, burst: 50 }
//! ";
//! let file = SourceFile { name: "shop.yaml".into(), text: text.into() };
//! let rules = RuleSet::load(&[file], LoadOptions::default())?;
//! let shop = rules.domain("shop").expect("it was loaded");
//! let found = shop.find([("path", "/cart")]).expect("there is a rule for it");
//! assert_eq!(found.rule.path, "shop.path_/cart");
//! assert!(shop.find([("path", "/")]).is_none());
//! # Ok::<(), ratekeeper_rules::Mistakes>(())
//! ```

pub mod limit;
mod mistake;
mod parity;

mod build;
mod diff;
mod lint;
mod pattern;
mod read;
mod rule;
mod schema;
mod spelling;
mod trace;
mod tree;
mod value;
mod vocabulary;
pub mod yaml;

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

pub use diff::{Buckets, Change, Kind};
pub use limit::{Algorithm, Hits, Limit, Unit};
pub use mistake::{MAX_LISTED, Mistake, Mistakes, Position, and_more};
pub use parity::Difference;
pub use rule::{Limits, Rule};
pub use schema::schema;
pub use trace::{Candidate, End, Step, Trace};
pub use tree::{Domain, How, Match, Node, Nodes, composite};

/// A configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The name in error messages, such as the path.
    pub name: String,
    /// The contents, in YAML or JSON.
    pub text: String,
}

/// A configuration that is a value rather than a text, such as one from a management server.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceValue {
    /// The name in error messages, such as `resource shop`. It is unique within a set.
    pub name: String,
    /// The same keys and values that a file would contain.
    pub value: serde_json::Value,
}

/// Options for loading a configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// The algorithm of limits without `algorithm`.
    pub default_algorithm: Algorithm,
    /// The default of `hits`.
    pub default_hits: Hits,
    /// Whether a file may add rules to a domain of an earlier file.
    pub merge_domains: bool,
    /// Whether input that envoyproxy/ratelimit ignores (a known key in the wrong place, a duplicate key, a second YAML
    /// document) is an error. It is a warning otherwise.
    pub strict: bool,
}

/// All rules of all domains. It is immutable; a reload creates another one.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    domains: Vec<Domain>,
    names: HashMap<Box<[u8]>, usize, RandomState>,
    rules: Vec<Arc<Rule>>,
    default_algorithm: Algorithm,
    warnings: Vec<Mistake>,
    default_hits: Hits,
}

impl RuleSet {
    /// Loads the rules in files.
    ///
    /// With [`merge_domains`](LoadOptions::merge_domains), the order of the files is the order of their patterns.
    ///
    /// # Errors
    /// All errors in all files.
    pub fn load(files: &[SourceFile], options: LoadOptions) -> Result<Self, Mistakes> {
        build::build(files, options)
    }

    /// Loads the rules in values. Error messages name a descriptor by its path.
    ///
    /// # Examples
    /// ```
    /// use ratekeeper_rules::{LoadOptions, RuleSet, SourceValue};
    /// use serde_json::json;
    ///
    /// let limit = json!({"unit": "eon", "requests_per_unit": 10});
    /// let value = json!({
    ///     "domain": "shop",
    ///     "descriptors": [{"key": "path", "value": "/cart", "rate_limit": limit}],
    /// });
    /// let value = SourceValue { name: "resource eg".into(), value };
    /// let mistakes = RuleSet::load_values(vec![value], LoadOptions::default()).unwrap_err();
    /// assert!(mistakes.to_string().starts_with(
    ///     "resource eg: shop.path_/cart: invalid rate limit unit 'eon'"
    /// ));
    /// ```
    ///
    /// # Errors
    /// All errors in all values.
    pub fn load_values(values: Vec<SourceValue>, options: LoadOptions) -> Result<Self, Mistakes> {
        build::build_values(values, options)
    }

    /// Input that is ignored, as envoyproxy/ratelimit ignores it, in order. Empty with [`strict`](LoadOptions::strict), which
    /// makes such input an error.
    #[must_use]
    pub fn warnings(&self) -> &[Mistake] {
        &self.warnings
    }

    /// Valid input that is probably unintended: values that look like regular expressions, descriptors that no request
    /// reaches, duplicate limits. In the order of files and lines.
    #[must_use]
    pub fn lints(&self) -> Vec<Mistake> {
        lint::lints(self)
    }

    /// Returns a set without rules, which limits nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The domain with this name.
    #[must_use]
    pub fn domain(&self, name: impl AsRef<[u8]>) -> Option<&Domain> {
        self.names.get(name.as_ref()).map(|&id| &self.domains[id])
    }

    /// All domains. The index of each is its [`id`](Domain::id).
    pub fn domains(&self) -> impl ExactSizeIterator<Item = &Domain> {
        self.domains.iter()
    }

    /// All rules. The index of each is its [`id`](Rule::id).
    #[must_use]
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// The algorithm of limits without `algorithm`.
    #[must_use]
    pub fn default_algorithm(&self) -> Algorithm {
        self.default_algorithm
    }

    /// The default of `hits`.
    #[must_use]
    pub fn default_hits(&self) -> Hits {
        self.default_hits
    }

    /// Differences in behavior if envoyproxy/ratelimit read the same files.
    #[must_use]
    pub fn differences(&self) -> Vec<Difference> {
        parity::differences(self)
    }

    /// Changes in behavior if `new` replaces these rules.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        diff::diff(self, new)
    }

    /// Explains how a descriptor is matched: its path through the tree, and near misses if no rule applies.
    #[must_use]
    pub fn trace<T: AsRef<[u8]> + ?Sized>(&self, domain: &str, entries: &[(&T, &T)]) -> Trace {
        let entries: Vec<_> = entries
            .iter()
            .map(|(key, value)| ((*key).as_ref(), (*value).as_ref()))
            .collect();
        trace::trace(self, domain, &entries)
    }
}

#[cfg(test)]
mod tests;
