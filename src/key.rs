//! Bucket keys: one text for one limit of one concrete descriptor.
//!
//! `rk:shop|path=/cart|user=7#1` is the second limit (`#1`) of the rule that the descriptor
//! `(path, /cart), (user, 7)` of the domain `shop` met. Keys are readable in `redis-cli`, injective
//! (what could be mistaken for structure is percent-encoded) and of bounded length (long ones end in a
//! SHA-256 of the whole). The braces that Redis Cluster reads as hash tags are encoded too, so a
//! client cannot choose the slot that it loads.

use std::fmt::{self, Write as _};

use sha2::{Digest, Sha256};

/// The longest key, in bytes, apart from the prefix. Longer ones are shortened to a hash.
pub const MAX_LEN: usize = 200;

/// How much of the domain a shortened key still shows, in bytes.
const SHORTENED_DOMAIN: usize = 48;

/// Where the state of one limit for one concrete descriptor is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketKey(String);

impl BucketKey {
    /// The key as it stands in Redis.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What stands for the value of a descriptor entry in a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment<'a> {
    /// The value that the request sent: every value has a bucket of its own.
    Value(&'a str),
    /// The pattern of a rule with `share_threshold`: all values that match share one bucket.
    Pattern(&'a str),
}

/// Which limit of a rule a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitTag<'a> {
    /// The limit's place in the rule's list, from 0.
    pub index: usize,
    /// A window and a token bucket never share state.
    pub is_window: bool,
    /// The period of a limit that the request itself sent, as units and unit; such buckets are
    /// apart from those of the configuration, and from those of another period.
    pub override_period: Option<(u32, &'a str)>,
}

/// Builds keys under one prefix.
#[derive(Debug, Clone)]
pub struct KeyFormat {
    prefix: String,
}

impl KeyFormat {
    /// Keys that begin with `prefix`, as it is.
    #[must_use]
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// The descriptor's part of its keys, from which [`key`](Self::key) makes one for each limit.
    pub fn stem<'a>(
        &self,
        domain: &str,
        entries: impl IntoIterator<Item = (&'a str, Segment<'a>)>,
    ) -> String {
        let mut stem = String::with_capacity(self.prefix.len() + MAX_LEN);
        stem.push_str(&self.prefix);
        encode(domain, &mut stem);
        for (key, segment) in entries {
            stem.push('|');
            encode(key, &mut stem);
            stem.push('=');
            match segment {
                Segment::Value(value) => encode(value, &mut stem),
                Segment::Pattern(pattern) => encode_pattern(pattern, &mut stem),
            }
        }
        stem
    }

    /// The key of one limit of the rule that the descriptor with this stem met.
    #[must_use]
    pub fn key(&self, stem: &str, limit: LimitTag<'_>) -> BucketKey {
        let mut key = String::with_capacity(stem.len() + 8);
        key.push_str(stem);
        push_tag(limit, &mut key);
        if key.len() - self.prefix.len() <= MAX_LEN {
            return BucketKey(key);
        }
        BucketKey(self.shortened(&key))
    }

    /// `%sha256:` cannot stand in an unshortened key: there, two upper-case hexadecimal digits
    /// follow a percent sign.
    fn shortened(&self, key: &str) -> String {
        let text = &key[self.prefix.len()..];
        let domain = text.split('|').next().unwrap_or_default();
        let most = SHORTENED_DOMAIN.min(domain.len());
        let shown = (0..=most)
            .rev()
            .find_map(|end| domain.get(..end))
            .unwrap_or_default();
        let mut short = format!("{}{shown}|%sha256:", self.prefix);
        for byte in Sha256::digest(text) {
            let _ = write!(short, "{byte:02x}");
        }
        short
    }
}

fn push_tag(limit: LimitTag<'_>, key: &mut String) {
    if let Some((units, unit)) = limit.override_period {
        let _ = write!(key, "#override-{units}-{unit}");
    }
    if limit.is_window {
        key.push_str("#window");
    }
    if limit.index > 0 {
        let _ = write!(key, "#{}", limit.index);
    }
}

fn encode_pattern(pattern: &str, out: &mut String) {
    for (i, literal) in pattern.split('*').enumerate() {
        if i > 0 {
            out.push('*');
        }
        encode(literal, out);
    }
}

/// Appends `text` with everything that has a meaning in a key, or none on a terminal, as `%XX`.
fn encode(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '%' | '|' | '=' | '#' | '*' | '{' | '}' | '"' | '\\' | '\0'..=' ' | '\x7f' => {
                let _ = write!(out, "%{:02X}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests;
