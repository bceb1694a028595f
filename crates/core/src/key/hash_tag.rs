//! Hash tags: what a Redis Cluster reads of a key to choose its slot, and with it its node.
//!
//! A script touches keys of one slot only, so buckets that are to be decided together must share one. By
//! group, each descriptor belongs to one of [`GROUPS`] groups by a hash that all instances agree on;
//! a group is what a batch is made of and what moves between nodes. By domain, all of a domain is in one slot.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use super::start;

/// What the hash tag of a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashTag {
    /// None: a single Redis has no slots.
    #[default]
    None,
    /// The group of the descriptor: `rk:{6u}shop|client=alice`. All limits of a rule share it.
    Group,
    /// The domain: `rk:{shop}|client=alice`.
    Domain,
}

/// How many groups there are. A group is a call of the script, and the fewer there are the more requests share one;
/// the more there are, the more evenly they spread over the nodes. docs/performance.md has the figures.
pub const GROUPS: usize = 32;

/// The tags of the groups: the slot of the first is in the middle of the first 32nd of all slots, and so on, so
/// that nodes with equal shares of the slots have equal shares of the groups, or nearly so. Whoever changes this
/// gives every bucket another key, and so fills it.
const TAGS: [&str; GROUPS] = [
    "6u", "by", "25", "f9", "0n", "db", "o2", "gg", "8c", "06", "4g", "4v", "ed", "m1", "fa", "2m",
    "k4", "ca", "4h", "x5", "63", "ez", "2s", "yk", "z6", "6k", "ab", "i7", "c9", "0p", "gy", "40",
];

/// Stands for the tag of a group until it is known.
const PLACE: &str = "{..}";

/// The longest tag that is a domain, in bytes. What a longer one has beyond follows the tag.
const LONGEST_DOMAIN: usize = 40;

impl HashTag {
    /// Appends a domain, and with it the tag or a place for it.
    pub(super) fn open(self, stem: &mut String, domain: impl FnOnce(&mut String)) {
        match self {
            Self::None => domain(stem),
            Self::Group => {
                stem.push_str(PLACE);
                domain(stem);
            }
            Self::Domain => {
                stem.push('{');
                let begin = stem.len();
                domain(stem);
                let tag = start(&stem[begin..], LONGEST_DOMAIN).len();
                stem.insert(begin + tag, '}');
            }
        }
    }

    /// Completes what was [opened](Self::open) at this place of the stem, the descriptor being all there.
    pub(super) fn close(self, stem: &mut String, opened: usize) {
        if self == Self::Group {
            let tag = tag(&stem[opened + PLACE.len()..]);
            stem.replace_range(opened + 1..opened + PLACE.len() - 1, tag);
        }
    }
}

/// The tag of the group of a descriptor. The hash is the same everywhere and for good; who sends values of
/// his own choice can thus aim at a group, as anybody can aim at a slot of any Redis Cluster.
fn tag(descriptor: &str) -> &'static str {
    let mut hasher = SipHasher13::new();
    hasher.write(descriptor.as_bytes());
    let group = hasher.finish() % (GROUPS as u64);
    TAGS[usize::try_from(group).expect("there are few groups")]
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use super::*;
    use crate::key::{KeyFormat, LimitTag, Segment, slot};

    fn key(hash_tag: HashTag, domain: &str, value: &str, index: usize) -> String {
        let format = KeyFormat::new("rk:").with_hash_tag(hash_tag);
        let stem = format.stem(domain, [(&b"client"[..], Segment::Value(value.as_bytes()))]);
        let tag = LimitTag {
            index,
            is_window: false,
            override_period: None,
        };
        format.key(&stem, tag).as_str().to_owned()
    }

    #[test]
    fn each_group_is_in_its_part_of_the_slots() {
        let parts = TAGS.map(|tag| usize::from(slot(tag)) * GROUPS / 16384);
        assert_eq!(parts.to_vec(), (0..GROUPS).collect::<Vec<_>>());
    }

    /// Another tag would make every bucket a full one when instances are replaced one by one.
    #[test]
    fn groups_are_for_good() {
        for (domain, value, expected) in [
            ("shop", "alice", "rk:{2s}shop|client=alice"),
            ("shop", "bob", "rk:{fa}shop|client=bob"),
            ("é", "{}", "rk:{c9}é|client=%7B%7D"),
        ] {
            assert_eq!(key(HashTag::Group, domain, value, 0), expected);
        }
    }

    #[test]
    fn limits_of_a_rule_share_a_group_and_long_keys_stay_in_theirs() {
        let long = "x".repeat(500);
        for value in ["alice", "bob", &long] {
            let [first, second] = [0, 1].map(|index| key(HashTag::Group, "shop", value, index));
            assert_eq!(slot(&first), slot(&second), "{first} {second}");
            assert_eq!(first.contains("%sha256:"), value.len() > 100, "{first}");
        }
    }

    #[test]
    fn descriptors_spread_over_all_groups() {
        let mut counts: HashMap<u16, u32> = HashMap::new();
        for i in 0..64_000 {
            *counts
                .entry(slot(&key(HashTag::Group, "shop", &i.to_string(), 0)))
                .or_default() += 1;
        }
        assert_eq!(counts.len(), GROUPS);
        assert!(
            counts.values().all(|count| (1800..2200).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_domain_is_in_one_slot() {
        let long = "x".repeat(500);
        assert_eq!(
            key(HashTag::Domain, "shop", "alice", 0),
            "rk:{shop}|client=alice"
        );
        for domain in ["shop", "a|b", &"é".repeat(30), &"=".repeat(30), &long] {
            let slots: BTreeSet<u16> = ["alice", "bob", &long]
                .iter()
                .map(|value| slot(&key(HashTag::Domain, domain, value, 0)))
                .collect();
            assert_eq!(slots.len(), 1, "{domain}");
        }
    }
}
