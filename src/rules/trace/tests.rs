//! What people are told about a descriptor.

use crate::rules::tests::rules;

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
    let told = rules(TEXT).trace(domain, entries).to_string();
    let (first, rest) = told.split_once('\n').unwrap();
    assert_eq!(first, format!("domain {domain}"));
    assert_eq!(rest.trim_end(), expected.trim());
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
rule shop.path_/cart (a.yaml:4)"
            .trim_start_matches('\n'),
    );
}
