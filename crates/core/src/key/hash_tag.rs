//! Hash tags: the part of a key from which a Redis Cluster computes the slot, and with it the node.
//!
//! A script can use keys of one slot only, so buckets that are decided together must share a hash tag. With
//! [`HashTag::Group`], a hash that is the same on all instances assigns each descriptor to one of [`GROUPS`] groups; a batch
//! contains buckets of one group. With [`HashTag::Domain`], all buckets of a domain are in one slot.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use super::truncated;

/// The kind of hash tag that keys have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashTag {
    /// No hash tag: a single Redis has no slots.
    #[default]
    None,
    /// The group of the descriptor, as in `rk:{6u}shop|client=alice`. All limits of a rule share it.
    Group,
    /// The domain, as in `rk:{shop}|client=alice`.
    Domain,
}

/// Number of groups. With fewer groups, more requests share a call of the script; with more groups, buckets are spread more
/// evenly over the nodes. docs/performance.md has the figures.
pub const GROUPS: usize = 32;

/// The tags of the groups. The slot of tag N is in the middle of the N-th 32nd of all slots, so that nodes with equal numbers
/// of slots have nearly equal numbers of groups. A change to this list changes the keys of all buckets and so resets them.
const TAGS: [&str; GROUPS] = [
    "6u", "by", "25", "f9", "0n", "db", "o2", "gg", "8c", "06", "4g", "4v", "ed", "m1", "fa", "2m",
    "k4", "ca", "4h", "x5", "63", "ez", "2s", "yk", "z6", "6k", "ab", "i7", "c9", "0p", "gy", "40",
];

/// Placeholder for the tag of a group, which depends on the whole descriptor.
const PLACEHOLDER: &str = "{..}";

/// Maximum length of a tag that is a domain, in bytes. The rest of a longer domain follows the tag.
const LONGEST_DOMAIN: usize = 40;

impl HashTag {
    /// Appends a domain together with the tag or its placeholder.
    pub(super) fn open(self, stem: &mut String, domain: impl FnOnce(&mut String)) {
        match self {
            Self::None => domain(stem),
            Self::Group => {
                stem.push_str(PLACEHOLDER);
                domain(stem);
            }
            Self::Domain => {
                stem.push('{');
                let begin = stem.len();
                domain(stem);
                let tag = truncated(&stem[begin..], LONGEST_DOMAIN).len();
                stem.insert(begin + tag, '}');
            }
        }
    }

    /// Replaces the placeholder that [`open`](Self::open) wrote at the index `opened`. The stem must be complete.
    pub(super) fn close(self, stem: &mut String, opened: usize) {
        if self == Self::Group {
            let tag = tag(&stem[opened + PLACEHOLDER.len()..]);
            stem.replace_range(opened + 1..opened + PLACEHOLDER.len() - 1, tag);
        }
    }
}

/// Returns the tag of the group that a descriptor belongs to.
///
/// The hash has no secret because all instances must agree on it. A client that chooses its values can therefore choose the
/// group, as clients of any Redis Cluster can choose the slot.
fn tag(descriptor: &str) -> &'static str {
    let mut hasher = SipHasher13::new();
    hasher.write(descriptor.as_bytes());
    let group = hasher.finish() % (GROUPS as u64);
    TAGS[usize::try_from(group).expect("the number of groups is a usize")]
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

    /// Instances of two versions must use the same keys during a rollout.
    #[test]
    fn groups_never_change() {
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
