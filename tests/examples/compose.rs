//! The compose file, without containers: every service runs on loopback from the files that it mounts, with the
//! names of services replaced by the addresses that they have here.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::file;
use crate::support::{Envoy, Prometheus, Ratekeeper, Redis, Scrape, eventually, root, yaml};

fn compose() -> Value {
    yaml(&file("compose", "compose.yaml"))
}

/// The files and directories that a service mounts: here, and in its container.
fn mounts(service: &Value) -> Vec<(PathBuf, String)> {
    let volumes = service["volumes"].as_array().into_iter().flatten();
    let mounts = volumes.map(|volume| {
        let mut parts = volume.as_str().unwrap().split(':');
        let (here, inside) = (parts.next().unwrap(), parts.next().unwrap());
        assert_eq!(parts.next(), Some("ro"), "{volume}");
        (file("compose", here), inside.to_owned())
    });
    mounts.collect()
}

/// The file that a service has at a path, as it is here.
fn mounted(service: &Value, inside: &str) -> PathBuf {
    let mounts = mounts(service);
    let found = mounts.iter().find(|(_, path)| path == inside);
    found
        .unwrap_or_else(|| panic!("{inside} is not mounted"))
        .0
        .clone()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Replaces what must be there.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in:\n{text}");
    text.replace(from, to)
}

#[test]
fn the_stack_limits_requests_and_is_seen_by_prometheus() {
    let compose = compose();
    let service = |name: &str| &compose["services"][name];
    let redis = Redis::start();

    let ratekeeper = service("ratekeeper");
    let variables = ratekeeper["environment"].as_object().unwrap().iter();
    let variables = variables.map(|(name, value)| match name.as_str() {
        "REDIS_URL" => (
            name.as_str(),
            replaced(value.as_str().unwrap(), "redis:6379", &redis.url()),
        ),
        name => (name, value.as_str().unwrap().to_owned()),
    });
    let own = [
        ("PROMETHEUS_ADDR", "127.0.0.1:0".to_owned()),
        ("REDIS_TIMEOUT", "20s".to_owned()),
    ];
    let command = ratekeeper["command"].as_array().unwrap();
    let [flag, rules] = [0, 1].map(|at| command[at].as_str().unwrap());
    let rules = mounted(ratekeeper, rules);
    let server = Ratekeeper::start_with([flag, rules.to_str().unwrap()], variables.chain(own));

    let command = &service("envoy")["command"];
    let bootstrap = read(&mounted(service("envoy"), command[2].as_str().unwrap()));
    let bootstrap = replaced(
        &bootstrap,
        "address: ratekeeper, port_value: 8081",
        &format!(
            "address: 127.0.0.1, port_value: {}",
            server.address().port()
        ),
    );
    let bootstrap = replaced(
        &bootstrap,
        "0.0.0.0, port_value: 10000",
        "127.0.0.1, port_value: 0",
    );
    let bootstrap = replaced(&bootstrap, "port_value: 9901", "port_value: 0");
    let envoy = Envoy::start_with(&replaced(&bootstrap, "timeout: 0.1s", "timeout: 30s"));
    let answers = envoy.statuses(4, "/", &[("x-client", "alice")]);
    assert_eq!(answers, [200; 4]);
    eventually("a request is denied", || {
        envoy.get("/", &[("x-client", "alice")]).status == 429
    });

    let prometheus = service("prometheus");
    let configuration = read(&mounted(prometheus, "/etc/prometheus/prometheus.yaml"));
    let target = Scrape::address(&server).to_string();
    let configuration = replaced(&configuration, "ratekeeper:9090", &target);
    let alerts = mounted(prometheus, "/etc/prometheus/alerts.yaml");
    let configuration = replaced(&configuration, "alerts.yaml", alerts.to_str().unwrap());
    let prometheus = Prometheus::start(&replaced(
        &configuration,
        "scrape_interval: 5s",
        "scrape_interval: 200ms",
    ));
    for question in [
        "up{job=\"ratekeeper\"} == 1",
        "ratelimit_service_rate_limit_over_limit{domain=\"shop\",key1=\"client\"} > 0",
    ] {
        eventually(question, || prometheus.query(question).is_some());
    }
}

#[test]
fn what_is_mounted_exists_and_grafana_finds_prometheus_and_the_dashboard() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    for (name, service) in services {
        for (here, _) in mounts(service) {
            assert!(here.exists(), "{name}: {}", here.display());
        }
        for other in service["depends_on"].as_array().into_iter().flatten() {
            assert!(
                services.contains_key(other.as_str().unwrap()),
                "{name}: {other}"
            );
        }
        let image = service["image"].as_str().unwrap();
        assert!(
            image.contains(':') && !image.ends_with(":latest"),
            "{name}: {image}"
        );
    }
    let grafana = &services["grafana"];
    let datasources = mounted(
        grafana,
        "/etc/grafana/provisioning/datasources/datasource.yaml",
    );
    let datasource = yaml(&datasources)["datasources"][0].take();
    assert_eq!(
        (&datasource["type"], &datasource["url"]),
        (&"prometheus".into(), &"http://prometheus:9090".into())
    );
    let providers = mounted(
        grafana,
        "/etc/grafana/provisioning/dashboards/dashboards.yaml",
    );
    let provider = yaml(&providers)["providers"][0].take();
    let dashboards = mounted(grafana, provider["options"]["path"].as_str().unwrap());
    assert!(dashboards.join("ratekeeper.json").exists());
    // The same Redis everywhere.
    let component = read(&root().join("deploy/kubernetes/components/redis/deployment.yaml"));
    let image = services["redis"]["image"].as_str().unwrap();
    assert!(component.contains(&format!("image: {image}")), "{image}");
}
