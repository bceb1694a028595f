//! The dynamic metadata of a response, as envoyproxy/ratelimit shapes it: what was asked, and the
//! metadata of the rules that let it pass.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::{Map, Value as Json};

use super::convert::wire_unit;
use super::explanation::Explanation;
use crate::limiter::{Descriptor, Request, Verdict};
use crate::store::Cause;
use crate::text::truncated;

/// `domain`, `descriptors`, the request's `hitsAddend` and the rules' `metadata`; and, for a request that
/// the store did not decide, `onStoreFailure`: what did; and where it is explained, `decision`. A request of more than
/// 64 KiB is not repeated in full, and `truncated` says so.
pub(super) fn dynamic_metadata(
    request: &Request,
    verdict: &Verdict,
    explanation: Option<&Explanation<'_>>,
) -> Struct {
    let mut fields = Echo::of(request);
    if request.hits_addend > 0 {
        fields.push(("hitsAddend", number(f64::from(request.hits_addend))));
    }
    if let Cause::Policy(policy) = verdict.cause {
        fields.push(("onStoreFailure", string(policy.name())));
    }
    if let Some(explanation) = explanation {
        fields.push(("decision", explanation.metadata()));
    }
    let metadata = merged(verdict);
    if !metadata.is_empty() {
        fields.push(("metadata", from_json(&Json::Object(metadata))));
    }
    structure(fields)
}

/// Repeats what a client sent, as far as there is room: Envoy keeps dynamic metadata for as long as the request lasts.
struct Echo {
    /// In bytes.
    room: usize,
    is_cut: bool,
}

/// The most bytes of a request that are repeated.
const MAX_ECHO: usize = 64 << 10;

/// More than a text takes on the wire beside its bytes.
const OVERHEAD: usize = 16;

impl Default for Echo {
    fn default() -> Self {
        Self {
            room: MAX_ECHO,
            is_cut: false,
        }
    }
}

impl Echo {
    /// The domain and the descriptors of a request, and whether something is left out.
    fn of(request: &Request) -> Vec<(&'static str, Value)> {
        let mut echo = Self::default();
        let domain = echo.text(&request.domain.readable());
        let mut descriptors = Vec::new();
        for descriptor in &request.descriptors {
            if !echo.has_room() {
                break;
            }
            descriptors.push(echo.descriptor(descriptor));
        }
        let descriptors = list(descriptors.into_iter());
        let mut fields = vec![("domain", domain), ("descriptors", descriptors)];
        if echo.is_cut {
            fields.push(("truncated", boolean(true)));
        }
        fields
    }

    fn text(&mut self, text: &str) -> Value {
        self.room = self.room.saturating_sub(OVERHEAD);
        let shown = truncated(text, self.room);
        self.room -= shown.len();
        if shown.len() == text.len() {
            return string(text);
        }
        (self.room, self.is_cut) = (0, true);
        string(&format!("{shown}..."))
    }

    fn has_room(&mut self) -> bool {
        self.is_cut |= self.room == 0;
        self.room > 0
    }

    fn descriptor(&mut self, asked: &Descriptor) -> Value {
        self.room = self.room.saturating_sub(OVERHEAD);
        let mut entries = Vec::new();
        for entry in &asked.entries {
            if !self.has_room() {
                break;
            }
            entries.push(self.text(&format!("{}={}", entry.key, entry.value)));
        }
        descriptor(asked, entries)
    }
}

fn descriptor(descriptor: &Descriptor, entries: Vec<Value>) -> Value {
    let mut fields = vec![("entries", list(entries.into_iter()))];
    if let Some(limit) = &descriptor.limit {
        let unit = wire_unit(limit.unit).as_str_name();
        let mut text = format!("requests_per_unit:{} unit:{unit}", limit.requests_per_unit);
        if limit.unit_multiplier > 1 {
            text += &format!(" unit_multiplier:{{value:{}}}", limit.unit_multiplier);
        }
        fields.push(("limit", string(&text)));
    }
    if let Some(hits) = descriptor.hits_addend {
        #[expect(
            clippy::cast_precision_loss,
            reason = "JSON and Struct have no other numbers"
        )]
        fields.push(("hitsAddend", number(hits as f64)));
    }
    value_of(structure(fields))
}

/// The metadata of all rules that let their descriptor pass; the first value of a name stays.
fn merged(verdict: &Verdict) -> Map<String, Json> {
    let mut all = Map::new();
    for metadata in verdict
        .statuses
        .iter()
        .filter_map(|status| verdict.metadata(status))
    {
        merge(&mut all, metadata);
    }
    all
}

fn merge(into: &mut Map<String, Json>, from: &Map<String, Json>) {
    for (name, value) in from {
        match (into.get_mut(name), value) {
            (None, _) => {
                into.insert(name.clone(), value.clone());
            }
            (Some(Json::Object(into)), Json::Object(from)) => merge(into, from),
            (Some(_), _) => {}
        }
    }
}

pub(super) fn value_of(structure: Struct) -> Value {
    Value {
        kind: Some(Kind::StructValue(structure)),
    }
}

pub(super) fn structure<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Struct {
    Struct {
        fields: fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

fn list(values: impl Iterator<Item = Value>) -> Value {
    Value {
        kind: Some(Kind::ListValue(ListValue {
            values: values.collect(),
        })),
    }
}

pub(super) fn string(text: &str) -> Value {
    Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    }
}

pub(super) fn number(number: f64) -> Value {
    Value {
        kind: Some(Kind::NumberValue(number)),
    }
}

fn boolean(value: bool) -> Value {
    Value {
        kind: Some(Kind::BoolValue(value)),
    }
}

fn from_json(json: &Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        Json::String(value) => Kind::StringValue(value.clone()),
        Json::Array(values) => return list(values.iter().map(from_json)),
        Json::Object(fields) => Kind::StructValue(structure(
            fields
                .iter()
                .map(|(name, value)| (name.as_str(), from_json(value))),
        )),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::limiter::Entry;

    fn request(descriptors: usize, entries: usize, value: usize) -> Request {
        let entry = Entry {
            key: "k".into(),
            value: "v".repeat(value).into(),
        };
        let descriptor = Descriptor {
            entries: vec![entry; entries],
            ..Descriptor::default()
        };
        Request {
            domain: "d".into(),
            descriptors: vec![descriptor; descriptors],
            hits_addend: 0,
        }
    }

    #[test]
    fn what_is_repeated_of_a_request_is_bounded() {
        for (descriptors, entries, value, is_whole) in [
            (1, 1, 60_000, true),
            (2, 2, 15_000, true),
            (1_000, 1, 10, true),
            (1, 1, 4 << 20, false),
            (2, 1, 60_000, false),
            (1_024, 256, 10, false),
            (1, 262_144, 0, false),
            (65_536, 0, 0, false),
        ] {
            let echoed = structure(Echo::of(&request(descriptors, entries, value)));
            let row = format!("{descriptors} x {entries} x {value}");
            assert_eq!(echoed.fields.contains_key("truncated"), !is_whole, "{row}");
            let bytes = echoed.encoded_len();
            assert!(bytes < 3 * MAX_ECHO, "{row}: {bytes} bytes");
        }
    }
}
