//! What several files make together.

use super::{files, mistakes};
use crate::{LoadOptions, RuleSet};

const MERGE: LoadOptions = LoadOptions {
    merge_domains: true,
    strict: false,
    default_algorithm: crate::Algorithm::TokenBucket,
    default_hits: crate::Hits::Auto,
};

const FIRST: &str = "domain: d\ndescriptors: [{key: a*, rate_limit: {unit: day}}, {key: b}]\n";
const SECOND: &str = "descriptors: [{key: ab*, rate_limit: {unit: hour}}]\ndomain: d\n";

#[test]
fn a_domain_has_one_file() {
    assert_eq!(
        mistakes(
            &[("x.yaml", FIRST), ("y.yaml", SECOND)],
            LoadOptions::default()
        ),
        [
            "y.yaml:2:9: duplicate domain 'd' in config file; it is also the domain of x.yaml:1:9; move \
          all of its rules into one file, or set MERGE_DOMAIN_CONFIG=true"
        ]
    );
}

#[test]
fn merged_files_make_one_domain_in_their_order() {
    for (order, expected) in [([FIRST, SECOND], "d.a*"), ([SECOND, FIRST], "d.ab*")] {
        let sources = files(&[("x.yaml", order[0]), ("y.yaml", order[1])]);
        let rules = RuleSet::load(&sources, MERGE).unwrap();
        assert_eq!(rules.domains().len(), 1);
        let domain = rules.domain("d").unwrap();
        assert_eq!(domain.files().collect::<Vec<_>>(), ["x.yaml", "y.yaml"]);
        assert_eq!(domain.find([("abc", "")]).unwrap().rule.path, expected);
    }
}

#[test]
fn merging_does_not_reach_below_the_top() {
    let nested = "domain: d\ndescriptors:\n- key: b\n  descriptors: [key: c]\n";
    assert_eq!(
        mistakes(&[("x.yaml", FIRST), ("y.yaml", nested)], MERGE),
        [
            "y.yaml:3:3: duplicate descriptor composite key 'd.b'; it is defined first at x.yaml:2; \
          remove one, or put both limits in one rate_limit list"
        ]
    );
}

#[test]
fn rules_and_domains_are_numbered() {
    let sources = files(&[
        ("x.yaml", FIRST),
        (
            "y.yaml",
            "domain: e\ndescriptors: [{key: a, rate_limit: {unlimited: yes}}]",
        ),
        ("z.yaml", "domain: empty\n"),
    ]);
    let rules = RuleSet::load(&sources, LoadOptions::default()).unwrap();
    let domains: Vec<_> = rules.domains().map(|d| (d.id(), d.name())).collect();
    assert_eq!(domains, [(0, "d"), (1, "e"), (2, "empty")]);
    let found: Vec<_> = rules
        .rules()
        .iter()
        .map(|r| (r.id, r.domain, &*r.path, &*r.file))
        .collect();
    assert_eq!(found, [(0, 0, "d.a*", "x.yaml"), (1, 1, "e.a", "y.yaml")]);
    assert_eq!(
        RuleSet::load(&[], LoadOptions::default())
            .unwrap()
            .domains()
            .len(),
        0
    );
    assert!(RuleSet::empty().domain("d").is_none());
}

/// One run reports all errors in order, also if an error hides the meaning of the lines around it.
#[test]
fn all_mistakes_of_all_files_are_reported() {
    let a = "\
domain: d
descriptors:
  - key: path
    shadow_mod: true
    rate_limit:
      unit: minuet
      requests_per_unt: 5
      burst: -1
    descriptors:
      - key: user
      - key: user
  - value: x
    descriptors:
      - key: same
      - key: same
";
    let b = "domain: d\ndescriptors:\n  - a\n  - {key: c, share_threshold: on}\n";
    let c = "domain: [\n";
    let found = mistakes(
        &[("c.yaml", c), ("b.yaml", b), ("a.yaml", a)],
        LoadOptions::default(),
    );
    let expected = [
        "a.yaml:1:9: duplicate domain 'd' in config file; ",
        "a.yaml:4:5: config error, unknown key 'shadow_mod' in a descriptor; did you mean 'shadow_mode'?",
        "a.yaml:6:13: invalid rate limit unit 'minuet'; did you mean 'minute'?",
        "a.yaml:7:7: config error, unknown key 'requests_per_unt' in rate_limit; did you mean \
         'requests_per_unit'?",
        "a.yaml:8:14: burst must be a whole number from 1 to 4294967295, but is '-1'; ",
        "a.yaml:11:9: duplicate descriptor composite key 'd.path.user'; ",
        "a.yaml:12:5: descriptor has empty key; ",
        "a.yaml:15:9: duplicate descriptor composite key 'd.?_x.same'; ",
        "b.yaml:3:5: config error, yaml file contains list of type other than map: a; ",
        "b.yaml:4:31: share_threshold can only be used with wildcard values (containing '*'), ",
        "c.yaml:2:1: error loading config file: yaml: ",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\nis not\n{expected}");
    }
}
