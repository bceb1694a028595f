//! Two configurations compared, and reports of it.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::{Desk, RULES, minute};
use crate::support::typed;

#[test]
fn two_configurations_are_told_apart() {
    let desk = Desk::new();
    let hostile = "<script>alert(1)</script>&\"'\u{202e}\n";
    let recording = desk.write("minute.jsonl", &minute(&["ann", hostile]));
    let new = desk.write(
        "new.yaml",
        "domain: mesh\ndescriptors:\n  - {key: user, rate_limit: {unit: day, requests_per_unit: 50}}\n  \
         - {key: user, value: ann, rate_limit: {unit: second, requests_per_unit: 1}}\n",
    );
    let page = desk.path("report.html");
    let report = desk.replayed(&[
        "--against".as_ref(),
        new.as_ref(),
        "--html".as_ref(),
        page.as_ref(),
        recording.as_ref(),
    ]);
    let [old, new] = [&report["configurations"][0], &report["configurations"][1]];
    assert_eq!((&old["admitted"], &old["denied"]), (&json!(6), &json!(114)));
    assert_eq!(
        (&new["admitted"], &new["denied"]),
        (&json!(110), &json!(10))
    );
    let rule = &old["rules"][0];
    assert_eq!(rule["path"], "mesh.user");
    assert_eq!(rule["asked"], json!({"requests": 120, "hits": 120}));
    assert_eq!(rule["denied"], json!({"requests": 114, "hits": 114}));
    assert_eq!(rule["first_denied"]["time"], "2026-11-24T21:00:03.000000Z");
    assert_eq!(rule["first_denied"]["descriptor"], "mesh user=ann");
    let denied = &old["over_time"]["denied"];
    assert_eq!(denied.as_array().unwrap().len(), 60);
    assert_eq!((&denied[2], &denied[3]), (&json!(0), &json!(2)));
    assert_eq!(report["compared_with_answers"], Value::Null);
    let compared = &report["compared_with_each_other"];
    assert_eq!(
        (&compared["now_denied"], &compared["now_admitted"]),
        (&json!(0), &json!(104))
    );
    let moved = json!([{"from": "mesh.user", "to": "mesh.user_ann", "descriptors": 60}]);
    assert_eq!(compared["other_rule_met"], moved);
    let most = &compared["now_admitted_most"];
    assert_eq!(most[0], json!({"descriptor": "mesh user=ann", "times": 57}));

    let page = fs::read_to_string(page).unwrap();
    assert_well_formed(&page);
    assert!(
        !page.contains("<script") && !page.contains("alert(1)</") && !page.contains('\u{202e}')
    );
    assert!(
        page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;"),
        "{page}"
    );
    assert!(page.contains("default-src 'none'") && page.contains("<svg"));
    assert!(
        !page.contains("http://") && !page.contains("https://") && !page.contains("src="),
        "{page}"
    );
}

/// Every element is closed where it was opened.
fn assert_well_formed(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
    for (at, _) in rest.match_indices('<') {
        let tag = &rest[at + 1..at + rest[at..].find('>').unwrap()];
        let name = tag
            .trim_start_matches('/')
            .split([' ', '/', '\n'])
            .next()
            .unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "<{tag}>");
        } else if !tag.ends_with('/') && !["meta", "br"].contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn the_text_says_who_would_be_denied() {
    let desk = Desk::new();
    let recording = desk.write("minute.jsonl", &minute(&["ann", "ben"]));
    let printed = typed(
        [
            "replay".as_ref(),
            "--config".as_ref(),
            desk.rules.as_os_str(),
            recording.as_os_str(),
        ],
        [],
    );
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    for line in [
        "requests: 120, from 2026-11-24 21:00:00 to 2026-11-24 21:00:59 (UTC, 59s)",
        "6 admitted, 114 denied (95.0 %)",
        "3 per day, token bucket of 3, named \"per-user\"",
        "2026-11-24 21:00:03  mesh user=ann  by mesh.user",
        "57  mesh user=ben",
    ] {
        assert!(printed.stdout.contains(line), "{line}:\n{}", printed.stdout);
    }
}

#[test]
fn the_servers_own_options_count() {
    let desk = Desk::new();
    let recording = desk.write("minute.jsonl", &minute(&["ann"]));
    let denied = |environment: &[(&'static str, &'static str)]| {
        let printed = typed(
            [
                "replay".as_ref(),
                "--json".as_ref(),
                "--config".as_ref(),
                desk.rules.as_os_str(),
                recording.as_os_str(),
            ],
            environment.iter().copied(),
        );
        let report: Value = serde_json::from_str(&printed.stdout).unwrap();
        (
            report["configurations"][0]["denied"].as_u64().unwrap(),
            report["configurations"][0]["rules"][0]["limits"]
                .as_str()
                .unwrap()
                .to_owned(),
        )
    };
    assert_eq!(denied(&[("SHADOW_MODE", "true")]).0, 0);
    let (denied, limits) = denied(&[("DEFAULT_ALGORITHM", "fixed_window")]);
    assert_eq!((denied, limits.contains("fixed window")), (57, true));
}

#[test]
fn a_change_is_told_in_words_and_by_the_exit_code() {
    let desk = Desk::new();
    let old = desk.rules.to_str().unwrap();
    let changed = RULES.replace(
        "name: per-user, unit: day, requests_per_unit: 3",
        "name: per-user, unit: day, requests_per_unit: 6",
    );
    fs::create_dir(desk.path("new")).unwrap();
    let new = desk.write("new/mesh.yaml", &changed);
    let (new, directory) = (new.to_str().unwrap(), desk.path("new"));
    let directory = directory.to_str().unwrap();

    let same = typed(["diff", old, old], []);
    assert_eq!(
        (same.code, same.stdout.as_str()),
        (0, "no difference in behavior\n")
    );
    for new in [new, directory] {
        let differs = typed(["diff", old, new], []);
        assert_eq!((differs.code, differs.stderr.as_str()), (1, ""));
        assert!(
            differs.stdout.ends_with(
                "is raised from 3 per day to 6 per day (+100 %), its burst from 3 to 6 (+100 %); buckets keep what was taken\n"
            ),
            "{}",
            differs.stdout
        );
        assert_eq!(differs.stdout.lines().count(), 1);
    }
    let json = typed(["diff", "--json", old, new], []);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    let change = &json["changes"][0];
    assert_eq!(
        (&change["kind"], &change["path"], &change["buckets"]),
        (&json!("limit_raised"), &json!("mesh.user"), &json!("kept"))
    );

    let broken = desk.write("broken.yaml", "domain: mesh\ndescriptors: [{kye: a}]\n");
    for (one, other, expected) in [
        (old, broken.to_str().unwrap(), "has errors"),
        ("/nonexistent.yaml", old, "does not exist"),
    ] {
        let printed = typed(["diff", one, other], []);
        assert_eq!((printed.code, printed.stdout.as_str()), (2, ""));
        assert!(printed.stderr.contains(expected), "{}", printed.stderr);
    }
}

#[test]
fn a_report_does_not_overwrite_what_it_is_about() {
    let desk = Desk::new();
    let line = r#"{"time":1764018000,"domain":"mesh","descriptors":["user=ann"]}"#;
    let recording = desk.path("requests.jsonl");
    fs::write(&recording, line).unwrap();
    for taken in [&recording, &desk.rules] {
        let [config, taken, file] =
            [&desk.rules, taken, &recording].map(|path| path.to_str().unwrap());
        let arguments = ["replay", "--config", config, "--html", taken, file];
        let printed = typed(arguments, []);
        assert_eq!(printed.code, 2, "{}", printed.stderr);
        assert!(
            printed.stderr.contains("another file"),
            "{}",
            printed.stderr
        );
    }
    assert_eq!(fs::read_to_string(&recording).unwrap(), line);
}

#[test]
fn what_cannot_be_printed_is_no_difference() {
    let desk = Desk::new();
    let script = r#""$0" diff "$1" "$1" > /dev/full"#;
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_ratekeeper")])
        .arg(&desk.rules)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
