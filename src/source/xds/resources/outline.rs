//! The number of messages in a resource, counted before it is decoded.
//!
//! An empty message takes two bytes on the wire and some hundreds in memory. A message with content, such as a descriptor with
//! a key of one letter, takes four or more. A resource of mostly empty messages is rejected before it fills the memory.

use bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};

/// Number of messages that are always allowed.
const ALLOWED: usize = 10_000;

/// Minimum average size in bytes of further messages.
const BYTES_EACH: usize = 4;

/// Depth at which counting ends. Decoding fails at that depth with an error of its own.
const MAX_DEPTH: usize = 100;

/// A message type that has fields with messages.
#[derive(Debug, Clone, Copy)]
enum Message {
    Config,
    Descriptor,
    Policy,
    /// A message without such fields.
    Leaf,
    Struct,
    /// An entry of the map in a `Struct`.
    Entry,
    Value,
    List,
}

impl Message {
    /// Returns the message type of a field, if it has one.
    fn field(self, number: u32) -> Option<Self> {
        match (self, number) {
            (Self::Config, 3) | (Self::Descriptor, 4) => Some(Self::Descriptor),
            (Self::Descriptor, 3 | 1004 | 1005) => Some(Self::Policy),
            (Self::Descriptor, 8) | (Self::Value, 5) => Some(Self::Struct),
            (Self::Policy, 5) => Some(Self::Leaf),
            (Self::Struct, 1) => Some(Self::Entry),
            (Self::Entry, 2) | (Self::List, 1) => Some(Self::Value),
            (Self::Value, 6) => Some(Self::List),
            _ => None,
        }
    }
}

/// Returns the number of messages in a `RateLimitConfig` if it exceeds what its size allows.
pub(super) fn excess(config: &[u8]) -> Option<usize> {
    let allowed = ALLOWED + config.len() / BYTES_EACH;
    let mut count = 0;
    // Invalid bytes cannot be decoded either, which is reported by the decoder.
    let _ = walk(config, Message::Config, 0, &mut count);
    (count > allowed).then_some(count)
}

/// Counts the messages in a message. Returns `None` if the bytes are invalid.
fn walk(mut bytes: &[u8], message: Message, depth: usize, count: &mut usize) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    while bytes.has_remaining() {
        let (number, wire_type) = decode_key(&mut bytes).ok()?;
        let length = match wire_type {
            WireType::Varint => {
                decode_varint(&mut bytes).ok()?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut bytes).ok()?).ok()?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let (field, rest) = bytes.split_at_checked(length)?;
        if let (WireType::LengthDelimited, Some(below)) = (wire_type, message.field(number)) {
            *count += 1;
            walk(field, below, depth + 1, count)?;
        }
        bytes = rest;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::source::xds::pb::{RateLimitConfig, RateLimitDescriptor, RateLimitPolicy};

    fn config(descriptors: Vec<RateLimitDescriptor>) -> Vec<u8> {
        let config = RateLimitConfig {
            descriptors,
            ..RateLimitConfig::default()
        };
        config.encode_to_vec()
    }

    #[test]
    fn messages_with_content_are_allowed() {
        let descriptor = |i: usize| RateLimitDescriptor {
            key: format!("k{i}"),
            rate_limit: Some(RateLimitPolicy {
                unit: 1,
                requests_per_unit: 1_000,
                ..RateLimitPolicy::default()
            }),
            ..RateLimitDescriptor::default()
        };
        let nested = |i: usize| RateLimitDescriptor {
            key: format!("k{i}"),
            descriptors: vec![descriptor(0); 10],
            ..RateLimitDescriptor::default()
        };
        assert_eq!(excess(&config((0..50_000).map(descriptor).collect())), None);
        assert_eq!(excess(&config((0..5_000).map(nested).collect())), None);
        assert_eq!(
            excess(&config(vec![RateLimitDescriptor::default(); 10_000])),
            None
        );
    }

    #[test]
    fn empty_messages_of_every_kind_are_rejected() {
        let empty = RateLimitDescriptor::default;
        let of = |descriptor: RateLimitDescriptor| excess(&config(vec![descriptor]));
        assert_eq!(excess(&config(vec![empty(); 50_000])), Some(50_000));
        let below = RateLimitDescriptor {
            descriptors: vec![empty(); 50_000],
            ..empty()
        };
        assert_eq!(of(below), Some(50_001));
        let limits = vec![RateLimitPolicy::default(); 50_000];
        for descriptor in [
            RateLimitDescriptor {
                more_rate_limits: limits.clone(),
                ..empty()
            },
            RateLimitDescriptor {
                candidates: limits,
                ..empty()
            },
        ] {
            assert_eq!(of(descriptor), Some(50_001));
        }
        let list = prost_types::Value {
            kind: Some(prost_types::value::Kind::ListValue(
                prost_types::ListValue {
                    values: vec![prost_types::Value::default(); 50_000],
                },
            )),
        };
        let metadata = RateLimitDescriptor {
            metadata: Some(prost_types::Struct {
                fields: [("a".to_owned(), list)].into(),
            }),
            ..empty()
        };
        // The descriptor, the struct, its entry, the list's value and the list.
        assert_eq!(of(metadata), Some(50_005));
    }

    #[test]
    fn invalid_bytes_are_left_to_the_decoder() {
        for bytes in [&[0x1a, 0xff][..], &[0xff; 20], &[0x1b], &[0x1a, 0x7f, 0x00]] {
            assert_eq!(excess(bytes), None, "{bytes:?}");
        }
    }
}
