//! Files that `migrate` reads.

use super::{ISTIO, RULES, findings, migrate, with};
use crate::support::typed;

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
            "f:1: this is not a NAME=value line",
        ),
        (
            "kind: Pod",
            vec!["--env", "f"],
            1,
            "this is not a NAME=value line",
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
            "the files have no container",
        ),
        (
            "- 1",
            vec!["--manifest", "f"],
            1,
            "the files have no container",
        ),
        (
            "",
            vec!["--manifest", "f"],
            1,
            "the files have no container",
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
            "more than one container runs ratelimit",
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
            .contains("Read by neither server (1):\n  REDIS_FANCY"),
        "{}",
        printed.stdout
    );
    assert!(
        printed
            .stdout
            .contains("LOCAL_CACHE_SIZE_IN_BYTES\n      denials are always cached"),
        "{}",
        printed.stdout
    );
    assert!(!printed.stdout.contains("hunter2"), "{}", printed.stdout);
}
