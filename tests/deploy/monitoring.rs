//! The dashboard and the alert rules: promtool understands them, and what they ask for exists.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{helm, of_kind};
use crate::support::{root, run};

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/ratekeeper.json")).unwrap()
}

/// The queries of a panel, with Grafana's variables filled in.
fn queries(panel: &Value) -> Vec<String> {
    let targets = panel["targets"].as_array();
    let targets = targets.map(Vec::as_slice).unwrap_or_default();
    let query = |target: &Value| {
        let query = target["expr"].as_str().unwrap();
        let query = query.replace("$__rate_interval", "1m");
        let variables = ["namespace", "instance", "domain"].iter();
        variables.fold(query, |q, variable| {
            q.replace(&format!("${variable}"), ".*")
        })
    };
    targets.iter().map(query).collect()
}

/// The first query of the panel with this title.
pub(crate) fn question(title: &str) -> String {
    let dashboard = dashboard();
    let mut panels = dashboard["panels"].as_array().unwrap().iter();
    let panel = panels.find(|panel| panel["title"] == title);
    let panel = panel.unwrap_or_else(|| panic!("no panel has the title {title}"));
    queries(panel).swap_remove(0)
}

/// What the panels of the dashboard ask Prometheus, with Grafana's variables filled in.
pub(crate) fn questions() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let questions: Vec<_> = panels.iter().flat_map(queries).collect();
    assert!(questions.len() > 30, "{questions:?}");
    assert!(questions.iter().all(|q| !q.contains('$')), "{questions:?}");
    questions
}

/// The names in a text that can only be metrics of ours.
fn metrics(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| {
            ["ratekeeper_", "ratelimit_", "process_"]
                .iter()
                .any(|prefix| word.starts_with(prefix))
        })
        .map(|word| {
            // The series of a histogram.
            let suffixes = ["_bucket", "_sum", "_count"];
            let stem = suffixes.iter().find_map(|suffix| word.strip_suffix(suffix));
            stem.unwrap_or(word).to_owned()
        })
        .collect()
}

#[test]
fn promtool_takes_the_rules_and_they_fire_when_they_should() {
    let directory = root().join("deploy/prometheus");
    run(Command::new("promtool")
        .args(["check", "rules"])
        .arg(directory.join("alerts.yaml")));
    run(Command::new("promtool")
        .args(["test", "rules"])
        .arg(directory.join("alerts_test.yaml")));
}

#[test]
fn every_alert_has_a_case_in_which_it_fires() {
    let cases = read("deploy/prometheus/alerts_test.yaml");
    let rules = read("deploy/prometheus/alerts.yaml");
    let alerts: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() >= 12, "{alerts:?}");
    for alert in alerts {
        let firing = format!("alertname=\"{alert}\", alertstate=\"firing\"");
        assert!(cases.contains(&firing), "{alert} is never seen to fire");
    }
}

#[test]
fn every_alert_has_a_runbook_that_exists() {
    let headings: BTreeSet<String> = read("docs/runbooks.md")
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(str::to_lowercase)
        .collect();
    let page = "https://github.com/OWNER/ratekeeper/blob/main/docs/runbooks.md#";
    let rules = read("deploy/prometheus/alerts.yaml");
    let mut alerts = BTreeSet::new();
    for alert in rules.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap().to_lowercase();
        let url = format!("runbook_url: {page}{name}\n");
        assert!(alert.contains(&url), "{name} has no {url}");
        alerts.insert(name);
    }
    assert_eq!(alerts, headings);
    let objects = helm(&[
        "--set=prometheusRule.enabled=true,prometheusRule.runbookUrl=https://wiki.example.com/rk",
    ]);
    let carried = of_kind(&objects, "PrometheusRule")[0].to_string();
    assert!(carried.contains("https://wiki.example.com/rk#ratekeeperdegraded"));
    assert!(!carried.contains(page), "{carried}");
}

#[test]
fn promtool_understands_what_the_dashboard_asks() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("questions.json");
    let rules: Vec<_> = questions()
        .iter()
        .enumerate()
        .map(|(i, question)| serde_json::json!({"record": format!("question:{i}"), "expr": question}))
        .collect();
    let groups = serde_json::json!({"groups": [{"name": "questions", "rules": rules}]});
    fs::write(&path, groups.to_string()).unwrap();
    run(Command::new("promtool").args(["check", "rules"]).arg(&path));
}

#[test]
fn every_metric_that_is_asked_for_is_documented() {
    let documented = metrics(&read("docs/metrics.md"));
    let mut asked = metrics(&questions().join("\n"));
    asked.extend(metrics(&dashboard()["templating"].to_string()));
    asked.extend(metrics(&read("deploy/prometheus/alerts.yaml")));
    asked.extend(metrics(&read("deploy/prometheus/alerts_test.yaml")));
    assert!(asked.len() > 30, "{asked:?}");
    let unknown: Vec<_> = asked.difference(&documented).collect();
    assert!(
        unknown.is_empty(),
        "docs/metrics.md does not know {unknown:?}"
    );
}

#[test]
fn panels_do_not_overlap_and_have_their_own_numbers() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut numbers = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels {
        assert!(numbers.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{panel}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{panel}");
            }
        }
    }
}

#[test]
fn the_chart_carries_the_same_rules_and_dashboard() {
    let objects = helm(&["--set=prometheusRule.enabled=true,grafanaDashboard.enabled=true"]);
    let maps = of_kind(&objects, "ConfigMap");
    let carried = maps
        .iter()
        .find_map(|map| map["data"]["ratekeeper.json"].as_str())
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(carried).unwrap(), dashboard());
    let rules = of_kind(&objects, "PrometheusRule");
    let alerts = rules[0]["spec"]["groups"][0]["rules"].as_array().unwrap();
    let text = read("deploy/prometheus/alerts.yaml");
    assert_eq!(alerts.len(), text.matches("- alert: ").count());
}
