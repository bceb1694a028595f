//! What deploy/ and the Dockerfile hold: rendered by the real tools, validated against the schemas of
//! every kind, and held against the binary, which must know what they set.

mod chart;
mod image;
mod istio;
pub(crate) mod monitoring;
mod workload;

use std::collections::BTreeSet;
use std::fs;
use std::sync::LazyLock;

use serde_json::Value;

use crate::support::{helm, helm_template, kustomize, root, typed, validated};

/// Options of the chart, each set with what it needs beside it.
const OPTION_SETS: &[&[&str]] = &[
    &[],
    &["--set=store.type=memory"],
    &["--set=redis.bundled.enabled=false,redis.url=redis.example.com:6379"],
    &[
        "--set=redis.bundled.enabled=false,redis.existingSecret=mine",
        "--set=redis.type=cluster,redis.tls.enabled=true,redis.tls.caSecret=ca",
    ],
    &["--set=xds.enabled=true,xds.serverUrl=management:18001,xds.tlsSecret=xds"],
    &["--set=xds.enabled=true,xds.serverUrl=management:18001"],
    &["--set=tls.secret=server,tls.verifyClients=true"],
    &["--set=existingRulesConfigMap=mine,defaultAlgorithm=fixed_window,log.level=debug"],
    &[
        "--set=autoscaling.enabled=false,podDisruptionBudget.enabled=false,networkPolicy.enabled=false",
    ],
    &[
        "--set=serviceMonitor.enabled=true,prometheusRule.enabled=true,grafanaDashboard.enabled=true",
        "--set=serviceMonitor.labels.release=p,prometheusRule.labels.release=p",
    ],
    &["--set=service.clusterIP=None,service.debugPort=true,service.annotations.a=b"],
    &[
        "--set=env[0].name=QUOTA_MODE,env[0].value=\"true\",podAnnotations.a=b,podLabels.c=d",
        "--set=nodeSelector.disk=ssd,priorityClassName=high,imagePullSecrets[0].name=pull",
        "--set=tolerations[0].operator=Exists,networkPolicy.from[0].podSelector.matchLabels.a=b",
        "--set-json=affinity={\"nodeAffinity\":{}}",
        "--set=fullnameOverride=other,image.tag=9.9.9",
    ],
    &["--set=istio.enabled=true,istio.domain=ingress"],
    &[
        "--set=redis.bundled.enabled=false,redis.existingSecret=mine,redis.existingSecretKeys.url=a",
        "--set=tls.secret=server,tls.verifyClients=true,tls.secretKeys.ca=root.pem",
        "--set=serviceAccount.annotations.a=b,serviceAccount.name=own,podMonitor.enabled=true",
        "--set=commonLabels.team=mesh,global.imagePullSecrets[0]=pull,imagePullSecrets[0].name=other",
        "--set=global.team=other,shutdown.delaySeconds=3,shutdown.gracePeriodSeconds=4",
    ],
    &[
        "--set-json=topologySpreadConstraints=[{\"maxSkew\":1,\"topologyKey\":\"zone\",\"whenUnsatisfiable\":\"DoNotSchedule\"}]",
        "--set-json=initContainers=[{\"name\":\"first\",\"image\":\"first\"}]",
        "--set-json=extraContainers=[{\"name\":\"beside\",\"image\":\"beside\"}]",
        "--set-json=extraVolumes=[{\"name\":\"more\",\"emptyDir\":{}}]",
        "--set-json=extraVolumeMounts=[{\"name\":\"more\",\"mountPath\":\"/more\"}]",
        "--set=strategy.type=Recreate,workerThreads=3,terminationGracePeriodSeconds=99",
        "--set=autoscaling.targetMemoryUtilizationPercentage=80,autoscaling.behavior.scaleDown.stabilizationWindowSeconds=60",
        "--set-json=autoscaling.metrics=[{\"type\":\"Pods\",\"pods\":{\"metric\":{\"name\":\"rps\"},\"target\":{\"type\":\"AverageValue\",\"averageValue\":\"1k\"}}}]",
    ],
    // Variables of the chart's own, and those that open ports.
    &[
        "--set=redis.bundled.enabled=false,redis.type=cluster,redis.url=a:7001\\,b:7002",
        "--set=env[0].name=LOG_LEVEL,env[0].value=debug,env[1].name=WORKER_THREADS,env[1].value=\"4\"",
        "--set=env[2].name=USE_STATSD,env[2].value=\"true\",env[3].name=STATSD_PORT,env[3].value=\"9125\"",
        "--set=env[4].name=TRACING_ENABLED,env[4].value=\"true\"",
    ],
    &["--set=envoyGateway.enabled=true"],
    &[
        "--set=envoyGateway.enabled=true,redis.bundled.enabled=false,redis.url=redis:6379",
        "--set=env[0].name=DEFAULT_ALGORITHM,env[0].value=fixed_window",
    ],
];

/// Every rendering: what it is called, and its objects. The tools run once for all tests.
fn every_rendering() -> &'static [(String, Vec<Value>)] {
    static ALL: LazyLock<Vec<(String, Vec<Value>)>> = LazyLock::new(render);
    &ALL
}

fn render() -> Vec<(String, Vec<Value>)> {
    let overlays = fs::read_dir(root().join("deploy/kubernetes/overlays")).unwrap();
    let overlays = overlays.map(|entry| {
        let name = entry.unwrap().file_name();
        format!("overlays/{}", name.to_str().unwrap())
    });
    let mut all: Vec<_> = ["base".to_owned()]
        .into_iter()
        .chain(overlays)
        .map(|directory| (directory.clone(), kustomize(&directory)))
        .collect();
    assert!(all.len() >= 7, "an overlay is missing: {all:?}");
    all.extend(
        OPTION_SETS
            .iter()
            .map(|options| (format!("{options:?}"), helm(options))),
    );
    all
}

fn of_kind<'o>(objects: &'o [Value], kind: &str) -> Vec<&'o Value> {
    let of_kind = objects.iter().filter(|object| object["kind"] == kind);
    of_kind.collect()
}

/// The containers that run ratekeeper, and what Envoy Gateway is told of the one that it makes.
fn our_containers(objects: &[Value]) -> Vec<&Value> {
    let deployed = of_kind(objects, "Deployment")
        .into_iter()
        .flat_map(|deployment| {
            let containers = &deployment["spec"]["template"]["spec"]["containers"];
            containers.as_array().unwrap()
        });
    let by_gateway = of_kind(objects, "EnvoyGateway")
        .into_iter()
        .map(|gateway| &gateway["provider"]["kubernetes"]["rateLimitDeployment"]["container"]);
    let ours: Vec<_> = deployed
        .filter(|container| container["name"] == "ratekeeper")
        .chain(by_gateway)
        .collect();
    assert!(!ours.is_empty(), "nothing runs ratekeeper");
    ours
}

#[test]
fn everything_renders_and_every_object_is_valid() {
    for (name, objects) in every_rendering() {
        let kinds: BTreeSet<_> = objects
            .iter()
            .map(|o| o["kind"].as_str().unwrap())
            .collect();
        let expected = if name.contains("envoy-gateway") || name.contains("envoyGateway") {
            "ConfigMap"
        } else {
            "Deployment"
        };
        assert!(kinds.contains(expected), "{name}: {kinds:?}");
    }
}

#[test]
fn the_validator_refuses_what_no_cluster_would_take() {
    for (manifest, said) in [
        (
            "kind: Service\napiVersion: v1\nmetadata: {name: a}\nspec: {prots: []}",
            "prots",
        ),
        (
            "kind: Service\napiVersion: v1\nmetadata: {name: a}\nspec: {ports: 5}",
            "ports",
        ),
        (
            "kind: Service\napiVersion: v2\nmetadata: {name: a}\nspec: {}",
            "Couldn't find schema",
        ),
        (
            "kind: Nonsense\napiVersion: v1\nmetadata: {name: a}",
            "Couldn't find schema",
        ),
        (
            "kind: Service\napiVersion: v1\nmetadata: {name: a}\nspec: {ports: [], ports: []}",
            "given twice",
        ),
        (
            "kind: EnvoyFilter\napiVersion: networking.istio.io/v1alpha3\nmetadata: {name: a}\n\
             spec: {configPatches: [{applyTo: HTTP_FILTRE}]}",
            "HTTP_FILTRE",
        ),
        (
            "kind: EnvoyFilter\napiVersion: networking.istio.io/v1alpha3\nmetadata: {name: a}\n\
             spec: {selector: {}}",
            "selector",
        ),
        (
            "kind: ServiceMonitor\napiVersion: monitoring.coreos.com/v1\nmetadata: {name: a}\n\
             spec: {selector: {}, endpoints: [{prot: x}]}",
            "prot",
        ),
        (
            "kind: PrometheusRule\napiVersion: monitoring.coreos.com/v1\nmetadata: {name: a}\n\
             spec: {groups: [{name: g, rules: [{alrt: x, expr: y}]}]}",
            "alrt",
        ),
        (
            "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\n\
             data: {envoy-gateway.yaml: '{kind: EnvoyGateway, rateLimits: {}}'}",
            "rateLimits",
        ),
        ("", ""),
    ] {
        let mistakes = validated(manifest).expect_err(manifest);
        assert!(mistakes.contains(said), "{manifest}: {mistakes}");
    }
}

#[test]
fn options_that_make_no_sense_together_are_refused_with_what_to_do() {
    for (options, said) in [
        (
            "redis.bundled.enabled=false",
            "set redis.url or redis.existingSecret",
        ),
        ("redis.url=a:1", "set redis.bundled.enabled to false"),
        (
            "redis.tls.enabled=true",
            "set redis.bundled.enabled to false",
        ),
        ("tls.verifyClients=true", "needs tls.secret"),
        (
            "envoyGateway.enabled=true,redis.bundled.enabled=false,redis.existingSecret=a",
            "envoyGateway.enabled requires redis.url",
        ),
        (
            "envoyGateway.enabled=true,istio.enabled=true",
            "no server that Istio could use",
        ),
        (
            "autoscaling.maxReplicas=1",
            "less than autoscaling.minReplicas",
        ),
        ("xds.enabled=true", "serverUrl"),
        ("store.type=memcache", "memory"),
        ("sotre.type=memory", "sotre"),
        ("image.repository=", "repository"),
        ("istio.timeout=20ms", "timeout"),
        (
            "terminationGracePeriodSeconds=29",
            "less than shutdown.delaySeconds",
        ),
        (
            "serviceMonitor.enabled=true,podMonitor.enabled=true",
            "choose one",
        ),
        (
            "env[0].name=A,env[0].value=b,env[1].name=A,env[1].value=c",
            "env names A twice",
        ),
        ("store.localFallbackShare=0.0000001", "localFallbackShare"),
        ("store.localFallbackShare=2", "localFallbackShare"),
        ("image.digest=latest", "digest"),
        ("connectionAge=5", "connectionAge"),
    ] {
        let refused = helm_template(&["--set", options]).expect_err(options);
        assert!(refused.contains(said), "{options}: {refused}");
    }
}

#[test]
fn what_the_manifests_set_are_options_of_the_binary() {
    let help = typed(["serve", "--help"], []).stdout;
    let mut seen = BTreeSet::new();
    for (name, objects) in every_rendering() {
        let containers = our_containers(objects);
        for variable in containers.iter().flat_map(|c| c["env"].as_array().unwrap()) {
            let variable = variable["name"].as_str().unwrap();
            seen.insert(variable.to_owned());
            assert!(
                // What is secret shows no value, not even that there is none.
                ["=", "]"]
                    .iter()
                    .any(|end| help.contains(&format!("[env: {variable}{end}"))),
                "{name}: {variable} is no option of ratekeeper serve"
            );
        }
    }
    for expected in ["REDIS_URL", "STORE_FAILURE_MODE", "GRPC_CLIENT_TLS_CACERT"] {
        assert!(seen.contains(expected), "{expected} is not among {seen:?}");
    }
}

#[test]
fn the_rules_pass_the_check() {
    let mut checked = 0;
    for (name, objects) in every_rendering() {
        for map in of_kind(objects, "ConfigMap") {
            let directory = tempfile::tempdir().unwrap();
            let files = map["data"].as_object().unwrap().iter();
            let rules = files.filter(|(file, _)| file.as_str() == "rules.yaml");
            for (file, text) in rules {
                fs::write(directory.path().join(file), text.as_str().unwrap()).unwrap();
                let path = directory.path().to_str().unwrap();
                let printed = typed(["check", path], []);
                assert_eq!(printed.code, 0, "{name}: {}", printed.stderr);
                assert!(printed.stdout.contains("1 domain"), "{}", printed.stdout);
                checked += 1;
            }
        }
    }
    assert!(checked > 10, "only {checked} were found");
}
