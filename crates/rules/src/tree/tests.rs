//! Lookups: the cases that envoyproxy/ratelimit's own tests check, and a naive matcher to agree with.

use crate::tests::rules;
use crate::{Domain, Limits};

/// Entries written as `k=v,k2=v2`.
fn entries(text: &str) -> Vec<(&str, &str)> {
    text.split(',')
        .filter(|e| !e.is_empty())
        .map(|e| e.split_once('=').expect("k=v"))
        .collect()
}

/// Each line is a descriptor and the path of the rule that matches it, without the domain, or `-`.
fn check(domain: &Domain, lines: &[(&str, &str)]) {
    for (descriptor, expected) in lines {
        let found = domain.find(entries(descriptor));
        let path = found.map(|found| found.rule.path.as_str());
        let prefix = format!("{}.", domain.name());
        let path = path.map_or("-", |path| path.strip_prefix(&prefix).expect("its domain"));
        assert_eq!(path, *expected, "{descriptor}");
    }
}

/// The tree of the reference's basic test, in our words.
const BASIC: &str = "
domain: test-domain
descriptors:
  - key: key1
    value: value1
    descriptors:
      - { key: subkey1, rate_limit: { unit: second, requests_per_unit: 5 } }
      - { key: subkey1, value: subvalue1, rate_limit: { unit: second, requests_per_unit: 10 } }
  - { key: key2, rate_limit: { unit: minute, requests_per_unit: 20 } }
  - { key: key2, value: value2, rate_limit: { unit: minute, requests_per_unit: 30 } }
  - { key: key2, value: value3 }
  - { key: key3, rate_limit: { unit: hour, requests_per_unit: 1 } }
  - { key: key4, rate_limit: { name: key4_rate_limit, unit: day, requests_per_unit: 1 } }
  - key: key5
    value: value5
    rate_limit: { unit: day, requests_per_unit: 15 }
    descriptors:
      - { key: subkey5, value: subvalue5, rate_limit: { unit: day, requests_per_unit: 25 } }
  - { key: key6, rate_limit: { unlimited: true } }
  - { key: key7, detailed_metric: true, rate_limit: { unit: minute, requests_per_unit: 70 } }
";

#[test]
fn basic_lookups() {
    let rules = rules(BASIC);
    assert!(rules.domain("unknown").is_none());
    assert!(rules.domain("Test-Domain").is_none());
    check(
        rules.domain("test-domain").unwrap(),
        &[
            ("", "-"),
            ("key1=something", "-"),
            ("key1=value1", "-"),
            ("key1=value1,subkey1=something", "key1_value1.subkey1"),
            (
                "key1=value1,subkey1=subvalue1",
                "key1_value1.subkey1_subvalue1",
            ),
            ("key1=value1,subkey1=subvalue1,more=x", "-"),
            ("subkey1=something,key1=value1", "-"),
            ("key2=something", "key2"),
            ("key2=", "key2"),
            ("key2=value2", "key2_value2"),
            // Without a limit of its own an exact value is not limited, and nothing else is tried.
            ("key2=value3", "-"),
            ("key2=value2,subkey=subvalue", "-"),
            ("key3=foo", "key3"),
            ("key4=foo", "key4"),
            ("key5=value5", "key5_value5"),
            (
                "key5=value5,subkey5=subvalue5",
                "key5_value5.subkey5_subvalue5",
            ),
            ("key5=value5,subkey5=subvalue", "-"),
            ("key6=foo", "key6"),
            ("key7=unspecified_value", "key7"),
            ("key7=another_value", "key7"),
            ("KEY7=x", "-"),
        ],
    );
}

#[test]
fn a_match_shows_the_limits_and_the_nodes() {
    let rules = rules(BASIC);
    let domain = rules.domain("test-domain").unwrap();
    let found = domain.find([("key1", "value1"), ("subkey1", "x")]).unwrap();
    let nodes: Vec<_> = found
        .nodes
        .map(|n| (n.key.as_str(), n.value.as_deref()))
        .collect();
    assert_eq!(nodes, [("key1", Some("value1")), ("subkey1", None)]);
    assert_eq!(found.nodes.len(), 2);
    let rate = |key| match &domain.find([(key, "x")]).unwrap().rule.limits {
        Limits::Limited(limits) => Some((limits[0].requests_per_unit, limits[0].name.as_str())),
        Limits::Unlimited { .. } => None,
    };
    assert_eq!(rate("key2"), Some((20, "")));
    assert_eq!(rate("key4"), Some((1, "key4_rate_limit")));
    assert_eq!(rate("key6"), None);
    let key7 = domain.find([("key7", "x")]).unwrap().rule;
    assert!(key7.detailed_metric);
    assert_eq!(rules.rules()[key7.id].path, key7.path);
}

#[test]
fn shadow_mode_is_the_rules_own() {
    let rules = rules(
        "domain: d
descriptors:
  - key: key1
    value: value1
    shadow_mode: true
    descriptors:
      - { key: subkey1, rate_limit: { unit: second } }
      - { key: subkey1, value: subvalue1, shadow_mode: true, rate_limit: { unit: second } }
",
    );
    let shadow: Vec<_> = rules
        .rules()
        .iter()
        .map(|r| (&*r.path, r.shadow_mode))
        .collect();
    assert_eq!(
        shadow,
        [
            ("d.key1_value1.subkey1", false),
            ("d.key1_value1.subkey1_subvalue1", true)
        ]
    );
}

#[test]
fn wildcards() {
    let rules = rules(
        "domain: d
descriptors:
  - { key: wild, value: foo*, rate_limit: { unit: day } }
  - { key: noWild, value: foo, rate_limit: { unit: day } }
  - { key: noVal, rate_limit: { unit: day } }
  - { key: midWild, value: bar*b, rate_limit: { unit: day } }
  - { key: multiWild, value: foo*bar*baz, rate_limit: { unit: day } }
  - { key: nestedWild, value: val1, descriptors: [{ key: wild, value: goo*, rate_limit: { unit: day } }] }
",
    );
    check(
        rules.domain("d").unwrap(),
        &[
            ("wild=foo1", "wild_foo*"),
            ("wild=foo2", "wild_foo*"),
            ("wild=foo*", "wild_foo*"),
            ("wild=bar", "-"),
            ("noWild=foo1", "-"),
            ("noVal=foo1", "noVal"),
            ("midWild=barab", "midWild_bar*b"),
            ("midWild=bar123b", "midWild_bar*b"),
            ("midWild=barb", "midWild_bar*b"),
            ("midWild=bara", "-"),
            ("midWild=xbarb", "-"),
            ("multiWild=foo123bar456baz", "multiWild_foo*bar*baz"),
            ("multiWild=foobarbaz", "multiWild_foo*bar*baz"),
            ("multiWild=foo123baz", "-"),
            ("multiWild=bar456baz", "-"),
            ("nestedWild=val1,wild=goo2", "nestedWild_val1.wild_goo*"),
            ("nestedWild=val1,wild=foo2", "-"),
        ],
    );
}

#[test]
fn exact_then_wildcards_in_order_then_the_bare_key() {
    let rules = rules(
        "domain: d
descriptors:
  - { key: k, rate_limit: { unit: day } }
  - { key: k, value: a*, rate_limit: { unit: day } }
  - { key: k*, value: ab*, rate_limit: { unit: day } }
  - { key: k, value: abc*, rate_limit: { unit: day } }
  - { key: k, value: abcd, rate_limit: { unit: day } }
  - { key: other*, rate_limit: { unit: day } }
  - { key: other, value: x*, rate_limit: { unit: day } }
  - { key: other, rate_limit: { unit: day } }
  - { key: dead, value: a*, descriptors: [{ key: x, rate_limit: { unit: day } }] }
  - { key: dead, value: ab*, rate_limit: { unit: day } }
  - { key: dead, rate_limit: { unit: day } }
  - { key: empty, value: '*', rate_limit: { unit: day } }
",
    );
    check(
        rules.domain("d").unwrap(),
        &[
            ("k=abcd", "k_abcd"),
            // The first wildcard wins, not the longest.
            ("k=abc", "k_a*"),
            ("kk=abc", "k*_ab*"),
            ("k=x", "k"),
            ("k=", "k"),
            ("kk=x", "-"),
            // A value may be the very text of a pattern: exact beats the order of the file.
            ("k=abc*", "k_abc*"),
            ("other=x1", "other*"),
            ("other2=", "other*"),
            // A wildcard key comes before the bare key, as any wildcard does.
            ("other=y", "other*"),
            // No going back from a wildcard without limits to what else would match.
            ("dead=ab", "-"),
            ("dead=ab,x=1", "dead_a*.x"),
            ("dead=z", "dead"),
            ("empty=", "empty_*"),
        ],
    );
}

/// The reference compares with key and value joined, so that there `a*b` (without a value) could not
/// match a key `axb` with a value: here patterns of keys see keys, and patterns of values see values.
#[test]
fn a_star_does_not_reach_from_the_key_into_the_value() {
    let rules = rules(
        "domain: d
descriptors:
  - { key: a*b, rate_limit: { unit: day } }
  - { key: c*, value: d, rate_limit: { unit: day } }
",
    );
    check(
        rules.domain("d").unwrap(),
        &[
            ("axb=v", "a*b"),
            ("ab=", "a*b"),
            ("axbc=b", "-"),
            ("cx=d", "c*_d"),
            ("c=x_d", "-"),
        ],
    );
}

#[test]
fn share_threshold() {
    let rules = rules(
        "domain: d
descriptors:
  - { key: files, value: files/*, share_threshold: true, rate_limit: { unit: day } }
  - key: route
    value: api/*
    share_threshold: true
    descriptors: [{ key: method, rate_limit: { unit: day } }]
  - key: nested
    value: parent
    descriptors:
      - { key: files, value: nested/*, share_threshold: true, rate_limit: { unit: day } }
  - { key: file, value: test1, rate_limit: { unit: day } }
  - { key: file, value: test*, share_threshold: true, rate_limit: { unit: day } }
  - { key: midpath, value: /api*v1, share_threshold: true, rate_limit: { unit: day } }
  - { key: service, value: svc*ep*rpc, share_threshold: true, rate_limit: { unit: day } }
  - key: tenant
    value: t*prod
    share_threshold: true
    descriptors:
      - { key: resource, value: res*v2, share_threshold: true, rate_limit: { unit: day } }
  - { key: apart, value: a*, rate_limit: { unit: day } }
  - { key: any*, share_threshold: true, rate_limit: { unit: day } }
",
    );
    let domain = rules.domain("d").unwrap();
    let shared = |descriptor: &str| -> Vec<Option<String>> {
        let found = domain
            .find(entries(descriptor))
            .unwrap_or_else(|| panic!("{descriptor}"));
        found
            .nodes
            .map(|node| node.shared_pattern().map(str::to_owned))
            .collect()
    };
    for (descriptor, expected) in [
        ("files=files/a.pdf", &[Some("files/*")][..]),
        ("files=files/b.csv", &[Some("files/*")]),
        ("route=api/v1,method=GET", &[Some("api/*"), None]),
        (
            "nested=parent,files=nested/file1.txt",
            &[None, Some("nested/*")],
        ),
        // The exact sibling has a bucket of its own.
        ("file=test1", &[None]),
        ("file=test2", &[Some("test*")]),
        ("file=test123", &[Some("test*")]),
        ("midpath=/api-beta-v1", &[Some("/api*v1")]),
        ("service=svcXXXepYYYrpc", &[Some("svc*ep*rpc")]),
        ("service=svceprpc", &[Some("svc*ep*rpc")]),
        (
            "tenant=t99prod,resource=resBBBv2",
            &[Some("t*prod"), Some("res*v2")],
        ),
        ("apart=a1", &[None]),
        // Only the key is a pattern: all values of one key share.
        ("anything=x", &[Some("*")]),
    ] {
        let expected: Vec<_> = expected.iter().map(|p| p.map(str::to_owned)).collect();
        assert_eq!(shared(descriptor), expected, "{descriptor}");
    }
    check(
        domain,
        &[("midpath=/api/v2", "-"), ("service=svcABCrpc", "-")],
    );
}

#[test]
fn value_to_metric_is_kept_on_each_node() {
    let rules = rules(
        "domain: d
descriptors:
  - key: k1
    descriptors:
      - { key: k2, value_to_metric: true, descriptors: [{ key: k3, rate_limit: { unit: day } }] }
",
    );
    let found = rules
        .domain("d")
        .unwrap()
        .find([("k1", "x"), ("k2", "y"), ("k3", "z")])
        .unwrap();
    assert_eq!(
        found
            .nodes
            .map(|node| node.value_to_metric)
            .collect::<Vec<_>>(),
        [false, true, false]
    );
}
