//! Parses bucket keys, so that operators can look up a key that they found in Redis.

use thiserror::Error;

use super::{CANDIDATE, HashTag, KeyFormat};
use crate::text::Text;

/// The parts of a bucket key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedKey {
    /// The domain.
    pub domain: Text,
    /// The entries of the descriptor as keys and values, in order. If values that match a pattern share the bucket, the value
    /// is a text that this pattern matches, and that hardly any other rule matches.
    pub entries: Vec<(Text, Text)>,
    /// The index of the limit in the rule's list.
    pub index: usize,
}

/// Why the limit of a bucket key cannot be found.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotAKey {
    /// The text does not begin with the prefix.
    #[error("the keys of this server begin with {prefix:?} (CACHE_KEY_PREFIX); name one of them")]
    Prefix {
        /// The prefix of all keys.
        prefix: String,
    },
    /// The key was shortened to a hash.
    #[error(
        "a key with %sha256: was shortened to a hash, from which the descriptor cannot be recovered; \
         name the bucket by domain and descriptor instead"
    )]
    Shortened,
    /// The limit was part of a request.
    #[error(
        "a key with #override- is the bucket of a limit that was part of a request and is not in the configuration; \
         it cannot be looked up"
    )]
    Override,
    /// The limit is a candidate.
    #[error(
        "a key with #candidate is the bucket of a candidate limit, which never denies; remove #candidate to \
         look up the limit that decides"
    )]
    Candidate,
    /// The text is not a key.
    #[error(
        "this is not a bucket key; a key looks like {prefix}shop|client=alice, followed by #window \
         for a fixed window and by #1 for the second limit of its rule"
    )]
    Malformed {
        /// The prefix of all keys.
        prefix: String,
    },
}

/// Replaces the `*` of a pattern. Values hardly ever contain it, so that no rule for a single value matches it.
const ANY: &str = "\0";

impl KeyFormat {
    /// Parses a key. A caller that finds limits for it must build their keys and compare them with this one.
    ///
    /// # Errors
    /// If the text is not a key of this format, or if its parts cannot be recovered.
    pub fn parse(&self, key: &str) -> Result<ParsedKey, NotAKey> {
        let text = key
            .strip_prefix(self.prefix.as_str())
            .ok_or_else(|| NotAKey::Prefix {
                prefix: self.prefix.clone(),
            })?;
        if text.contains("|%sha256:") {
            return Err(NotAKey::Shortened);
        }
        if text.contains("#override-") {
            return Err(NotAKey::Override);
        }
        if text.contains(CANDIDATE) {
            return Err(NotAKey::Candidate);
        }
        self.hash_tag
            .removed_from(text)
            .and_then(|text| parsed(&text))
            .ok_or_else(|| NotAKey::Malformed {
                prefix: self.prefix.clone(),
            })
    }
}

impl HashTag {
    /// Returns the text without its tag; `None` if the tag is missing.
    fn removed_from(self, text: &str) -> Option<String> {
        match self {
            Self::None => Some(text.to_owned()),
            Self::Group => {
                let (_, rest) = text.strip_prefix('{')?.split_once('}')?;
                Some(rest.to_owned())
            }
            Self::Domain => {
                let (tag, rest) = text.strip_prefix('{')?.split_once('}')?;
                Some(format!("{tag}{rest}"))
            }
        }
    }
}

fn parsed(text: &str) -> Option<ParsedKey> {
    let mut tags = text.split('#');
    let mut pieces = tags.next()?.split('|');
    let domain = decoded(pieces.next()?);
    let entries = pieces.map(|piece| {
        let (key, value) = piece.split_once('=')?;
        Some((decoded(key), decoded(&value.replace('*', ANY))))
    });
    let entries = entries.collect::<Option<Vec<_>>>()?;
    let mut index = 0;
    for tag in tags {
        if tag != "window" {
            index = tag.parse().ok()?;
        }
    }
    (!domain.is_empty() && !entries.is_empty()).then_some(ParsedKey {
        domain,
        entries,
        index,
    })
}

fn decoded(text: &str) -> Text {
    Text::from_percent_encoded(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::{LimitTag, Segment};

    fn format(tag: HashTag) -> KeyFormat {
        KeyFormat::new("rk:").with_hash_tag(tag)
    }

    #[test]
    fn text_that_is_no_key_is_rejected() {
        let group = format(HashTag::Group);
        let none = format(HashTag::None);
        for (format, key, expected) in [
            (&none, "shop|a=b", "begin with \"rk:\""),
            (&none, "rk:shop|%sha256:00", "shortened"),
            (&none, "rk:shop|a=b#override-1-day", "part of a request"),
            (&none, "rk:shop|a=b#candidate#1", "candidate limit"),
            (&none, "rk:", "not a bucket key"),
            (&none, "rk:shop", "not a bucket key"),
            (&none, "rk:shop|a", "not a bucket key"),
            (&none, "rk:shop|a=b#x", "not a bucket key"),
            (&group, "rk:shop|a=b", "not a bucket key"),
            (&group, "rk:{6ushop|a=b", "not a bucket key"),
        ] {
            let error = format.parse(key).unwrap_err().to_string();
            assert!(error.contains(expected), "{key}: {error}");
        }
    }

    #[test]
    fn the_star_of_a_pattern_becomes_any_value() {
        let parsed = format(HashTag::None).parse("rk:d|f=a/*.x*#window#2");
        let parsed = parsed.unwrap();
        assert_eq!(parsed.entries, [("f".into(), "a/\0.x\0".into())]);
        assert_eq!(parsed.index, 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_recovered_from_a_key(
            domain in proptest::collection::vec(any::<u8>(), 1..20),
            key: [u8; 3],
            value in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let format = format(HashTag::None);
            let stem = format.stem(&domain, [(&key[..], Segment::Value(&value))]);
            let limit = LimitTag { index: 0, is_window: false, override_period: None };
            let made = format.key(&stem, limit);
            let parsed = format.parse(made.as_str()).unwrap();
            prop_assert_eq!(parsed.domain, domain.into());
            prop_assert_eq!(parsed.entries, [(key.to_vec().into(), value.into())]);
        }

        #[test]
        fn all_parts_are_recovered_from_a_key(
            domain in "[a-z{}|#=*% é]{1,12}",
            key in "[a-z{}|#=*% é]{1,12}",
            value in "[a-z{}|#=*% é]{0,12}",
            index in 0..3_usize,
            is_window in any::<bool>(),
        ) {
            for tag in [HashTag::None, HashTag::Group, HashTag::Domain] {
                let format = format(tag);
                let stem = format.stem(&domain, [(key.as_bytes(), Segment::Value(value.as_bytes()))]);
                let limit = LimitTag { index, is_window, override_period: None };
                let made = format.key(&stem, limit);
                let parsed = format.parse(made.as_str()).unwrap();
                prop_assert_eq!(&parsed.domain, &domain.clone().into());
                prop_assert_eq!(&parsed.entries, &[(key.clone().into(), value.clone().into())]);
                prop_assert_eq!(parsed.index, index);
            }
        }
    }
}
