//! Dynamic metadata of a response, in the format of envoyproxy/ratelimit: the request, and the metadata of the rules
//! that allowed it.

use prost_types::{Struct, Value};
use serde_json::{Map, Value as Json};

use super::convert::wire_unit;
use super::explanation::Explanation;
use super::struct_value::{boolean, from_json, integer, list, object, string, structure};
use crate::limiter::{Descriptor, Request, Verdict};
use crate::store::Cause;
use crate::text::truncated;

/// Returns `domain`, `descriptors` and `hitsAddend` of the request, and the `metadata` of the rules. `onStoreFailure`
/// is the failure policy that decided, if the store did not; `decision` is the explanation, if it is enabled. Requests
/// of more than 64 KiB are truncated, which sets `truncated`.
pub(super) fn dynamic_metadata(
    request: &Request,
    verdict: &Verdict,
    explanation: Option<&Explanation<'_>>,
) -> Struct {
    let mut fields = Echo::of(request);
    if request.hits_addend > 0 {
        fields.push(("hitsAddend", integer(request.hits_addend.into())));
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

/// Copies a request up to a maximum size: Envoy keeps dynamic metadata in memory until the request ends.
struct Echo {
    /// Number of bytes that can be added.
    room: usize,
    is_truncated: bool,
}

/// Maximum number of bytes of a request that are copied.
const MAX_ECHO: usize = 64 << 10;

/// Upper bound of the encoded size of a text in addition to its bytes.
const OVERHEAD: usize = 16;

impl Default for Echo {
    fn default() -> Self {
        Self {
            room: MAX_ECHO,
            is_truncated: false,
        }
    }
}

impl Echo {
    /// Returns the domain and the descriptors of a request, and whether they are truncated.
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
        let descriptors = list(descriptors);
        let mut fields = vec![("domain", domain), ("descriptors", descriptors)];
        if echo.is_truncated {
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
        (self.room, self.is_truncated) = (0, true);
        string(&format!("{shown}..."))
    }

    fn has_room(&mut self) -> bool {
        self.is_truncated |= self.room == 0;
        self.room > 0
    }

    fn descriptor(&mut self, descriptor: &Descriptor) -> Value {
        self.room = self.room.saturating_sub(OVERHEAD);
        let mut entries = Vec::new();
        for entry in &descriptor.entries {
            if !self.has_room() {
                break;
            }
            entries.push(self.text(&format!("{}={}", entry.key, entry.value)));
        }
        descriptor_value(descriptor, entries)
    }
}

fn descriptor_value(descriptor: &Descriptor, entries: Vec<Value>) -> Value {
    let mut fields = vec![("entries", list(entries))];
    if let Some(limit) = &descriptor.limit {
        let unit = wire_unit(limit.unit).as_str_name();
        let mut text = format!("requests_per_unit:{} unit:{unit}", limit.requests_per_unit);
        if limit.unit_multiplier > 1 {
            text += &format!(" unit_multiplier:{{value:{}}}", limit.unit_multiplier);
        }
        fields.push(("limit", string(&text)));
    }
    if let Some(hits) = descriptor.hits_addend {
        fields.push(("hitsAddend", integer(hits)));
    }
    object(fields)
}

/// Returns the metadata of all rules that allowed their descriptor. The first value of a name wins.
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
    fn the_copy_of_a_request_is_bounded() {
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
