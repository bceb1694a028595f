//! Rules in the volumes of a deployment.

use super::{ISTIO, RULES, findings, migrate, with};

/// ISTIO with other content of its container and of its volume.
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
        what.contains("--quotaRateLimitServiceAddr, -v") && what.contains("serve, with a warning"),
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
        said.contains("more than one container runs ratelimit; name one with --container: one in Pod p, other in Pod p"),
        "{said}"
    );
    let named = [&arguments[..], &["--container", "other"]].concat();
    assert_eq!(migrate(&files, &named).0, 0);
    let manifest = pod(["one", "one"]);
    let files = [("m.yaml", manifest.as_str()), ("rules.yaml", RULES)];
    let (_, _, said) = migrate(&files, &arguments);
    assert!(said.contains("remove all but one"), "{said}");
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
