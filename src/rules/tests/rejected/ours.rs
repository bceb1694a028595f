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
