//! Which configuration is refused, and what is said of it: by `check`, and by a server that starts
//! with it.

mod files;
mod limits;

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::{Ratekeeper, ask, typed};

/// Files by name and text.
type Files<'a> = &'a [(&'a str, &'a str)];

/// Descriptors that are right, for files that are wrong elsewhere.
const RIGHT: &str = "descriptors: [{key: k, rate_limit: {unit: day, requests_per_unit: 1}}]";

fn write(files: Files<'_>) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

/// Checks that `check` and a server refuse the files and name every one of these mistakes.
fn refused(row: &str, files: Files<'_>, environment: &[(&'static str, &str)], mistakes: &[&str]) {
    let directory = write(files);
    let path = directory.path().to_str().unwrap();
    let printed = typed(["check", path], environment.iter().copied());
    assert_eq!(printed.code, 1, "{row}: {printed:?}");
    assert_eq!(printed.stdout, "", "{row}");
    named(row, &printed.stderr, directory.path(), mistakes);
    assert_eq!(
        printed.stderr.lines().count(),
        mistakes.len(),
        "{row}: every mistake is told once, and nothing else:\n{}",
        printed.stderr
    );

    let own = environment.iter().map(|&(n, v)| (n, v.to_owned()));
    let server = Ratekeeper::start_with(["--config", path], own);
    named(row, server.log(), directory.path(), mistakes);
    for name in ["", "ratelimit"] {
        assert_eq!(server.health(name), ServingStatus::NotServing, "{row}");
    }
    let status = server.ask(ask("d", &["k=v"])).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{row}");
    assert_eq!(
        status.message(),
        "no rate limit configuration loaded",
        "{row}"
    );
}

/// Checks that every mistake is in the text, behind its file and place: `a.yaml:1:9: what`.
fn named(row: &str, text: &str, directory: &Path, mistakes: &[&str]) {
    for mistake in mistakes {
        let expected = format!("{}/{mistake}", directory.display());
        let found = text.lines().any(|line| line.contains(&expected));
        assert!(found, "{row}: {mistake:?} is not in\n{text}");
    }
}

fn refused_file(row: &str, text: &str, mistakes: &[&str]) {
    refused(row, &[("a.yaml", text)], &[], mistakes);
}

// --- The rejections ---

#[test]
fn yaml_that_cannot_be_read_is_refused() {
    let row = refused_file;
    row(
        "an unclosed quote",
        "domain: \"d\ndescriptors: []\n",
        &["a.yaml:1:9: error loading config file: yaml: "],
    );
    row(
        "an unclosed bracket",
        "domain: d\ndescriptors: [{key: k\n",
        &["a.yaml:3:1: error loading config file: yaml: "],
    );
    row(
        "a tab",
        "domain: d\ndescriptors:\n\t- key: k\n",
        &["a.yaml:3:2: error loading config file: yaml: "],
    );
    row(
        "a list",
        "- domain: d\n",
        &["a.yaml:1:1: the file must be a map, but is a list"],
    );
    row(
        "a text",
        "domain\n",
        &["a.yaml:1:1: the file must be a map, but is a text"],
    );
}

#[test]
fn counts_that_are_none_are_refused() {
    for (value, shown) in [
        ("-1", "'-1'"),
        ("4294967296", "'4294967296'"),
        ("ten", "'ten'"),
        ("\"10\"", "the text '10'"),
        ("1.5", "'1.5'"),
        ("true", "'true'"),
        ("[1]", "a list"),
    ] {
        let text = format!(
            "domain: d\ndescriptors:\n- key: k\n  rate_limit: {{unit: day, requests_per_unit: {value}}}\n"
        );
        let shown = format!("but is {shown}");
        let what = match value {
            "[1]" => format!("a.yaml:4:46: requests_per_unit must be a whole number, {shown}"),
            _ => format!(
                "a.yaml:4:46: requests_per_unit must be a whole number from 0 to 4294967295, {shown}"
            ),
        };
        refused_file(value, &text, &[&what]);
    }
}

#[test]
fn keys_that_are_unknown_or_no_texts_are_refused() {
    let row = refused_file;
    row(
        "a misspelt key",
        "domain: d\ndescriptors:\n- key: k\n  ratelimit: {unit: day}\n",
        &[
            "a.yaml:4:3: config error, unknown key 'ratelimit' in a descriptor; did you mean 'rate_limit'?",
        ],
    );
    row(
        "a misspelt key in rate_limit",
        "domain: d\ndescriptors:\n- key: k\n  rate_limit: {unit: day, requestsperunit: 1}\n",
        &[
            "a.yaml:4:27: config error, unknown key 'requestsperunit' in rate_limit; did you mean 'requests_per_unit'?",
        ],
    );
    row(
        "a fraction as a key",
        "0.25: d\ndomain: d\n",
        &["a.yaml:1:1: config error, key is not of type string: 0.25"],
    );
    row(
        "a number as a key, deep down",
        "domain: d\ndescriptors: [{key: k, 7: x}]\n",
        &["a.yaml:2:24: config error, key is not of type string: 7"],
    );
    row(
        "a list of texts",
        "domain: d\ndescriptors: [a, b]\n",
        &[
            "a.yaml:2:15: config error, yaml file contains list of type other than map: a",
            "a.yaml:2:18: config error, yaml file contains list of type other than map: b",
        ],
    );
    row(
        "replaces as a list of texts",
        "domain: d\ndescriptors: [{key: k, rate_limit: {unit: day, replaces: [x]}}]\n",
        &["a.yaml:2:59: config error, yaml file contains list of type other than map: x"],
    );
}

#[test]
fn what_the_reference_ignores_is_ignored_with_a_warning_unless_check_is_strict() {
    let misplaced = "shadow_mode belongs in the descriptor, next to rate_limit, not in rate_limit";
    for (row, text, mistake) in [
        (
            "shadow_mode inside rate_limit",
            "domain: d\ndescriptors: [{key: k, rate_limit: {unit: day, shadow_mode: true}}]\n"
                .to_owned(),
            format!("a.yaml:2:48: {misplaced}"),
        ),
        (
            "unit at the root",
            format!("domain: d\nunit: day\n{RIGHT}\n"),
            "a.yaml:2:1: unit belongs inside rate_limit, not in the file".to_owned(),
        ),
        (
            "the same key twice",
            "domain: e\ndomain: d\n".to_owned(),
            "a.yaml:2:1: duplicate key \"domain\" in a map; the first is on line 1".to_owned(),
        ),
    ] {
        let directory = write(&[("a.yaml", &text)]);
        let path = directory.path().to_str().unwrap();
        let strict = typed(["check", "--strict", path], []);
        assert_eq!(strict.code, 1, "{row}: {strict:?}");
        named(row, &strict.stderr, directory.path(), &[&mistake]);
        let printed = typed(["check", path], []);
        assert_eq!(printed.code, 0, "{row}: {printed:?}");
        assert!(
            printed.stderr.starts_with("warning: "),
            "{row}: {printed:?}"
        );
        named(row, &printed.stderr, directory.path(), &[&mistake]);
        let server = Ratekeeper::start_with(["--config", path], []);
        named(row, server.log(), directory.path(), &[&mistake]);
        assert_eq!(server.health(""), ServingStatus::Serving, "{row}");
        assert_eq!(
            server.ask(ask("d", &["x=v"])).unwrap().overall_code,
            1,
            "{row}"
        );
    }
}

#[test]
fn domains_and_keys_must_be_there() {
    let row = refused_file;
    let empty = "config file cannot have empty domain";
    row("an empty file", "", &[&format!("a.yaml:1:1: {empty}")]);
    row("no domain", RIGHT, &[&format!("a.yaml:1:1: {empty}")]);
    row(
        "an empty domain",
        &format!("domain: ''\n{RIGHT}"),
        &[&format!("a.yaml:1:9: {empty}")],
    );
    row(
        "a null domain",
        &format!("domain:\n{RIGHT}"),
        &[&format!("a.yaml:1:1: {empty}")],
    );
    let empty = "descriptor has empty key";
    row(
        "no key",
        "domain: d\ndescriptors: [{value: v}]\n",
        &[&format!("a.yaml:2:15: {empty}")],
    );
    row(
        "an empty key",
        "domain: d\ndescriptors: [{key: '', value: v}]\n",
        &[&format!("a.yaml:2:21: {empty}")],
    );
    for name in ["domain", "key", "value"] {
        let text = match name {
            "domain" => "domain: 1.5\n".to_owned(),
            "key" => "domain: d\ndescriptors: [{key: 1.5}]\n".to_owned(),
            _ => "domain: d\ndescriptors: [{key: k, value: 1.5}]\n".to_owned(),
        };
        let what = format!("error checking config: {name} is the fraction 1.5");
        let place = match name {
            "domain" => "1:9",
            "key" => "2:21",
            _ => "2:31",
        };
        row(name, &text, &[&format!("a.yaml:{place}: {what}")]);
    }
}

#[test]
fn the_same_rule_twice_is_refused() {
    let row = refused_file;
    row(
        "twice the same key and value",
        "domain: d\ndescriptors:\n- {key: k, value: v}\n- {key: k, value: v}\n",
        &["a.yaml:4:3: duplicate descriptor composite key 'd.k_v'"],
    );
    row(
        "twice the same key alone",
        "domain: d\ndescriptors:\n- {key: k}\n- {key: k, value: ''}\n",
        &["a.yaml:4:3: duplicate descriptor composite key 'd.k'"],
    );
    row(
        "twice below another",
        "domain: d\ndescriptors:\n- key: a\n  value: b\n  descriptors:\n  - {key: k}\n  - {key: k}\n",
        &["a.yaml:7:5: duplicate descriptor composite key 'd.a_b.k'"],
    );
    let files: Files<'_> = &[
        ("a.yaml", "domain: d\ndescriptors: [{key: k, value: v}]\n"),
        ("b.yaml", "domain: d\ndescriptors: [{key: k, value: v}]\n"),
    ];
    refused(
        "the same domain in two files",
        files,
        &[],
        &["b.yaml:1:9: duplicate domain 'd' in config file"],
    );
    refused(
        "the same rule in two merged files",
        files,
        &[("MERGE_DOMAIN_CONFIG", "true")],
        &["b.yaml:2:15: duplicate descriptor composite key 'd.k_v'"],
    );
    // Lists below the same rule are not merged.
    refused(
        "the same rule in two merged files, with different children",
        &[
            (
                "a.yaml",
                "domain: d\ndescriptors: [{key: k, descriptors: [{key: a}]}]\n",
            ),
            (
                "b.yaml",
                "domain: d\ndescriptors: [{key: k, descriptors: [{key: b}]}]\n",
            ),
        ],
        &[("MERGE_DOMAIN_CONFIG", "true")],
        &["b.yaml:2:15: duplicate descriptor composite key 'd.k'"],
    );
}

/// A file with one rule whose `rate_limit` is this, in line 2 from column 37 on.
fn with_limit(limit: &str) -> String {
    format!("domain: d\ndescriptors: [{{key: k, rate_limit: {{{limit}}}}}]\n")
}

// --- What is accepted ---

/// Checks that `check` and a server accept the files.
fn accepted(row: &str, files: Files<'_>, environment: &[(&'static str, &str)]) -> Ratekeeper {
    let directory = write(files);
    let path = directory.path().to_str().unwrap();
    let printed = typed(["check", path], environment.iter().copied());
    assert_eq!(printed.code, 0, "{row}: {printed:?}");
    assert_eq!(printed.stderr, "", "{row}");
    let counted = match files.len() {
        1 => "ok: 1 file, ".to_owned(),
        count => format!("ok: {count} files, "),
    };
    assert!(printed.stdout.starts_with(&counted), "{row}: {printed:?}");
    let own = environment.iter().map(|&(n, v)| (n, v.to_owned()));
    // It has read the files when it listens, so they may go.
    let server = Ratekeeper::start_with(["--config", path], own);
    assert_eq!(server.health(""), ServingStatus::Serving, "{row}");
    server
}

#[test]
fn what_the_reference_accepts_is_accepted() {
    for (row, text) in [
        ("no descriptors", "domain: d\n"),
        ("null descriptors", "domain: d\ndescriptors:\n"),
        ("an empty list", "domain: d\ndescriptors: []\n"),
        (
            "JSON",
            "{\"domain\": \"d\", \"descriptors\": [{\"key\": \"k\"}]}",
        ),
        ("a comment and a document mark", "# rules\n---\ndomain: d\n"),
        (
            "texts that are numbers and booleans",
            "domain: 7\ndescriptors: [{key: 1, value: true}]\n",
        ),
        (
            "a null limit",
            "domain: d\ndescriptors: [{key: k, rate_limit: }]\n",
        ),
        ("no requests_per_unit", &with_limit("unit: day")),
        (
            "a unit in capitals",
            &with_limit("unit: MINUTE, requests_per_unit: 1"),
        ),
        (
            "the largest count",
            &with_limit("unit: year, requests_per_unit: 4294967295"),
        ),
        (
            "unlimited with a count",
            &with_limit("unlimited: true, requests_per_unit: 5"),
        ),
        (
            "replaces of nothing",
            &with_limit("unit: day, replaces: [{name: nobody}]"),
        ),
        (
            "names that are not unique",
            "
domain: d
descriptors:
  - {key: a, rate_limit: {name: n, unit: day}}
  - {key: b, rate_limit: {name: n, unit: day}}
",
        ),
        (
            "all modes and any metadata",
            "
domain: d
descriptors:
  - key: k
    value: v*
    shadow_mode: true
    quota_mode: true
    detailed_metric: true
    value_to_metric: true
    share_threshold: true
    metadata: {ratelimit: 1, list: [a, 1.5, {deep: null}], unit: {x: true}}
    rate_limit: {unit: week, requests_per_unit: 1}
",
        ),
        (
            "anchors and merge keys",
            "
domain: d
descriptors:
  - {key: a, rate_limit: &limit {unit: day, requests_per_unit: 1}}
  - {key: b, rate_limit: {<<: *limit, requests_per_unit: 2}}
",
        ),
    ] {
        accepted(row, &[("a.yaml", text)], &[]);
    }
}
