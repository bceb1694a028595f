//! Entries of descriptors, and the text in which they are typed: `key=value,key2=value2`.

use std::str::FromStr;

use crate::text::Text;

/// A key and a value of a descriptor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Text,
    /// The value; may be empty.
    pub value: Text,
}

/// A descriptor as it is typed.
///
/// A backslash escapes the comma, equals sign or backslash that follows it. `\x80` to `\xFF` are single bytes, for values
/// that are not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed(
    /// The entries of the descriptor.
    pub Vec<Entry>,
);

impl FromStr for Typed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        split(text, ',')
            .into_iter()
            .map(entry)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn entry(text: &str) -> Result<Entry, String> {
    let parts = split(text, '=');
    let [key, value] = parts.as_slice() else {
        return Err(format!(
            "{text:?} is not key=value; write key= for an empty value, and \\= or \\, for those \
             characters inside one"
        ));
    };
    let (key, value) = (unescaped(key), unescaped(value));
    if key.is_empty() {
        return Err(format!("{text:?} has no key; write key=value"));
    }
    Ok(Entry { key, value })
}

/// Splits a text at unescaped separators, without removing the escapes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == separator {
            pieces.push(&text[start..at]);
            start = at + c.len_utf8();
        }
    }
    pieces.push(&text[start..]);
    pieces
}

fn unescaped(text: &str) -> Text {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('\\') {
        plain.extend_from_slice(before.as_bytes());
        if let Some(byte) = byte(behind) {
            plain.push(byte);
            rest = &behind[3..];
            continue;
        }
        // Any other character after the backslash is literal, and so is a backslash at the end.
        let length = behind.chars().next().map_or(0, char::len_utf8);
        let escaped = if length == 0 { "\\" } else { &behind[..length] };
        plain.extend_from_slice(escaped.as_bytes());
        rest = &behind[length..];
    }
    plain.extend_from_slice(rest.as_bytes());
    plain.into()
}

/// Parses `xFF` at the beginning of a text as a byte.
fn byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix('x')?.get(..2)?;
    let byte = u8::from_str_radix(digits, 16).ok()?;
    (digits.bytes().all(|digit| digit.is_ascii_hexdigit()) && byte >= 0x80).then_some(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let Typed(entries) = text.parse().unwrap();
        let entries: Vec<_> = entries
            .iter()
            .map(|e| (e.key.as_str().unwrap(), e.value.as_str().unwrap()))
            .collect();
        assert_eq!(entries, expected, "{text}");
    }

    #[test]
    fn entries_are_separated_by_commas() {
        check("a=1", &[("a", "1")]);
        check("a=1,b=2", &[("a", "1"), ("b", "2")]);
        check("a=", &[("a", "")]);
        check(
            r"a=1\,2,b=x\=y,c=\\",
            &[("a", "1,2"), ("b", "x=y"), ("c", "\\")],
        );
    }

    #[test]
    fn bytes_that_are_not_utf8_are_typed_as_numbers() {
        for (text, expected) in [
            (r"k=a\xFFb", &b"a\xffb"[..]),
            (r"k=\xe9\x80", b"\xe9\x80"),
            (r"k=\xC3\xA9", "\u{e9}".as_bytes()),
            (r"k=\x7F\x", b"x7Fx"),
            (r"k=\x+9\x8", b"x+9x8"),
            (r"k=\", b"\\"),
        ] {
            let Typed(entries) = text.parse().unwrap();
            assert_eq!(entries[0].value.as_bytes(), expected, "{text}");
        }
    }

    #[test]
    fn anything_else_is_rejected_with_advice() {
        for text in ["", "a", "a=1,", "a=b=c", "=1"] {
            let error = text.parse::<Typed>().unwrap_err();
            assert!(error.contains("key=value"), "{text}: {error}");
        }
    }
}
