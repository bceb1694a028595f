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

/// What the panels of the dashboard ask Prometheus, with Grafana's variables filled in.
pub(crate) fn questions() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| {
        panel["targets"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
    });
    let questions: Vec<_> = targets
        .map(|target| {
            let question = target["expr"]
                .as_str()
                .unwrap()
                .replace("$__rate_interval", "1m");
            ["namespace", "instance", "domain"]
                .iter()
                .fold(question, |q, variable| {
                    q.replace(&format!("${variable}"), ".*")
                })
        })
        .collect();
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
