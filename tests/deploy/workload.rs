//! What the objects say of each other: selectors find the pods, ports and volumes are there, and every
//! container runs as little as it can.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{every_rendering, of_kind, our_containers};

/// Whether labels are among others.
fn selects(selector: &Value, labels: &Value) -> bool {
    let selector = selector.as_object().unwrap();
    assert!(!selector.is_empty(), "it selects everything");
    selector.iter().all(|(key, value)| &labels[key] == value)
}

#[test]
fn selectors_find_their_pods_and_no_others() {
    for (name, objects) in every_rendering() {
        let deployments = of_kind(objects, "Deployment");
        let found_by = |selector: &Value| -> BTreeSet<&str> {
            let found = deployments.iter().filter(|deployment| {
                selects(
                    selector,
                    &deployment["spec"]["template"]["metadata"]["labels"],
                )
            });
            found
                .map(|d| d["metadata"]["name"].as_str().unwrap())
                .collect()
        };
        for (kind, path) in [
            ("Deployment", "/spec/selector/matchLabels"),
            ("Service", "/spec/selector"),
            ("PodDisruptionBudget", "/spec/selector/matchLabels"),
            ("NetworkPolicy", "/spec/podSelector/matchLabels"),
        ] {
            for object in of_kind(objects, kind) {
                let own = object["metadata"]["name"].as_str().unwrap();
                let selector = object
                    .pointer(path)
                    .unwrap_or_else(|| panic!("{name}: {object}"));
                assert_eq!(
                    found_by(selector),
                    BTreeSet::from([own]),
                    "{name}: {kind} {own}"
                );
            }
        }
        for deployment in &deployments {
            let spread =
                "/spec/template/spec/topologySpreadConstraints/0/labelSelector/matchLabels";
            let own = deployment["metadata"]["name"].as_str().unwrap();
            if let Some(selector) = deployment.pointer(spread) {
                assert_eq!(found_by(selector), BTreeSet::from([own]), "{name}: {own}");
            }
        }
        // A ServiceMonitor finds the Service by its labels, and a port of it by name.
        for monitor in of_kind(objects, "ServiceMonitor") {
            let selector = &monitor["spec"]["selector"]["matchLabels"];
            let services = of_kind(objects, "Service").into_iter();
            let services: Vec<_> = services
                .filter(|service| selects(selector, &service["metadata"]["labels"]))
                .collect();
            assert_eq!(services.len(), 1, "{name}: {services:?}");
            let port = &monitor["spec"]["endpoints"][0]["port"];
            assert!(
                names(&services[0]["spec"]["ports"]).contains(port.as_str().unwrap()),
                "{name}"
            );
        }
        for monitor in of_kind(objects, "PodMonitor") {
            let own = monitor["metadata"]["name"].as_str().unwrap();
            assert_eq!(
                found_by(&monitor["spec"]["selector"]["matchLabels"]),
                BTreeSet::from([own]),
                "{name}"
            );
            assert_eq!(
                monitor["spec"]["podMetricsEndpoints"][0]["port"],
                "http-metrics"
            );
        }
    }
}

/// The names in a list of objects.
fn names(list: &Value) -> BTreeSet<&str> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .filter_map(|item| item["name"].as_str())
        .collect()
}

#[test]
fn ports_and_volumes_are_there() {
    for (name, objects) in every_rendering() {
        for deployment in of_kind(objects, "Deployment") {
            let pod = &deployment["spec"]["template"]["spec"];
            let container = &pod["containers"][0];
            let ports = names(&container["ports"]);
            for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                let probe = &container[probe];
                for how in ["httpGet", "tcpSocket"] {
                    if let Some(port) = probe[how]["port"].as_str() {
                        assert!(ports.contains(port), "{name}: {probe}");
                    }
                }
            }
            let volumes = names(&pod["volumes"]);
            assert_eq!(names(&container["volumeMounts"]), volumes, "{name}");
            let services = of_kind(objects, "Service").into_iter();
            for service in
                services.filter(|s| s["metadata"]["name"] == deployment["metadata"]["name"])
            {
                for port in service["spec"]["ports"].as_array().unwrap() {
                    assert!(
                        ports.contains(port["targetPort"].as_str().unwrap()),
                        "{name}: {port}"
                    );
                }
            }
        }
        let policies = of_kind(objects, "NetworkPolicy").into_iter();
        for rule in policies.flat_map(|p| p["spec"]["ingress"].as_array().unwrap()) {
            for port in rule["ports"].as_array().unwrap() {
                let port = port["port"].as_str().unwrap();
                assert!(
                    ["grpc", "http", "http-metrics", "http-debug", "redis"].contains(&port),
                    "{name}: {port}"
                );
            }
        }
    }
}

#[test]
fn the_probes_are_those_that_a_mesh_expects() {
    for (name, objects) in every_rendering() {
        for container in our_containers(objects)
            .into_iter()
            .filter(|c| c["ports"].is_array())
        {
            let ports = container["ports"].as_array().unwrap();
            let ports: Map<_, _> = ports
                .iter()
                .map(|p| {
                    (
                        p["name"].as_str().unwrap().to_owned(),
                        p["containerPort"].clone(),
                    )
                })
                .collect();
            let expected =
                json!({"grpc": 8081, "http": 8080, "http-metrics": 9090, "http-debug": 6070});
            assert_eq!(Value::Object(ports), expected, "{name}");
            for probe in ["startupProbe", "readinessProbe"] {
                let get = &container[probe]["httpGet"];
                assert_eq!(
                    get,
                    &json!({"path": "/healthcheck", "port": "http"}),
                    "{name}: {probe}"
                );
            }
        }
    }
}

#[test]
fn what_is_mounted_is_there_or_named_as_yours() {
    // What the person who installs brings, in these renderings.
    let yours = [
        "ratekeeper-redis-tls",
        "ratekeeper-redis",
        "mine",
        "ca",
        "xds",
        "server",
    ];
    for (name, objects) in every_rendering() {
        let mut made = BTreeSet::new();
        for kind in ["ConfigMap", "Secret"] {
            made.extend(
                of_kind(objects, kind)
                    .iter()
                    .map(|o| o["metadata"]["name"].as_str().unwrap()),
            );
        }
        for deployment in of_kind(objects, "Deployment") {
            let pod = &deployment["spec"]["template"]["spec"];
            let volumes = pod["volumes"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            let mounted = volumes.iter().filter_map(|v| {
                v["configMap"]["name"]
                    .as_str()
                    .or(v["secret"]["secretName"].as_str())
            });
            let env = pod["containers"][0]["env"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            let read = env
                .iter()
                .filter_map(|e| e["valueFrom"]["secretKeyRef"]["name"].as_str());
            for used in mounted.chain(read) {
                assert!(
                    made.contains(used) || yours.contains(&used),
                    "{name}: {used}"
                );
            }
        }
    }
}

#[test]
fn every_container_runs_as_little_as_it_can() {
    for (name, objects) in every_rendering() {
        for deployment in of_kind(objects, "Deployment") {
            let pod = &deployment["spec"]["template"]["spec"];
            assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
            assert_eq!(
                pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault",
                "{name}"
            );
            let container = &pod["containers"][0];
            let expected = json!({
                "allowPrivilegeEscalation": false,
                "privileged": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            });
            assert_eq!(container["securityContext"], expected, "{name}");
            assert!(
                container["resources"]["limits"]["memory"].is_string(),
                "{name}"
            );
            if container["name"] == "ratekeeper" {
                assert_eq!(pod["securityContext"]["runAsUser"], 65534, "{name}");
            }
        }
    }
}

#[test]
fn servers_that_count_for_themselves_are_one() {
    for (name, objects) in every_rendering() {
        let container = our_containers(objects)[0];
        let is_memory = names(&container["env"]).contains("BACKEND_TYPE");
        if !is_memory {
            continue;
        }
        assert!(name.contains("memory"), "{name}");
        assert_eq!(
            of_kind(objects, "Deployment")[0]["spec"]["replicas"],
            1,
            "{name}"
        );
        for kind in ["HorizontalPodAutoscaler", "PodDisruptionBudget"] {
            assert!(of_kind(objects, kind).is_empty(), "{name}: {kind}");
        }
    }
}

#[test]
fn the_image_is_the_one_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    for (name, objects) in every_rendering() {
        let expected = if name.contains("image.tag=9.9.9") {
            "ratekeeper:9.9.9".to_owned()
        } else {
            format!("ratekeeper:{version}")
        };
        for container in our_containers(objects) {
            assert_eq!(container["image"], expected.as_str(), "{name}");
        }
    }
}
