//! Messages of requests. They are encoded once, and only the digits of the key numbers are filled in, so that a message
//! costs a copy instead of an encoding, and the number of keys costs no memory.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;

use ratekeeper_api::pb::rate_limit_descriptor::Entry;
use ratekeeper_api::pb::{RateLimitDescriptor, RateLimitRequest};
use ratekeeper_core::descriptor;

/// Placeholder of the key number in a descriptor.
pub(super) const PLACEHOLDER: &str = "{}";

/// The parts that all requests share.
#[derive(Debug, Clone)]
pub(super) struct Shared<'a> {
    /// Domain.
    pub domain: &'a str,
    /// `hits_addend` of the request.
    pub hits: u32,
    /// The entries of a descriptor, [`PLACEHOLDER`]s included.
    pub entries: &'a [descriptor::Entry],
    /// Number of such descriptors in each request, each with its own key number.
    pub descriptors: usize,
}

/// A gRPC message without the digits of its key numbers.
#[derive(Debug, Clone)]
pub(super) struct Template {
    message: Vec<u8>,
    /// Positions of the digits of each descriptor's number, in runs of `width`.
    places: Vec<Vec<usize>>,
    width: usize,
}

impl Template {
    /// A template for numbers up to `largest`; all numbers are padded to its digits.
    pub(super) fn new(shared: &Shared<'_>, largest: u64) -> Self {
        let width = largest.to_string().len();
        let message = shared.encode(width, None);
        let places = (0..shared.descriptors)
            .map(|descriptor| {
                // All numbers have the same width, so messages differ only in their digits.
                let marked = shared.encode(width, Some(descriptor));
                let pairs = message.iter().zip(&marked).enumerate();
                pairs
                    .filter(|(_, (a, b))| a != b)
                    .map(|(at, _)| at)
                    .collect()
            })
            .collect();
        Self {
            message,
            places,
            width,
        }
    }

    /// Fills in a message; `number` is called once per descriptor.
    pub(super) fn fill(&self, mut number: impl FnMut() -> u64) -> Bytes {
        let mut message = BytesMut::from(self.message.as_slice());
        for places in &self.places {
            let number = number();
            for run in places.chunks_exact(self.width) {
                let mut rest = number;
                for &place in run.iter().rev() {
                    message[place] = b'0' + (rest % 10) as u8;
                    rest /= 10;
                }
            }
        }
        message.freeze()
    }
}

impl Shared<'_> {
    /// Encodes the message with the number 00...0 in each descriptor, except for 11...1 in the marked one.
    fn encode(&self, width: usize, marked: Option<usize>) -> Vec<u8> {
        let descriptors = (0..self.descriptors)
            .map(|at| {
                let digit = if marked == Some(at) { "1" } else { "0" };
                self.descriptor(&digit.repeat(width))
            })
            .collect();
        let request = RateLimitRequest {
            domain: self.domain.into(),
            descriptors,
            hits_addend: self.hits,
        };
        let mut message = Vec::with_capacity(request.encoded_len() + 5);
        // gRPC's prefix: no compression, and the length.
        message.put_u8(0);
        message.put_u32(u32::try_from(request.encoded_len()).unwrap_or(u32::MAX));
        message.extend(request.encode_to_vec());
        message
    }

    fn descriptor(&self, digits: &str) -> RateLimitDescriptor {
        RateLimitDescriptor {
            entries: self
                .entries
                .iter()
                .map(|entry| Entry {
                    key: entry.key.replace(PLACEHOLDER, digits).into(),
                    value: entry.value.replace(PLACEHOLDER, digits).into(),
                })
                .collect(),
            ..RateLimitDescriptor::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(key: &str, value: &str) -> descriptor::Entry {
        descriptor::Entry {
            key: key.into(),
            value: value.into(),
        }
    }

    #[test]
    fn every_descriptor_gets_its_number_wherever_it_stands() {
        let shared = Shared {
            domain: "shop",
            hits: 3,
            entries: &[entry("path", "/a"), entry("n{}", "{}{}-{}")],
            descriptors: 2,
        };
        let mut numbers = [7, 42].into_iter();
        let message = Template::new(&shared, 99).fill(|| numbers.next().unwrap());
        let request = RateLimitRequest::decode(&message[5..]).unwrap();
        let entries: Vec<_> = request
            .descriptors
            .iter()
            .flat_map(|descriptor| &descriptor.entries)
            .map(|entry| (&*entry.key, &*entry.value))
            .collect();
        assert_eq!(
            entries,
            [
                (&b"path"[..], &b"/a"[..]),
                (b"n07", b"0707-07"),
                (b"path", b"/a"),
                (b"n42", b"4242-42")
            ]
        );
        assert_eq!((&*request.domain, request.hits_addend), (&b"shop"[..], 3));
    }

    proptest! {
        #[test]
        fn filling_is_encoding(largest: u64, part in 0.0..=1.0, domain in ".{0,300}", text in "[^{}]{0,200}") {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
            let number = ((largest as f64 * part) as u64).min(largest);
            let entries = [entry("key", &format!("{text}{{}}"))];
            let shared = Shared { domain: &domain, hits: 0, entries: &entries, descriptors: 1 };
            let message = Template::new(&shared, largest).fill(|| number);
            let width = largest.to_string().len();
            let expected = RateLimitRequest {
                domain: domain.clone().into(),
                hits_addend: 0,
                descriptors: vec![shared.descriptor(&format!("{number:0width$}"))],
            };
            prop_assert_eq!(RateLimitRequest::decode(&message[5..]).unwrap(), expected);
            let length = u32::from_be_bytes(message[1..5].try_into().unwrap());
            prop_assert_eq!((message[0], length as usize), (0, message.len() - 5));
        }
    }
}
