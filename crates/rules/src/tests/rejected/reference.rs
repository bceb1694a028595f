//! What envoyproxy/ratelimit rejects too, in its words.

use super::{check, check_descriptor, check_limit};

#[test]
fn yaml_that_cannot_be_read() {
    check(
        "domain: §\"d\n",
        "error loading config file: yaml: while scanning a quoted scalar, found unexpected end of \
         stream; close the quote or bracket that was opened",
    );
    check(
        "domain: d\ndescriptors:\n\t§- key: a",
        "error loading config file: yaml: tabs",
    );
    check(
        "domain: d\nkey: a§: b",
        "error loading config file: yaml: mapping values are not allowed",
    );
    check(
        "domain: §*nobody\n",
        "error loading config file: yaml: while parsing node, found unknown",
    );
    check(
        "domain: d§\0\n",
        "error loading config file: yaml: the file contains a NUL byte",
    );
}

#[test]
fn types() {
    for (value, shown) in [
        ("-1", "'-1'"),
        ("4294967296", "'4294967296'"),
        ("\"5\"", "the text '5'"),
        ("1.5", "'1.5'"),
        ("five", "'five'"),
        ("true", "'true'"),
        ("08", "'08'"),
    ] {
        check_descriptor(
            &format!("rate_limit: {{unit: second, requests_per_unit: §{value}}}"),
            &format!(
                "requests_per_unit must be a whole number from 0 to 4294967295, but is {shown}; "
            ),
        );
    }
    check_descriptor(
        "rate_limit: {unit: second, requests_per_unit: §[5]}",
        "requests_per_unit must be a whole number, but is a list; ",
    );
    for (value, shown) in [
        ("maybe", "'maybe'"),
        ("1", "'1'"),
        ("\"true\"", "the text 'true'"),
    ] {
        check_descriptor(
            &format!("shadow_mode: §{value}"),
            &format!("shadow_mode must be true or false, but is {shown}; write shadow_mode: true"),
        );
    }
    check_descriptor(
        "value: §1.5",
        "error checking config: value is the fraction 1.5; put it in",
    );
    check_descriptor("value: §{a: b}", "value must be a text, but is a map; ");
    check_descriptor("rate_limit: §5", "rate_limit must be a map, but is '5'; ");
    check_descriptor(
        "descriptors: §{key: a}",
        "descriptors must be a list of maps, but is a map; ",
    );
}

#[test]
fn keys_that_are_no_strings() {
    for key in ["0.25", "1", "true", "~", "[a]", "{a: b}"] {
        let shown = match key {
            "[a]" => "a list",
            "{a: b}" => "a map",
            key => key,
        };
        check(
            &format!("domain: d\n§{key}: x\n"),
            &format!("config error, key is not of type string: {shown}; "),
        );
    }
}

#[test]
fn unknown_keys() {
    check_descriptor(
        "§ratelimit: {unit: second}",
        "config error, unknown key 'ratelimit' in a descriptor; did you mean 'rate_limit'?",
    );
    check_descriptor(
        "rate_limit: {unit: second, §requestsperunit: 5}",
        "config error, unknown key 'requestsperunit' in rate_limit; did you mean \
         'requests_per_unit'?",
    );
    check(
        "domain: d\n§descriptor: []",
        "config error, unknown key 'descriptor' in the file; did you mean 'descriptors'?",
    );
    check_limit(
        "§shadow_mod: true",
        "config error, unknown key 'shadow_mod' in rate_limit; did you mean 'shadow_mode', which \
         belongs in the descriptor, next to rate_limit?",
    );
    check_descriptor(
        "§banana: 1",
        "config error, unknown key 'banana' in a descriptor; the keys known here are key, value, ",
    );
    check_limit(
        "replaces: [{§nam: a, name: b}]",
        "config error, unknown key 'nam' in replaces; did",
    );
}

/// What a misspelt key leaves out is not reported as missing.
#[test]
fn a_misspelt_key_is_one_mistake() {
    let unknown = "config error, unknown key '";
    check(
        "§domian: d\n",
        &format!("{unknown}domian' in the file; did you mean 'domain'?"),
    );
    check(
        "domain: d\ndescriptors: [{§kye: a}]",
        &format!("{unknown}kye' in a descriptor; did you"),
    );
    check_descriptor(
        "rate_limit: {§untis: day}",
        &format!("{unknown}untis' in rate_limit; did you"),
    );
    check_descriptor(
        "rate_limit: {§unlimted: true}",
        &format!("{unknown}unlimted' in rate_limit; "),
    );
    check_descriptor(
        "rate_limit: {unit: day, §request_per_unit: 5, burst: 7}",
        &format!("{unknown}request_per_unit' in rate_limit; did you mean 'requests_per_unit'?"),
    );
}

#[test]
fn lists_of_something_else() {
    let what = "config error, yaml file contains list of type other than map: ";
    check("domain: d\ndescriptors:\n  - §a", &format!("{what}a; "));
    check("domain: d\ndescriptors: [§[]]", &format!("{what}a list; "));
    check("domain: d\ndescriptors:\n  -§\n", &format!("{what}null; "));
    check_limit("replaces: [§a]", &format!("{what}a; "));
    check_descriptor("rate_limit: [{unit: day}, §5]", &format!("{what}5; "));
}

#[test]
fn domains() {
    for text in [
        "§",
        "§# nothing\n",
        "§---\n",
        "§null",
        "§descriptors: []\n",
        "domain: §\"\"\n",
        "§domain:\n",
        "§domain: ~\n",
    ] {
        check(text, "config file cannot have empty domain; ");
    }
    check("§- domain: d\n", "the file must be a map, but is a list; ");
    check("§hello\n", "the file must be a map, but is a text; ");
}

#[test]
fn descriptor_keys() {
    check(
        "domain: d\ndescriptors:\n  - §value: a\n",
        "descriptor has empty key; ",
    );
    check(
        "domain: d\ndescriptors:\n  - key: §''\n",
        "descriptor has empty key; ",
    );
    check(
        "domain: d\ndescriptors:\n  - §key: null\n",
        "descriptor has empty key; ",
    );
    check(
        "domain: d\ndescriptors: [§{}]",
        "descriptor has empty key; ",
    );
    check(
        "domain: d\ndescriptors:\n  - key: §1.5\n",
        "error checking config: key is the fraction",
    );
}

#[test]
fn duplicates() {
    let what =
        "duplicate descriptor composite key 'd.key1_value1'; it is defined first at a.yaml:3";
    check(
        "domain: d\ndescriptors:\n- {key: key1, value: value1}\n- §{key: key1, value: value1}",
        what,
    );
    check(
        "domain: d\ndescriptors:\n- key: a\n  descriptors: [key: b]\n- §key: a\n  value: ''",
        "duplicate descriptor composite key 'd.a'; ",
    );
    check_descriptor(
        "descriptors:\n      - {key: a*}\n      - §{key: a*}\n",
        "duplicate descriptor composite key 'd.k.a*'; it is defined first at a.yaml:5; ",
    );
}

#[test]
fn units() {
    check_descriptor(
        "rate_limit: {unit: §foo, requests_per_unit: 5}",
        "invalid rate limit unit 'foo'; use one of second, minute, hour, day, week, month, year",
    );
    check_descriptor(
        "rate_limit: {unit: §minutes}",
        "invalid rate limit unit 'minutes'; did you mean",
    );
    check_descriptor(
        "rate_limit: §{requests_per_unit: 5}",
        "invalid rate limit unit ''; use",
    );
    check_descriptor("rate_limit: §{unit: ''}", "invalid rate limit unit ''; use");
    check_descriptor(
        "rate_limit: {unit: §unknown}",
        "invalid rate limit unit 'unknown'; ",
    );
    check_descriptor("rate_limit: {unit: §5}", "invalid rate limit unit '5'; ");
}

#[test]
fn unlimited() {
    check_descriptor(
        "rate_limit: {unlimited: true, unit: §day}",
        "should not specify rate limit unit when unlimited; ",
    );
    for key in [
        "burst: §5",
        "unit_multiplier: §2",
        "hits: §auto",
        "max_debt: §1",
    ] {
        let name = key.split(':').next().unwrap();
        check_descriptor(
            &format!("rate_limit: {{unlimited: true, {key}}}"),
            &format!("{name} has no effect with unlimited: true; remove {name}"),
        );
    }
}

#[test]
fn replaces() {
    check_limit(
        "replaces: [{§name: }]",
        "should not have an empty replaces entry; ",
    );
    check_limit(
        "replaces: [{name: §''}]",
        "should not have an empty replaces entry; ",
    );
    check_limit(
        "replaces: [§{}]",
        "should not have an empty replaces entry; ",
    );
    check_limit(
        "name: a, replaces: [{name: b}, {name: §a}]",
        "replaces should not contain name of same descriptor: 'a'; ",
    );
    check_limit(
        "replaces: §a",
        "replaces must be a list of maps, but is 'a'; ",
    );
}

#[test]
fn share_threshold() {
    check(
        "domain: d\ndescriptors: [{key: files, value: a, share_threshold: §true}]",
        "share_threshold can only be used with wildcard values (containing '*'), but found key \
         'files_a'; ",
    );
}

#[test]
fn metadata() {
    check_descriptor(
        "metadata: §text",
        "error parsing metadata: it is not a map but 'text'; ",
    );
    check_descriptor(
        "metadata: {a: [{? §[1] : b}]}",
        "error parsing metadata: a key is a list; ",
    );
    check_descriptor(
        "metadata: {a: §.nan}",
        "error parsing metadata: .nan is not a JSON number; ",
    );
    let deep = format!("metadata: {}§{{}}{}", "{a: ".repeat(24), "}".repeat(24));
    check_descriptor(
        &deep,
        "error parsing metadata: it is nested deeper than 24 levels; ",
    );
}
