//! What the values of the chart, and the manifests of the base, come to.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value, json};

use super::{every_rendering, helm, helm_template, of_kind, our_containers};
use crate::support::{deploy_tool, kustomize, root, run, validated};

/// The environment variable of our container: its value, or where it comes from.
fn variable(objects: &[Value], name: &str) -> Value {
    let container = our_containers(objects)[0];
    let variables = container["env"].as_array().unwrap();
    let variable = variables.iter().find(|variable| variable["name"] == name);
    variable.map_or(Value::Null, |variable| match &variable["value"] {
        Value::Null => variable["valueFrom"].clone(),
        value => value.clone(),
    })
}

fn deployment(objects: &[Value]) -> &Value {
    of_kind(objects, "Deployment")
        .into_iter()
        .find(|object| object["spec"]["template"]["spec"]["containers"][0]["name"] == "ratekeeper")
        .unwrap()
}

#[test]
fn no_variable_is_named_twice() {
    for (name, objects) in every_rendering() {
        for container in our_containers(objects) {
            let mut seen = BTreeSet::new();
            for variable in container["env"].as_array().unwrap() {
                let variable = variable["name"].as_str().unwrap();
                assert!(seen.insert(variable), "{name}: {variable} is there twice");
            }
        }
    }
    let objects = helm(&["--set=env[0].name=LOG_LEVEL,env[0].value=debug"]);
    assert_eq!(variable(&objects, "LOG_LEVEL"), "debug");
    let objects =
        helm(&["--set=envoyGateway.enabled=true,env[0].name=STORE_FAILURE_MODE,env[0].value=deny"]);
    assert_eq!(variable(&objects, "STORE_FAILURE_MODE"), "deny");
}

#[test]
fn the_shares_of_all_servers_are_never_more_than_the_whole() {
    for (options, servers, share) in [
        (vec![], 2, "0.500000"),
        (vec!["--set=autoscaling.minReplicas=3"], 3, "0.333333"),
        (vec!["--set=autoscaling.enabled=false,replicas=1"], 1, "1"),
        (
            vec!["--set=autoscaling.enabled=false,replicas=7"],
            7,
            "0.142857",
        ),
        (
            vec!["--set=envoyGateway.enabled=true,envoyGateway.replicas=6"],
            6,
            "0.166666",
        ),
        (
            vec!["--set=store.localFallbackShare=0.66666666"],
            1,
            "0.666666",
        ),
    ] {
        let rendered = variable(&helm(&options), "LOCAL_FALLBACK_SHARE");
        assert_eq!(rendered, share, "{options:?}");
        // In millionths, as the server reads it.
        let (whole, decimals) = share.split_once('.').unwrap_or((share, "0"));
        let millionths: u64 = format!("{whole}{decimals:0<6}").parse().unwrap();
        assert!(millionths * servers <= 1_000_000, "{options:?}");
    }
    let base = kustomize("base");
    let servers = &of_kind(&base, "HorizontalPodAutoscaler")[0]["spec"]["minReplicas"];
    assert_eq!(variable(&base, "LOCAL_FALLBACK_SHARE"), "0.5");
    assert_eq!(servers, 2);
    let gateway = kustomize("overlays/envoy-gateway");
    assert_eq!(variable(&gateway, "LOCAL_FALLBACK_SHARE"), "0.5");
    let configured = of_kind(&gateway, "EnvoyGateway")[0];
    let replicas = "/provider/kubernetes/rateLimitDeployment/replicas";
    assert_eq!(configured.pointer(replicas), Some(&json!(2)));
}

#[test]
fn a_pod_is_given_the_time_that_its_server_takes_to_stop() {
    for (name, objects) in every_rendering() {
        if of_kind(objects, "EnvoyGateway").is_empty() {
            let pod = &deployment(objects)["spec"]["template"]["spec"];
            let seconds = |variable_name: &str| -> u64 {
                let value = variable(objects, variable_name);
                let text = value
                    .as_str()
                    .unwrap_or_else(|| panic!("{name}: {variable_name}"));
                text.strip_suffix('s').unwrap().parse().unwrap()
            };
            let needs = seconds("SHUTDOWN_DELAY") + seconds("SHUTDOWN_GRACE_PERIOD");
            let has = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
            assert!(has >= needs + 10, "{name}: {has} s for {needs} s");
            assert!(seconds("SHUTDOWN_DELAY") > 0, "{name}");
            let age = variable(objects, "GRPC_MAX_CONNECTION_AGE");
            assert!(
                age.as_str().is_some_and(|age| age.ends_with('m')),
                "{name}: {age}"
            );
        }
    }
}

#[test]
fn threads_follow_the_cpu_limit_or_else_the_request() {
    let resource = |objects: &[Value]| {
        variable(objects, "WORKER_THREADS")["resourceFieldRef"]["resource"].clone()
    };
    assert_eq!(resource(&helm(&[])), "requests.cpu");
    assert_eq!(
        resource(&helm(&["--set=resources.limits.cpu=2"])),
        "limits.cpu"
    );
    assert_eq!(resource(&kustomize("base")), "requests.cpu");
    assert_eq!(
        variable(&helm(&["--set=workerThreads=3"]), "WORKER_THREADS"),
        "3"
    );
    let none = helm(&["--set-json=resources.requests.cpu=null"]);
    assert_eq!(variable(&none, "WORKER_THREADS"), Value::Null);
}

/// Ports that pods may connect to, beside DNS, as `port/protocol`.
fn egress(objects: &[Value]) -> BTreeSet<String> {
    let policies = of_kind(objects, "NetworkPolicy").into_iter();
    let of_server = policies.filter(|policy| {
        policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "ratelimit"
    });
    of_server
        .flat_map(|policy| policy["spec"]["egress"].as_array().unwrap())
        .flat_map(|rule| rule["ports"].as_array().unwrap())
        .map(|port| {
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            format!("{}/{protocol}", port["port"])
        })
        .filter(|port| !port.starts_with("53/"))
        .collect()
}

#[test]
fn the_network_policy_allows_what_is_configured_and_nothing_else() {
    let external = "--set=redis.bundled.enabled=false";
    let env = |n: usize, name: &str, value: &str| {
        format!("--set-string=env[{n}].name={name},env[{n}].value={value}")
    };
    for (options, ports) in [
        (vec![], "6379/TCP"),
        (vec!["--set=store.type=memory".to_owned()], ""),
        (
            vec![
                external.to_owned(),
                "--set=redis.url=rediss://u:p@r.example.com:7777/2".to_owned(),
            ],
            "7777/TCP",
        ),
        (
            vec![
                external.to_owned(),
                "--set=redis.url=r.example.com".to_owned(),
            ],
            "6379/TCP",
        ),
        (
            vec![
                external.to_owned(),
                "--set=redis.type=cluster,redis.url=a:7001\\,[::1]:7002".to_owned(),
            ],
            "7001/TCP 7002/TCP",
        ),
        (
            vec![
                external.to_owned(),
                "--set=redis.type=sentinel,redis.url=main\\,a:26379\\,b:26380".to_owned(),
            ],
            "26379/TCP 26380/TCP 6379/TCP",
        ),
        (
            vec![
                external.to_owned(),
                "--set=redis.existingSecret=mine".to_owned(),
            ],
            "26379/TCP 6379/TCP 6380/TCP",
        ),
        (
            vec!["--set=networkPolicy.egressPorts[0]=9999".to_owned()],
            "6379/TCP 9999/TCP",
        ),
        (
            vec!["--set=xds.enabled=true,xds.serverUrl=management:18001".to_owned()],
            "18001/TCP 6379/TCP",
        ),
        (vec![env(0, "USE_STATSD", "true")], "6379/TCP 8125/UDP"),
        (
            vec![
                env(0, "USE_DOG_STATSD", "true"),
                env(1, "STATSD_PORT", "9125"),
            ],
            "6379/TCP 9125/UDP",
        ),
        (vec![env(0, "TRACING_ENABLED", "true")], "4318/TCP 6379/TCP"),
        (
            vec![
                env(0, "TRACING_ENABLED", "true"),
                env(1, "TRACING_EXPORTER_PROTOCOL", "grpc"),
            ],
            "4317/TCP 6379/TCP",
        ),
        (
            vec![
                env(0, "TRACING_ENABLED", "true"),
                env(1, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:5555/v1"),
            ],
            "5555/TCP 6379/TCP",
        ),
        (
            vec![
                env(0, "REDIS_PERSECOND", "true"),
                env(1, "REDIS_PERSECOND_URL", "second:6444"),
            ],
            "6379/TCP 6444/TCP",
        ),
    ] {
        let given: Vec<&str> = options.iter().map(String::as_str).collect();
        let allowed: Vec<String> = egress(&helm(&given)).into_iter().collect();
        assert_eq!(allowed.join(" "), ports, "{options:?}");
    }
    let base = egress(&kustomize("base"));
    for port in ["6379/TCP", "8125/UDP"] {
        assert!(base.contains(port), "{base:?}");
    }
}

#[test]
fn values_of_the_chart_reach_the_pod() {
    let objects = helm(&[
        "--set=image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "--set=global.imageRegistry=reg.example.com/mirror/,global.imagePullSecrets[0]=one",
        "--set=imagePullSecrets[0].name=two,commonLabels.team=mesh,podLabels.tier=edge",
        "--set-json=commonLabels={\"team\":\"mesh\",\"app.kubernetes.io/name\":\"other\"}",
        "--set=strategy.type=Recreate,serviceAccount.annotations.role=a,podMonitor.enabled=true",
        "--set-json=extraContainers=[{\"name\":\"beside\",\"image\":\"beside\"}]",
        "--set-json=topologySpreadConstraints=[{\"maxSkew\":2,\"topologyKey\":\"zone\",\"whenUnsatisfiable\":\"DoNotSchedule\"}]",
    ]);
    let deployment = deployment(&objects);
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(
        pod["containers"][0]["image"],
        "reg.example.com/mirror/ratekeeper:0.1.0@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    );
    assert_eq!(
        pod["imagePullSecrets"],
        json!([{"name": "one"}, {"name": "two"}])
    );
    assert_eq!(pod["containers"][1]["name"], "beside");
    assert_eq!(pod["topologySpreadConstraints"][0]["maxSkew"], 2);
    assert_eq!(deployment["spec"]["strategy"], json!({"type": "Recreate"}));
    let account = of_kind(&objects, "ServiceAccount")[0];
    assert_eq!(account["metadata"]["annotations"]["role"], "a");
    assert_eq!(of_kind(&objects, "PodMonitor").len(), 1);
    for object in &objects {
        assert_eq!(object["metadata"]["labels"]["team"], "mesh", "{object}");
        let name = &object["metadata"]["labels"]["app.kubernetes.io/name"];
        assert_eq!(name, "ratekeeper", "selectors must not change: {object}");
    }
    assert_eq!(
        deployment["spec"]["template"]["metadata"]["labels"]["tier"],
        "edge"
    );
}

#[test]
fn as_a_part_of_another_chart_it_can_be_disabled() {
    let everything = [
        "--set=serviceMonitor.enabled=true,prometheusRule.enabled=true",
        "--set=grafanaDashboard.enabled=true,istio.enabled=true",
    ];
    for more in [
        "global.a=b",
        "envoyGateway.enabled=true,istio.enabled=false",
    ] {
        let more = format!("--set={more},enabled=false");
        let options: Vec<&str> = everything.into_iter().chain([more.as_str()]).collect();
        let rendered = helm_template(&options).unwrap();
        assert!(!rendered.contains("kind:"), "{more}: {rendered}");
    }
    let enabled = helm_template(&everything).unwrap();
    assert!(validated(&enabled).unwrap().len() > 8);
}

#[test]
fn an_umbrella_chart_enables_it_and_shares_its_globals() {
    let umbrella = tempfile::tempdir().unwrap();
    fs::create_dir(umbrella.path().join("charts")).unwrap();
    let chart = root().join("deploy/helm/ratekeeper");
    symlink(chart, umbrella.path().join("charts/ratekeeper")).unwrap();
    let dependency =
        json!({"name": "ratekeeper", "version": "*", "condition": "ratekeeper.enabled"});
    let own = json!({
        "apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [dependency],
    });
    let values = json!({
        "global": {"imageRegistry": "reg.example.com", "team": "mesh"},
        "ratekeeper": {"enabled": true, "autoscaling": {"minReplicas": 4}},
    });
    for (file, content) in [("Chart.yaml", own), ("values.yaml", values)] {
        fs::write(umbrella.path().join(file), content.to_string()).unwrap();
    }
    let template = |options: &[&str]| {
        let mut command = Command::new(deploy_tool("helm"));
        run(command
            .args(["template", "platform"])
            .arg(umbrella.path())
            .args(options))
    };
    let objects = validated(&template(&[])).unwrap();
    let container = our_containers(&objects)[0];
    assert_eq!(container["image"], "reg.example.com/ratekeeper:0.1.0");
    assert_eq!(variable(&objects, "LOCAL_FALLBACK_SHARE"), "0.250000");
    let none = template(&["--set=ratekeeper.enabled=false"]);
    assert!(!none.contains("kind:"), "{none}");
}

/// The tests run the redis-server that is installed; what is bundled is of the same major version.
#[test]
fn the_bundled_redis_is_of_a_version_that_the_tests_run() {
    let version = run(Command::new("redis-server").arg("--version"));
    let (_, version) = version.split_once(" v=").unwrap();
    let major = version.split('.').next().unwrap();
    let mut seen = 0;
    for (name, objects) in every_rendering() {
        for deployment in of_kind(objects, "Deployment") {
            let container = &deployment["spec"]["template"]["spec"]["containers"][0];
            if container["name"] == "redis" {
                let image = container["image"].as_str().unwrap();
                assert!(
                    image.starts_with(&format!("redis:{major}.")),
                    "{name}: {image}"
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 10, "only {seen} bundle a Redis");
}
