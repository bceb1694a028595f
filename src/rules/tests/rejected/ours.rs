//! What only we reject.

use super::{check, check_descriptor, check_limit, check_with};
use crate::rules::{Algorithm, LoadOptions};

#[test]
fn keys_in_the_wrong_place() {
    check_limit(
        "§shadow_mode: true",
        "shadow_mode belongs beside rate_limit, in the descriptor, not in rate_limit; move it there",
    );
    check_descriptor(
        "§unit: day",
        "unit belongs inside rate_limit, not in a descriptor; ",
    );
    check(
        "domain: d\n§key: a",
        "key belongs beside rate_limit, in the descriptor, not in the file; ",
    );
    check_descriptor(
        "§domain: e",
        "domain belongs at the top of the file, not in a descriptor; ",
    );
}

#[test]
fn documents_and_maps() {
    check(
        "domain: d\n---\n§domain: e\n",
        "more than one YAML document in a file; ",
    );
    check(
        "domain: d\ndescriptors: []\n§domain: e\n",
        "duplicate key \"domain\" in a map; the first is on line 1; remove one of them",
    );
    check_descriptor(
        "<<: §a",
        "error loading config file: yaml: map merge requires map or sequence",
    );
    check(
        "domain: d\ndescriptors: &a [§*a]",
        "error loading config file: yaml: an alias stands inside",
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
    let beside = |candidate: &str| {
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
            "burst means nothing with requests_per_unit: 0",
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
            "shadow_mode belongs beside rate_limit, in the descriptor, not in candidate; ",
        ),
        (
            "[{unit: day}, {unit: year, unit_multiplier: §101}]",
            "a period of 101 times one year is longer than 100 years; ",
        ),
    ] {
        check_descriptor(&beside(candidate), what);
    }
}

#[test]
fn candidates_in_the_wrong_place() {
    check_descriptor(
        "candidate: §{unit: day, requests_per_unit: 9}",
        "candidate stands beside no rate_limit; write rate_limit: {unlimited: true} beside it to try",
    );
    check_descriptor(
        "§candidates: {unit: day}",
        "config error, unknown key 'candidates' in a descriptor; did you mean 'candidate'?",
    );
    check_limit(
        "§candidate: {unit: day}",
        "candidate belongs beside rate_limit, in the descriptor, not in rate_limit; ",
    );
}

#[test]
fn our_own_words_in_vain() {
    check_limit(
        "algorithm: fixed_window, burst: §9",
        "burst means nothing with algorithm: fixed_window; remove burst",
    );
    check_limit(
        "algorithm: fixed_window, max_debt: §9",
        "max_debt means nothing with algorithm: ",
    );
    check_limit(
        "hits: prepaid, max_debt: §9",
        "max_debt means nothing with hits: prepaid, ",
    );
    check_descriptor(
        "rate_limit: {unit: day, burst: §9}",
        "burst means nothing with requests_per_unit: 0",
    );
    check_descriptor(
        "rate_limit: {unit: day, max_debt: §9}",
        "max_debt means nothing with requests_per",
    );
    check_descriptor(
        "rate_limit: {unit: year, requests_per_unit: 1, unit_multiplier: §101}",
        "a period of 101 times one year is longer than 100 years; write a unit_multiplier of at most 100",
    );
    check_descriptor("rate_limit: §[]", "rate_limit is an empty list; ");
    check_descriptor(
        "rate_limit: [{unit: day}, §{unlimited: true}]",
        "unlimited has no place among other limits; ",
    );
    let windows = LoadOptions {
        default_algorithm: Algorithm::FixedWindow,
        ..LoadOptions::default()
    };
    check_with(
        windows,
        "domain: d\ndescriptors: [{key: a, rate_limit: {unit: day, requests_per_unit: 1, burst: §9}}]",
        "burst means nothing with fixed_window, the default algorithm of this server; remove burst",
    );
}
