//! What only we reject.

use super::{check, check_descriptor, check_ignored, check_limit, check_with};
use crate::tests::rules;
use crate::{Algorithm, LoadOptions};

#[test]
fn keys_in_the_wrong_place() {
    // envoyproxy/ratelimit rejects ratekeeper's own keys, so that no user relies on their being ignored.
    check_descriptor(
        "§burst: 5",
        "burst belongs inside rate_limit, not in a descriptor; move it there",
    );
}

/// The reference checks keys without regard to their place, and ignores those in the wrong one.
#[test]
fn keys_of_the_reference_in_the_wrong_place_are_ignored() {
    let descriptor = "domain: d\ndescriptors:\n- key: k\n  ";
    for (body, what) in [
        (
            "rate_limit: {unit: day, §shadow_mode: true}",
            "shadow_mode belongs in the descriptor, next to rate_limit, not in rate_limit; it has no effect here",
        ),
        (
            "§unit: day",
            "unit belongs inside rate_limit, not in a descriptor; ",
        ),
        // Real files contain a description next to the key.
        (
            "§name: per user",
            "name belongs inside rate_limit, not in a descriptor; ",
        ),
        (
            "§domain: e",
            "domain belongs at the top of the file, not in a descriptor; ",
        ),
        (
            "rate_limit: {unlimited: true, unit: §foo}",
            "invalid rate limit unit 'foo'; it has no effect with unlimited: true",
        ),
    ] {
        check_ignored(&format!("{descriptor}{body}"), what);
    }
    check_ignored(
        "domain: d\n§key: a",
        "key belongs in the descriptor, next to rate_limit, not in the file; ",
    );
    // What is ignored is not read: it may be anything.
    let rules = rules(&format!(
        "{descriptor}name: [1]\n  rate_limit: {{unit: day, name: n, requests_per_unit: 5}}"
    ));
    assert_eq!(rules.rules()[0].path, "d.k");
    assert_eq!(rules.warnings().len(), 1);
}

#[test]
fn documents_and_maps() {
    check_ignored(
        "domain: d\n---\n§domain: e\n",
        "more than one YAML document in a file; only the first is read",
    );
    let twice = "domain: d\ndescriptors: []\n§domain: e\n";
    check_ignored(
        twice,
        "duplicate key \"domain\" in a map; the first is on line 1 and has no effect; remove one of them",
    );
    assert!(rules(&twice.replace('§', "")).domain("e").is_some());
    check_descriptor(
        "<<: §a",
        "error loading config file: yaml: map merge requires map or sequence",
    );
    check(
        "domain: d\ndescriptors: &a [§*a]",
        "error loading config file: yaml: an alias is inside",
    );
}

#[test]
fn our_own_words() {
    check_limit(
        "burst: §0",
        "burst must be a whole number from 1 to 4294967295, but is '0'; ",
    );
    check_limit(
        "unit_multiplier: §0",
        "unit_multiplier must be a whole number from 1 to ",
    );
    check_limit(
        "algorithm: §token-bucket",
        "algorithm cannot be 'token-bucket'; did you mean",
    );
    check_limit(
        "hits: §later",
        "hits cannot be 'later'; use one of prepaid, postpaid, auto",
    );
    check_descriptor(
        "on_store_failure: §allowed",
        "on_store_failure cannot be 'allowed'; did you mean",
    );
    check_descriptor(
        "on_store_failure: §open",
        "on_store_failure cannot be 'open'; use one of local",
    );
}

#[test]
fn candidates() {
    let with_limit = |candidate: &str| {
        format!("rate_limit: {{unit: day, requests_per_unit: 9}}\n    candidate: {candidate}")
    };
    for (candidate, what) in [
        (
            "§5",
            "candidate must be a map, but is '5'; write unit and requests_per_unit below it",
        ),
        (
            "§[]",
            "candidate is an empty list; write at least one limit, or remove candidate",
        ),
        (
            "[§5]",
            "config error, yaml file contains list of type other than map: 5; ",
        ),
        (
            "§{requests_per_unit: 5}",
            "invalid rate limit unit ''; use one of second, ",
        ),
        (
            "{unit: §dya, requests_per_unit: 5}",
            "invalid rate limit unit 'dya'; did you mean 'day'?",
        ),
        (
            "{unit: day, §requests_per_unt: 5}",
            "config error, unknown key 'requests_per_unt' in candidate; did you mean",
        ),
        (
            "{unit: day, burst: §0, requests_per_unit: 5}",
            "burst must be a whole number from 1 to",
        ),
        (
            "{unit: day, burst: §9}",
            "burst has no effect with requests_per_unit: 0",
        ),
        (
            "{unit: day, §unlimited: true}",
            "unlimited belongs inside rate_limit, not in candidate; ",
        ),
        (
            "{unit: day, §replaces: []}",
            "replaces belongs inside rate_limit, not in candidate; ",
        ),
        (
            "{unit: day, §shadow_mode: true}",
            "shadow_mode belongs in the descriptor, next to rate_limit, not in candidate; ",
        ),
        (
            "[{unit: day}, {unit: year, unit_multiplier: §101}]",
            "a period of 101 times one year is longer than 100 years; ",
        ),
    ] {
        check_descriptor(&with_limit(candidate), what);
    }
}

#[test]
fn candidates_in_the_wrong_place() {
    check_descriptor(
        "candidate: §{unit: day, requests_per_unit: 9}",
        "candidate needs a rate_limit in the same descriptor; add rate_limit: {unlimited: true} to try",
    );
    check_descriptor(
        "§candidates: {unit: day}",
        "config error, unknown key 'candidates' in a descriptor; did you mean 'candidate'?",
    );
    check_limit(
        "§candidate: {unit: day}",
        "candidate belongs in the descriptor, next to rate_limit, not in rate_limit; ",
    );
}

#[test]
fn our_own_words_in_vain() {
    check_limit(
        "algorithm: fixed_window, burst: §9",
        "burst has no effect with algorithm: fixed_window; remove burst",
    );
    check_limit(
        "algorithm: fixed_window, max_debt: §9",
        "max_debt has no effect with algorithm: ",
    );
    check_limit(
        "hits: prepaid, max_debt: §9",
        "max_debt has no effect with hits: prepaid, ",
    );
    check_descriptor(
        "rate_limit: {unit: day, burst: §9}",
        "burst has no effect with requests_per_unit: 0",
    );
    check_descriptor(
        "rate_limit: {unit: day, max_debt: §9}",
        "max_debt has no effect with requests_per",
    );
    check_descriptor(
        "rate_limit: {unit: year, requests_per_unit: 1, unit_multiplier: §101}",
        "a period of 101 times one year is longer than 100 years; write a unit_multiplier of at most 100",
    );
    check_descriptor("rate_limit: §[]", "rate_limit is an empty list; ");
    check_descriptor(
        "rate_limit: [{unit: day}, §{unlimited: true}]",
        "unlimited cannot be combined with other limits; ",
    );
    let windows = LoadOptions {
        default_algorithm: Algorithm::FixedWindow,
        ..LoadOptions::default()
    };
    check_with(
        windows,
        "domain: d\ndescriptors: [{key: a, rate_limit: {unit: day, requests_per_unit: 1, burst: §9}}]",
        "burst has no effect with fixed_window, the default algorithm of this server; remove burst",
    );
}

#[test]
fn files_that_are_no_rule_files() {
    for (text, what) in [
        (
            "§apiVersion: v1\nkind: ConfigMap\ndata: {config.yaml: \"domain: d\"}\n",
            "this is a Kubernetes manifest (ConfigMap), not a rule file; check the rule files below its data",
        ),
        (
            "§apiVersion: v1\nkind: Secret\ndata: {password: aHVudGVyMg==}\n",
            "this is a Kubernetes manifest, not a rule file; name the rule file instead",
        ),
        (
            "§rate_limits:\n- actions: [{remote_address: {}}]\n",
            "this is configuration for Envoy, not a rule file; rate_limits and their actions stay in Envoy's routes",
        ),
        (
            "§- actions:\n  - generic_key: {descriptor_value: a}\n",
            "this is configuration for Envoy, not a rule file; ",
        ),
        (
            "§- namespace: shop\n  max_value: 10\n  seconds: 60\n  conditions: []\n  variables: []\n",
            "this is a limits file of Limitador, not a rule file; write its namespace as the domain",
        ),
        (
            "§password: hunter2\nuser: root\n",
            "this is not a rule file: it has neither domain nor descriptors; ",
        ),
        ("§hunter2\n", "the file must be a map, but is a text; "),
    ] {
        check(text, what);
    }
    check_descriptor(
        "§actions: [{remote_address: {}}]",
        "config error, unknown key 'actions' in a descriptor; it belongs to Envoy's rate_limits",
    );
}

/// A directory of rules may hold a link to any file.
#[test]
fn nothing_of_other_files_is_quoted() {
    for text in [
        "root:$6$s3cret:19000:0:99999:7:::\ndaemon:*:19000:::\n",
        "user: s3cret\ns3cret: a\ns3cret: b\n",
        "s3cret: [\n",
        "s3cret: a\ns3cret: b\n- c\n",
        "- s3cret\n- s3cret: 1\n",
        "-----BEGIN PRIVATE KEY-----\ns3cret+/==\n-----END PRIVATE KEY-----\n",
        "{\"s3cret\": \"s3cret\", \"s3cret\": 1}",
        "S=s3cret\nT: \"s3cret",
    ] {
        let found = crate::tests::mistakes(&[("a.yaml", text)], LoadOptions::default());
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(!found[0].contains("s3cret"), "{found:#?}");
    }
}

#[test]
fn binary_values() {
    check(
        "domain: d\ndescriptors:\n- {key: a, value: §!!binary \"?\"}",
        "error loading config file: yaml: !!binary value contains invalid base64 data; ",
    );
    check(
        "domain: d\ndescriptors:\n- {key: a, value: §!!binary /w==}",
        "error loading config file: yaml: the bytes of a !!binary value are not UTF-8; ",
    );
}
