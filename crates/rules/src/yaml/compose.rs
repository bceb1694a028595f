//! Builds nodes from parser events, with an explicit stack instead of recursion.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use saphyr_parser::{Event, ScalarStyle, Tag};

use super::{Entry, Flaw, Kind, MAX_DEPTH, Node, Scalar, too_deep};
use crate::mistake::{At, MAX_MISTAKES};
use crate::spelling::shown;

/// Maximum size of the text with all aliases expanded, in bytes or as a multiple of the file's size, whichever is larger.
/// Without a bound, nested aliases double the size with each line of a file.
const MAX_ALIASED: usize = 1 << 20;
const MAX_ALIASED_TIMES: usize = 2;

/// Maximum number of errors that are kept.
const MAX_FLAWS: usize = MAX_MISTAKES;

/// Nodes under construction.
#[derive(Debug, Default)]
pub(super) struct Composer {
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    aliased: usize,
    max_aliased: usize,
    documents: usize,
    document: Option<Rc<Node>>,
    flaws: Vec<Flaw>,
}

/// A collection whose end has not been parsed.
#[derive(Debug)]
struct Open {
    at: At,
    anchor: usize,
    shape: Shape,
    /// For a map, keys and values alternate.
    items: Vec<Rc<Node>>,
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    List,
    Map,
}

impl Composer {
    /// Returns a composer for a text of this length in bytes.
    pub(super) fn of(length: usize) -> Self {
        Self {
            max_aliased: MAX_ALIASED.saturating_add(length.saturating_mul(MAX_ALIASED_TIMES)),
            ..Self::default()
        }
    }

    /// The keys of the map at the top that have been parsed so far.
    pub(super) fn top_keys(&self) -> impl Iterator<Item = &str> {
        let read = match self.document.as_deref().map(|document| &document.kind) {
            Some(Kind::Map(entries)) => entries.as_slice(),
            _ => &[],
        };
        let open = match (&self.document, self.open.first()) {
            (None, Some(open)) if matches!(open.shape, Shape::Map) => open.items.as_slice(),
            _ => &[],
        };
        let read = read.iter().map(|entry| &entry.key);
        read.chain(open.iter().step_by(2))
            .filter_map(|key| key.string())
    }

    pub(super) fn take(&mut self, event: Event<'_>, at: At) -> Result<(), Flaw> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_ref();
                let is_binary = has_core_tag(tag, "binary");
                let plain = style == ScalarStyle::Plain && !is_string(tag) && !is_binary;
                let text = match is_binary {
                    true => binary(&text, at)?,
                    false => text.into_owned(),
                };
                let weight = text.len() + 1;
                let scalar = Scalar { text, plain };
                self.add(
                    Node {
                        at,
                        kind: Kind::Scalar(scalar),
                        weight,
                        height: 0,
                    },
                    anchor,
                );
            }
            Event::SequenceStart(anchor, _) => self.open(at, anchor, Shape::List)?,
            Event::MappingStart(anchor, _) => self.open(at, anchor, Shape::Map)?,
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, at)?,
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
        Ok(())
    }

    pub(super) fn finish(self) -> (Option<Rc<Node>>, Vec<Flaw>) {
        (self.document, self.flaws)
    }

    fn open(&mut self, at: At, anchor: usize, shape: Shape) -> Result<(), Flaw> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(at));
        }
        self.open.push(Open {
            at,
            anchor,
            shape,
            items: Vec::new(),
        });
        Ok(())
    }

    fn close(&mut self) {
        let Some(Open {
            at,
            anchor,
            shape,
            items,
        }) = self.open.pop()
        else {
            return;
        };
        let weight = items
            .iter()
            .fold(1, |sum: usize, item| sum.saturating_add(item.weight));
        let height = 1 + items.iter().map(|item| item.height).max().unwrap_or(0);
        let kind = match shape {
            Shape::List => Kind::List(items),
            Shape::Map => Kind::Map(self.map(&items)),
        };
        self.add(
            Node {
                at,
                kind,
                weight,
                height,
            },
            anchor,
        );
    }

    fn alias(&mut self, anchor: usize, at: At) -> Result<(), Flaw> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            let what =
                "error loading config file: yaml: an alias is inside the node that it repeats";
            return Err(Flaw::new(at, what, "write the repeated part out"));
        };
        self.aliased = self.aliased.saturating_add(node.weight);
        if self.aliased > self.max_aliased {
            let what = "error loading config file: yaml: document contains excessive aliasing";
            return Err(Flaw::new(at, what, "write out what the aliases repeat"));
        }
        if self.open.len() + node.height > MAX_DEPTH {
            return Err(too_deep(at));
        }
        self.attach(node);
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize) {
        let node = Rc::new(node);
        // 0 means that the node has no anchor.
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.attach(node);
    }

    fn attach(&mut self, node: Rc<Node>) {
        if let Some(parent) = self.open.last_mut() {
            parent.items.push(node);
            return;
        }
        self.documents += 1;
        if self.documents == 1 {
            self.document = Some(node);
        } else if !node.is_null() {
            self.flaw(Flaw::ignored(
                node.at,
                "more than one YAML document in a file",
                "only the first is read: put every document in a file of its own",
            ));
        }
    }

    fn flaw(&mut self, flaw: Flaw) {
        if self.flaws.len() < MAX_FLAWS {
            self.flaws.push(flaw);
        }
    }

    // --- Maps ---

    fn map(&mut self, items: &[Rc<Node>]) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(items.len() / 2);
        let (mut merged, mut places) = (Vec::new(), HashMap::new());
        for pair in items.chunks_exact(2) {
            let entry = Entry {
                key: Rc::clone(&pair[0]),
                value: Rc::clone(&pair[1]),
            };
            if is_merge(&entry.key) {
                self.merge(&entry.value, &mut merged);
                continue;
            }
            let Some(scalar) = pair[0].scalar() else {
                entries.push(entry);
                continue;
            };
            let place = *places.entry(&scalar.text).or_insert(entries.len());
            let Some(first) = entries.get_mut(place) else {
                entries.push(entry);
                continue;
            };
            let line = first.key.at.line;
            let at = entry.key.at;
            // The last value is used, as in yaml.v2.
            *first = entry;
            self.flaw(Flaw::ignored(
                at,
                format!("duplicate key \"{}\" in a map", shown(&scalar.text)),
                format!("the first is on line {line} and has no effect; remove one of them"),
            ));
        }
        with_merged(entries, merged)
    }

    fn merge(&mut self, source: &Node, merged: &mut Vec<Entry>) {
        match &source.kind {
            Kind::Map(entries) => merged.extend_from_slice(entries),
            Kind::List(sources) if sources.iter().all(|s| matches!(s.kind, Kind::Map(_))) => {
                for source in sources {
                    self.merge(source, merged);
                }
            }
            Kind::List(_) | Kind::Scalar(_) => self.flaw(Flaw::new(
                source.at,
                "error loading config file: yaml: map merge requires map or sequence of maps as \
                 the value",
                "give \"<<\" an alias of a map, or a list of such aliases",
            )),
        }
    }
}

/// Merges maps: the map's own keys override merged ones, and earlier sources override later ones.
fn with_merged(mut entries: Vec<Entry>, merged: Vec<Entry>) -> Vec<Entry> {
    if merged.is_empty() {
        return entries;
    }
    let text = |entry: &Entry| entry.key.scalar().map(|scalar| scalar.text.clone());
    let mut seen: HashSet<_> = entries.iter().map(text).collect();
    entries.extend(merged.into_iter().filter(|entry| seen.insert(text(entry))));
    entries
}

fn is_merge(key: &Node) -> bool {
    key.scalar()
        .is_some_and(|scalar| scalar.plain && scalar.text == "<<")
}

/// Whether a tag is `!!str` or `!`, which make a number, a boolean or null a string.
fn is_string(tag: Option<&Cow<'_, Tag>>) -> bool {
    let is_bare = tag.is_some_and(|tag| tag.handle.is_empty() && tag.suffix == "!");
    is_bare || has_core_tag(tag, "str")
}

fn has_core_tag(tag: Option<&Cow<'_, Tag>>, suffix: &str) -> bool {
    tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == suffix)
}

/// Decodes the base64 text of a `!!binary` scalar, on any number of lines.
fn binary(text: &str, at: At) -> Result<String, Flaw> {
    let digits: String = text.split_ascii_whitespace().collect();
    let Ok(bytes) = BASE64_STANDARD.decode(digits) else {
        let what = "error loading config file: yaml: !!binary value contains invalid base64 data";
        return Err(Flaw::new(
            at,
            what,
            "encode it again, or write the text itself",
        ));
    };
    String::from_utf8(bytes).map_err(|_| {
        let what = "error loading config file: yaml: the bytes of a !!binary value are not UTF-8";
        Flaw::new(at, what, "encode a text in UTF-8")
    })
}
