//! Builds `google.protobuf.Struct` and its values.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::Value as Json;

pub(super) fn structure<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Struct {
    Struct {
        fields: fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

pub(super) fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    value(Kind::StructValue(structure(fields)))
}

pub(super) fn list(values: impl IntoIterator<Item = Value>) -> Value {
    value(Kind::ListValue(ListValue {
        values: values.into_iter().collect(),
    }))
}

pub(super) fn string(text: &str) -> Value {
    value(Kind::StringValue(text.to_owned()))
}

pub(super) fn number(number: f64) -> Value {
    value(Kind::NumberValue(number))
}

/// Converts an integer. A Struct has no other numbers than `f64`, so that the result is rounded beyond 2^53.
#[expect(
    clippy::cast_precision_loss,
    reason = "google.protobuf.Struct has no other numbers"
)]
pub(super) fn integer(integer: u64) -> Value {
    number(integer as f64)
}

pub(super) fn boolean(boolean: bool) -> Value {
    value(Kind::BoolValue(boolean))
}

pub(super) fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => value(Kind::NullValue(0)),
        Json::Bool(flag) => boolean(*flag),
        Json::Number(json) => number(json.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => string(text),
        Json::Array(values) => list(values.iter().map(from_json)),
        Json::Object(fields) => {
            let fields = fields.iter();
            object(fields.map(|(name, value)| (name.as_str(), from_json(value))))
        }
    }
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}
