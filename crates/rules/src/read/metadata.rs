//! Reads metadata: any map, as JSON.

use serde_json::{Map, Number, Value};

use super::{Fields, Reader, described};
use crate::yaml::{Entry, Kind, Meaning, Node, Scalar};

/// Maximum depth of metadata: a level is three messages in a `google.protobuf.Struct`, and protobuf decoders reject more than
/// 100.
const MAX_LEVELS: usize = 24;

impl Reader<'_> {
    pub(super) fn metadata(&mut self, fields: &mut Fields<'_>) -> Option<Map<String, Value>> {
        let field = fields.take("metadata");
        let node = field.value?;
        let Kind::Map(entries) = &node.kind else {
            let what = format!(
                "error parsing metadata: it is not a map but {}",
                described(node)
            );
            self.mistake(field.at, what, "write keys and values below it, indented");
            return None;
        };
        Some(self.json_map(entries, 1))
    }

    fn json_map(&mut self, entries: &[Entry], level: usize) -> Map<String, Value> {
        let mut map = Map::new();
        for Entry { key, value } in entries {
            // Keys such as `1`, `n` or `true` are not converted, as in envoyproxy/ratelimit.
            if let Some(scalar) = key.scalar() {
                map.insert(scalar.text.clone(), self.json(value, level + 1));
                continue;
            }
            let what = format!("error parsing metadata: a key is {}", described(key));
            self.mistake(key.at, what, "write each key as a text on one line");
        }
        map
    }

    fn json(&mut self, node: &Node, level: usize) -> Value {
        if level > MAX_LEVELS && node.scalar().is_none() {
            let what =
                format!("error parsing metadata: it is nested deeper than {MAX_LEVELS} levels");
            self.mistake(node.at, what, "flatten it");
            return Value::Null;
        }
        match &node.kind {
            Kind::Map(entries) => Value::Object(self.json_map(entries, level)),
            Kind::List(elements) => elements
                .iter()
                .map(|element| self.json(element, level + 1))
                .collect(),
            Kind::Scalar(scalar) => self.json_scalar(node, scalar),
        }
    }

    fn json_scalar(&mut self, node: &Node, scalar: &Scalar) -> Value {
        let number = match scalar.meaning() {
            Meaning::Null => return Value::Null,
            Meaning::Bool(flag) => return Value::Bool(flag),
            Meaning::Text => return Value::String(scalar.text.clone()),
            Meaning::Int(int) => Number::from_i128(int),
            Meaning::Float(float) => Number::from_f64(float),
        };
        if number.is_none() {
            let what = format!(
                "error parsing metadata: {} is not a JSON number",
                scalar.text
            );
            self.mistake(node.at, what, "put it in quotes");
        }
        number.map_or(Value::Null, Value::Number)
    }
}
