//! Parses YAML into a tree of nodes with positions.
//!
//! The tree preserves details that usual loaders drop: whether a scalar is quoted, the order of keys, and duplicate keys.
//! Anchors, aliases and merge keys (`<<`) are resolved. The depth of recursion and the size of the tree are bounded for any
//! input.

mod compose;
mod json;
mod scalar;

use std::rc::Rc;

use saphyr_parser::{Parser, ScanError};

use super::mistake::At;
use super::spelling::nearest;
use compose::Composer;
pub use json::documents;
pub(super) use scalar::{Meaning, meaning};

/// Maximum depth of nested collections. Descriptors at their maximum depth need half of it.
const MAX_DEPTH: usize = 256;

/// A node of a file. Aliases share nodes.
#[derive(Debug)]
pub(super) struct Node {
    /// The position of the node's first character; for an alias, that of its anchor.
    pub(super) at: At,
    pub(super) kind: Kind,
    /// The approximate size of the node's text with all aliases expanded.
    weight: usize,
    /// The depth of nested collections.
    height: usize,
}

#[derive(Debug)]
pub(super) enum Kind {
    Scalar(Scalar),
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// A key of a map, and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Rc<Node>,
    pub(super) value: Rc<Node>,
}

/// A scalar as it is in the text.
#[derive(Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Whether the scalar is neither quoted nor tagged as a string, so that it may be a number, a boolean or null.
    pub(super) plain: bool,
}

impl Scalar {
    pub(super) fn meaning(&self) -> Meaning {
        if self.plain {
            meaning(&self.text)
        } else {
            Meaning::Text
        }
    }
}

impl Node {
    /// Returns a node that does not come from a text.
    pub(super) fn new(at: At, kind: Kind) -> Self {
        Self {
            at,
            kind,
            weight: 0,
            height: 0,
        }
    }

    pub(super) fn scalar(&self) -> Option<&Scalar> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(scalar),
            Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// Whether the node is probably the top of a rule file: a map with a domain or descriptors.
    pub(super) fn is_rule_file(&self) -> bool {
        let Kind::Map(entries) = &self.kind else {
            return false;
        };
        let mut keys = entries.iter().filter_map(|entry| entry.key.string());
        entries.is_empty() || keys.any(is_of_rule_file)
    }

    pub(super) fn is_null(&self) -> bool {
        self.scalar()
            .is_some_and(|scalar| scalar.meaning() == Meaning::Null)
    }

    /// The text of the node, if it is a string.
    pub(super) fn string(&self) -> Option<&str> {
        let scalar = self.scalar()?;
        (scalar.meaning() == Meaning::Text).then_some(&scalar.text)
    }
}

/// An error in the YAML syntax.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) at: At,
    pub(super) what: String,
    pub(super) advice: String,
    /// Whether envoyproxy/ratelimit ignores the error, so that it is only a warning.
    pub(super) is_ignored: bool,
}

impl Flaw {
    fn new(at: At, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            at,
            what: what.into(),
            advice: advice.into(),
            is_ignored: false,
        }
    }

    fn ignored(at: At, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            is_ignored: true,
            ..Self::new(at, what, advice)
        }
    }
}

/// Parses the first document of `text`. Returns it, if it could be read to its end, and all errors.
pub(super) fn parse(text: &str) -> (Option<Rc<Node>>, Vec<Flaw>) {
    let mut composer = Composer::of(text.len());
    let end = check_no_nul(text).and_then(|()| compose(text, &mut composer));
    let is_rule_file = composer.top_keys().any(is_of_rule_file);
    let (document, mut flaws) = composer.finish();
    match end {
        Ok(()) => (document, flaws),
        Err(flaw) => {
            // The other errors quote the text, which may be a secret if the file is not a rule file.
            if !is_rule_file {
                flaws.clear();
            }
            flaws.push(flaw);
            (None, flaws)
        }
    }
}

/// Whether a key at the top of a file is probably one of a rule file.
fn is_of_rule_file(key: &str) -> bool {
    nearest(key, ["domain", "descriptors"]).is_some()
}

fn compose(text: &str, composer: &mut Composer) -> Result<(), Flaw> {
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| syntax(&error))?;
        composer.take(event, at(&span.start))?;
    }
    Ok(())
}

fn at(marker: &saphyr_parser::Marker) -> At {
    At {
        line: marker.line().max(1),
        column: marker.col() + 1,
    }
}

fn syntax(error: &ScanError) -> Flaw {
    let info = error.info();
    // The scanner's own limit for nested brackets.
    if info.contains("recursion limit") {
        return too_deep(at(error.marker()));
    }
    let advice = if info.contains("tab") {
        "indent with spaces, not tabs"
    } else if info.contains("mapping values are not allowed") {
        "put a text that contains \": \" in quotes, and check the indentation of this line"
    } else if info.contains("quoted scalar") || info.contains("end of stream") {
        "close the quote or bracket that was opened"
    } else if info.contains("unknown anchor") {
        "define it with & before using it, or put a text that begins with * in quotes"
    } else if info.contains("simple key") {
        "write every line of a map as \"key: value\""
    } else {
        "check the indentation, quotes and brackets of this line and of the one before"
    };
    Flaw::new(
        at(error.marker()),
        format!("error loading config file: yaml: {info}"),
        advice,
    )
}

/// Rejects NUL bytes: the scanner takes them for the end of the file and would ignore the rules after them.
fn check_no_nul(text: &str) -> Result<(), Flaw> {
    let Some(byte) = text.find('\0') else {
        return Ok(());
    };
    let what = "error loading config file: yaml: the file contains a NUL byte";
    Err(Flaw::new(
        position(text, byte),
        what,
        "save it as UTF-8 text",
    ))
}

fn position(text: &str, byte: usize) -> At {
    let before = &text[..byte];
    let line = before.rsplit('\n').next().unwrap_or_default();
    At {
        line: before.matches('\n').count() + 1,
        column: line.chars().count() + 1,
    }
}

fn too_deep(at: At) -> Flaw {
    let what = format!(
        "error loading config file: yaml: collections are nested deeper than {MAX_DEPTH} levels"
    );
    Flaw::new(at, what, "close brackets, or flatten the file")
}
