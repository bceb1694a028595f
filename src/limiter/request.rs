//! What is asked: a domain and descriptors, checked for size and sense.

use thiserror::Error;

pub use ratekeeper_core::descriptor::Entry;

use crate::rules::Unit;
use crate::text::{Text, readable, truncated};

/// A request for a verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Names the rule tree.
    pub domain: Text,
    /// What to look up in it.
    pub descriptors: Vec<Descriptor>,
    /// Hits of every descriptor that has none of its own; 0 means 1.
    pub hits_addend: u32,
}

/// An ordered list of entries, and how it is to be charged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// What is looked up, level by level.
    pub entries: Vec<Entry>,
    /// A limit that takes the place of the configured ones.
    pub limit: Option<Override>,
    /// Hits; 0 asks without taking. Wins over the request's.
    pub hits_addend: Option<u64>,
    /// The hits are given back.
    pub is_negative_hits: bool,
}

/// A limit that a request brings itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Override {
    /// Tokens that come back in a unit, and the capacity.
    pub requests_per_unit: u32,
    /// The unit.
    pub unit: Unit,
    /// Units in a period; at least 1, at most [`Unit::max_multiplier`].
    pub unit_multiplier: u32,
}

/// How large a request may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Descriptors in a request.
    pub descriptors: usize,
    /// Entries in a descriptor.
    pub entries: usize,
    /// Bytes in the domain, the keys and the values together.
    pub bytes: usize,
}

/// Why a request cannot be decided.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadRequest {
    /// No domain is named.
    #[error("rate limit domain must not be empty; set it to the `domain` of a configuration file")]
    EmptyDomain,
    /// Nothing is asked.
    #[error("rate limit descriptor list must not be empty; send at least one descriptor")]
    NoDescriptors,
    /// More descriptors than allowed.
    #[error("the request has {count} descriptors, more than MAX_DESCRIPTORS={bound}")]
    TooManyDescriptors {
        /// What was sent.
        count: usize,
        /// What is allowed.
        bound: usize,
    },
    /// More entries in a descriptor than allowed.
    #[error("descriptor {index} has {count} entries, more than MAX_DESCRIPTOR_ENTRIES={bound}")]
    TooManyEntries {
        /// Which descriptor, from 0.
        index: usize,
        /// What was sent.
        count: usize,
        /// What is allowed.
        bound: usize,
    },
    /// More text than allowed.
    #[error("domain, keys and values have {count} bytes, more than MAX_REQUEST_BYTES={bound}")]
    TooManyBytes {
        /// What was sent.
        count: usize,
        /// What is allowed.
        bound: usize,
    },
    /// A limit of the request's own has no usable unit.
    #[error(
        "descriptor {index} has a limit with unit {number}; \
         use 1 (SECOND), 2 (MINUTE), 3 (HOUR), 4 (DAY), 5 (MONTH), 6 (YEAR) or 7 (WEEK)"
    )]
    UnknownUnit {
        /// Which descriptor, from 0.
        index: usize,
        /// The number on the wire.
        number: i32,
    },
    /// A limit of the request's own has no usable period.
    #[error(
        "descriptor {index} has a limit with unit_multiplier {unit_multiplier}; \
         for the unit {unit} use 1 to {bound}"
    )]
    UnitMultiplier {
        /// Which descriptor, from 0.
        index: usize,
        /// What was sent.
        unit_multiplier: u32,
        /// The unit that it goes with.
        unit: &'static str,
        /// What is allowed.
        bound: u32,
    },
}

impl BadRequest {
    /// Whether what a client of Envoy sends can be the cause. Otherwise it is Envoy's configuration, or another client.
    #[must_use]
    pub fn is_by_content(&self) -> bool {
        match self {
            Self::EmptyDomain | Self::NoDescriptors => false,
            Self::TooManyDescriptors { .. }
            | Self::TooManyEntries { .. }
            | Self::TooManyBytes { .. }
            | Self::UnknownUnit { .. }
            | Self::UnitMultiplier { .. } => true,
        }
    }
}

impl Request {
    /// Whether the request can be decided at all.
    pub(super) fn check(&self, bounds: &Bounds) -> Result<(), BadRequest> {
        if self.domain.is_empty() {
            return Err(BadRequest::EmptyDomain);
        }
        let count = self.descriptors.len();
        if count == 0 {
            return Err(BadRequest::NoDescriptors);
        }
        if count > bounds.descriptors {
            return Err(BadRequest::TooManyDescriptors {
                count,
                bound: bounds.descriptors,
            });
        }
        let mut bytes = self.domain.len();
        for (index, descriptor) in self.descriptors.iter().enumerate() {
            let count = descriptor.entries.len();
            if count > bounds.entries {
                return Err(BadRequest::TooManyEntries {
                    index,
                    count,
                    bound: bounds.entries,
                });
            }
            bytes += descriptor
                .entries
                .iter()
                .map(|e| e.key.len() + e.value.len())
                .sum::<usize>();
        }
        if bytes > bounds.bytes {
            return Err(BadRequest::TooManyBytes {
                count: bytes,
                bound: bounds.bytes,
            });
        }
        Ok(())
    }

    /// The request as people type it, cut to about so many bytes.
    #[must_use]
    pub fn shown(&self, most: usize) -> String {
        let mut text = String::new();
        self.show(most, &mut text);
        text
    }

    /// Appends the request as people type it, `shop client=alice; path=/cart,user=7`, cut to about so many bytes.
    pub(super) fn show(&self, most: usize, text: &mut String) {
        // Whether there was room for all of it.
        let mut put = |part: &[u8]| {
            // No more is looked at than there is room for, and the rest of a character.
            let room = most.saturating_sub(text.len());
            let part = readable(&part[..part.len().min(room + 4)]);
            let shown = truncated(&part, room);
            text.push_str(shown);
            shown.len() == part.len()
        };
        let mut has_room = put(self.domain.as_bytes());
        for (number, descriptor) in self.descriptors.iter().enumerate() {
            if !has_room {
                break;
            }
            put(if number > 0 { b"; " } else { b" " });
            for (number, entry) in descriptor.entries.iter().enumerate() {
                has_room = (number == 0 || put(b","))
                    && put(entry.key.as_bytes())
                    && put(b"=")
                    && put(entry.value.as_bytes());
                if !has_room {
                    break;
                }
            }
        }
        if !has_room {
            text.push_str("...");
        }
    }

    /// The hits of a descriptor, signed: what it takes, or gives back.
    #[must_use]
    pub fn hits(&self, descriptor: &Descriptor) -> i64 {
        let hits = match descriptor.hits_addend {
            Some(hits) => i64::try_from(hits).unwrap_or(i64::MAX),
            None => i64::from(self.hits_addend.max(1)),
        };
        if descriptor.is_negative_hits {
            -hits
        } else {
            hits
        }
    }
}
