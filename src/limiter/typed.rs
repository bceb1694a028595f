//! How people write descriptors: `key=value,key2=value2`.

use std::str::FromStr;

use super::request::Entry;

/// A descriptor as it was typed. A backslash takes the meaning from the comma, equals sign or
/// backslash behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed(
    /// Its entries.
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

/// The pieces between unescaped separators, still escaped.
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

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(if c == '\\' {
            chars.next().unwrap_or(c)
        } else {
            c
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let Typed(entries) = text.parse().unwrap();
        let entries: Vec<_> = entries.iter().map(|e| (&*e.key, &*e.value)).collect();
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
    fn anything_else_is_refused_with_advice() {
        for text in ["", "a", "a=1,", "a=b=c", "=1"] {
            let error = text.parse::<Typed>().unwrap_err();
            assert!(error.contains("key=value"), "{text}: {error}");
        }
    }
}
