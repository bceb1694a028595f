//! Sentences about changes.

use super::super::{LoadOptions, SourceFile};
use super::*;

fn rules(descriptors: &str) -> RuleSet {
    let file = SourceFile {
        name: "f.yaml".to_owned(),
        text: format!("domain: d\ndescriptors: [{descriptors}]\n"),
    };
    RuleSet::load(&[file], LoadOptions::default()).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn check(old: &str, new: &str, expected: &[&str]) {
    let sentences: Vec<String> = diff(&rules(old), &rules(new))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(sentences, expected, "from {old} to {new}");
}

const SIX: &str = "rate_limit: {unit: minute, requests_per_unit: 6}";

#[test]
fn nothing_changes_when_nothing_changes() {
    let some = format!("{{key: a, {SIX}}}, {{key: b, value: x*, {SIX}}}");
    check(&some, &some, &[]);
    // Another order of what is found by its name.
    check(
        &format!("{{key: a, {SIX}}}, {{key: b, {SIX}}}"),
        &format!("{{key: b, {SIX}}}, {{key: a, {SIX}}}"),
        &[],
    );
}

#[test]
fn limits_are_raised_and_lowered_in_rate_and_burst() {
    let check = |old: &str, new: &str, expected: &str| {
        let with = |limit: &str| format!("{{key: a, rate_limit: {{{limit}}}}}");
        check(
            &with(old),
            &with(new),
            &[&format!("rule d.a (f.yaml:2) {expected}")],
        );
    };
    let six = "unit: minute, requests_per_unit: 6";
    check(
        six,
        "unit: minute, requests_per_unit: 12",
        "is raised from 6 per minute to 12 per minute (+100 %), its burst from 6 to 12 (+100 %); buckets keep what was taken",
    );
    check(
        six,
        "unit: minute, requests_per_unit: 3",
        "is lowered from 6 per minute to 3 per minute (-50 %), its burst from 6 to 3 (-50 %); buckets keep what was taken, as far as the new limit goes",
    );
    check(
        six,
        "unit: minute, requests_per_unit: 6, burst: 9",
        "has its burst raised from 6 to 9 (+50 %), at 6 per minute as before; buckets keep what was taken",
    );
    check(
        six,
        "unit: hour, requests_per_unit: 60, burst: 6",
        "is lowered from 6 per minute to 60 per hour (-83 %), with the same burst of 6; buckets keep what was taken",
    );
    check(
        six,
        "unit: hour, requests_per_unit: 60",
        "is lowered from 6 per minute to 60 per hour (-83 %), but its burst raised from 6 to 60 (+900 %); buckets keep what was taken",
    );
    check(
        six,
        "unit: hour, requests_per_unit: 360, burst: 6",
        "has the same rate in other units (from 6 per minute to 360 per hour); buckets keep what was taken",
    );
    check(
        six,
        "unit: minute, requests_per_unit: 0",
        "is lowered from 6 per minute to 0 per minute, its burst from 6 to 0; buckets keep what was taken, as far as the new limit goes",
    );
}

#[test]
fn limits_change_in_other_ways() {
    let check = |old: &str, new: &str, expected: &str| {
        let with = |limit: &str| format!("{{key: a, rate_limit: {{{limit}}}}}");
        check(
            &with(old),
            &with(new),
            &[&format!("rule d.a (f.yaml:2) {expected}")],
        );
    };
    let six = "unit: minute, requests_per_unit: 6";
    let window = "unit: minute, requests_per_unit: 6, algorithm: fixed_window";
    check(
        window,
        "unit: minute, requests_per_unit: 9, algorithm: fixed_window",
        "is raised from 6 per minute to 9 per minute (+50 %); buckets keep what was taken",
    );
    check(
        window,
        "unit: hour, requests_per_unit: 60, algorithm: fixed_window",
        "has another window (from 6 per minute to 60 per hour); buckets keep what was taken",
    );
    check(
        six,
        "unit: minute, requests_per_unit: 6, algorithm: fixed_window",
        "is a fixed window and no longer a token bucket (from 6 per minute, token bucket of 6 to 6 per minute, fixed window); buckets start full",
    );
    check(
        six,
        "unit: minute, requests_per_unit: 6, hits: postpaid",
        "changes how hits are taken (from auto to postpaid)",
    );
    check(
        six,
        "unit: minute, requests_per_unit: 6, max_debt: 9",
        "lets debt grow to 9 instead of 6",
    );
    check(
        six,
        "unit: minute, requests_per_unit: 6, name: n",
        "has the name \"n\" instead of no name",
    );
    check(
        six,
        "unlimited: true",
        "had 6 per minute, token bucket of 6 and is unlimited; its buckets are no longer used and expire",
    );
    check(
        "unlimited: true",
        six,
        "was unlimited and is limited to 6 per minute, token bucket of 6; buckets start full",
    );
}

#[test]
fn limits_of_a_list_are_told_apart() {
    let with = |limits: &str| format!("{{key: a, rate_limit: [{limits}]}}");
    let (second, day) = (
        "{unit: second, requests_per_unit: 1}",
        "{unit: day, requests_per_unit: 9}",
    );
    check(
        &with(second),
        &with(&format!("{second}, {day}")),
        &[
            "rule d.a (f.yaml:2) has one limit more, 9 per day, token bucket of 9; buckets start full",
        ],
    );
    check(
        &with(&format!("{second}, {day}")),
        &with(second),
        &[
            "rule d.a (f.yaml:2) no longer has the limit 9 per day, token bucket of 9; its buckets are no longer used and expire",
        ],
    );
    check(
        &with(&format!("{second}, {day}")),
        &with(&format!("{day}, {second}")),
        &[
            "rule d.a (f.yaml:2) has its limits in another order (9 per day, token bucket of 9 and 1 per second, token bucket of 1): \
           each continues with the buckets of the limit that had its position; buckets keep what was taken",
        ],
    );
    check(
        &with(&format!("{second}, {day}")),
        &with(&format!("{second}, {{unit: day, requests_per_unit: 18}}")),
        &[
            "rule d.a (f.yaml:2) limit 2 is raised from 9 per day to 18 per day (+100 %), its burst from 9 to 18 (+100 %); buckets keep what was taken",
        ],
    );
}

#[test]
fn words_beside_the_limits_are_told() {
    for (word, expected) in [
        (
            "shadow_mode: true",
            "is in shadow mode: it counts and no longer denies",
        ),
        (
            "quota_mode: true",
            "is a quota: it denies only together with all other quotas of a request",
        ),
        (
            "on_store_failure: deny",
            "changes its failure policy (from the server's to deny)",
        ),
        (
            "detailed_metric: true",
            "has another name in metrics (detailed_metric, value_to_metric)",
        ),
        ("metadata: {a: b}", "returns other metadata"),
        (
            "candidate: {unit: minute, requests_per_unit: 3}",
            "tries 3 per minute, token bucket of 3 as a candidate (before: nothing), which denies nothing",
        ),
    ] {
        let with = format!("{{key: a, {word}, {SIX}}}");
        check(
            &format!("{{key: a, {SIX}}}"),
            &with,
            &[&format!("rule d.a (f.yaml:2) {expected}")],
        );
    }
    check(
        &format!("{{key: a, value: x*, {SIX}}}"),
        &format!("{{key: a, value: x*, share_threshold: true, {SIX}}}"),
        &[
            "rule d.a_x* (f.yaml:2) has other share_threshold settings at or above it: other values share a bucket; buckets start full",
        ],
    );
}

#[test]
fn rules_come_and_go_and_say_what_was_met_instead() {
    let bare = format!("{{key: a, {SIX}}}");
    let exact =
        format!("{bare}, {{key: a, value: x, rate_limit: {{unit: day, requests_per_unit: 1}}}}");
    check(
        &bare,
        &exact,
        &[
            "rule d.a_x (f.yaml:2) is new (1 per day, token bucket of 1); its descriptors matched d.a (f.yaml:2); buckets keep what was taken",
        ],
    );
    check(
        &exact,
        &bare,
        &[
            "rule d.a_x (f.yaml:2) is removed (1 per day, token bucket of 1); its descriptors match d.a (f.yaml:2); buckets keep what was taken",
        ],
    );
    check(
        "{key: b}",
        &format!("{bare}, {{key: b}}"),
        &[
            "rule d.a (f.yaml:2) is new (6 per minute, token bucket of 6); its descriptors were not limited; buckets start full",
        ],
    );
    check(
        &format!("{bare}, {{key: b}}"),
        "{key: b}",
        &[
            "rule d.a (f.yaml:2) is removed (6 per minute, token bucket of 6); its descriptors are no longer limited; its buckets are no longer used and expire",
        ],
    );
    check(
        &bare,
        &format!("{{key: c, {SIX}}}"),
        &[
            "rule d.a (f.yaml:2) is removed (6 per minute, token bucket of 6); its descriptors are no longer limited; its buckets are no longer used and expire",
            "rule d.c (f.yaml:2) is new (6 per minute, token bucket of 6); its descriptors were not limited; buckets start full",
            "d.c may be d.a under another name: it limits the same, but only what is sent under the new name; buckets start full",
        ],
    );
}

#[test]
fn descriptors_that_meet_another_rule_are_told() {
    let bare = format!("{{key: a, {SIX}}}");
    // A node without a limit takes away what the bare key limited.
    check(
        &bare,
        &format!("{bare}, {{key: a, value: health}}"),
        &[
            "descriptors such as a=health matched rule d.a (f.yaml:2) and are no longer limited; its buckets are no longer used and expire",
        ],
    );
    // The order of patterns.
    let one = format!("{{key: a, value: x*, {SIX}}}");
    let other = "{key: a, value: '*y', rate_limit: {unit: day, requests_per_unit: 1}}";
    check(
        &format!("{one}, {other}"),
        &format!("{other}, {one}"),
        &[
            "descriptors such as a=xany matched rule d.a_x* (f.yaml:2) and match d.a_*y (f.yaml:2) (1 per day, token bucket of 1); buckets keep what was taken",
        ],
    );
    // A pattern that claims what a bare key had, and one bucket for all.
    check(
        &bare,
        &format!("{bare}, {{key: a, value: 'v*', share_threshold: true, {SIX}}}"),
        &[
            "rule d.a_v* (f.yaml:2) is new (6 per minute, token bucket of 6); its descriptors matched d.a (f.yaml:2); buckets start full",
        ],
    );
}

#[test]
fn domains_come_and_go() {
    let file = |text: &str| SourceFile {
        name: "f.yaml".to_owned(),
        text: text.to_owned(),
    };
    let load = |text: &str| RuleSet::load(&[file(text)], LoadOptions::default()).unwrap();
    let one = load(&format!("domain: one\ndescriptors: [{{key: a, {SIX}}}]"));
    let two = load("domain: two\n");
    let sentences: Vec<String> = diff(&one, &two).iter().map(ToString::to_string).collect();
    assert_eq!(
        sentences,
        [
            "domain one is removed, with 1 rules; its requests are no longer limited; its buckets are no longer used and expire",
            "domain two is new, with 0 rules; its requests were not limited; buckets start full",
        ]
    );
}
