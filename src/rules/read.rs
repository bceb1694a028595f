//! A tree of YAML nodes to what a file says, checked as far as one file can be on its own.
//!
//! Reading goes on after a mistake, so that one run reports them all; what could not be read is
//! left out of the result, which is used only when there was no mistake at all.

mod descriptor;
mod limits;
mod metadata;
mod scalars;

use std::rc::Rc;

use super::LoadOptions;
use super::mistake::{At, Report};
use super::rule::{Limits, OnStoreFailure};
use super::spelling::{nearest, shown};
use super::vocabulary::{self, Place};
use super::yaml::{self, Entry, Kind, Node};

/// What a file says.
#[derive(Debug)]
pub(super) struct File {
    /// `None` when it could not be read.
    pub(super) domain: Option<String>,
    /// Where the domain is named.
    pub(super) at: At,
    pub(super) descriptors: Vec<Descriptor>,
}

/// What a file says of one node of the tree.
#[derive(Debug)]
pub(super) struct Descriptor {
    pub(super) at: At,
    /// `None` when it could not be read.
    pub(super) key: Option<String>,
    pub(super) value: Option<String>,
    pub(super) limits: Option<Limits>,
    pub(super) shadow_mode: bool,
    pub(super) quota_mode: bool,
    pub(super) detailed_metric: bool,
    pub(super) value_to_metric: bool,
    pub(super) share_threshold: bool,
    pub(super) metadata: Option<serde_json::Map<String, serde_json::Value>>,
    pub(super) on_store_failure: Option<OnStoreFailure>,
    pub(super) descriptors: Vec<Descriptor>,
}

/// Reads a file; `None` when there is nothing to go on with.
pub(super) fn read(
    file: &str,
    text: &str,
    options: LoadOptions,
    report: &mut Report,
) -> Option<File> {
    let (document, flaws) = yaml::parse(text);
    let is_whole = document.is_some() || flaws.is_empty();
    for flaw in flaws {
        report.add(file, flaw.at, flaw.what, flaw.advice);
    }
    let mut reader = Reader {
        file,
        options,
        report,
    };
    match document {
        Some(document) if !document.is_null() => reader.file(&document),
        _ if is_whole => {
            reader.empty_domain(At::START);
            None
        }
        _ => None,
    }
}

/// Reads one file, noting its mistakes.
struct Reader<'r> {
    file: &'r str,
    options: LoadOptions,
    report: &'r mut Report,
}

/// What a map says of one key.
#[derive(Debug, Clone, Copy)]
struct Field<T> {
    /// The value's place; of a missing value, the key's; of a missing key, the map's.
    at: At,
    /// `None` when there is none, or when it is wrong.
    value: Option<T>,
    /// It is there, but wrong, which has been reported.
    is_wrong: bool,
}

impl<T> Field<T> {
    fn is_given(&self) -> bool {
        self.value.is_some() || self.is_wrong
    }
}

/// The keys of a map that have not been read yet.
struct Fields<'n> {
    place: Place,
    at: At,
    unread: Vec<(&'n str, &'n Entry)>,
}

impl<'n> Fields<'n> {
    /// Where the value of a key begins; of a missing key, where the map does.
    fn value_at(&self, name: &str) -> At {
        let found = self.unread.iter().find(|&&(key, _)| key == name);
        found.map_or(self.at, |(_, entry)| entry.value.at)
    }

    /// The value of a key, with the key's place; `None` for a null.
    fn take(&mut self, name: &'static str) -> Field<&'n Node> {
        debug_assert!(
            self.place.keys().any(|key| key.name == name),
            "{name} is in no schema"
        );
        let found = self.unread.iter().position(|&(key, _)| key == name);
        let Some((_, entry)) = found.map(|i| self.unread.swap_remove(i)) else {
            return Field {
                at: self.at,
                value: None,
                is_wrong: false,
            };
        };
        if entry.value.is_null() {
            return Field {
                at: entry.key.at,
                value: None,
                is_wrong: false,
            };
        }
        Field {
            at: entry.value.at,
            value: Some(&*entry.value),
            is_wrong: false,
        }
    }
}

impl Reader<'_> {
    fn mistake(&mut self, at: At, what: impl Into<String>, advice: impl Into<String>) {
        self.report.add(self.file, at, what, advice);
    }

    fn empty_domain(&mut self, at: At) {
        self.mistake(
            at,
            "config file cannot have empty domain",
            "begin the file with \"domain: \" and the domain that Envoy's rate_limit filter names",
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

    // --- Maps and lists ---

    /// The keys of a map, all of which must be texts.
    fn fields<'n>(&mut self, node: &'n Node, place: Place) -> Option<Fields<'n>> {
        let Kind::Map(entries) = &node.kind else {
            let what = format!("{} must be a map, but is {}", place.name(), described(node));
            let keys: Vec<_> = place.keys().map(|key| key.name).take(3).collect();
            self.mistake(
                node.at,
                what,
                format!("write keys such as {}", keys.join(", ")),
            );
            return None;
        };
        let unread = entries
            .iter()
            .filter_map(|entry| Some((self.map_key(entry)?, entry)));
        Some(Fields {
            place,
            at: node.at,
            unread: unread.collect(),
        })
    }

    fn map_key<'n>(&mut self, entry: &'n Entry) -> Option<&'n str> {
        let key = entry.key.string();
        if key.is_none() {
            let what = format!(
                "config error, key is not of type string: {}",
                raw(&entry.key)
            );
            self.mistake(
                entry.key.at,
                what,
                "remove it, or use one of the known keys",
            );
        }
        key
    }

    /// Reports the keys that nobody asked for.
    fn finish(&mut self, fields: Fields<'_>) {
        for (key, entry) in fields.unread {
            debug_assert!(
                fields.place.keys().all(|known| known.name != key),
                "{key} is not read"
            );
            self.unknown_key(key, entry.key.at, fields.place);
        }
    }

    fn unknown_key(&mut self, key: &str, at: At, place: Place) {
        if let Some(home) = vocabulary::home_of(key, place) {
            let what = format!("{key} belongs {}, not in {}", home.home(), place.name());
            self.mistake(at, what, "move it there");
            return;
        }
        let what = format!(
            "config error, unknown key '{}' in {}",
            shown(key),
            place.name()
        );
        if let Some(meant) = nearest(key, place.keys().map(|key| key.name)) {
            self.mistake(at, what, format!("did you mean '{meant}'?"));
        } else if let Some(meant) = nearest(key, vocabulary::KEYS.iter().map(|key| key.name)) {
            let home = vocabulary::home_of(meant, place).map_or("", Place::home);
            self.mistake(
                at,
                what,
                format!("did you mean '{meant}', which belongs {home}?"),
            );
        } else {
            let known: Vec<_> = place.keys().map(|key| key.name).collect();
            self.mistake(
                at,
                what,
                format!("the keys known here are {}", known.join(", ")),
            );
        }
    }

    /// The elements of a list of maps; none when the key is missing or wrong.
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

    /// Whether an element of a list is a map, as all must be.
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

/// What a node is, for "... but is <this>".
fn described(node: &Node) -> String {
    match &node.kind {
        Kind::Map(_) => "a map".to_owned(),
        Kind::List(_) => "a list".to_owned(),
        Kind::Scalar(scalar) if scalar.text.is_empty() => "empty".to_owned(),
        Kind::Scalar(scalar) if scalar.plain => format!("'{}'", shown(&scalar.text)),
        Kind::Scalar(scalar) => format!("the text '{}'", shown(&scalar.text)),
    }
}

/// A node as it was written, if that is short.
fn raw(node: &Node) -> String {
    match &node.kind {
        Kind::Map(_) => "a map".to_owned(),
        Kind::List(_) => "a list".to_owned(),
        Kind::Scalar(scalar) if scalar.text.is_empty() => "null".to_owned(),
        Kind::Scalar(scalar) => shown(&scalar.text),
    }
}
