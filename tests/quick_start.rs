//! Commands of the documentation, run against a server as they are printed.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::documentation::blocks;
use crate::support::{Ratekeeper, root};

/// The blocks of shell commands of a page that contain `text`.
fn commands(page: &str, text: &str) -> Vec<String> {
    let page = fs::read_to_string(root().join(page)).unwrap();
    let mut found = blocks(&page, "sh");
    found.retain(|block| block.contains(text));
    assert!(!found.is_empty(), "no block of commands with {text:?}");
    found
}

/// Runs commands in the directory of the repository and returns what they print, and the exit code of the last one.
fn bash(commands: &str) -> (String, i32) {
    let output = Command::new("bash")
        .args(["-c", commands])
        .current_dir(root())
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("no_proxy", "*")
        .env("ADMIN_TOKEN", "secret")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error, "", "{commands}");
    (printed, output.status.code().unwrap())
}

fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_ratekeeper")
}

#[test]
fn the_quick_start_ends_in_a_denial() {
    let rules = fs::read_to_string(root().join("envoy/ratelimit.yaml")).unwrap();
    let server = Ratekeeper::start(&rules, []);
    let hit = format!("{} hit --address {}", binary(), server.address());
    let [hits] = &commands("README.md", "ratekeeper hit")[..] else {
        panic!("one block sends requests");
    };
    let (printed, code) = bash(&hits.replace("target/quick/ratekeeper hit", &hit));
    let results: Vec<&str> = printed
        .lines()
        .filter(|line| line.starts_with("OK") || line.starts_with("OVER_LIMIT"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(code, 2, "the last request is denied: {printed}");
    assert_eq!(results.len(), 5, "{printed}");
    assert!(
        results[..4].iter().all(|result| *result == "OK"),
        "{printed}"
    );
    assert_eq!(results[4], "OVER_LIMIT", "{printed}");

    let [explain] = &commands("README.md", "ratekeeper explain")[..] else {
        panic!("one block explains");
    };
    let explain = explain
        .lines()
        .find(|line| line.contains("explain"))
        .unwrap();
    let (printed, code) = bash(&explain.replace("target/quick/ratekeeper", binary()));
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("client"), "{printed}");
}

#[test]
fn commands_of_the_admin_api_work() {
    let rules = "domain: shop\ndescriptors: [{key: client, rate_limit: {unit: hour, requests_per_unit: 60}}]\n";
    let server = Ratekeeper::start(rules, [("ADMIN_TOKEN", "secret".to_owned())]);
    let address = server.debug().address();
    let all = commands("docs/admin.md", "$A").concat();
    let mut lines = all.lines();
    let base = lines.next().unwrap();
    let base = base.replace("localhost:6070", &address.to_string());
    assert!(base.starts_with("A=http://"), "{base}");
    let (mut count, mut definitions) = (0, base);
    for line in lines {
        if !line.starts_with("curl ") {
            definitions += &format!("\n{line}");
            continue;
        }
        let (printed, code) = bash(&format!("{definitions}\n{line}"));
        let response: Value = serde_json::from_str(&printed)
            .unwrap_or_else(|error| panic!("{line}: {error}: {printed}"));
        assert!(
            code == 0 && !response["error"].is_string(),
            "{line}: {printed}"
        );
        count += 1;
    }
    assert_eq!(count, 9, "{all}");
}

/// Commands on files of the repository are complete: a reader can copy them.
#[test]
fn commands_on_examples_succeed() {
    let mut count = 0;
    for page in fs::read_dir(root().join("docs")).unwrap() {
        let page = page.unwrap().path();
        if page.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&page).unwrap();
        let lines = text.lines().map(str::trim);
        for line in
            lines.filter(|line| line.starts_with("ratekeeper ") && line.contains("examples/"))
        {
            let (printed, code) = bash(&line.replacen("ratekeeper", binary(), 1));
            assert_eq!(code, 0, "{}: {line}: {printed}", page.display());
            count += 1;
        }
    }
    assert!(count >= 2, "{count}");
}
