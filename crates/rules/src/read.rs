//! Reads the contents of one file from its YAML nodes, and checks them as far as possible without the other files.
//!
//! Reading continues after an error, so that one run reports all of them. Parts that cannot be read are missing from the
//! result, which is used only if there was no error.

mod descriptor;
mod fields;
mod foreign;
mod limits;
mod metadata;
mod scalars;

use std::rc::Rc;

use super::LoadOptions;
use super::limit::Limit;
use super::mistake::{At, Report};
use super::rule::Limits;
use super::spelling::shown;
use super::value;
use super::vocabulary::Place;
use super::yaml::{self, Kind, Node};
use fields::{Field, Fields};
use ratekeeper_core::charge::OnStoreFailure;

/// The contents of a file.
#[derive(Debug)]
pub(super) struct File {
    /// `None` if it could not be read.
    pub(super) domain: Option<String>,
    /// The position of the domain's name.
    pub(super) at: At,
    pub(super) descriptors: Vec<Descriptor>,
}

/// A descriptor in a file.
#[derive(Debug)]
pub(super) struct Descriptor {
    pub(super) at: At,
    /// `None` if it could not be read.
    pub(super) key: Option<String>,
    pub(super) value: Option<String>,
    pub(super) limits: Option<Limits>,
    pub(super) candidates: Vec<Limit>,
    pub(super) shadow_mode: bool,
    pub(super) quota_mode: bool,
    pub(super) detailed_metric: bool,
    pub(super) value_to_metric: bool,
    pub(super) share_threshold: bool,
    pub(super) metadata: Option<serde_json::Map<String, serde_json::Value>>,
    pub(super) on_store_failure: Option<OnStoreFailure>,
    pub(super) descriptors: Vec<Descriptor>,
}

/// Reads a text; `None` if it contains no configuration.
pub(super) fn read(
    file: &str,
    text: &str,
    options: LoadOptions,
    report: &mut Report,
) -> Option<File> {
    let (document, flaws) = yaml::parse(text);
    let is_whole = document.is_some() || flaws.is_empty();
    let mut reader = Reader {
        file,
        options,
        report,
    };
    if let Some(foreign) = document
        .as_ref()
        .filter(|document| !document.is_null() && !document.is_rule_file())
    {
        reader.foreign(foreign);
        return None;
    }
    for flaw in flaws {
        match flaw.is_ignored {
            true => reader.ignored(flaw.at, flaw.what, flaw.advice),
            false => reader.mistake(flaw.at, flaw.what, flaw.advice),
        }
    }
    match document {
        Some(document) if !document.is_null() => reader.file(&document),
        _ if is_whole => {
            reader.empty_domain(At::START);
            None
        }
        _ => None,
    }
}

/// Reads a value; `None` if it contains no configuration.
pub(super) fn read_value(
    file: &str,
    value: serde_json::Value,
    options: LoadOptions,
    report: &mut Report,
) -> Option<File> {
    let (document, paths) = value::document(value);
    report.number(file, paths);
    let mut reader = Reader {
        file,
        options,
        report,
    };
    reader.file(&document)
}

/// Reads one file and collects its errors.
struct Reader<'r> {
    file: &'r str,
    options: LoadOptions,
    report: &'r mut Report,
}

impl Reader<'_> {
    fn mistake(&mut self, at: At, what: impl Into<String>, advice: impl Into<String>) {
        self.report.add(self.file, at, what, advice);
    }

    /// Reports input that is ignored, as envoyproxy/ratelimit ignores it.
    fn ignored(&mut self, at: At, what: impl Into<String>, advice: impl Into<String>) {
        match self.options.strict {
            true => self.report.add(self.file, at, what, advice),
            false => self.report.warn(self.file, at, what, advice),
        }
    }

    fn empty_domain(&mut self, at: At) {
        self.mistake(
            at,
            "config file cannot have empty domain",
            "give it the domain that Envoy's rate_limit filter names, as \"domain: NAME\"",
        );
    }

    fn file(&mut self, document: &Node) -> Option<File> {
        let mut fields = self.fields(document, Place::File)?;
        let domain = self.text(&mut fields, "domain");
        if !domain.is_wrong && domain.value.as_deref().unwrap_or_default().is_empty() {
            self.empty_domain(domain.at);
        }
        let descriptors = self.descriptors(&mut fields, 1);
        self.finish(fields);
        let name = domain.value.filter(|name| !name.is_empty());
        Some(File {
            domain: name,
            at: domain.at,
            descriptors,
        })
    }

    // --- Lists ---

    /// The elements of a list of maps; none if the key is missing or has another type.
    fn maps<'n>(&mut self, list: Field<&'n Node>, name: &str) -> &'n [Rc<Node>] {
        let Some(node) = list.value else {
            return &[];
        };
        let Kind::List(elements) = &node.kind else {
            let what = format!("{name} must be a list of maps, but is {}", described(node));
            self.mistake(list.at, what, "begin each of its entries with \"- \"");
            return &[];
        };
        elements
    }

    /// Whether an element of a list is a map; reports an error otherwise.
    fn is_map(&mut self, element: &Node) -> bool {
        let is_map = matches!(element.kind, Kind::Map(_));
        if !is_map {
            let what = format!(
                "config error, yaml file contains list of type other than map: {}",
                raw(element)
            );
            self.mistake(
                element.at,
                what,
                "write each entry of the list as \"- key: value\"",
            );
        }
        is_map
    }
}

/// Describes a node, as the end of the sentence "... must be a map, but is".
fn described(node: &Node) -> String {
    match &node.kind {
        Kind::Map(_) => "a map".to_owned(),
        Kind::List(_) => "a list".to_owned(),
        Kind::Scalar(scalar) if scalar.text.is_empty() => "empty".to_owned(),
        Kind::Scalar(scalar) if scalar.plain => format!("'{}'", shown(&scalar.text)),
        Kind::Scalar(scalar) => format!("the text '{}'", shown(&scalar.text)),
    }
}

/// The text of a node, if it is short.
fn raw(node: &Node) -> String {
    match &node.kind {
        Kind::Map(_) => "a map".to_owned(),
        Kind::List(_) => "a list".to_owned(),
        Kind::Scalar(scalar) if scalar.text.is_empty() => "null".to_owned(),
        Kind::Scalar(scalar) => shown(&scalar.text),
    }
}
