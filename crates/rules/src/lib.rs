//! Rules: configuration text to an immutable tree, and a descriptor to the limits that apply to it.
//!
//! [`RuleSet::load`] takes the texts of all files and gives a set of rules or all mistakes of all
//! files, and [`RuleSet::load_values`] does so with values that never were a text; [`Domain::find`] walks a descriptor through the tree; [`RuleSet::trace`] tells how the walk
//! went and what came close. The language is that of envoyproxy/ratelimit with a few words more, which
//! [`schema()`] describes.
//!
//! This module is pure: it reads no file, no clock and no environment.
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
    /// What mistakes call it, such as its path.
    pub name: String,
    /// Its contents: YAML, and so also JSON.
    pub text: String,
}

/// Configuration that came as values and never was a text, such as from a management server.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceValue {
    /// What mistakes call it, such as `resource shop`. No two of a set have the same.
    pub name: String,
    /// What a file would say: the same keys, the same values.
    pub value: serde_json::Value,
}

/// How to read files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// The algorithm of limits that name none.
    pub default_algorithm: Algorithm,
    /// When the hits of limits that say nothing are taken.
    pub default_hits: Hits,
    /// Whether files may add to a domain of an earlier file.
    pub merge_domains: bool,
    /// Whether what envoyproxy/ratelimit ignores (a known key in the wrong place, a key given twice, a second YAML
    /// document) is a mistake; a warning otherwise.
    pub strict: bool,
}

/// All rules of all domains. It never changes; a reload makes another one.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    domains: Vec<Domain>,
    names: HashMap<String, usize>,
    rules: Vec<Arc<Rule>>,
    default_algorithm: Algorithm,
    warnings: Vec<Mistake>,
    default_hits: Hits,
}

impl RuleSet {
    /// The rules of these files.
    ///
    /// With [`merge_domains`](LoadOptions::merge_domains), the order of the files is the order of their
    /// patterns.
    ///
    /// # Errors
    /// All mistakes of all files.
    pub fn load(files: &[SourceFile], options: LoadOptions) -> Result<Self, Mistakes> {
        build::build(files, options)
    }

    /// The rules of these values, by the same rules. Mistakes name a descriptor by its path.
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
    /// All mistakes of all values.
    pub fn load_values(values: Vec<SourceValue>, options: LoadOptions) -> Result<Self, Mistakes> {
        build::build_values(values, options)
    }

    /// What is ignored in the configuration, as envoyproxy/ratelimit ignores it, in order. Empty with
    /// [`strict`](LoadOptions::strict), where all of it is a mistake.
    #[must_use]
    pub fn warnings(&self) -> &[Mistake] {
        &self.warnings
    }

    /// What is allowed and probably not meant: values that look like regular expressions, descriptors that no
    /// request reaches, limits that are there twice. In the order of files and lines.
    #[must_use]
    pub fn lints(&self) -> Vec<Mistake> {
        lint::lints(self)
    }

    /// No rules at all: nothing is limited.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The domain with this name.
    #[must_use]
    pub fn domain(&self, name: impl AsRef<[u8]>) -> Option<&Domain> {
        let name = std::str::from_utf8(name.as_ref()).ok()?;
        self.names.get(name).map(|&id| &self.domains[id])
    }

    /// All domains; the place of each is its [`id`](Domain::id).
    pub fn domains(&self) -> impl ExactSizeIterator<Item = &Domain> {
        self.domains.iter()
    }

    /// Every node that owns limits; the place of each is its [`id`](Rule::id).
    #[must_use]
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// The algorithm of limits that name none.
    #[must_use]
    pub fn default_algorithm(&self) -> Algorithm {
        self.default_algorithm
    }

    /// When hits of limits that say nothing are taken.
    #[must_use]
    pub fn default_hits(&self) -> Hits {
        self.default_hits
    }

    /// What envoyproxy/ratelimit would make otherwise of the same files.
    #[must_use]
    pub fn differences(&self) -> Vec<Difference> {
        parity::differences(self)
    }

    /// What changes when other rules take the place of these.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        diff::diff(self, new)
    }

    /// How a descriptor fares: the way it takes through the tree, and what comes close when no rule
    /// applies.
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
