//! The keys of a configuration file: the maps in which they are allowed, and their values.
//!
//! The reader rejects keys that are not in this table, and the schema is generated from it, so that editors and the server
//! agree.

/// A kind of map in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    File,
    Descriptor,
    RateLimit,
    Candidate,
    Replaces,
}

impl Place {
    /// The name of the map in messages, after "unknown key ... in".
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::File => "the file",
            Self::Descriptor => "a descriptor",
            Self::RateLimit => "rate_limit",
            Self::Candidate => "candidate",
            Self::Replaces => "replaces",
        }
    }

    /// Where keys of this map belong, after "... belongs".
    pub(super) fn home(self) -> &'static str {
        match self {
            Self::File => "at the top of the file",
            Self::Descriptor => "in the descriptor, next to rate_limit",
            Self::RateLimit => "inside rate_limit",
            Self::Candidate => "inside candidate",
            Self::Replaces => "inside an entry of replaces",
        }
    }

    /// The keys of this map. A candidate has the keys of a limit, except those that combine limits.
    pub(super) fn keys(self) -> impl Iterator<Item = &'static Key> {
        let (place, without): (_, &[&str]) = match self {
            Self::Candidate => (Self::RateLimit, &["unlimited", "replaces"]),
            place => (place, &[]),
        };
        KEYS.iter()
            .filter(move |key| key.place == place && !without.contains(&key.name))
    }
}

/// The values that a key accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// A string that is required and must not be empty.
    RequiredText,
    Text,
    Flag,
    /// A whole number from this number to 2^32 - 1.
    Count(u32),
    Unit,
    Word(&'static [&'static str]),
    Descriptors,
    Limits,
    Candidates,
    Replaces,
    AnyMap,
}

/// A key of a map.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) place: Place,
    pub(super) name: &'static str,
    pub(super) takes: Takes,
    pub(super) about: &'static str,
}

pub(super) const ALGORITHMS: &[&str] = &["token_bucket", "fixed_window"];
pub(super) const HITS: &[&str] = &["prepaid", "postpaid", "auto"];
pub(super) const FAILURE_MODES: &[&str] = &["local", "allow", "deny", "error"];

const fn key(place: Place, name: &'static str, takes: Takes, about: &'static str) -> Key {
    Key {
        place,
        name,
        takes,
        about,
    }
}

use Place::{Descriptor, File, RateLimit};

pub(super) const KEYS: &[Key] = &[
    key(
        File,
        "domain",
        Takes::RequiredText,
        "The namespace of these rules; every request names one.",
    ),
    key(
        File,
        "descriptors",
        Takes::Descriptors,
        "The rules for the first entry of a descriptor.",
    ),
    key(
        Descriptor,
        "key",
        Takes::RequiredText,
        "The key of the entry that this rule matches. Each * matches any text.",
    ),
    key(
        Descriptor,
        "value",
        Takes::Text,
        "The value of the entry that this rule is for. A * stands for any text; without a value \
         the rule is for all values that no sibling is for, each counted apart.",
    ),
    key(
        Descriptor,
        "rate_limit",
        Takes::Limits,
        "The limit of descriptors that end here, or a list of limits that all must admit. \
         Without it, descriptors that end here are not limited.",
    ),
    key(
        Descriptor,
        "candidate",
        Takes::Candidates,
        "A limit to try, or a list of them: decided for the same requests as rate_limit, and only \
         counted. It denies nothing.",
    ),
    key(
        Descriptor,
        "descriptors",
        Takes::Descriptors,
        "The rules for the next entry of the descriptor.",
    ),
    key(
        Descriptor,
        "shadow_mode",
        Takes::Flag,
        "Count and report, but never deny.",
    ),
    key(
        Descriptor,
        "quota_mode",
        Takes::Flag,
        "Deny a request only when all of its quota_mode rules are exhausted.",
    ),
    key(
        Descriptor,
        "detailed_metric",
        Takes::Flag,
        "Show the values of all entries in the metrics of this rule.",
    ),
    key(
        Descriptor,
        "value_to_metric",
        Takes::Flag,
        "Show the value of this entry in the metrics of this rule and the rules below it.",
    ),
    key(
        Descriptor,
        "share_threshold",
        Takes::Flag,
        "All values that match the * share one bucket instead of having one each.",
    ),
    key(
        Descriptor,
        "metadata",
        Takes::AnyMap,
        "Dynamic metadata of the response, if it is enabled.",
    ),
    key(
        Descriptor,
        "on_store_failure",
        Takes::Word(FAILURE_MODES),
        "The failure policy of this rule while the store is unavailable. Default: STORE_FAILURE_MODE.",
    ),
    key(RateLimit, "unit", Takes::Unit, "The unit of the period."),
    key(
        RateLimit,
        "requests_per_unit",
        Takes::Count(0),
        "Tokens that are refilled in each period. 0, the default, denies everything.",
    ),
    key(
        RateLimit,
        "unit_multiplier",
        Takes::Count(1),
        "Number of units in a period. Default: 1.",
    ),
    key(
        RateLimit,
        "burst",
        Takes::Count(1),
        "Tokens in a full bucket: the largest burst. Default: requests_per_unit.",
    ),
    key(
        RateLimit,
        "algorithm",
        Takes::Word(ALGORITHMS),
        "token_bucket refills continuously; fixed_window forgets at the end of every period. The \
         default is DEFAULT_ALGORITHM.",
    ),
    key(
        RateLimit,
        "hits",
        Takes::Word(HITS),
        "prepaid hits are taken before the work if they fit; postpaid hits are reported after it and always \
         taken. auto, the default, detects postpaid rules from their calls.",
    ),
    key(
        RateLimit,
        "max_debt",
        Takes::Count(0),
        "Maximum debt of postpaid hits, in tokens. Default: the capacity.",
    ),
    key(
        RateLimit,
        "unlimited",
        Takes::Flag,
        "Do not limit the descriptor.",
    ),
    key(
        RateLimit,
        "name",
        Takes::Text,
        "The name of the limit in responses and in replaces of other limits.",
    ),
    key(
        RateLimit,
        "replaces",
        Takes::Replaces,
        "Limits that do not apply to a request that this limit applies to.",
    ),
    key(
        Place::Replaces,
        "name",
        Takes::RequiredText,
        "The name of the limit to replace.",
    ),
];

/// The keys of envoyproxy/ratelimit, which accepts them in any map and ignores them in the wrong one.
const OF_REFERENCE: [&str; 16] = [
    "domain",
    "key",
    "value",
    "descriptors",
    "rate_limit",
    "unit",
    "requests_per_unit",
    "unlimited",
    "shadow_mode",
    "quota_mode",
    "name",
    "replaces",
    "detailed_metric",
    "value_to_metric",
    "share_threshold",
    "metadata",
];

/// Whether envoyproxy/ratelimit has this key.
pub(super) fn is_of_reference(name: &str) -> bool {
    OF_REFERENCE.contains(&name)
}

/// Returns the map that a key found in `wrong` belongs to: the nearest one that has the key.
pub(super) fn home_of(name: &str, wrong: Place) -> Option<Place> {
    KEYS.iter()
        .find(|key| key.name == name && key.place != wrong)
        .map(|key| key.place)
}

#[cfg(test)]
mod tests {
    use super::KEYS;

    #[test]
    fn no_key_is_twice_in_a_place() {
        for (i, key) in KEYS.iter().enumerate() {
            let twin = KEYS[..i]
                .iter()
                .find(|k| (k.place, k.name) == (key.place, key.name));
            assert!(twin.is_none(), "{}", key.name);
        }
    }
}
