//! The gallery in `examples/`: every example runs with a real Envoy, and answers what it says.

mod compose;
mod mesh;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Envoy, Plan, Ratekeeper, Route, eventually, root, typed, yaml};

/// The most requests that may pass beyond a burst before a denial: what is refilled while a slow machine sends them.
const REFILLED: usize = 500;

/// A file of an example.
fn file(example: &str, name: &str) -> PathBuf {
    root().join("examples").join(example).join(name)
}

fn text(example: &str, name: &str) -> String {
    let path = file(example, name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Sends the requests of an example, and compares the answers with those that it lists.
fn check_requests(example: &str, envoy: &Envoy) {
    let requests = yaml(&file(example, "requests.yaml"));
    for request in requests.as_array().unwrap() {
        let path = request["path"].as_str().unwrap_or("/");
        let headers: Vec<_> = request["headers"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
            .collect();
        let send = || envoy.get(path, &headers).status;
        let shown = format!("{example}: {request}");
        if let Some(answers) = request["answers"].as_array() {
            let answered: Vec<Value> = answers.iter().map(|_| send().into()).collect();
            assert_eq!(&answered, answers, "{shown}");
        } else if let Some(status) = request["eventually"].as_u64() {
            eventually(&shown, || u64::from(send()) == status);
        } else {
            let burst = usize::try_from(request["burst"].as_u64().unwrap()).unwrap();
            let passed = (0..burst + REFILLED).take_while(|_| send() == 200).count();
            assert!(
                (burst..burst + REFILLED).contains(&passed),
                "{shown}: {passed} passed"
            );
        }
    }
}

/// Starts an Envoy that describes all of its requests as these `rate_limits` say, in front of a server.
fn envoy(server: &Ratekeeper, domain: &str, rate_limits: Value) -> Envoy {
    let plan = Plan {
        routes: vec![Route::new("/*", rate_limits)],
        filter: serde_json::json!({"domain": domain}),
        ..Plan::default()
    };
    Envoy::start(server.address(), &plan)
}

/// Runs an example that consists of rules and `rate_limits`.
fn check(example: &str) {
    let server = Ratekeeper::start(&text(example, "ratelimit.yaml"), []);
    let envoy = envoy(&server, "shop", yaml(&file(example, "rate_limits.yaml")));
    check_requests(example, &envoy);
}

#[test]
fn per_user() {
    check("per-user");
}

#[test]
fn per_path() {
    check("per-path");
}

#[test]
fn plan_tiers() {
    check("plan-tiers");
}

#[test]
fn burst_and_sustained() {
    check("burst-and-sustained");
}

#[test]
fn several_limits() {
    check("several-limits");
}

#[test]
fn shadow_and_candidate() {
    check("shadow-and-candidate");
}

#[test]
fn llm_tokens() {
    check("llm-tokens");
}

#[test]
fn every_example_is_listed_and_its_rules_have_no_errors() {
    let list = text("", "README.md");
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_type().unwrap().is_dir() {
            continue;
        }
        let name = entry.file_name().into_string().unwrap();
        assert!(
            list.contains(&format!("| [{name}]({name}) |")),
            "{name} is not listed"
        );
        assert!(entry.path().join("README.md").exists(), "{name}");
        let rules = entry.path().join("ratelimit.yaml");
        if rules.exists() {
            let printed = typed(["check", rules.to_str().unwrap()], []);
            assert_eq!(printed.code, 0, "{name}: {}", printed.stderr);
        }
        names.insert(name);
    }
    let listed: BTreeSet<_> = list
        .lines()
        .filter_map(|line| line.strip_prefix("| [")?.split_once(']'))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(listed, names);
}
