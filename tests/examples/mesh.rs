//! The examples for control planes. What a control plane makes of its resources is done here as it does it, and the rest is real.

use ratekeeper::source::xds::pb::{
    RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
};
use serde_json::{Value, json};

use super::{check_requests, envoy, file, text};
use crate::support::{Envoy, Management, Plan, Ratekeeper, Route, validated, yaml};

#[test]
fn istio() {
    let objects = validated(&text("istio", "envoyfilter.yaml")).unwrap();
    let patches = objects[0]["spec"]["configPatches"].as_array().unwrap();
    let value = |apply_to: &str| {
        let patch = patches.iter().find(|patch| patch["applyTo"] == apply_to);
        patch.unwrap()["patch"]["value"].clone()
    };
    let mut filter = value("HTTP_FILTER")["typed_config"].clone();
    let service = filter["rate_limit_service"].take();
    // Istio names clusters so. Without an authority of its own, Envoy sends that name to the server.
    let cluster = service["grpc_service"]["envoy_grpc"]["cluster_name"]
        .as_str()
        .unwrap();
    assert!(cluster.starts_with("outbound|8081||") && cluster.ends_with(".svc.cluster.local"));
    filter.as_object_mut().unwrap().remove("rate_limit_service");
    // The machine of a test can be slow.
    filter["timeout"] = "60s".into();

    let server = Ratekeeper::start(&text("istio", "ratelimit.yaml"), []);
    let plan = Plan {
        routes: vec![Route::new(
            "/*",
            value("VIRTUAL_HOST")["rate_limits"].clone(),
        )],
        filter,
        ..Plan::default()
    };
    check_requests("istio", &Envoy::start(server.address(), &plan));
}

#[test]
fn envoy_gateway() {
    let configuration = validated(&text("envoy-gateway", "envoy-gateway.yaml")).unwrap();
    let container = &configuration[0]["provider"]["kubernetes"]["rateLimitDeployment"]["container"];
    let variables = container["env"].as_array().unwrap().iter();
    let environment: Vec<(&str, String)> = variables
        .map(|variable| {
            (
                variable["name"].as_str().unwrap(),
                variable["value"].as_str().unwrap().to_owned(),
            )
        })
        .collect();

    let policy = yaml(&file("envoy-gateway", "policy.yaml"));
    let rules = policy["spec"]["rateLimit"]["global"]["rules"]
        .as_array()
        .unwrap();
    let route = "httproute/default/shop/rule/0/match/0/*";
    let translated = rules
        .iter()
        .enumerate()
        .map(|(index, rule)| translated(index, rule));
    let (actions, descriptors): (Vec<_>, Vec<_>) = translated.unzip();
    let rate_limits = actions.into_iter().map(|action| {
        json!({"actions": [{"generic_key": {"descriptor_key": route, "descriptor_value": route}}, action]})
    });

    let management = Management::start();
    let source = [
        ("CONFIG_TYPE", "GRPC_XDS_SOTW".to_owned()),
        (
            "CONFIG_GRPC_XDS_SERVER_URL",
            management.address().to_string(),
        ),
        ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true".to_owned()),
    ];
    let server = Ratekeeper::start_with([""; 0], environment.into_iter().chain(source));
    let session = management.session();
    session.request();
    let domain = "default/eg/http";
    let top = RateLimitDescriptor {
        key: route.to_owned(),
        value: route.to_owned(),
        descriptors,
        ..RateLimitDescriptor::default()
    };
    session.accepted(
        "1",
        &[RateLimitConfig {
            name: domain.to_owned(),
            domain: domain.to_owned(),
            descriptors: vec![top],
        }],
    );
    check_requests(
        "envoy-gateway",
        &envoy(&server, domain, rate_limits.collect()),
    );
}

/// What Envoy Gateway makes of one rule of a policy: an action for Envoy, a descriptor for the server.
fn translated(index: usize, rule: &Value) -> (Value, RateLimitDescriptor) {
    let limit = &rule["limit"];
    assert_eq!(limit["unit"], "Hour");
    let requests = limit["requests"].as_u64().unwrap();
    let rate_limit = RateLimitPolicy {
        unit: RateLimitUnit::Hour.into(),
        requests_per_unit: u32::try_from(requests).unwrap(),
        ..RateLimitPolicy::default()
    };
    let (key, value, action) = match &rule["clientSelectors"] {
        Value::Null => {
            let key = format!("rule-{index}-match--1");
            let action = json!({"generic_key": {"descriptor_key": key, "descriptor_value": key}});
            (key.clone(), key, action)
        }
        selectors => {
            let header = &selectors[0]["headers"][0];
            assert_eq!(header["type"], "Distinct");
            let key = format!("rule-{index}-match-0");
            let action =
                json!({"request_headers": {"descriptor_key": key, "header_name": header["name"]}});
            (key, String::new(), action)
        }
    };
    let descriptor = RateLimitDescriptor {
        key,
        value,
        rate_limit: Some(rate_limit),
        ..RateLimitDescriptor::default()
    };
    (action, descriptor)
}

#[test]
fn contour() {
    let proxy = yaml(&file("contour", "httpproxy.yaml"));
    let descriptors = &proxy["spec"]["virtualhost"]["rateLimitPolicy"]["global"]["descriptors"];
    let rate_limits = descriptors.as_array().unwrap().iter().map(|descriptor| {
        let entries = descriptor["entries"].as_array().unwrap().iter();
        json!({"actions": entries.map(action).collect::<Vec<_>>()})
    });
    let service = yaml(&file("contour", "contour.yaml"))["rateLimitService"].take();
    let extension = yaml(&file("contour", "extension-service.yaml"));
    let metadata = &extension["metadata"];
    assert_eq!(
        service["extensionService"],
        format!(
            "{}/{}",
            metadata["namespace"].as_str().unwrap(),
            metadata["name"].as_str().unwrap()
        )
    );
    let server = Ratekeeper::start(&text("contour", "ratelimit.yaml"), []);
    let domain = service["domain"].as_str().unwrap();
    check_requests("contour", &envoy(&server, domain, rate_limits.collect()));
}

/// What Contour makes of an entry of a descriptor.
fn action(entry: &Value) -> Value {
    let (kind, fields) = entry.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "requestHeader" => json!({"request_headers": {
            "header_name": fields["headerName"], "descriptor_key": fields["descriptorKey"],
        }}),
        "genericKey" => json!({"generic_key": {
            "descriptor_key": fields["key"], "descriptor_value": fields["value"],
        }}),
        kind => panic!("Contour has no entry {kind}, or this test does not know it"),
    }
}
