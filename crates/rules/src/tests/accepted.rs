//! What good files mean.

use serde_json::json;

use super::{files, rules};
use crate::{Algorithm, Hits, Limit, Limits, LoadOptions, Rule, RuleSet, Unit};
use ratekeeper_core::charge::OnStoreFailure;

/// The only rule of a file whose only descriptor has the key `k` and this body.
fn rule(body: &str) -> Rule {
    let rules = rules(&format!(
        "domain: d\ndescriptors:\n  - key: k\n    {body}\n"
    ));
    assert_eq!(rules.rules().len(), 1);
    Rule::clone(&rules.rules()[0])
}

fn limits(body: &str) -> Vec<Limit> {
    match rule(body).limits {
        Limits::Limited(limits) => limits,
        Limits::Unlimited { .. } => panic!("{body} is unlimited"),
    }
}

fn limit(body: &str) -> Limit {
    let mut limits = limits(&format!("rate_limit: {{{body}}}"));
    assert_eq!(limits.len(), 1);
    limits.remove(0)
}

#[test]
fn candidates_stand_beside_limits() {
    let body = "rate_limit: {unit: day, requests_per_unit: 9}";
    assert_eq!(rule(body).candidates, []);
    let hourly = Limit::new(5, Unit::Hour, Algorithm::TokenBucket);
    let one = "candidate: {unit: hour, requests_per_unit: 5}";
    let found = rule(&format!("{body}\n    {one}")).candidates;
    assert_eq!(found, std::slice::from_ref(&hourly));
    let two = "candidate: [{unit: hour, requests_per_unit: 5}, {unit: day, requests_per_unit: 7, name: n}]";
    let found = rule(&format!("{two}\n    rate_limit: {{unlimited: true}}")).candidates;
    let daily = Limit {
        name: "n".into(),
        ..Limit::new(7, Unit::Day, Algorithm::TokenBucket)
    };
    assert_eq!(found, [hourly, daily]);
}

#[test]
fn limits_have_defaults() {
    let plain = Limit::new(5, Unit::Hour, Algorithm::TokenBucket);
    assert_eq!(limit("unit: hour, requests_per_unit: 5"), plain);
    // As in the reference, a limit without a number denies everything.
    assert_eq!(
        limit("unit: hour"),
        Limit::new(0, Unit::Hour, Algorithm::TokenBucket)
    );
    assert_eq!(
        limit("unit: hour, requests_per_unit: 5, burst: 7"),
        Limit {
            burst: 7,
            max_debt: 7,
            ..plain.clone()
        }
    );
    assert_eq!(
        limit(
            "unit: HOUR, requests_per_unit: 5, unit_multiplier: 12, algorithm: fixed_window, hits: \
             postpaid, name: n, replaces: [{name: a}, {name: 7}], unlimited: false"
        ),
        Limit {
            unit_multiplier: 12,
            algorithm: Algorithm::FixedWindow,
            hits: Hits::Postpaid,
            name: "n".into(),
            replaces: vec!["a".into(), "7".into()],
            ..plain.clone()
        }
    );
    assert_eq!(
        limit("unit: hour, requests_per_unit: 5, max_debt: 0, hits: auto, algorithm: token_bucket"),
        Limit {
            max_debt: 0,
            ..plain
        }
    );
    let centuries = limit("unit: year, requests_per_unit: 1, unit_multiplier: 100");
    assert_eq!(centuries.period(), ratekeeper_core::bucket::MAX_PERIOD);
}

#[test]
fn the_default_algorithm_is_an_option() {
    let text = "domain: d\ndescriptors: [{key: k, rate_limit: {unit: day, requests_per_unit: 3}}]";
    let options = LoadOptions {
        default_algorithm: Algorithm::FixedWindow,
        ..Default::default()
    };
    let rules = RuleSet::load(&files(&[("a.yaml", text)]), options).unwrap();
    let expected = Limit::new(3, Unit::Day, Algorithm::FixedWindow);
    assert_eq!(rules.rules()[0].limits, Limits::Limited(vec![expected]));
}

#[test]
fn a_rule_may_have_several_limits() {
    let two =
        "rate_limit: [{unit: second, requests_per_unit: 10}, {unit: day, requests_per_unit: 250}]";
    let expected = [(10, Unit::Second), (250, Unit::Day)];
    assert_eq!(
        limits(two),
        expected.map(|(rate, unit)| Limit::new(rate, unit, Algorithm::TokenBucket))
    );
    let one = limits("rate_limit: [{unit: second}]");
    assert_eq!(one, [Limit::new(0, Unit::Second, Algorithm::TokenBucket)]);
}

#[test]
fn unlimited_ignores_the_number_and_keeps_the_names() {
    let expected = Limits::Unlimited {
        name: "n".into(),
        replaces: vec!["a".into()],
    };
    for body in [
        "rate_limit: {unlimited: true, name: n, replaces: [{name: a}], requests_per_unit: 3}",
        "rate_limit: [{unlimited: yes, unit: '', name: n, replaces: [name: a]}]",
    ] {
        assert_eq!(rule(body).limits, expected, "{body}");
    }
}

#[test]
fn numbers_are_written_in_many_ways() {
    for (text, expected) in [
        ("0", 0),
        ("4294967295", u32::MAX),
        ("1_000", 1_000),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 15),
        ("0b11", 3),
        ("+5", 5),
        ("", 0),
        ("~", 0),
    ] {
        let limit = limit(&format!("unit: day, requests_per_unit: {text}"));
        assert_eq!(limit.requests_per_unit, expected, "{text}");
    }
}

#[test]
fn flags_and_policies_stand_beside_the_limit() {
    let plain = rule("rate_limit: {unit: day}");
    assert_eq!(
        (plain.shadow_mode, plain.quota_mode, plain.detailed_metric),
        (false, false, false)
    );
    assert_eq!((plain.metadata, plain.on_store_failure), (None, None));
    let full = rule(
        "rate_limit: {unit: day}\n    shadow_mode: on\n    quota_mode: Yes\n    detailed_metric: true\n    \
         metadata: {a: 1, 7: one, n: {true: yes, 1.50: ~}, b: [x, {c: 1.5, d: null, e: no}], 'f': '1', version: !!str 2, \
         unknown_key: {unit: 3}}",
    );
    assert_eq!(
        (full.shadow_mode, full.quota_mode, full.detailed_metric),
        (true, true, true)
    );
    let metadata = json!({
        "a": 1, "7": "one", "n": { "true": true, "1.50": null }, "b": ["x", { "c": 1.5, "d": null, "e": false }], "f": "1", "version": "2",
        "unknown_key": { "unit": 3 },
    });
    assert_eq!(full.metadata.map(serde_json::Value::Object), Some(metadata));
    for (word, expected) in [
        ("local", OnStoreFailure::Local),
        ("allow", OnStoreFailure::Allow),
        ("deny", OnStoreFailure::Deny),
        ("error", OnStoreFailure::Error),
    ] {
        let found = rule(&format!(
            "rate_limit: {{unit: day}}\n    on_store_failure: {word}"
        ));
        assert_eq!(found.on_store_failure, Some(expected));
    }
}

#[test]
fn a_rule_knows_where_it_comes_from() {
    let found = rule("value: v*\n    rate_limit: {unit: day}");
    let place = (
        &*found.path,
        &*found.file,
        found.line,
        found.id,
        found.domain,
    );
    assert_eq!(place, ("d.k_v*", "a.yaml", 3, 0, 0));
}

/// Numbers and booleans are texts where texts are wanted, in the very way they are written.
#[test]
fn unquoted_scalars_are_texts() {
    let rules = rules(
        "domain: 007\ndescriptors:\n  - {key: 1_0, value: yes, rate_limit: {unit: day, name: 0x1}}\n  \
         - {key: 2024-01-01, value: !!str 1.50, rate_limit: {unit: day}}\n  - {key: 'null', value: ~, \
         rate_limit: {unit: day}}\n",
    );
    let domain = rules.domain("007").unwrap();
    let found = |key, value| domain.find([(key, value)]).map(|m| m.rule.path.as_str());
    assert_eq!(found("1_0", "yes"), Some("007.1_0_yes"));
    assert_eq!(found("2024-01-01", "1.50"), Some("007.2024-01-01_1.50"));
    assert_eq!(found("null", "anything"), Some("007.null"));
    assert!(matches!(&rules.rules()[0].limits, Limits::Limited(limits) if limits[0].name == "0x1"));
}

#[test]
fn anchors_aliases_and_merge_keys() {
    let rules = rules(
        "
domain: d
descriptors:
  - key: a
    rate_limit: &slow { unit: minute, requests_per_unit: 1 }
    descriptors: &below
      - key: below
        rate_limit: *slow
  - key: b
    rate_limit:
      <<: *slow
      requests_per_unit: 2
    descriptors: *below
  - key: c
    rate_limit:
      <<: [{ unit: hour }, *slow]
",
    );
    let domain = rules.domain("d").unwrap();
    let rate = |entries: &[(&str, &str)]| {
        let found = domain.find(entries.iter().copied()).unwrap();
        match &found.rule.limits {
            Limits::Limited(limits) => (limits[0].requests_per_unit, limits[0].unit),
            Limits::Unlimited { .. } => panic!("it is limited"),
        }
    };
    assert_eq!(rate(&[("a", "")]), (1, Unit::Minute));
    assert_eq!(rate(&[("b", "")]), (2, Unit::Minute));
    assert_eq!(rate(&[("b", ""), ("below", "")]), (1, Unit::Minute));
    assert_eq!(rate(&[("c", "")]), (1, Unit::Hour));
}

#[test]
fn odd_but_good_files() {
    for text in [
        "{\"domain\": \"d\", \"descriptors\": [{\"key\": \"a\", \"rate_limit\": {\"unit\": \"DAY\"}}]}",
        "\u{feff}domain: d\r\ndescriptors:\r\n- key: a\r\n  rate_limit:\r\n    unit: day\r\n",
        "%YAML 1.1\n---\ndomain: d\ndescriptors:\n- key: a\n  rate_limit: {unit: day}\n...\n",
        "domain: d\ndescriptors:\n- key: a\n  rate_limit: {unit: day}\n---\n",
        "domain: d\ndescriptors: [{key: a, value: , descriptors: ~, rate_limit: {unit: day}}]",
    ] {
        let rules = rules(text);
        assert!(
            rules.domain("d").unwrap().find([("a", "x")]).is_some(),
            "{text}"
        );
    }
}

/// The reference joins key and value before it compares, and so rejects this.
#[test]
fn keys_are_pairs() {
    let rules = rules(
        "domain: d\ndescriptors: [{key: a, value: b_c, rate_limit: {unit: day}}, {key: a_b, value: c}]",
    );
    let domain = rules.domain("d").unwrap();
    assert!(domain.find([("a", "b_c")]).is_some());
    assert!(domain.find([("a_b", "c")]).is_none());
}

/// As yaml.v2 reads them.
#[test]
fn binary_values_are_decoded() {
    let rules = rules(
        "domain: !!binary c2hvcA==\ndescriptors:\n- key: a\n  value: !!binary |\n    MTIz\n    NDU=\n  rate_limit: {unit: day}\n",
    );
    let shop = rules.domain("shop").unwrap();
    assert!(shop.find([("a", "12345")]).is_some());
}
