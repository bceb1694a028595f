//! The EnvoyFilters with a real Envoy: what they patch in is what Envoy takes, and their descriptors
//! meet the rules beside them.

use serde_json::{Value, json};

use super::{helm, kustomize, of_kind};
use crate::support::{Envoy, Plan, Ratekeeper, Route};

/// The value that the EnvoyFilters patch in at such a place.
fn patched<'o>(objects: &'o [Value], apply_to: &str) -> &'o Value {
    let filters = of_kind(objects, "EnvoyFilter").into_iter();
    let mut patches = filters.flat_map(|f| f["spec"]["configPatches"].as_array().unwrap());
    let patch = patches.find(|patch| patch["applyTo"] == apply_to);
    &patch.expect("there is a patch of it")["patch"]["value"]
}

/// Starts Envoy with what the EnvoyFilters patch in, in front of a server with the rules beside them.
fn start(objects: &[Value], path: &'static str) -> (Ratekeeper, Envoy) {
    let maps = of_kind(objects, "ConfigMap");
    let rules = maps
        .iter()
        .find_map(|map| map["data"]["rules.yaml"].as_str())
        .unwrap();
    let server = Ratekeeper::start(rules, std::iter::empty::<(&str, String)>());
    let mut filter = patched(objects, "HTTP_FILTER")["typed_config"]
        .as_object()
        .unwrap()
        .clone();
    let service = filter.remove("rate_limit_service").unwrap();
    let cluster = service["grpc_service"]["envoy_grpc"]["cluster_name"]
        .as_str()
        .unwrap();
    assert!(
        cluster.starts_with("outbound|8081||") && cluster.ends_with(".svc.cluster.local"),
        "{cluster}"
    );
    // The machine of a test may be slow.
    filter.insert("timeout".to_owned(), json!("60s"));
    let limits = patched(objects, "VIRTUAL_HOST")["rate_limits"].clone();
    let plan = Plan {
        routes: vec![Route::new(path, limits)],
        filter: Value::Object(filter),
        ..Plan::default()
    };
    let envoy = Envoy::start(server.address(), &plan);
    (server, envoy)
}

#[test]
fn the_overlays_filter_limits_what_its_rules_say() {
    let (_server, envoy) = start(&kustomize("overlays/istio"), "/login");
    // 10 a minute; at most a few come back meanwhile.
    let statuses = envoy.statuses(40, "/login", &[]);
    assert_eq!(statuses[..10], [200; 10], "{statuses:?}");
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(
        envoy.get("/login", &[]).header("x-ratelimit-limit"),
        "10, 10;w=60;name=\"login\""
    );
}

#[test]
fn the_charts_filter_limits_what_its_rules_say() {
    let (_server, envoy) = start(&helm(&["--set=istio.enabled=true"]), "/");
    let reply = envoy.get("/", &[("x-client", "alice")]);
    assert_eq!(
        reply.header("x-ratelimit-limit"),
        "60, 60;w=60;name=\"per-client\""
    );
    assert_eq!(reply.header("x-ratelimit-remaining"), "99");
    assert_eq!(envoy.get("/", &[]).header("x-ratelimit-limit"), "");
}
