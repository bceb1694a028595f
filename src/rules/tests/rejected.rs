//! Every mistake that one file can have. The sign § in a text is no part of it: it stands where the
//! mistake must be reported.

use super::mistakes;
use crate::rules::{Algorithm, LoadOptions};

/// The text without its mark, and the place of the mark.
fn marked(text: &str) -> (String, String) {
    let at = text.find('§').expect("the text has a mark");
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
    (
        text.replacen('§', "", 1),
        format!("a.yaml:{line}:{column}: "),
    )
}

fn check_with(options: LoadOptions, text: &str, what: &str) {
    let (text, place) = marked(text);
    let found = mistakes(&[("a.yaml", &text)], options);
    assert_eq!(found.len(), 1, "{found:#?}\n{text}");
    assert!(
        found[0].starts_with(&(place.clone() + what)),
        "{}\nis not\n{place}{what}",
        found[0]
    );
}

/// `text` is a file with exactly one mistake, whose message begins with `what`.
fn check(text: &str, what: &str) {
    check_with(LoadOptions::default(), text, what);
}

/// The same for the contents of a descriptor whose key is `k`, indented by four.
fn check_descriptor(body: &str, what: &str) {
    check(
        &format!("domain: d\ndescriptors:\n  - key: k\n    {body}"),
        what,
    );
}

/// The same for the contents of a `rate_limit` of 5 per second.
fn check_limit(body: &str, what: &str) {
    check_descriptor(
        &format!("rate_limit: {{unit: second, requests_per_unit: 5, {body}}}"),
        what,
    );
}

// --- What envoyproxy/ratelimit rejects, in its words ---

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
         belongs beside rate_limit, in the descriptor?",
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
    check("§hello\n", "the file must be a map, but is 'hello'; ");
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
    // The reference lets this pass, though it can only be a slip.
    check_descriptor(
        "rate_limit: {unlimited: true, unit: §foo}",
        "invalid rate limit unit 'foo'; ",
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
            &format!("{name} means nothing with unlimited: true; remove {name}"),
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
        "metadata: {a: [{§1: b}]}",
        "error parsing metadata: key is not of type string: 1",
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

// --- What only we reject ---

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

// --- What would take too much ---

#[test]
fn nesting() {
    let levels = |n: usize| {
        let mut text = "domain: d\ndescriptors:\n".to_owned();
        for level in 0..n {
            let indent = " ".repeat(level * 2);
            text += &format!("{indent}- key: k\n{indent}  descriptors:\n");
        }
        text
    };
    super::rules(&levels(64));
    let text = levels(64) + &" ".repeat(128) + "- key: k\n";
    let (above, below) = text.rsplit_once("key").unwrap();
    check(
        &format!("{above}§key{below}"),
        "descriptors are nested deeper than 64 levels; a descriptor with so many entries cannot",
    );
    for hostile in [
        "[".repeat(1_000_000),
        "{a: ".repeat(3_000),
        "- ".repeat(100_000),
        "? ".repeat(9_999),
    ] {
        let found = mistakes(&[("a.yaml", &hostile)], LoadOptions::default());
        assert!(
            found[0].contains("nested deeper than 256 levels"),
            "{found:?}"
        );
    }
}

#[test]
fn aliases_that_explode() {
    let mut text = "domain: d\na0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..30 {
        let aliases = vec![format!("*a{}", i - 1); 9].join(", ");
        text += &format!("a{i}: &a{i} [{aliases}]\n");
    }
    let found = mistakes(&[("a.yaml", &text)], LoadOptions::default());
    assert!(found[0].contains("excessive aliasing"), "{found:?}");
}
