//! `ratekeeper migrate`, fed with the environments that Istio and Envoy Gateway give the service, and with
//! what cannot move as it is.

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
        assert_eq!(found["what is set together"].0, "change_first");
        assert!(report.to_string().contains(says), "{report:#}");
    }
    let whole = "REDIS_URL=redis:6379\nREDIS_PERSECOND=true\nREDIS_PERSECOND_URL=redis:6380";
    let (_, report, found) = findings(&[("f.env", whole)], &["--env", "f.env"]);
    assert!(!found.contains_key("what is set together"), "{report:#}");
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
        "Will be the same (",
        "To have it exactly as it was, set:\n",
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
            "shadow_mode belongs beside rate_limit",
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
        let is_ignored = what.contains("envoyproxy/ratelimit ignores it, too");
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

#[test]
fn manifests_of_all_shapes_are_read() {
    let rest = "env: [{name: REDIS_URL, valueFrom: {secretKeyRef: {name: s, key: url}}}]";
    let container = |more: &str| {
        format!("{{name: r, image: 'example.com/x/ratelimit@sha256:1', {rest}{more}}}")
    };
    for (manifest, variables) in [
        (
            format!(
                "kind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{}]}}",
                container("")
            ),
            1,
        ),
        (
            format!(
                "kind: List\nitems:\n- kind: StatefulSet\n  metadata: {{name: p}}\n  spec: {{template: {{spec: {{containers: [{}]}}}}}}",
                container("")
            ),
            1,
        ),
        (
            format!(
                "kind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{}]}}\n---\nkind: ConfigMap\nmetadata: {{name: m}}\ndata: {{LOG_LEVEL: info, level: warn}}",
                container(", envFrom: [{configMapRef: {name: m}}]")
            ),
            3,
        ),
    ] {
        let files = [("m.yaml", manifest.as_str()), ("rules.yaml", RULES)];
        let (code, report, found) =
            findings(&files, &["--manifest", "m.yaml", "--rules", "rules.yaml"]);
        assert_eq!(code, 0, "{manifest}: {report:#}");
        assert_eq!(report["variables"], variables, "{manifest}");
        assert_eq!(found["REDIS_URL"].0, "same", "{manifest}");
    }
}

#[test]
fn a_mounted_configmap_that_is_missing_or_never_updated_is_named() {
    let (_, deployment) = ISTIO.split_once("---").unwrap();
    let (code, _, found) = findings(&[("d.yaml", deployment)], &["--manifest", "d.yaml"]);
    assert_eq!(code, 1);
    assert!(
        found["ConfigMap ratelimit-config"]
            .1
            .contains("add its file with another --manifest")
    );
    let sub = ISTIO.replace(
        "mountPath: /data/ratelimit/config}",
        "mountPath: /data/ratelimit/config/config.yaml, subPath: config.yaml}",
    );
    let (code, report, found) = findings(&[("d.yaml", &sub)], &["--manifest", "d.yaml"]);
    assert_eq!(code, 0, "{report:#}");
    assert!(
        found["the mount at /data/ratelimit/config/config.yaml"]
            .1
            .contains("subPath")
    );
    assert_eq!(report["rule_files"], 1);
}

#[test]
fn files_that_are_something_else_are_told_with_what_to_do() {
    for (file, arguments, code, says) in [
        (
            "=x",
            vec!["--env", "f"],
            1,
            "f:1: this is no NAME=value line",
        ),
        (
            "kind: Pod",
            vec!["--env", "f"],
            1,
            "this is no NAME=value line",
        ),
        (
            "a: 1\na: 2",
            vec!["--manifest", "f"],
            1,
            "line 2: duplicate key",
        ),
        (
            "kind: Service",
            vec!["--manifest", "f"],
            1,
            "there is no container in it",
        ),
        (
            "- 1",
            vec!["--manifest", "f"],
            1,
            "there is no container in it",
        ),
        (
            "",
            vec!["--manifest", "f"],
            1,
            "there is no container in it",
        ),
        (
            "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: web, image: nginx}]}",
            vec!["--manifest", "f"],
            1,
            "no container runs ratelimit; name one with --container: web in Pod p",
        ),
        (
            "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: ratelimit}, {name: b, image: ratelimit}]}",
            vec!["--manifest", "f"],
            1,
            "more than one container is meant",
        ),
        (
            "kind: Pod\nspec: {containers: [{name: a, image: nginx}]}",
            vec!["--manifest", "f", "--container", "b"],
            1,
            "no container is called 'b'",
        ),
        ("", vec!["--env", "/nonexistent"], 1, "/nonexistent"),
        (
            "",
            vec!["--env", "f", "--manifest", "f"],
            2,
            "cannot be used with",
        ),
        ("", vec!["--container", "a"], 2, "--manifest"),
    ] {
        let (exit, _, said) = migrate(&[("f", file)], &arguments);
        assert_eq!(exit, code, "{file:?} {arguments:?}: {said}");
        assert!(said.contains(says), "{file:?} {arguments:?}: {said}");
    }
}

#[test]
fn the_environment_around_it_is_read_when_no_file_is_named_and_secrets_are_not_shown() {
    let rules = with(&[("rules.yaml", RULES)]);
    let path = rules.path().join("rules.yaml");
    let environment = [
        ("REDIS_URL", "redis://user:hunter2@redis:6379"),
        ("REDIS_AUTH", "hunter2"),
        ("LOCAL_CACHE_SIZE_IN_BYTES", "1048576"),
        ("REDIS_FANCY", "1"),
        ("PATH", "/usr/bin"),
    ];
    let printed = typed(["migrate", "--rules", path.to_str().unwrap()], environment);
    assert_eq!(printed.code, 0, "{}{}", printed.stdout, printed.stderr);
    assert!(
        printed
            .stdout
            .contains("the environment of this process: 4 variables"),
        "{}",
        printed.stdout
    );
    assert!(
        printed
            .stdout
            .contains("Neither reads it (1):\n  REDIS_FANCY"),
        "{}",
        printed.stdout
    );
    assert!(
        printed
            .stdout
            .contains("LOCAL_CACHE_SIZE_IN_BYTES\n      denials are remembered"),
        "{}",
        printed.stdout
    );
    assert!(!printed.stdout.contains("hunter2"), "{}", printed.stdout);
}

// --- What manifests in use have ---

/// The container of ISTIO with something else in it, and the volume likewise.
fn istio_with(replaced: &[(&str, &str)]) -> String {
    replaced
        .iter()
        .fold(ISTIO.to_owned(), |manifest, (from, to)| {
            assert!(manifest.contains(from), "{from}");
            manifest.replace(from, to)
        })
}

const COMMAND: &str = r#"command: ["/bin/ratelimit"]"#;
const VOLUME: &str = "configMap: {name: ratelimit-config}";
const MOUNT: &str = "mountPath: /data/ratelimit/config}";

#[test]
fn commands_and_arguments_are_held_against_the_image() {
    let with = |command: &str| istio_with(&[(COMMAND, command)]);
    let manifest = with(r#"args: ["--quotaRateLimitServiceAddr=a:1", "-v"]"#);
    let (code, report, found) = findings(&[("m.yaml", &manifest)], &["--manifest", "m.yaml"]);
    assert_eq!(code, 0, "{report:#}");
    let (kind, what) = &found["arguments"];
    assert_eq!(kind, "no_effect");
    assert!(
        what.contains("--quotaRateLimitServiceAddr, -v") && what.contains("ignored with a warning"),
        "{what}"
    );
    assert!(!what.contains("a:1"), "{what}");
    for command in [
        r#"command: ["/bin/sh", "-c", "exec /bin/ratelimit"]"#,
        r#"command: ["bash"]"#,
        r#"command: ["/usr/bin/tini", "--", "/bin/ratelimit"]"#,
    ] {
        let manifest = with(command);
        let arguments = ["--manifest", "m.yaml", "--container", "ratelimit"];
        let (code, report, found) = findings(&[("m.yaml", &manifest)], &arguments);
        assert_eq!(code, 1, "{report:#}");
        let (kind, what) = &found["command"];
        assert_eq!(kind, "change_first");
        assert!(what.contains("no shell"), "{what}");
    }
}

#[test]
fn rules_are_found_in_volumes_of_all_shapes() {
    let two_files = (
        "data:\n  config.yaml: |\n",
        "data:\n  other.yaml: 'domain: ['\n  config.yaml: |\n",
    );
    for (row, replaced, files) in [
        (
            "projected",
            vec![(
                VOLUME,
                "projected: {sources: [{secret: {name: s}}, {configMap: {name: ratelimit-config}}]}",
            )],
            1,
        ),
        (
            "items leave out the file that is wrong",
            vec![
                two_files,
                (
                    VOLUME,
                    "configMap: {name: ratelimit-config, items: [{key: config.yaml, path: a.yaml}]}",
                ),
            ],
            1,
        ),
        (
            "items of a projected volume",
            vec![
                two_files,
                (
                    VOLUME,
                    "projected: {sources: [{configMap: {name: ratelimit-config, items: [{key: config.yaml, path: x/a.yaml}]}}]}",
                ),
            ],
            1,
        ),
        (
            "a directory of the volume",
            vec![
                two_files,
                (
                    VOLUME,
                    "configMap: {name: ratelimit-config, items: [{key: config.yaml, path: in/a.yaml}, {key: other.yaml, path: out/b.yaml}]}",
                ),
                (MOUNT, "mountPath: /data/ratelimit/config, subPath: in}"),
            ],
            1,
        ),
        (
            "a mount above where rules are read",
            vec![
                (
                    VOLUME,
                    "configMap: {name: ratelimit-config, items: [{key: config.yaml, path: ratelimit/config/a.yaml}]}",
                ),
                (MOUNT, "mountPath: /data}"),
            ],
            1,
        ),
        (
            "the namespace of the deployment",
            vec![
                (
                    "metadata: {name: ratelimit-config}",
                    "metadata: {name: ratelimit-config, namespace: here}",
                ),
                (
                    "metadata: {name: ratelimit}",
                    "metadata: {name: ratelimit, namespace: here}",
                ),
            ],
            1,
        ),
    ] {
        let manifest = istio_with(&replaced);
        let (code, report, found) = findings(&[("m.yaml", &manifest)], &["--manifest", "m.yaml"]);
        assert_eq!(code, 0, "{row}: {report:#}");
        assert_eq!(report["rule_files"], files, "{row}: {report:#}");
        assert!(
            found["the algorithm"].1.starts_with("2 limits"),
            "{row}: {report:#}"
        );
    }
}

#[test]
fn rules_that_are_not_in_the_manifests_are_named_once_and_nothing_is_read_here() {
    // The paths of the manifest exist on this machine, too, with a file that is wrong.
    let here = with(&[("wrong.yaml", "domain: [")]);
    let here = here.path().to_str().unwrap();
    let root = format!("- {{name: RUNTIME_ROOT, value: {here}}}");
    for (row, replaced, about) in [
        (
            "no mount",
            vec![
                (
                    "volumeMounts: [{name: config-volume, mountPath: /data/ratelimit/config}]",
                    "tty: false",
                ),
                ("- {name: RUNTIME_ROOT, value: /data}", root.as_str()),
                (
                    "RUNTIME_SUBDIRECTORY, value: ratelimit}",
                    "RUNTIME_APPDIRECTORY, value: /}",
                ),
            ],
            "the rules",
        ),
        (
            "another kind of volume",
            vec![(VOLUME, "hostPath: {path: /}")],
            "the rules",
        ),
        (
            "another namespace",
            vec![
                (
                    "metadata: {name: ratelimit-config}",
                    "metadata: {name: ratelimit-config, namespace: there}",
                ),
                (
                    "metadata: {name: ratelimit}",
                    "metadata: {name: ratelimit, namespace: here}",
                ),
            ],
            "ConfigMap ratelimit-config",
        ),
        (
            "twice in a volume",
            vec![(
                VOLUME,
                "projected: {sources: [{configMap: {name: missing}}, {configMap: {name: missing}}]}",
            )],
            "ConfigMap missing",
        ),
    ] {
        let manifest = istio_with(&replaced);
        let arguments = ["--manifest", "m.yaml"];
        let (code, report, found) = findings(&[("m.yaml", &manifest)], &arguments);
        assert_eq!(code, 1, "{row}: {report:#}");
        assert_eq!(report["rule_files"], 0, "{row}: {report:#}");
        assert_eq!(found[about].0, "change_first", "{row}: {report:#}");
        let findings = report["findings"].as_array().unwrap().iter();
        let first = findings.filter(|finding| finding["kind"] == "change_first");
        assert_eq!(first.count(), 1, "{row}: {report:#}");
        assert!(
            !report.to_string().contains("wrong.yaml"),
            "{row}: {report:#}"
        );
    }
}

#[test]
fn of_several_containers_one_is_named() {
    let container = |name: &str| {
        format!(
            "{{name: {name}, image: envoyproxy/ratelimit, env: [{{name: REDIS_URL, value: 'a:1'}}]}}"
        )
    };
    let pod = |names: [&str; 2]| {
        let [one, other] = names.map(container);
        format!("kind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{one}, {other}]}}")
    };
    let manifest = pod(["one", "other"]);
    let files = [("m.yaml", manifest.as_str()), ("rules.yaml", RULES)];
    let arguments = ["--manifest", "m.yaml", "--rules", "rules.yaml"];
    let (code, _, said) = migrate(&files, &arguments);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("more than one container is meant; name one with --container: one in Pod p, other in Pod p"),
        "{said}"
    );
    let named = [&arguments[..], &["--container", "other"]].concat();
    assert_eq!(migrate(&files, &named).0, 0);
    let manifest = pod(["one", "one"]);
    let files = [("m.yaml", manifest.as_str()), ("rules.yaml", RULES)];
    let (_, _, said) = migrate(&files, &arguments);
    assert!(said.contains("leave all but one out"), "{said}");
}

#[test]
fn variables_that_cannot_be_seen_are_named() {
    let manifest = istio_with(&[(
        "env:\n",
        "envFrom: [{configMapRef: {name: gone}}, {secretRef: {name: s}}, {configMapRef: {name: o, optional: true}}]\n          env:\n",
    )]);
    let (code, report, found) = findings(&[("m.yaml", &manifest)], &["--manifest", "m.yaml"]);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(
        found["variables of ConfigMap gone"].0, "differs",
        "{report:#}"
    );
    assert_eq!(found["variables of Secret s"].0, "differs", "{report:#}");
    assert!(
        !found.contains_key("variables of ConfigMap o"),
        "{report:#}"
    );
}
