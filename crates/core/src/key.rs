//! Bucket keys: one text for one limit of one concrete descriptor.
//!
//! `rk:shop|path=/cart|user=7#1` is the second limit (`#1`) of the rule that the descriptor
//! `(path, /cart), (user, 7)` of the domain `shop` met, and `...#candidate#1` the second of those that are tried beside it. Keys are readable in `redis-cli`, injective
//! (what could be mistaken for structure is percent-encoded) and of bounded length (long ones end in a
//! SHA-256 of the whole). The braces that Redis Cluster reads as hash tags are encoded too; for a
//! cluster, each key has a tag of ours ([`HashTag`]).

mod hash_tag;
mod parsed;
mod slot;

use std::fmt::{self, Write as _};
use std::hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::LazyLock;

use sha2::{Digest, Sha256};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::text::start;

pub use hash_tag::{GROUPS, HashTag};
pub use parsed::{NotAKey, ParsedKey};
pub use slot::slot;

/// The longest key, in bytes, apart from the prefix. Longer ones are shortened to a hash.
pub const MAX_LEN: usize = 200;

/// Room for most stems, in bytes. Longer ones grow.
const USUAL_LEN: usize = 96;

/// How much of the domain a shortened key still shows, in bytes.
const SHORTENED_DOMAIN: usize = 48;

/// What comes first among the tags of a candidate.
const CANDIDATE: &str = "#candidate";

/// Where the state of one limit for one concrete descriptor is kept.
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

/// What keys are hashed under: drawn once per process, so that no client can aim at a collision.
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

    /// The same key, of a bucket of the limit with this number.
    #[must_use]
    pub fn of_limit(self, limit: u32) -> Self {
        Self { limit, ..self }
    }

    /// The number of the limit that the bucket is for: a hash of what the configuration calls it, 0 when it is not
    /// known. Stores that are full prefer buckets of one limit over those of others; it is no part of which bucket it is.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The same key, of a bucket in the store for this placement.
    #[must_use]
    pub fn placed(self, placement: Placement) -> Self {
        Self { placement, ..self }
    }

    /// Which store holds the bucket. Two keys with one text are equal whatever their placement is: a limit whose unit
    /// changes keeps its buckets where there is one store.
    #[must_use]
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// The key as it stands in Redis.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A hash of the key under a secret of this process: within it, as good as the key itself, since
    /// two keys with one hash are not to be found by chance or by guessing.
    #[must_use]
    pub fn hash(&self) -> u128 {
        self.hash
    }
}

impl PartialEq for BucketKey {
    fn eq(&self, other: &Self) -> bool {
        // The hash first, because most keys differ in it.
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

/// For maps whose keys are [`BucketKey`]s or their hashes: these are hashed already.
pub type Prehashed = BuildHasherDefault<HashOfKey>;

/// Hands on the [`hash`](BucketKey::hash) of a key.
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
        unreachable!("only keys and their hashes are hashed here");
    }
}

/// What stands for the value of a descriptor entry in a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment<'a> {
    /// The value that the request sent: every value has a bucket of its own.
    Value(&'a [u8]),
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
    hash_tag: HashTag,
}

impl KeyFormat {
    /// Keys that begin with `prefix`, as it is.
    #[must_use]
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            hash_tag: HashTag::None,
        }
    }

    /// The same keys with a hash tag. The prefix must have no brace then.
    #[must_use]
    pub fn with_hash_tag(self, hash_tag: HashTag) -> Self {
        Self { hash_tag, ..self }
    }

    /// The descriptor's part of its keys, from which [`key`](Self::key) makes one for each limit.
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

    /// The key of one limit of the rule that the descriptor with this stem met.
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

    /// The key of a limit that is tried beside those of the rule that the descriptor with this stem met. It
    /// is apart from all of theirs.
    #[must_use]
    pub fn candidate_key(&self, stem: &str, limit: LimitTag<'_>) -> BucketKey {
        self.key(&format!("{stem}{CANDIDATE}"), limit)
    }

    /// `%sha256:` cannot stand in an unshortened key: there, two upper-case hexadecimal digits
    /// follow a percent sign.
    fn shortened(&self, key: &str) -> String {
        let text = &key[self.prefix.len()..];
        let domain = text.split('|').next().unwrap_or_default();
        let shown = start(domain, SHORTENED_DOMAIN);
        let mut short = format!("{}{shown}|%sha256:", self.prefix);
        for byte in Sha256::digest(text) {
            let _ = write!(short, "{byte:02x}");
        }
        short
    }
}

/// How much room a tag needs: none, most often.
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

/// Appends what a client sent, with everything that has a meaning in a key, or none on a terminal, as `%XX`. Bytes that
/// are no UTF-8 become `%XX` as well, from `%80` on, which text never does: so decoding gives back the same bytes.
fn encode(bytes: &[u8], out: &mut String) {
    // Nearly all of it is text, which is found out faster as a whole.
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
        // All of these are single bytes in UTF-8, and no part of longer characters.
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
