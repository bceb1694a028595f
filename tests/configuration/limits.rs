//! Limits that are rejected.

use super::{refused_file, with_limit};

#[test]
fn limits_that_make_no_sense_are_refused() {
    for (limit, mistake) in [
        ("unit: foo", "2:43: invalid rate limit unit 'foo'"),
        ("unit: unknown", "2:43: invalid rate limit unit 'unknown'"),
        (
            "unit: days",
            "2:43: invalid rate limit unit 'days'; did you mean 'day'?",
        ),
        ("requests_per_unit: 1", "2:36: invalid rate limit unit ''"),
        (
            "unit: , requests_per_unit: 1",
            "2:36: invalid rate limit unit ''",
        ),
        (
            "unlimited: true, unit: day",
            "2:60: should not specify rate limit unit when unlimited",
        ),
        (
            "unit: day, replaces: [{name: ''}]",
            "2:66: should not have an empty replaces entry",
        ),
        (
            "unit: day, replaces: [{name: }]",
            "2:60: should not have an empty replaces entry",
        ),
        (
            "unit: day, replaces: [{}]",
            "2:59: should not have an empty replaces entry",
        ),
        (
            "unit: day, name: x, replaces: [{name: x}]",
            "2:75: replaces should not contain name of same descriptor",
        ),
        // What the reference does not know.
        (
            "unit: day, unit_multiplier: 0",
            "2:65: unit_multiplier must be a whole number from 1",
        ),
        (
            "unit: year, unit_multiplier: 101",
            "2:66: a period of 101 times one year is longer than",
        ),
        (
            "unit: day, requests_per_unit: 1, burst: 0",
            "2:77: burst must be a whole number from 1",
        ),
        (
            "unit: day, algorithm: leaky",
            "2:59: algorithm cannot be 'leaky'",
        ),
        ("unit: day, hits: later", "2:54: hits cannot be 'later'"),
        (
            "unit: day, requests_per_unit: 1, algorithm: fixed_window, burst: 5",
            "2:102: burst has no effect with algorithm: fixed_window",
        ),
        (
            "unit: day, requests_per_unit: 1, hits: prepaid, max_debt: 5",
            "2:95: max_debt has no effect with hits: prepaid",
        ),
    ] {
        refused_file(limit, &with_limit(limit), &[&format!("a.yaml:{mistake}")]);
    }
    refused_file(
        "an empty list of limits",
        "domain: d\ndescriptors: [{key: k, rate_limit: []}]\n",
        &["a.yaml:2:36: rate_limit is an empty list"],
    );
    refused_file(
        "unlimited among limits",
        "domain: d\ndescriptors:\n- key: k\n  rate_limit:\n  - {unit: day}\n  - {unlimited: true}\n",
        &["a.yaml:6:5: unlimited cannot be combined with other limits"],
    );
}

#[test]
fn what_stands_beside_the_limit_is_checked() {
    let row = |name: &str, beside: &str, mistake: &str| {
        let text = format!("domain: d\ndescriptors: [{{key: k, {beside}}}]\n");
        refused_file(name, &text, &[&format!("a.yaml:{mistake}")]);
    };
    row(
        "share_threshold without a pattern",
        "value: v, share_threshold: true",
        "2:51: share_threshold can only be used with wildcard values (containing '*'), but found key 'k_v'",
    );
    row(
        "metadata that is no map",
        "metadata: [1]",
        "2:34: error parsing metadata: ",
    );
    row(
        "a mode that is no boolean",
        "shadow_mode: maybe",
        "2:37: shadow_mode must be true or false",
    );
    row(
        "a mode in quotes",
        "quota_mode: 'true'",
        "2:36: quota_mode must be true or false",
    );
    row(
        "an unknown failure mode",
        "on_store_failure: open",
        "2:42: on_store_failure cannot be 'open'",
    );
}
