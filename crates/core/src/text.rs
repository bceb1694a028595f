//! Text from clients: any bytes, nearly always UTF-8.
//!
//! Envoy copies header values into descriptors unchanged, and HTTP allows every byte in them. Decoding a protobuf `string`
//! that is not UTF-8 is an error, and Envoy allows requests for which the service returns an error. Domains, keys and values
//! are therefore bytes, which are escaped where text is needed.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};

/// The domain, a key or a value of a request.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Vec<u8>);

/// The ASCII characters that [`Text::percent_encoded`] escapes. Bytes from 0x80 are always escaped.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

impl Text {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, or `None` if it is not UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text for people: bytes that are not UTF-8 are shown as `\xFF`.
    #[must_use]
    pub fn readable(&self) -> Cow<'_, str> {
        readable(&self.0)
    }

    /// The text as ASCII that [`from_percent_encoded`](Self::from_percent_encoded) reads.
    #[must_use]
    pub fn percent_encoded(&self) -> String {
        percent_encode(&self.0, ESCAPED).to_string()
    }

    /// The text that [`percent_encoded`](Self::percent_encoded) wrote.
    #[must_use]
    pub fn from_percent_encoded(text: &str) -> Self {
        Self(percent_decode_str(text).collect())
    }

    /// Returns the text with each `from` replaced by `to`. `from` must not be empty.
    #[must_use]
    pub fn replace(&self, from: &str, to: &str) -> Self {
        let mut replaced = Vec::with_capacity(self.0.len());
        let mut rest = self.0.as_slice();
        while let Some(at) = memchr::memmem::find(rest, from.as_bytes()) {
            replaced.extend_from_slice(&rest[..at]);
            replaced.extend_from_slice(to.as_bytes());
            rest = &rest[at + from.len()..];
        }
        replaced.extend_from_slice(rest);
        Self(replaced)
    }

    /// Whether the text contains `part`.
    #[must_use]
    pub fn contains(&self, part: &str) -> bool {
        memchr::memmem::find(&self.0, part.as_bytes()).is_some()
    }
}

/// Returns the longest prefix of a text that has at most `most` bytes.
#[must_use]
pub fn truncated(text: &str, most: usize) -> &str {
    let mut ends = (0..=most.min(text.len())).rev();
    ends.find_map(|end| text.get(..end)).unwrap_or_default()
}

/// Returns bytes as text for people: bytes that are not UTF-8 are shown as `\xFF`.
#[must_use]
pub fn readable(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02X}");
        }
    }
    Cow::Owned(text)
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<Text> for Vec<u8> {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.readable())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.readable(), f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_that_are_not_utf8_are_shown_as_numbers() {
        for (bytes, expected) in [
            (&b"caf\xc3\xa9"[..], "caf\u{e9}"),
            (b"caf\xe9!", "caf\\xE9!"),
            (b"\xff\xfe", "\\xFF\\xFE"),
            (b"\xe2\x82", "\\xE2\\x82"),
            (b"", ""),
        ] {
            assert_eq!(Text::from(bytes.to_vec()).to_string(), expected);
        }
    }

    #[test]
    fn parts_are_replaced_in_any_bytes() {
        let text = Text::from(b"{}\xff{}{}".to_vec());
        assert_eq!(text.replace("{}", "7").as_bytes(), b"7\xff77");
        assert!(text.contains("{}") && !text.contains("x"));
    }

    proptest! {
        #[test]
        fn truncation_keeps_as_many_characters_as_fit(text: String, most in 0..40_usize) {
            let kept = truncated(&text, most);
            prop_assert!(text.starts_with(kept) && kept.len() <= most);
            if let Some(next) = text[kept.len()..].chars().next() {
                prop_assert!(kept.len() + next.len_utf8() > most);
            }
        }

        #[test]
        fn replacement_is_that_of_strings(text: String, from in "[ab]{1,2}", to in "[abc]{0,3}") {
            let replaced = Text::from(text.clone()).replace(&from, &to);
            prop_assert_eq!(replaced, Text::from(text.replace(&from, &to)));
        }

        #[test]
        fn percent_encoding_loses_nothing(bytes: Vec<u8>) {
            let text = Text::from(bytes);
            let encoded = text.percent_encoded();
            prop_assert!(encoded.is_ascii());
            prop_assert_eq!(Text::from_percent_encoded(&encoded), text);
        }
    }
}
