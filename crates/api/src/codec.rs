//! The codec of the service: prost's, except that it does not decode what takes far more memory than it has bytes.
//!
//! An empty descriptor has two bytes on the wire and about 70 in memory. Within the size that a message can have, that
//! would be hundreds of megabytes for one request.

use std::marker::PhantomData;

use prost::bytes::Buf as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstDecoder, ProstEncoder};

use crate::pb::{RateLimitRequest, RateLimitResponse};

/// The most descriptors of a request that are decoded, whatever `MAX_DESCRIPTORS` says.
pub const MOST_DESCRIPTORS: usize = 65_536;

/// The most entries of all descriptors of a request together that are decoded.
pub const MOST_ENTRIES: usize = 262_144;

/// Messages of fewer bytes are decoded in any case.
const SMALL: usize = 64 << 10;

/// Encodes with prost, and decodes with prost what is [`Bounded`].
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
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(ProstDecoder::default())
    }
}

/// Decodes what is [`Bounded`].
#[derive(Debug)]
pub struct BoundedDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default + Bounded> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if from.remaining() > SMALL {
            U::check(from.chunk())?;
        }
        self.0.decode(from)
    }
}

/// A message whose memory is bounded.
pub trait Bounded {
    /// Refuses an encoded message that would take too much memory.
    fn check(bytes: &[u8]) -> Result<(), Status>;
}

impl Bounded for RateLimitRequest {
    fn check(bytes: &[u8]) -> Result<(), Status> {
        let (mut descriptors, mut entries) = (0, 0);
        // What cannot be read is refused by the decoder; what comes before it must be few, too.
        let _ = for_each(bytes, 2, |descriptor| {
            descriptors += 1;
            let _ = for_each(descriptor, 1, |_| entries += 1);
        });
        if descriptors <= MOST_DESCRIPTORS && entries <= MOST_ENTRIES {
            return Ok(());
        }
        Err(Status::out_of_range(format!(
            "the request has {descriptors} descriptors with {entries} entries, more than {MOST_DESCRIPTORS} with \
             {MOST_ENTRIES}, which are decoded at most"
        )))
    }
}

impl Bounded for RateLimitResponse {
    fn check(_: &[u8]) -> Result<(), Status> {
        Ok(())
    }
}

/// Calls `each` with every message in the field with this tag.
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

    /// A request of so many descriptors with so many entries each, all empty.
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
    fn what_takes_many_times_its_bytes_is_not_decoded() {
        for (descriptors, entries, passes) in [
            (MOST_DESCRIPTORS, 0, true),
            (MOST_DESCRIPTORS + 1, 0, false),
            (1, MOST_ENTRIES, true),
            (1, MOST_ENTRIES + 1, false),
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
            // Unknown fields, groups among them, hide nothing.
            let hidden = [&[0xfb, 0x07, 0xfc, 0x07][..], &bytes].concat();
            assert_eq!(RateLimitRequest::check(&hidden).is_ok(), passes);
            let broken = [&bytes[..], &[0xff]].concat();
            assert_eq!(RateLimitRequest::check(&broken).is_ok(), passes);
        }
    }
}
