//! A line of JSON, as it may be written.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use crate::limiter::{Entry, Typed};
use crate::text::Text;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) v: Option<u32>,
    #[serde(alias = "timestamp")]
    pub(super) time: Time,
    pub(super) domain: TextLine,
    #[serde(default, alias = "hitsAddend")]
    pub(super) hits_addend: u32,
    pub(super) descriptors: Vec<DescriptorLine>,
    pub(super) code: Option<CodeName>,
    pub(super) cause: Option<String>,
}

/// A descriptor, also as the commands are typed.
pub(super) enum DescriptorLine {
    Typed(Vec<Entry>),
    Full(FullDescriptor),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FullDescriptor {
    pub(super) entries: Vec<EntryLine>,
    pub(super) limit: Option<LimitLine>,
    #[serde(alias = "hitsAddend")]
    pub(super) hits_addend: Option<u64>,
    #[serde(default, alias = "isNegativeHits")]
    pub(super) is_negative_hits: bool,
    pub(super) code: Option<CodeName>,
    pub(super) sampled: Option<bool>,
    #[serde(default)]
    pub(super) asked: bool,
}

pub(super) struct EntryLine(pub(super) Entry);

/// What a client sent: a text, or `{"percent_encoded": "..."}` where it is no UTF-8.
#[derive(Deserialize, Default)]
#[serde(from = "Encoding")]
pub(super) struct TextLine(pub(super) Text);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text, or an object with percent_encoded")]
enum Encoding {
    Plain(String),
    Encoded(Encoded),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    percent_encoded: String,
}

impl From<Encoding> for TextLine {
    fn from(encoding: Encoding) -> Self {
        Self(match encoding {
            Encoding::Plain(text) => text.into(),
            Encoding::Encoded(encoded) => Text::from_percent_encoded(&encoded.percent_encoded),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyAndValue {
    pub(super) key: TextLine,
    #[serde(default)]
    pub(super) value: TextLine,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitLine {
    #[serde(alias = "requestsPerUnit")]
    pub(super) requests_per_unit: u32,
    pub(super) unit: String,
    #[serde(alias = "unitMultiplier")]
    pub(super) unit_multiplier: Option<u32>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum CodeName {
    Ok,
    OverLimit,
}

/// A time whose unit is still to be told.
pub(super) enum Time {
    Number(Number),
    Text(String),
}

// --- What can be written in several ways ---

impl<'de> Deserialize<'de> for DescriptorLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ways;
        impl<'de> Visitor<'de> for Ways {
            type Value = DescriptorLine;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a descriptor: an object with entries, or \"key=value,key=value\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<DescriptorLine, E> {
                let Typed(entries) = text.parse().map_err(E::custom)?;
                Ok(DescriptorLine::Typed(entries))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DescriptorLine, A::Error> {
                FullDescriptor::deserialize(MapAccessDeserializer::new(map))
                    .map(DescriptorLine::Full)
            }
        }
        deserializer.deserialize_any(Ways)
    }
}

impl<'de> Deserialize<'de> for EntryLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ways;
        impl<'de> Visitor<'de> for Ways {
            type Value = EntryLine;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an entry: [key, value], or an object with key and value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<EntryLine, A::Error> {
                let mut next = || seq.next_element::<TextLine>();
                match (next()?, next()?, next()?) {
                    (Some(TextLine(key)), Some(TextLine(value)), None) => {
                        Ok(EntryLine(Entry { key, value }))
                    }
                    _ => Err(de::Error::custom("an entry is a key and a value")),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EntryLine, A::Error> {
                let entry = KeyAndValue::deserialize(MapAccessDeserializer::new(map))?;
                Ok(EntryLine(Entry {
                    key: entry.key.0,
                    value: entry.value.0,
                }))
            }
        }
        deserializer.deserialize_any(Ways)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ways;
        impl Visitor<'_> for Ways {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time: a number, or a text")
            }

            fn visit_u64<E: de::Error>(self, time: u64) -> Result<Time, E> {
                Ok(Time::Number(time.into()))
            }

            fn visit_i64<E: de::Error>(self, time: i64) -> Result<Time, E> {
                Ok(Time::Number(time.into()))
            }

            fn visit_f64<E: de::Error>(self, time: f64) -> Result<Time, E> {
                let time = Number::from_f64(time).ok_or_else(|| E::custom("no time"))?;
                Ok(Time::Number(time))
            }

            fn visit_str<E: de::Error>(self, time: &str) -> Result<Time, E> {
                Ok(Time::Text(time.to_owned()))
            }
        }
        deserializer.deserialize_any(Ways)
    }
}
