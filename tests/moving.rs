//! The checks of docs/moving.md, run as they are printed.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::support::{Envoy, Plan, Ratekeeper, Route, root, run};

/// The commands of the page that begin so, up to the end of their block.
fn commands(beginning: &str) -> String {
    let page = fs::read_to_string(root().join("docs/moving.md")).unwrap();
    let at = page.find(beginning).expect("the page has these commands");
    let (commands, _) = page[at..].split_once("```").unwrap();
    commands.to_owned()
}

#[test]
fn the_check_through_the_gateway_ends_at_the_limit() {
    let rules = "domain: mesh\ndescriptors: [{key: all, rate_limit: {unit: minute, requests_per_unit: 30}}]\n";
    let actions =
        json!([{"actions": [{"generic_key": {"descriptor_key": "all", "descriptor_value": "x"}}]}]);
    for algorithm in ["token_bucket", "fixed_window"] {
        let environment = [("DEFAULT_ALGORITHM", algorithm.to_owned())];
        let server = Ratekeeper::start(rules, environment);
        let plan = Plan {
            routes: vec![Route::new("/*", actions.clone())],
            ..Plan::default()
        };
        let envoy = Envoy::start(server.address(), &plan);
        let script = commands("LIMIT=100")
            .replace("LIMIT=100", "LIMIT=30")
            .replace("GATEWAY/PATH", &format!("{}/", envoy.address()));
        let printed = run(Command::new("bash")
            .args(["-c", &script])
            .env("no_proxy", "*"));
        let passed = printed
            .trim()
            .strip_prefix("429 after ")
            .and_then(|rest| rest.strip_suffix(" that passed"))
            .unwrap_or_else(|| panic!("{algorithm}: {printed}"));
        let passed: u32 = passed.parse().unwrap();
        // What comes back while it runs passes, too.
        assert!((30..90).contains(&passed), "{algorithm}: {printed}");
    }
}
