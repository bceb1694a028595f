//! Converts JSON values to the nodes that texts are parsed to, so that one reader checks both.
//!
//! Values have no lines. Their descriptors are numbered in order, and the number is used in place of the line. The paths of
//! the descriptors are returned together with the nodes.

use std::collections::HashSet;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::mistake::At;
use super::spelling::shown;
use super::tree::composite;
use super::yaml::{Entry, Kind, Node, Scalar};

/// Returns the nodes, and the paths of the top and of all descriptors by number.
///
/// The value is consumed, so that a large configuration is not in memory twice.
pub(super) fn document(value: Value) -> (Rc<Node>, Vec<String>) {
    let mut numbering = Numbering::default();
    let domain = text(&value, "domain").filter(|domain| !domain.is_empty());
    let domain = domain.map_or("?".to_owned(), shown);
    let document = numbering.descriptor(value, domain);
    (document, numbering.paths)
}

#[derive(Debug, Default)]
struct Numbering {
    paths: Vec<String>,
}

impl Numbering {
    /// Converts a descriptor, or the top of a configuration, which also is a map with descriptors.
    fn descriptor(&mut self, value: Value, path: String) -> Rc<Node> {
        let Value::Object(fields) = value else {
            let at = self.next(path);
            return node(value, at);
        };
        let at = self.next(path.clone());
        let entries = fields.into_iter().map(|(key, value)| Entry {
            value: match value {
                Value::Array(descriptors) if key == "descriptors" => {
                    self.descriptors(descriptors, &path, at)
                }
                value => node(value, at),
            },
            key: string(key, at),
        });
        let entries = entries.collect();
        Rc::new(Node::new(at, Kind::Map(entries)))
    }

    fn descriptors(&mut self, descriptors: Vec<Value>, path: &str, at: At) -> Rc<Node> {
        let mut seen = HashSet::new();
        let descriptors = descriptors.into_iter().enumerate().map(|(i, value)| {
            let key = text(&value, "key").unwrap_or_default();
            let given = text(&value, "value").filter(|value| !value.is_empty());
            let name = shown(&composite(key, given));
            // A name that is not unique is followed by the index.
            let path = if key.is_empty() || !seen.insert(name.clone()) {
                format!("{path}.{name}[{i}]")
            } else {
                format!("{path}.{name}")
            };
            self.descriptor(value, path)
        });
        let descriptors = descriptors.collect();
        Rc::new(Node::new(at, Kind::List(descriptors)))
    }

    fn next(&mut self, path: String) -> At {
        self.paths.push(path);
        At {
            line: self.paths.len(),
            column: 1,
        }
    }
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str)
}

/// Converts a value without descriptors; all of its nodes have one position.
fn node(value: Value, at: At) -> Rc<Node> {
    let kind = match value {
        Value::Null => plain(String::new()),
        Value::Bool(flag) => plain(flag.to_string()),
        Value::Number(number) => plain(number.to_string()),
        Value::String(text) => return string(text, at),
        Value::Array(values) => {
            Kind::List(values.into_iter().map(|value| node(value, at)).collect())
        }
        Value::Object(fields) => Kind::Map(entries(fields, at)),
    };
    Rc::new(Node::new(at, kind))
}

fn entries(fields: Map<String, Value>, at: At) -> Vec<Entry> {
    let entry = |(key, value): (String, Value)| Entry {
        key: string(key, at),
        value: node(value, at),
    };
    fields.into_iter().map(entry).collect()
}

fn plain(text: String) -> Kind {
    Kind::Scalar(Scalar { text, plain: true })
}

fn string(text: String, at: At) -> Rc<Node> {
    let scalar = Scalar { text, plain: false };
    Rc::new(Node::new(at, Kind::Scalar(scalar)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{LoadOptions, RuleSet, SourceFile, SourceValue};

    fn load(values: &[(&str, Value)], options: LoadOptions) -> Result<RuleSet, String> {
        let source = |(name, value): &(&str, Value)| SourceValue {
            name: (*name).to_owned(),
            value: value.clone(),
        };
        let values: Vec<_> = values.iter().map(source).collect();
        RuleSet::load_values(values, options).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn values_mean_what_the_same_text_means() {
        let value = json!({
            "domain": "true",
            "descriptors": [
                {"key": "010", "value": "yes", "shadow_mode": true, "on_store_failure": "deny",
                 "metadata": {"a": [1, 2.5, "3", null, true, {"b": {}}]},
                 "rate_limit": {"unit": "HOUR", "requests_per_unit": 4_294_967_295_u32, "burst": 7,
                                "name": "null", "replaces": [{"name": "1.5"}]}},
                {"key": "*", "value": "", "share_threshold": true,
                 "rate_limit": {"unlimited": true}, "descriptors": [
                    {"key": "k", "value": "~", "rate_limit": [
                        {"unit": "second", "requests_per_unit": 0, "algorithm": "fixed_window"},
                        {"unit": "day", "unit_multiplier": 2, "requests_per_unit": 5, "max_debt": 0},
                    ]},
                ]},
            ],
        });
        let text = SourceFile {
            name: "one".to_owned(),
            text: value.to_string(),
        };
        let from_text = RuleSet::load(&[text], LoadOptions::default()).unwrap();
        let from_values = load(&[("one", value)], LoadOptions::default()).unwrap();
        let summary = |rules: &RuleSet| {
            let rules = rules.rules().iter().map(|rule| {
                let mut rule = (**rule).clone();
                rule.line = 0;
                rule
            });
            rules.collect::<Vec<_>>()
        };
        assert_eq!(summary(&from_text), summary(&from_values));
        assert_eq!(from_values.rules()[2].path, "true.*.k_~");
    }

    #[test]
    fn all_mistakes_are_reported_by_their_paths_and_in_order() {
        let limit = json!({"unit": "second", "requests_per_unit": 1});
        let one = json!({
            "domain": "shop",
            "descriptors": [
                {"key": "a", "rate_limit": limit},
                {"key": "b", "value": "1", "rate_limit": {"requests_per_unit": 1}, "descriptors": [
                    {"key": "", "rate_limit": limit},
                    {"key": "c\n", "share_threshold": true},
                ]},
                {"key": "a", "rate_limit": {"unit": "day", "unlimited": true}},
            ],
        });
        let two = json!({"domain": "shop", "descriptors": [{"key": "a"}]});
        let three = json!({"descriptors": [{"key": "a", "metadata": "text"}]});
        let values = [
            ("resource 1", one),
            ("resource 2", two),
            ("resource 3", three),
        ];
        let mistakes = load(&values, LoadOptions::default()).unwrap_err();
        let expected = [
            "resource 1: shop.b_1: invalid rate limit unit ''; use one of second",
            "resource 1: shop.b_1.[0]: descriptor has empty key; ",
            "resource 1: shop.b_1.c\\n: share_threshold can only be used with wildcard",
            "resource 1: shop.a[2]: duplicate descriptor composite key 'shop.a'; it is defined \
             first at resource 1: shop.a; ",
            "resource 1: shop.a[2]: should not specify rate limit unit when unlimited; ",
            "resource 2: shop: duplicate domain 'shop' in config file; it is also the domain of \
             resource 1: shop; ",
            "resource 3: ?: config file cannot have empty domain; ",
            "resource 3: ?.a: error parsing metadata: ",
        ];
        let lines: Vec<_> = mistakes.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{mistakes}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(expected), "{line}\n{expected}");
        }

        let merged = LoadOptions {
            merge_domains: true,
            ..LoadOptions::default()
        };
        let mistakes = load(&values[..2], merged).unwrap_err();
        let expected = "resource 2: shop.a: duplicate descriptor composite key 'shop.a'; it is \
                        defined first at resource 1: shop.a; ";
        assert!(mistakes.contains(expected), "{mistakes}");
    }
}
