//! Bucket keys: the name of the bucket of one limit for one concrete descriptor.
//!
//! `rk:shop|path=/cart|user=7#1` is the bucket of the second limit (`#1`) of the rule that matches the descriptor
//! `(path, /cart), (user, 7)` in the domain `shop`. `rk:shop|path=/cart|user=7#candidate#1` is the bucket of the rule's
//! second candidate limit.
//!
//! Keys are readable in `redis-cli`. They are injective, because characters with a meaning in keys are percent-encoded,
//! and of bounded length, because long keys are shortened to a SHA-256 hash. Braces are encoded, too, because Redis
//! Cluster reads them as hash tags; keys for a cluster have a [`HashTag`].

mod hash_tag;
mod parsed;
mod slot;

use std::fmt::{self, Write as _};
use std::hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::LazyLock;

use sha2::{Digest, Sha256};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::text::truncated;

pub use hash_tag::{GROUPS, HashTag};
pub use parsed::{NotAKey, ParsedKey};
pub use slot::slot;

/// The length of the longest key in bytes, without the prefix. Longer keys are shortened to a hash.
pub const MAX_LEN: usize = 200;

/// Initial capacity of a stem in bytes, enough for most of them.
const USUAL_LEN: usize = 96;

/// Maximum length of the domain in a shortened key, in bytes.
const SHORTENED_DOMAIN: usize = 48;

/// The first tag of a candidate's key.
const CANDIDATE: &str = "#candidate";

/// The name of a bucket.
///
/// Keys are equal if their texts are. The number of the limit and the placement are attributes of the bucket that stores
/// use; they do not identify it.
#[derive(Debug, Clone)]
pub struct BucketKey {
    hash: u128,
    text: Box<str>,
    limit: u32,
    placement: Placement,
}

/// Which store holds a bucket, where limits of one second may have a store of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Placement {
    /// The store for most limits.
    #[default]
    Common,
    /// The store for limits whose unit is the second.
    PerSecond,
}

/// The secret of the hashes of keys. It is random in each process, so that no client can provoke a collision.
static SECRET: LazyLock<(u64, u64)> = LazyLock::new(|| {
    let random = RandomState::new();
    (random.hash_one(0), random.hash_one(1))
});

impl BucketKey {
    fn new(text: String) -> Self {
        let mut hasher = SipHasher13::new_with_keys(SECRET.0, SECRET.1);
        hasher.write(text.as_bytes());
        Self {
            hash: hasher.finish128().as_u128(),
            text: text.into(),
            limit: 0,
            placement: Placement::Common,
        }
    }

    /// Returns the key with the number of the limit that the bucket belongs to.
    #[must_use]
    pub fn of_limit(self, limit: u32) -> Self {
        Self { limit, ..self }
    }

    /// The number of the limit that the bucket belongs to: a hash of its name in the configuration, or 0 if it is not known.
    /// A store that is full evicts buckets by limit.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Returns the key with the placement of the bucket.
    #[must_use]
    pub fn placed(self, placement: Placement) -> Self {
        Self { placement, ..self }
    }

    /// Which store holds the bucket.
    #[must_use]
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// The text of the key, as it is in Redis.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A hash of the key under a secret of this process. Within the process, it identifies the key: two keys with one hash
    /// can be found neither by chance nor by guessing.
    #[must_use]
    pub fn hash(&self) -> u128 {
        self.hash
    }
}

impl PartialEq for BucketKey {
    fn eq(&self, other: &Self) -> bool {
        // The hash comes first because different keys nearly always differ in it.
        self.hash == other.hash && self.text == other.text
    }
}

impl Eq for BucketKey {}

impl Hash for BucketKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.hash);
    }
}

impl fmt::Display for BucketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The hasher of maps whose keys are [`BucketKey`]s or their hashes.
pub type Prehashed = BuildHasherDefault<HashOfKey>;

/// A [`Hasher`] that returns the lower half of [`BucketKey::hash`].
#[derive(Debug, Default)]
pub struct HashOfKey(u64);

impl Hasher for HashOfKey {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = u64::try_from(hash & u128::from(u64::MAX)).expect("masked to 64 bits");
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only keys and their hashes are hashed");
    }
}

/// The value of a descriptor entry in a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment<'a> {
    /// The value in the request: each value has its own bucket.
    Value(&'a [u8]),
    /// The pattern of a rule with `share_threshold`: all matching values share one bucket.
    Pattern(&'a str),
}

/// Which limit of a rule a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitTag<'a> {
    /// The index of the limit in the rule's list.
    pub index: usize,
    /// Whether the limit is a fixed window. A window and a token bucket never share state.
    pub is_window: bool,
    /// The period, as number and unit, of a limit that the request itself contains. Its bucket is separate from those of
    /// the configuration and of other periods.
    pub override_period: Option<(u32, &'a str)>,
}

/// Builds keys under one prefix.
#[derive(Debug, Clone)]
pub struct KeyFormat {
    prefix: String,
    hash_tag: HashTag,
}

impl KeyFormat {
    /// Returns a format of keys that begin with `prefix`, which is not encoded.
    #[must_use]
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            hash_tag: HashTag::None,
        }
    }

    /// Returns the format with a hash tag. The prefix must not contain a brace then.
    #[must_use]
    pub fn with_hash_tag(self, hash_tag: HashTag) -> Self {
        Self { hash_tag, ..self }
    }

    /// Returns the descriptor's part of its keys. [`key`](Self::key) makes the key of each limit from it.
    pub fn stem<'a>(
        &self,
        domain: impl AsRef<[u8]>,
        entries: impl IntoIterator<Item = (&'a [u8], Segment<'a>)>,
    ) -> String {
        let mut stem = String::with_capacity(self.prefix.len() + USUAL_LEN);
        stem.push_str(&self.prefix);
        self.hash_tag
            .open(&mut stem, |stem| encode(domain.as_ref(), stem));
        for (key, segment) in entries {
            stem.push('|');
            encode(key, &mut stem);
            stem.push('=');
            match segment {
                Segment::Value(value) => encode(value, &mut stem),
                Segment::Pattern(pattern) => encode_pattern(pattern, &mut stem),
            }
        }
        self.hash_tag.close(&mut stem, self.prefix.len());
        stem
    }

    /// Returns the key of one limit of the rule that matches the descriptor with this stem.
    #[must_use]
    pub fn key(&self, stem: &str, limit: LimitTag<'_>) -> BucketKey {
        let mut key = String::with_capacity(stem.len() + tag_len(limit));
        key.push_str(stem);
        push_tag(limit, &mut key);
        if key.len() - self.prefix.len() <= MAX_LEN {
            return BucketKey::new(key);
        }
        BucketKey::new(self.shortened(&key))
    }

    /// Returns the key of one candidate limit of the rule that matches the descriptor with this stem. It differs from the
    /// keys of all of the rule's limits.
    #[must_use]
    pub fn candidate_key(&self, stem: &str, limit: LimitTag<'_>) -> BucketKey {
        self.key(&format!("{stem}{CANDIDATE}"), limit)
    }

    /// Returns the hash of a key that is too long, after its prefix and its domain.
    ///
    /// `%sha256:` occurs in no other key, because two upper-case hexadecimal digits follow each percent sign there.
    fn shortened(&self, key: &str) -> String {
        let text = &key[self.prefix.len()..];
        let domain = text.split('|').next().unwrap_or_default();
        let shown = truncated(domain, SHORTENED_DOMAIN);
        let mut short = format!("{}{shown}|%sha256:", self.prefix);
        for byte in Sha256::digest(text) {
            let _ = write!(short, "{byte:02x}");
        }
        short
    }
}

/// Capacity for a tag in bytes; most keys have none.
fn tag_len(limit: LimitTag<'_>) -> usize {
    match limit {
        LimitTag {
            index: 0,
            is_window: false,
            override_period: None,
        } => 0,
        _ => 24,
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
        encode_text(literal, out);
    }
}

/// Appends bytes of a client. Characters with a meaning in keys, control characters and bytes that are not UTF-8 are
/// encoded as `%XX`.
///
/// Only bytes that are not UTF-8 are encoded as `%80` to `%FF`, so that decoding returns the same bytes.
fn encode(bytes: &[u8], out: &mut String) {
    // Nearly all input is UTF-8, and checking it as a whole is faster.
    if let Ok(text) = std::str::from_utf8(bytes) {
        return encode_text(text, out);
    }
    for chunk in bytes.utf8_chunks() {
        encode_text(chunk.valid(), out);
        for byte in chunk.invalid() {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

fn encode_text(text: &str, out: &mut String) {
    let mut plain = 0;
    for (i, byte) in text.bytes().enumerate() {
        // These bytes are whole characters in UTF-8, never parts of longer ones.
        if matches!(
            byte,
            b'%' | b'|' | b'=' | b'#' | b'*' | b'{' | b'}' | b'"' | b'\\' | b'\0'..=b' ' | b'\x7f'
        ) {
            out.push_str(&text[plain..i]);
            let _ = write!(out, "%{byte:02X}");
            plain = i + 1;
        }
    }
    out.push_str(&text[plain..]);
}

#[cfg(test)]
mod tests;
