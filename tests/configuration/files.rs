//! Several files.

use super::{accepted, refused};
use crate::support::{ask, check};

#[test]
fn all_mistakes_of_all_files_are_told_at_once() {
    refused(
        "three files",
        &[
            (
                "a.yaml",
                "domain: d\ndescriptors:\n- key: ''\n- {key: k, rate_limit: {unit: foo}}\n- {key: k, shadow: 1}\n",
            ),
            ("b.yml", "descriptors: []\n"),
            ("c.json", "{\"domain\": \"d\", \"descriptor\": []}"),
            ("right.yaml", "domain: right\n"),
        ],
        &[],
        &[
            "a.yaml:3:8: descriptor has empty key",
            "a.yaml:4:31: invalid rate limit unit 'foo'",
            "a.yaml:5:3: duplicate descriptor composite key 'd.k'",
            "a.yaml:5:12: config error, unknown key 'shadow'",
            "b.yml:1:1: config file cannot have empty domain",
            "c.json:1:12: duplicate domain 'd' in config file",
            "c.json:1:17: config error, unknown key 'descriptor'",
        ],
    );
}

#[test]
fn no_file_at_all_is_a_configuration_without_domains() {
    let server = accepted("no files", &[], &[]);
    check(&server, "no domains", ask("d", &["k=v"]), "OK: OK");
}

#[test]
fn files_of_one_domain_are_merged_when_asked_for() {
    let server = accepted(
        "two files",
        &[
            (
                "a.yaml",
                "domain: d\ndescriptors: [{key: k, value: v1, rate_limit: {unit: day, requests_per_unit: 10}}]\n",
            ),
            (
                "b.yaml",
                "domain: d\ndescriptors: [{key: k, value: v2, rate_limit: {unit: year, requests_per_unit: 20}}]\n",
            ),
        ],
        &[("MERGE_DOMAIN_CONFIG", "true")],
    );
    let request = ask("d", &["k=v1", "k=v2", "k=v3"]);
    check(
        &server,
        "merged",
        request,
        "OK: OK 9 of 10/day | OK 19 of 20/year | OK",
    );
}

#[test]
fn patterns_of_merged_files_come_in_the_order_of_file_names() {
    // The reference takes files in random order, so there it is left to chance which pattern wins.
    let server = accepted(
        "two files",
        &[
            (
                "b.yaml",
                "domain: d\ndescriptors: [{key: k, value: v*, rate_limit: {unit: day, requests_per_unit: 2}}]\n",
            ),
            (
                "a.yaml",
                "domain: d\ndescriptors: [{key: k, value: '*1', rate_limit: {unit: day, requests_per_unit: 1}}]\n",
            ),
        ],
        &[("MERGE_DOMAIN_CONFIG", "true")],
    );
    check(
        &server,
        "both match",
        ask("d", &["k=v1"]),
        "OK: OK 0 of 1/day",
    );
    check(
        &server,
        "only one matches",
        ask("d", &["k=v2"]),
        "OK: OK 1 of 2/day",
    );
}
