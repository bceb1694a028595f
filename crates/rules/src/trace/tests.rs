//! Explanations of descriptors.

use crate::tests::rules;

const TEXT: &str = "
domain: shop
descriptors:
  - { key: path, value: /cart, rate_limit: { unit: day } }
  - { key: path, value: /c* }
  - { key: path, value: /*, rate_limit: { unit: day } }
  - { key: path, rate_limit: { unit: day } }
  - key: user
    descriptors:
      - { key: plan, value: free, rate_limit: { unit: day } }
      - { key: plan, value: paid }
  - { key: tenant, value: acme, rate_limit: { unit: day } }
";

/// What `explain` prints for a descriptor, from its second line on.
fn check(domain: &str, entries: &[(&str, &str)], expected: &str) {
    let trace = rules(TEXT).trace(domain, entries).to_string();
    let (first, rest) = trace.split_once('\n').unwrap();
    assert_eq!(first, format!("domain {domain}"));
    assert_eq!(rest.trim_end(), expected.trim_start_matches('\n'));
}

#[test]
fn a_match_shows_what_was_passed_over() {
    check(
        "shop",
        &[("path", "/cart")],
        "
  (path, /cart): (path, /cart) (exact match, a.yaml:4)
    passed over: (path, /c*) (wildcard, a.yaml:5, no rate_limit)
    passed over: (path, /*) (wildcard, a.yaml:6)
    passed over: (path) (key without a value, a.yaml:7)
rule shop.path_/cart (a.yaml:4)",
    );
}

#[test]
fn the_closest_miss() {
    for (domain, entries, expected) in [
        (
            "shops",
            &[("path", "/")][..],
            "did you mean the domain 'shop'?",
        ),
        ("x", &[], "the domains are shop"),
        ("shop", &[], "a descriptor needs at least one entry"),
        (
            "shop",
            &[("pth", "/")],
            "no rule has the key 'pth' here; did you mean 'path'?",
        ),
        (
            "shop",
            &[("banana", "/")],
            "no rule has the key 'banana' here; there is (path, /cart), (path, /c*), (path, /*), (path), \
             (user), more",
        ),
        (
            "shop",
            &[("tenant", "acne")],
            "the key 'tenant' has no rule for the value 'acne', and none for all values; did you mean \
             'acme'?",
        ),
        (
            "shop",
            &[("tenant", "other")],
            "the key 'tenant' has no rule for the value 'other', and none for all values; there is acme",
        ),
        (
            "shop",
            &[("user", "7")],
            "one entry too few? (user) at a.yaml:8 has no rate_limit, but below it (plan, free) does",
        ),
        (
            "shop",
            &[("user", "7"), ("plan", "paid")],
            "(plan, paid) at a.yaml:11 has no rate_limit: descriptors that end there are not \
             limited",
        ),
        (
            "shop",
            &[("tenant", "acme"), ("user", "7")],
            "one entry too many? (tenant, acme) at a.yaml:12 has a rate_limit, but nothing below it: a \
             rule applies only to descriptors that end where it does",
        ),
        (
            "shop",
            &[("path", "/cab")],
            "(path, /c*) shadows (path, /*) (wildcard, a.yaml:6): the first wildcard in the file wins, \
             and the other is never tried afterwards",
        ),
        (
            "shop",
            &[("plan", "free"), ("user", "7")],
            "the order of entries matters: (user, 7) (plan, free) would match the rule \
             shop.user.plan_free",
        ),
    ] {
        let hints = rules(TEXT).trace(domain, entries).hints;
        assert!(
            hints.iter().any(|hint| hint == expected),
            "{hints:#?}\nlacks\n{expected}"
        );
    }
}

#[test]
fn a_failed_walk_is_told_to_its_end() {
    check(
        "shop",
        &[("user", "7"), ("plan", "fre"), ("more", "x")],
        "
  (user, 7): (user) (key without a value, a.yaml:8, no rate_limit)
  (plan, fre): nothing matches
no limit: entry 2 matches nothing
hint: the key 'plan' has no rule for the value 'fre', and none for all values; did you mean 'free'?",
    );
}
