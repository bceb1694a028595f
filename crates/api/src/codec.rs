//! The codec of the service: that of prost, except that it rejects messages whose decoded size far exceeds their
//! encoded size.
//!
//! An empty descriptor has two bytes on the wire and about 70 in memory. Within the maximum size of a message, one
//! request could take hundreds of megabytes.

use std::marker::PhantomData;

use prost::bytes::Buf as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use crate::pb::{RateLimitRequest, RateLimitResponse};

/// Maximum number of descriptors of a request, also if `MAX_DESCRIPTORS` is larger.
pub const MAX_DESCRIPTORS_DECODED: usize = 65_536;

/// Maximum number of entries of all descriptors of a request together.
pub const MAX_ENTRIES_DECODED: usize = 262_144;

/// Messages up to this size are decoded without a check.
const SMALL: usize = 64 << 10;

/// Initial size of the buffer of a message, and the number of encoded bytes after which a stream yields (the default of tonic).
const BUFFER: usize = 512;
const YIELD_THRESHOLD: usize = 32 << 10;

/// Encodes with prost, and decodes [`Bounded`] messages with prost.
#[derive(Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Bounded + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(buffer_settings())
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// Buffers of a size that nearly all requests and responses fit into, instead of 8 KiB for each.
fn buffer_settings() -> BufferSettings {
    BufferSettings::new(BUFFER, YIELD_THRESHOLD)
}

/// Decodes [`Bounded`] messages.
#[derive(Debug)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Message + Default + Bounded> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // Reading a field from `Bytes` is cheaper than from a `DecodeBuf`.
        let bytes = from.copy_to_bytes(from.remaining());
        if bytes.len() > SMALL {
            U::check(&bytes)?;
        }
        let message = U::decode(bytes).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some(message))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffer_settings()
    }
}

/// A message whose decoded size is bounded.
pub trait Bounded {
    /// Rejects an encoded message that would take too much memory.
    fn check(bytes: &[u8]) -> Result<(), Status>;
}

impl Bounded for RateLimitRequest {
    fn check(bytes: &[u8]) -> Result<(), Status> {
        let (mut descriptors, mut entries) = (0, 0);
        // The decoder rejects malformed messages. What precedes the error is counted, too, because it is decoded first.
        let _ = for_each(bytes, 2, |descriptor| {
            descriptors += 1;
            let _ = for_each(descriptor, 1, |_| entries += 1);
        });
        if descriptors <= MAX_DESCRIPTORS_DECODED && entries <= MAX_ENTRIES_DECODED {
            return Ok(());
        }
        Err(Status::out_of_range(format!(
            "the request has {descriptors} descriptors with {entries} entries; the maximum is {MAX_DESCRIPTORS_DECODED} with {MAX_ENTRIES_DECODED}"
        )))
    }
}

impl Bounded for RateLimitResponse {
    fn check(_: &[u8]) -> Result<(), Status> {
        Ok(())
    }
}

/// Calls `each` with every message of the field with this tag.
fn for_each<'b>(
    mut bytes: &'b [u8],
    tag: u32,
    mut each: impl FnMut(&'b [u8]),
) -> Result<(), DecodeError> {
    while !bytes.is_empty() {
        let (found, wire_type) = decode_key(&mut bytes)?;
        if found != tag || wire_type != WireType::LengthDelimited {
            skip_field(wire_type, found, &mut bytes, DecodeContext::default())?;
            continue;
        }
        let length = usize::try_from(decode_varint(&mut bytes)?).unwrap_or(usize::MAX);
        let Some((message, rest)) = bytes.split_at_checked(length) else {
            return Ok(());
        };
        each(message);
        bytes = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::RateLimitDescriptor;
    use crate::pb::rate_limit_descriptor::Entry;

    /// Encodes a request with empty descriptors that have empty entries.
    fn encoded(descriptors: usize, entries: usize) -> Vec<u8> {
        let descriptor = RateLimitDescriptor {
            entries: vec![Entry::default(); entries],
            ..RateLimitDescriptor::default()
        };
        let request = RateLimitRequest {
            descriptors: vec![descriptor; descriptors],
            ..RateLimitRequest::default()
        };
        request.encode_to_vec()
    }

    #[test]
    fn messages_that_take_many_times_their_size_are_rejected() {
        for (descriptors, entries, passes) in [
            (MAX_DESCRIPTORS_DECODED, 0, true),
            (MAX_DESCRIPTORS_DECODED + 1, 0, false),
            (1, MAX_ENTRIES_DECODED, true),
            (1, MAX_ENTRIES_DECODED + 1, false),
            (1_024, 256, true),
            (1_025, 256, false),
        ] {
            let bytes = encoded(descriptors, entries);
            let checked = RateLimitRequest::check(&bytes);
            assert_eq!(
                checked.is_ok(),
                passes,
                "{descriptors} with {entries}: {checked:?}"
            );
            // Unknown fields, including groups, do not bypass the check.
            let hidden = [&[0xfb, 0x07, 0xfc, 0x07][..], &bytes].concat();
            assert_eq!(RateLimitRequest::check(&hidden).is_ok(), passes);
            let broken = [&bytes[..], &[0xff]].concat();
            assert_eq!(RateLimitRequest::check(&broken).is_ok(), passes);
        }
    }
}
