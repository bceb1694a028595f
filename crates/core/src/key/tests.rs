//! Keys are readable, injective and bounded.

use proptest::prelude::*;

use super::*;

const FIRST: LimitTag<'static> = LimitTag {
    index: 0,
    is_window: false,
    override_period: None,
};

fn key(domain: &str, entries: &[(&str, Segment<'_>)], tag: LimitTag<'_>) -> BucketKey {
    let format = KeyFormat::new("rk:");
    let entries = entries
        .iter()
        .map(|(key, segment)| (key.as_bytes(), *segment));
    format.key(&format.stem(domain, entries), tag)
}

fn check(domain: &str, entries: &[(&str, Segment<'_>)], tag: LimitTag<'_>, expected: &str) {
    assert_eq!(key(domain, entries, tag).as_str(), expected);
}

#[test]
fn keys_are_readable() {
    use Segment::{Pattern, Value};
    check("shop", &[("user", Value(b"7"))], FIRST, "rk:shop|user=7");
    check(
        "shop",
        &[("path", Value(b"/a b")), ("k", Value(b""))],
        FIRST,
        "rk:shop|path=/a%20b|k=",
    );
    check(
        "shop",
        &[("files", Pattern("f/*"))],
        FIRST,
        "rk:shop|files=f/*",
    );
    check(
        "shop",
        &[("files", Value(b"f/*"))],
        FIRST,
        "rk:shop|files=f/%2A",
    );
    check(
        "shop",
        &[("k", Value("{tag}\r\n\0é".as_bytes()))],
        FIRST,
        "rk:shop|k=%7Btag%7D%0D%0A%00é",
    );
    check(
        "shop",
        &[("k", Value(b"v"))],
        LimitTag { index: 2, ..FIRST },
        "rk:shop|k=v#2",
    );
    check(
        "shop",
        &[("k", Value(b"v"))],
        LimitTag {
            is_window: true,
            ..FIRST
        },
        "rk:shop|k=v#window",
    );
    check(
        "shop",
        &[("k", Value(b"v"))],
        LimitTag {
            override_period: Some((1, "minute")),
            ..FIRST
        },
        "rk:shop|k=v#override-1-minute",
    );
}

#[test]
fn candidates_have_separate_buckets() {
    let format = KeyFormat::new("rk:");
    let stem = format.stem("shop", [(&b"k"[..], Segment::Value(b"v#candidate"))]);
    let tags = [
        FIRST,
        LimitTag {
            index: 1,
            is_window: true,
            ..FIRST
        },
    ];
    let keys = tags.map(|tag| format.candidate_key(&stem, tag).to_string());
    let stem = "rk:shop|k=v%23candidate#candidate";
    assert_eq!(keys, [stem.to_owned(), format!("{stem}#window#1")]);
    let stem = format.stem("shop", [(&b"k"[..], Segment::Value(&[b'x'; 200]))]);
    assert_ne!(format.candidate_key(&stem, FIRST), format.key(&stem, FIRST));
}

#[test]
fn long_keys_end_in_a_hash_of_the_whole() {
    let long = "x".repeat(1_000_000);
    let a = key("shop", &[("k", Segment::Value(long.as_bytes()))], FIRST);
    let b = key(
        "shop",
        &[("k", Segment::Value(&long.as_bytes()[1..]))],
        FIRST,
    );
    let c = key(
        "shop",
        &[("k", Segment::Value(long.as_bytes()))],
        LimitTag { index: 1, ..FIRST },
    );
    assert!(a.as_str().starts_with("rk:shop|%sha256:"), "{a}");
    assert!(a.as_str().len() <= 3 + MAX_LEN);
    assert_ne!(a, b);
    assert_ne!(a, c);
    let domain = "é".repeat(500);
    assert!(key(&domain, &[], FIRST).as_str().len() <= 3 + MAX_LEN);
}

/// Texts in which the characters with a meaning in keys are frequent.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ab|=#*%{}\\\\2A]{0,6}", any::<String>(), "[a|=]{60,130}"]
}

type Owned = (
    String,
    Vec<(String, (bool, String))>,
    (usize, bool, Option<(u32, &'static str)>),
);

fn parts() -> impl Strategy<Value = Owned> {
    (
        text(),
        prop::collection::vec((text(), (any::<bool>(), text())), 0..3),
        (
            0..3_usize,
            any::<bool>(),
            prop_oneof![
                Just(None),
                Just(Some((1, "minute"))),
                Just(Some((11, "minute")))
            ],
        ),
    )
}

fn key_of(parts: &Owned) -> BucketKey {
    key_by(&KeyFormat::new("rk:"), parts)
}

fn key_by(format: &KeyFormat, (domain, entries, tag): &Owned) -> BucketKey {
    let entries: Vec<_> = entries
        .iter()
        .map(|(key, (is_pattern, text))| {
            let segment = match is_pattern {
                true => Segment::Pattern(text),
                false => Segment::Value(text.as_bytes()),
            };
            (key.as_bytes(), segment)
        })
        .collect();
    let tag = LimitTag {
        index: tag.0,
        is_window: tag.1,
        override_period: tag.2,
    };
    format.key(&format.stem(domain, entries), tag)
}

/// A pattern without a star matches the same requests as a value of the same text, so they share a bucket.
fn normal((domain, entries, tag): &Owned) -> Owned {
    let entries = entries
        .iter()
        .map(|(key, (is_pattern, text))| {
            (
                key.clone(),
                (*is_pattern && text.contains('*'), text.clone()),
            )
        })
        .collect();
    (domain.clone(), entries, *tag)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn different_descriptors_never_share_a_key(a in parts(), b in parts()) {
        prop_assert_eq!(normal(&a) == normal(&b), key_of(&a) == key_of(&b));
    }

    /// The slot of a key in a cluster is that of its descriptor, and the hash tag keeps keys apart as well.
    #[test]
    fn a_hash_tag_decides_the_slot_and_keeps_keys_apart(a in parts(), b in parts()) {
        // Requests have a domain. Redis ignores a hash tag that is empty.
        prop_assume!(!a.0.is_empty());
        for hash_tag in [HashTag::Group, HashTag::Domain] {
            let format = KeyFormat::new("rk:").with_hash_tag(hash_tag);
            let [one, other] = [&a, &b].map(|parts| key_by(&format, parts));
            prop_assert_eq!(normal(&a) == normal(&b), one == other);
            let (domain, entries, (index, is_window, period)) = &a;
            let second = (domain.clone(), entries.clone(), (index + 1, !is_window, *period));
            prop_assert_eq!(slot(one.as_str()), slot(key_by(&format, &second).as_str()));
            prop_assert!(one.as_str().len() <= 3 + MAX_LEN);
        }
    }

    #[test]
    fn keys_are_bounded_and_choose_no_slot(parts in parts()) {
        let key = key_of(&parts);
        prop_assert!(key.as_str().len() <= 3 + MAX_LEN);
        let chosen = ['{', '}', '\r', '\n', '\0', ' '];
        prop_assert!(!key.as_str().contains(chosen), "{}", key);
    }
}
