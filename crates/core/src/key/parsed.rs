//! From a bucket key back to what it was made of, for people who found one in Redis.

use thiserror::Error;

use super::{CANDIDATE, HashTag, KeyFormat};
use crate::text::Text;

/// What a key says of its bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedKey {
    /// The domain.
    pub domain: Text,
    /// The entries of the descriptor, keys and values in order. Where values share the bucket, a text that the
    /// pattern matches stands for them, and hardly anything else does.
    pub entries: Vec<(Text, Text)>,
    /// The limit's place in the rule's list, from 0.
    pub index: usize,
}

/// Why a text is not the key of a bucket whose limit can be found.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotAKey {
    /// Another prefix, or none.
    #[error("the keys of this server begin with {prefix:?} (CACHE_KEY_PREFIX); name one of them")]
    Prefix {
        /// What they begin with.
        prefix: String,
    },
    /// Only a hash of it is left.
    #[error(
        "a key with %sha256: was shortened to a hash, which does not tell its descriptor; \
         ask by domain and descriptor instead"
    )]
    Shortened,
    /// The limit came with a request.
    #[error(
        "a key with #override- is the bucket of a limit that a request brought itself, which no \
         configuration knows; it cannot be asked for"
    )]
    Override,
    /// The limit is only tried.
    #[error(
        "a key with #candidate is the bucket of a limit that is only tried and counted; leave #candidate out to \
         ask for the one that decides"
    )]
    Candidate,
    /// It is no key at all.
    #[error(
        "this is not a bucket key; one looks like {prefix}shop|client=alice, with #window or #1 after it \
         where the limit is a window or not the first of its rule"
    )]
    Malformed {
        /// What keys begin with.
        prefix: String,
    },
}

/// Stands for the `*` of a pattern. No value is likely to have it, so no rule for one value alone takes it.
const ANY: &str = "\0";

impl KeyFormat {
    /// What a key was made of. Whoever finds limits for it is to make the key again, and to compare.
    ///
    /// # Errors
    /// When the text is not a key of this format, or does not tell what it was made of.
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
            .taken_from(text)
            .and_then(|text| parsed(&text))
            .ok_or_else(|| NotAKey::Malformed {
                prefix: self.prefix.clone(),
            })
    }
}

impl HashTag {
    /// What the text says without its tag; `None` when it has none, but should.
    fn taken_from(self, text: &str) -> Option<String> {
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
    fn what_is_no_key_is_told_so() {
        let group = format(HashTag::Group);
        let none = format(HashTag::None);
        for (format, key, expected) in [
            (&none, "shop|a=b", "begin with \"rk:\""),
            (&none, "rk:shop|%sha256:00", "shortened"),
            (&none, "rk:shop|a=b#override-1-day", "a request brought"),
            (&none, "rk:shop|a=b#candidate#1", "only tried"),
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
    fn a_pattern_stands_for_any_value() {
        let parsed = format(HashTag::None).parse("rk:d|f=a/*.x*#window#2");
        let parsed = parsed.unwrap();
        assert_eq!(parsed.entries, [("f".into(), "a/\0.x\0".into())]);
        assert_eq!(parsed.index, 2);
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_from_a_key(
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
        fn a_key_tells_what_it_was_made_of(
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
