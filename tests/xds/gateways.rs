//! What Envoy Gateway and Envoy AI Gateway send.

use std::collections::BTreeMap;

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use ratekeeper::source::xds::pb::{RateLimitDescriptor, RateLimitUnit};

use super::{config, descriptor, per, start};
use crate::support::{Authority, Backend, Management, Ratekeeper, Redis, ask, check, json_of};

/// What Envoy Gateway 1.9 sets, but for where its test servers listen.
#[test]
fn envoy_gateway() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("envoy-gateway");
    authority.mount(&authority.certify("envoy-rate-limit"), directory.path());
    let management = Management::start_with_tls(&authority, &authority.certify("localhost"));
    let backend = Backend::Redis(Redis::start());
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let port = management.address().port();
    let environment = [
        ("RUNTIME_ROOT", "/data"),
        ("RUNTIME_SUBDIRECTORY", "ratelimit"),
        ("RUNTIME_IGNOREDOTFILES", "true"),
        ("RUNTIME_WATCH_ROOT", "false"),
        ("LOG_LEVEL", "info"),
        ("USE_STATSD", "false"),
        ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
        ("CONFIG_GRPC_XDS_NODE_ID", "envoy-ratelimit"),
        ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
        ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true"),
        ("REDIS_SOCKET_TYPE", "tcp"),
        ("USE_PROMETHEUS", "true"),
        ("PROMETHEUS_ADDR", "127.0.0.1:0"),
        ("PROMETHEUS_MAPPER_YAML", "/etc/statsd-exporter/conf.yaml"),
    ];
    let environment = environment.map(|(name, value)| (name, value.to_owned()));
    let own = [
        ("CONFIG_GRPC_XDS_SERVER_URL", format!("localhost:{port}")),
        ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", file("tls.crt")),
        ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", file("tls.key")),
        ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", file("ca.crt")),
    ];
    let environment = environment.into_iter().chain(own);
    let server =
        Ratekeeper::start_with(Vec::<&str>::new(), environment.chain(backend.environment()));
    let session = management.session();
    assert_eq!(session.request().node.unwrap().id, "envoy-ratelimit");

    // As it is generated: the route, then what is matched, the last with the limit.
    let route = "httproute/default/shop/rule/0/match/0/*";
    let header = descriptor(
        "rule-0-match-0",
        "rule-0-match-0",
        per(RateLimitUnit::Hour, 3),
    );
    let masked = RateLimitDescriptor {
        descriptors: vec![descriptor("remote_address", "", per(RateLimitUnit::Day, 2))],
        ..descriptor("masked_remote_address", "10.0.0.0/8", None)
    };
    let denied = descriptor(
        "rule-2-match--1",
        "rule-2-match--1",
        per(RateLimitUnit::Week, 0),
    );
    let top = RateLimitDescriptor {
        descriptors: vec![header, masked, denied],
        ..descriptor(route, route, None)
    };
    session.accepted("1", &[config("default/eg/http", "default/eg/http", &[top])]);
    let asked = |rest: &str| ask("default/eg/http", &[&format!("{route}={route},{rest}")]);
    let header = "rule-0-match-0=rule-0-match-0";
    check(&server, header, asked(header), "OK: OK 2 of 3/hour");
    let address = "masked_remote_address=10.0.0.0/8,remote_address=10.1.2.3";
    check(&server, address, asked(address), "OK: OK 1 of 2/day");
    let denied = "rule-2-match--1=rule-2-match--1";
    check(
        &server,
        denied,
        asked(denied),
        "OVER: OVER 0 of 0/week never",
    );
}

/// What AI Gateway 1.1 sets, and how it shares quotas between backends.
#[test]
fn ai_gateway() {
    let management = Management::start();
    let environment = [
        ("CONFIG_GRPC_XDS_NODE_ID", "envoy-ai-gateway-ratelimit"),
        ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true"),
        ("RESPONSE_DYNAMIC_METADATA", "true"),
    ];
    let server = start(&management, &environment);
    let session = management.session();
    assert_eq!(
        session.request().node.unwrap().id,
        "envoy-ai-gateway-ratelimit"
    );
    let text = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let backend = |name: &str, limit| RateLimitDescriptor {
        descriptors: vec![RateLimitDescriptor {
            quota_mode: true,
            metadata: Some(Struct {
                fields: BTreeMap::from([("backend".to_owned(), text(name))]),
            }),
            ..descriptor("model_name_override", "gpt", per(RateLimitUnit::Day, limit))
        }],
        ..descriptor("backend_name", name, None)
    };
    let quotas = config(
        "quota",
        "ai-gateway-quota",
        &[backend("a", 1), backend("b", 2)],
    );
    session.accepted("1", &[quotas]);
    let both = || {
        let one = "backend_name=a,model_name_override=gpt";
        let other = "backend_name=b,model_name_override=gpt";
        ask("ai-gateway-quota", &[one, other])
    };
    let answer = server.ask(both()).unwrap();
    let metadata = json_of(&answer.dynamic_metadata.unwrap());
    assert_eq!(metadata["metadata"]["backend"], "a");
    let answer = server.ask(both()).unwrap();
    assert_eq!(answer.overall_code, 1, "one of two quotas is left");
    let metadata = json_of(&answer.dynamic_metadata.unwrap());
    assert_eq!(metadata["metadata"]["backend"], "b");
    let answer = server.ask(both()).unwrap();
    assert_eq!(answer.overall_code, 2, "both are used up");
}
