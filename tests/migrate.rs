//! `ratekeeper migrate`, fed with the environments that Istio and Envoy Gateway give the service, and with
//! what cannot move as it is.

mod files;
mod rules;

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::environments::{ENVOY_GATEWAY, ENVOY_GATEWAY_TRACING};
use crate::support::typed;

/// A deployment as Istio's users have it: its environment, and rules in a ConfigMap.
const ISTIO: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: ratelimit-config}
data:
  config.yaml: |
    domain: echo
    descriptors:
      - key: PATH
        value: "/"
        rate_limit: {unit: minute, requests_per_unit: 1}
      - key: PATH
        rate_limit: {unit: minute, requests_per_unit: 100}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: redis}
spec:
  template:
    spec:
      containers: [{name: redis, image: "redis:alpine"}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ratelimit}
spec:
  template:
    spec:
      containers:
        - name: ratelimit
          image: envoyproxy/ratelimit:30a4ce1a
          command: ["/bin/ratelimit"]
          env:
            - {name: LOG_LEVEL, value: debug}
            - {name: REDIS_SOCKET_TYPE, value: tcp}
            - {name: REDIS_URL, value: "redis:6379"}
            - {name: USE_STATSD, value: "false"}
            - {name: RUNTIME_ROOT, value: /data}
            - {name: RUNTIME_SUBDIRECTORY, value: ratelimit}
            - {name: RUNTIME_WATCH_ROOT, value: "false"}
            - {name: RUNTIME_IGNOREDOTFILES, value: "true"}
            - {name: HOST, value: "::"}
            - {name: GRPC_HOST, value: "::"}
          volumeMounts: [{name: config-volume, mountPath: /data/ratelimit/config}]
      volumes: [{name: config-volume, configMap: {name: ratelimit-config}}]
"#;

const RULES: &str =
    "domain: d\ndescriptors: [{key: a, rate_limit: {unit: day, requests_per_unit: 5}}]\n";

/// Runs it with files in a directory of their own; every argument that is a file's name becomes its path.
fn migrate(files: &[(&str, &str)], arguments: &[&str]) -> (i32, String, String) {
    let directory = with(files);
    let arguments = arguments.iter().map(|argument| {
        if files.iter().any(|(name, _)| name == argument) {
            directory.path().join(argument).to_str().unwrap().to_owned()
        } else {
            (*argument).to_owned()
        }
    });
    let printed = typed(["migrate".to_owned()].into_iter().chain(arguments), []);
    assert!(!printed.stderr.contains("panicked"), "{}", printed.stderr);
    (printed.code, printed.stdout, printed.stderr)
}

fn with(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

/// Its findings as JSON, with the exit code: by what each is about, its kind and what is said.
fn findings(
    files: &[(&str, &str)],
    arguments: &[&str],
) -> (i32, Value, BTreeMap<String, (String, String)>) {
    let arguments: Vec<_> = arguments.iter().copied().chain(["--json"]).collect();
    let (code, printed, said) = migrate(files, &arguments);
    let report: Value =
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}{said}"));
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap();
    let by_subject = findings
        .iter()
        .map(|finding| {
            (
                text(finding, "about"),
                (text(finding, "kind"), text(finding, "what")),
            )
        })
        .collect();
    (code, report.clone(), by_subject)
}

/// The variables that a report says to set.
fn parity(report: &Value) -> BTreeMap<String, String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let set = findings.filter(|finding| finding["parity"].is_object());
    set.map(|finding| {
        let text = |key: &str| finding["parity"][key].as_str().unwrap().to_owned();
        (text("name"), text("value"))
    })
    .collect()
}

#[test]
fn istios_deployment_moves_as_it_is() {
    let (code, report, found) = findings(&[("istio.yaml", ISTIO)], &["--manifest", "istio.yaml"]);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["verdict"], "differs");
    assert_eq!(
        report["source"],
        "Deployment ratelimit, container ratelimit"
    );
    assert_eq!(report["variables"], 10);
    assert_eq!(report["rule_files"], 1);
    for same in [
        "HOST",
        "GRPC_HOST",
        "LOG_LEVEL",
        "REDIS_URL",
        "RUNTIME_ROOT",
    ] {
        assert_eq!(found[same].0, "same", "{same}: {:?}", found[same]);
    }
    assert_eq!(found["RUNTIME_WATCH_ROOT"].0, "differs");
    assert!(
        found["the algorithm"]
            .1
            .starts_with("2 limits are token buckets"),
        "{report:#}"
    );
    let expected = [
        ("DEFAULT_ALGORITHM", "fixed_window"),
        ("STORE_FAILURE_MODE", "error"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(parity(&report), BTreeMap::from(expected));
}

#[test]
fn a_redis_that_is_too_old_is_found_by_its_image() {
    let redis = |tag: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: redis}}\nspec: {{template: {{spec: {{containers: \
             [{{name: redis, image: 'redis:{tag}'}}]}}}}}}\n"
        )
    };
    for (tag, code, kind) in [("6.0.6", 0, "same"), ("4.0.14-alpine", 1, "change_first")] {
        let redis = redis(tag);
        let files = [("istio.yaml", ISTIO), ("redis.yaml", redis.as_str())];
        let arguments = ["--manifest", "istio.yaml", "--manifest", "redis.yaml"];
        let (found_code, report, found) = findings(&files, &arguments);
        assert_eq!(found_code, code, "{report:#}");
        let version = tag.split('-').next().unwrap();
        let about = format!("Redis {version} in Deployment redis");
        assert_eq!(found[&about].0, kind, "{report:#}");
    }
}

#[test]
fn envoy_gateways_environment_moves_as_it_is() {
    let environment = [ENVOY_GATEWAY, ENVOY_GATEWAY_TRACING].concat();
    let (code, report, found) = findings(&[("eg.env", &environment)], &["--env", "eg.env"]);
    assert_eq!(code, 0, "{report:#}");
    assert!(
        found.values().all(|(kind, _)| kind != "unknown"),
        "{report:#}"
    );
    assert_eq!(found["PROMETHEUS_MAPPER_YAML"].0, "no_effect");
    assert_eq!(found["GRPC_SERVER_TLS_CA_CERT"].0, "no_effect");
    assert_eq!(found["the rules"].0, "same");
    assert!(found["the rules"].1.contains("NACK"));
    assert_eq!(parity(&report)["DEFAULT_ALGORITHM"], "fixed_window");
}

#[test]
fn what_does_not_go_together_is_named() {
    for (environment, says) in [
        ("REDIS_PERSECOND=true", "needs REDIS_PERSECOND_URL"),
        ("GRPC_SERVER_USE_TLS=true", "needs GRPC_SERVER_TLS_CERT"),
        ("REDIS_TLS_CLIENT_CERT=/tls.crt", "REDIS_TLS"),
    ] {
        let environment = format!("REDIS_URL=redis:6379\n{environment}");
        let (code, report, found) = findings(&[("f.env", &environment)], &["--env", "f.env"]);
        assert_eq!(code, 1, "{environment}: {report:#}");
        assert_eq!(found["combination of variables"].0, "change_first");
        assert!(report.to_string().contains(says), "{report:#}");
    }
    let whole = "REDIS_URL=redis:6379\nREDIS_PERSECOND=true\nREDIS_PERSECOND_URL=redis:6380";
    let (_, report, found) = findings(&[("f.env", whole)], &["--env", "f.env"]);
    assert!(
        !found.contains_key("combination of variables"),
        "{report:#}"
    );
}

#[test]
fn what_is_set_for_parity_is_not_a_difference_any_more() {
    let environment = ISTIO.replace(
        "- {name: LOG_LEVEL, value: debug}",
        "- {name: DEFAULT_ALGORITHM, value: fixed_window}\n            - {name: STORE_FAILURE_MODE, value: error}",
    );
    let (code, report, found) = findings(
        &[("istio.yaml", &environment)],
        &["--manifest", "istio.yaml"],
    );
    assert_eq!(code, 0, "{report:#}");
    assert!(!found.contains_key("the algorithm"), "{report:#}");
    assert!(parity(&report).is_empty(), "{report:#}");
    assert_eq!(found["DEFAULT_ALGORITHM"].0, "same");
}

#[test]
fn people_read_the_same_as_programs() {
    let (code, text, _) = migrate(&[("istio.yaml", ISTIO)], &["--manifest", "istio.yaml"]);
    assert_eq!(code, 0);
    for part in [
        "Deployment ratelimit, container ratelimit: 10 variables, 1 rule file",
        "Will differ (",
        "Will stay the same (",
        "For the behavior of envoyproxy/ratelimit, set:\n",
        "\n  DEFAULT_ALGORITHM=fixed_window    (the algorithm)\n",
        "docs/moving.md",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    assert!(!text.contains("Change first"), "{text}");
}

#[test]
fn what_cannot_move_as_it_is_is_named() {
    let rules = [("rules.yaml", RULES)];
    for (environment, about, what) in [
        (
            "BACKEND_TYPE=memcache\nMEMCACHE_HOST_PORT=m:11211",
            "BACKEND_TYPE",
            "memcached cannot hold a bucket exactly",
        ),
        (
            "MEMCACHE_SRV=_memcache._tcp.m",
            "MEMCACHE_SRV",
            "set REDIS_URL",
        ),
        ("LOG_LEVEL=info", "REDIS_URL is not set", "nutcracker"),
        (
            "REDIS_URL=a:1\nGRPC_PORT=none",
            "GRPC_PORT",
            "a number from 0 to 65535",
        ),
        (
            "REDIS_URL=a:1\nUSE_DOG_STATSD_MOGRIFIERS=a",
            "USE_DOG_STATSD_MOGRIFIERS",
            "leave it out",
        ),
        (
            "REDIS_URL=a:1\nREDIS_TYPE=many",
            "REDIS_TYPE",
            "use one of single",
        ),
        (
            "REDIS_URL=a:1\nSHADOW_MODE=maybe",
            "SHADOW_MODE",
            "write true or false",
        ),
    ] {
        let files = [rules[0], ("e.env", environment)];
        let (code, report, found) = findings(&files, &["--env", "e.env", "--rules", "rules.yaml"]);
        assert_eq!(code, 1, "{environment}: {report:#}");
        assert_eq!(report["verdict"], "change_first", "{environment}");
        assert_eq!(found[about].0, "change_first", "{environment}: {report:#}");
        assert!(
            found[about].1.contains(what),
            "{environment}: {}",
            found[about].1
        );
    }
    // Beside a Redis, what is left of memcached's is a leftover.
    let files = [
        rules[0],
        ("e.env", "REDIS_URL=a:1\nMEMCACHE_HOST_PORT=m:11211"),
    ];
    let (code, report, found) = findings(&files, &["--env", "e.env", "--rules", "rules.yaml"]);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(found["MEMCACHE_HOST_PORT"].0, "no_effect");
}

#[test]
fn rules_are_read_and_their_mistakes_are_those_of_check() {
    let misplaced = "domain: d\ndescriptors:\n- key: a\n  rate_limit: {unit: day, requests_per_unit: 5, shadow_mode: true}\n";
    let wrong =
        "domain: d\ndescriptors:\n- key: a\n  rate_limit: {unit: eon, requests_per_unit: 5}\n";
    let redis = ("e.env", "REDIS_URL=a:1");
    for (rules, place, says, expected) in [
        (
            misplaced,
            "rules.yaml:4:",
            "shadow_mode belongs in the descriptor",
            (0, "no_effect"),
        ),
        (
            wrong,
            "rules.yaml:4:",
            "invalid rate limit unit 'eon'",
            (1, "change_first"),
        ),
    ] {
        let files = [redis, ("rules.yaml", rules)];
        let (code, report, found) = findings(&files, &["--env", "e.env", "--rules", "rules.yaml"]);
        assert_eq!(code, expected.0, "{report:#}");
        let (_, (kind, what)) = found
            .iter()
            .find(|(about, _)| about.contains(place))
            .unwrap();
        assert_eq!(kind, expected.1);
        assert!(what.contains(says), "{what}");
        let is_ignored = what.contains("envoyproxy/ratelimit ignores it as well");
        assert_eq!(is_ignored, expected.1 == "no_effect", "{what}");
    }
    // Patterns of several files, and keys that joining confuses.
    let text = "domain: d\ndescriptors:\n- {key: a, value: 'x*', rate_limit: {unit: day, requests_per_unit: 5}}\n- {key: a_b, rate_limit: {unit: day, requests_per_unit: 5}}\n";
    let directory = with(&[
        ("1.yaml", text),
        ("2.yaml", &text.replace("x*", "y*").replace("a_b", "c")),
    ]);
    let environment = with(&[("e.env", "REDIS_URL=a:1\nMERGE_DOMAIN_CONFIG=true")]);
    let path = environment.path().join("e.env");
    let printed = typed(
        [
            "migrate",
            "--env",
            path.to_str().unwrap(),
            "--rules",
            directory.path().to_str().unwrap(),
        ],
        [],
    );
    assert_eq!(printed.code, 0, "{}", printed.stdout);
    for part in [
        "in a random order",
        "the keys 'a' and 'a_b' are two things here",
    ] {
        assert!(printed.stdout.contains(part), "{}", printed.stdout);
    }
}
