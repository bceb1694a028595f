//! The environments in which meshes start envoyproxy/ratelimit, variable by variable: in each of them the
//! server starts, becomes healthy and serves.
//!
//! Only what a test cannot have is replaced: paths at the root of the file system, and ports and addresses
//! that another test may be using.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use ratekeeper::source::xds::pb::{
    RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
};
use tempfile::TempDir;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::environments::{AI_GATEWAY, ENVOY_GATEWAY, ENVOY_GATEWAY_TRACING, ISTIO};
use crate::support::{
    Authority, Collector, Http, Management, Protocol, Ratekeeper, Redis, Scrape, ask, typed,
};
use crate::tls::{answered, expiry, is_let_in};

const RULES: &str = "
domain: mesh
descriptors: [{key: k, rate_limit: {unit: year, requests_per_unit: 5}}]
";

/// The image of a container: `/bin/ratelimit`, and what is mounted.
struct Container {
    root: TempDir,
}

impl Container {
    /// One whose rules, if there are any, lie in a ConfigMap at `/data/ratelimit/config`.
    fn new(rules: Option<&str>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let container = Self { root };
        fs::create_dir(container.at("/bin")).unwrap();
        symlink(
            env!("CARGO_BIN_EXE_ratekeeper"),
            container.at("/bin/ratelimit"),
        )
        .unwrap();
        let mount = container.at("/data/ratelimit/config");
        let version = Path::new(&mount).join("..2026");
        fs::create_dir_all(&version).unwrap();
        if let Some(rules) = rules {
            fs::write(version.join("config.yaml"), rules).unwrap();
            symlink("..data/config.yaml", Path::new(&mount).join("config.yaml")).unwrap();
        }
        symlink("..2026", Path::new(&mount).join("..data")).unwrap();
        container
    }

    /// A path of the container, on this machine.
    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.root.path().display())
    }

    /// Starts it with this environment and no arguments, as the meshes do.
    fn start(&self, environment: &str, replaced: &[(&str, &str)]) -> Ratekeeper {
        let lines = environment
            .lines()
            .filter_map(|line| line.trim().split_once('='));
        let mut variables: BTreeMap<String, String> = lines
            .map(|(name, value)| {
                let is_path = value.starts_with('/');
                let value = if is_path {
                    self.at(value)
                } else {
                    value.to_owned()
                };
                (name.to_owned(), value)
            })
            .collect();
        for port in ["PORT", "GRPC_PORT", "DEBUG_PORT"] {
            variables.insert(port.to_owned(), "0".to_owned());
        }
        for (name, value) in replaced {
            variables.insert((*name).to_owned(), (*value).to_owned());
        }
        Ratekeeper::run(
            Command::new(self.at("/bin/ratelimit"))
                .env_clear()
                .envs(variables),
        )
    }
}

fn is_well(server: &Ratekeeper) {
    let page = server.http().get("/healthcheck");
    assert_eq!((page.status, page.body.as_str()), (200, "OK"));
}

/// What people and their tools see of it.
fn has_rules(server: &Ratekeeper) {
    let request = r#"{"domain":"mesh","descriptors":[{"entries":[{"key":"k","value":"2"}]}]}"#;
    let page = server.http().send("POST", "/json", request);
    assert_eq!(page.status, 200, "{page:?}");
    let rule = "mesh.k: unit=YEAR requests_per_unit=5, shadow_mode: false, quota_mode: false";
    let rules = server.debug().get("/rlconfig").body;
    assert!(rules.lines().any(|line| line == rule), "{rules}");
}

#[test]
fn istio_s_sample_is_served() {
    let redis = Redis::start();
    let container = Container::new(Some(RULES));
    let url = redis.url();
    let replaced = [("REDIS_URL", url.as_str()), ("REDIS_TIMEOUT", "10s")];
    let server = container.start(ISTIO, &replaced);
    is_well(&server);
    assert_eq!(server.health("ratelimit"), ServingStatus::Serving);
    let answer = server.ask(ask("mesh", &["k=1"])).unwrap();
    assert_eq!(answer.statuses[0].limit_remaining, 4);
    has_rules(&server);
    assert_eq!(server.stop().code(), Some(0));
}

/// A rule for a year, as management servers send it.
fn per_year(key: &str, value: &str, requests_per_unit: u32) -> RateLimitDescriptor {
    RateLimitDescriptor {
        rate_limit: Some(RateLimitPolicy {
            unit: RateLimitUnit::Year.into(),
            requests_per_unit,
            ..RateLimitPolicy::default()
        }),
        ..level(key, value, Vec::new())
    }
}

/// A level without a limit of its own.
fn level(key: &str, value: &str, below: Vec<RateLimitDescriptor>) -> RateLimitDescriptor {
    RateLimitDescriptor {
        key: key.to_owned(),
        value: value.to_owned(),
        descriptors: below,
        ..RateLimitDescriptor::default()
    }
}

fn config(domain: &str, descriptors: Vec<RateLimitDescriptor>) -> RateLimitConfig {
    RateLimitConfig {
        name: domain.to_owned(),
        domain: domain.to_owned(),
        descriptors,
    }
}

#[test]
fn envoy_gateway_s_deployment_is_served() {
    envoy_gateway(ENVOY_GATEWAY, &[]);
}

#[test]
fn envoy_gateway_s_deployment_is_served_with_tracing() {
    let environment = [ENVOY_GATEWAY, ENVOY_GATEWAY_TRACING].concat();
    let endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT";
    envoy_gateway(&environment, &[(endpoint, "http://127.0.0.1:1")]);

    let collector = Collector::start(Protocol::Http);
    envoy_gateway(&environment, &[(endpoint, &collector.url())]);
    // The last ones are sent before the end.
    let calls = collector.spans("envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit");
    assert_eq!(calls.len(), 5);
    for (name, value) in [
        ("service.name", "envoy-ratelimit"),
        ("service.namespace", "envoy-gateway-system"),
        ("service.instance.id", "envoy-ratelimit-0"),
    ] {
        assert_eq!(calls[0].attribute(name).as_deref(), Some(value), "{name}");
    }
}

/// Starts what Envoy Gateway starts, and is its controller, its Envoy and its Prometheus.
fn envoy_gateway(environment: &str, more: &[(&str, &str)]) {
    let redis = Redis::start();
    let container = Container::new(None);
    let authority = Authority::new("envoy-gateway");
    let certs = container.at("/certs");
    fs::create_dir(&certs).unwrap();
    authority.write(&Path::new(&certs).join("ca.crt"));
    authority.sign(Path::new(&certs), "tls", &["envoy-ratelimit", "localhost"]);
    let envoy = authority.sign(container.root.path(), "envoy", &["envoy"]);
    let management = Management::start_with_tls(&authority, &authority.certify("localhost"));
    let (controller, url) = (
        format!("localhost:{}", management.address().port()),
        redis.url(),
    );
    let replaced = [
        ("CONFIG_GRPC_XDS_SERVER_URL", controller.as_str()),
        ("REDIS_URL", &url),
        ("REDIS_TIMEOUT", "10s"),
        ("PROMETHEUS_ADDR", ":0"),
    ];
    let server = container.start(environment, &[&replaced, more].concat());

    // Its probes must pass before there is anything to configure.
    let session = management.session();
    assert_eq!(session.request().node.unwrap().id, "envoy-ratelimit");
    is_well(&server);
    let addresses = per_year("remote_address", "", 1);
    let masked = level("masked_remote_address", "0.0.0.0/0", vec![addresses]);
    let route = level("route", "route", vec![masked]);
    let (shop, mesh) = (
        config("eg/http", vec![route]),
        config("mesh", vec![per_year("k", "", 5)]),
    );
    session.accepted("1", &[shop, mesh]);
    is_well(&server);
    has_rules(&server);

    assert!(is_let_in(&server, &authority, Some(&envoy)));
    // In standalone mode, Envoy's certificate is signed by another authority than the one that it names.
    let standalone = Authority::new("standalone").sign(container.root.path(), "other", &["envoy"]);
    assert!(is_let_in(&server, &authority, Some(&standalone)));
    let asked = || {
        let address = "route=route,masked_remote_address=0.0.0.0/0,remote_address=10.0.0.1";
        let answer = answered(
            &server,
            &authority,
            Some(&envoy),
            ask("eg/http", &[address]),
        );
        answer.unwrap().overall_code
    };
    assert_eq!([asked(), asked()], [1, 2]);

    // What Envoy Gateway's own tests look for.
    let port = Scrape::address(&server).port();
    let metrics = Http::at(SocketAddr::from(([127, 0, 0, 1], port))).get("/metrics");
    let over = "ratelimit_service_rate_limit_over_limit{domain=\"eg/http\",key1=\"route_route\",\
                key2=\"masked_remote_address_0_0_0_0/0\"} 1";
    let is_told = metrics.body.lines().any(|line| line == over);
    assert!(is_told, "{}", metrics.body);
    assert!(expiry(&server, "grpc") > 0.0 && expiry(&server, "xds") > 0.0);
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn ai_gateway_s_deployment_is_served() {
    let redis = Redis::start();
    let container = Container::new(None);
    let management = Management::start();
    let (controller, url) = (management.address().to_string(), redis.url());
    let replaced = [
        ("CONFIG_GRPC_XDS_SERVER_URL", controller.as_str()),
        ("REDIS_URL", &url),
        ("REDIS_TIMEOUT", "10s"),
    ];
    let server = container.start(AI_GATEWAY, &replaced);
    let session = management.session();
    let id = session.request().node.unwrap().id;
    assert_eq!(id, "envoy-ai-gateway-ratelimit");
    is_well(&server);
    let quota = |backend: &str, limit| {
        let model = RateLimitDescriptor {
            quota_mode: true,
            ..per_year("model_name_override", "gpt", limit)
        };
        level("backend_name", backend, vec![model])
    };
    let quotas = vec![quota("a", 1), quota("b", 2)];
    session.accepted("1", &[config("ai-gateway-quota", quotas)]);
    is_well(&server);
    assert_eq!(server.health(""), ServingStatus::Serving);
    let asked = || {
        let both = ["a", "b"].map(|name| format!("backend_name={name},model_name_override=gpt"));
        let request = ask("ai-gateway-quota", &[&both[0], &both[1]]);
        server.ask(request).unwrap().overall_code
    };
    assert_eq!([asked(), asked(), asked()], [1, 1, 2], "two quotas");
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn called_ratelimit_it_is_a_server_and_nothing_else() {
    let container = Container::new(None);
    let run = |arguments: &[&str]| {
        let output = Command::new(container.at("/bin/ratelimit"))
            .env_clear()
            .args(arguments)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, error) = run(&["--grpc-port", "x"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("--grpc-port=x"), "{error}");
    assert_eq!(run(&["--version"]).0, Some(0));
}

/// As AI Gateway's manifest starts it; the reference looks at no argument.
#[test]
fn called_ratelimit_it_ignores_arguments_that_are_none_of_its_own() {
    let container = Container::new(Some(
        "domain: d\ndescriptors: [{key: a, rate_limit: {unit: year, requests_per_unit: 5}}]\n",
    ));
    let arguments = [
        "--quotaRateLimitServiceAddr=ratelimit:8081",
        "-logtostderr",
        "check",
        "--top-size",
        "7",
        "--other",
        "value",
    ];
    let environment = [
        ("RUNTIME_ROOT", container.at("/data")),
        ("RUNTIME_SUBDIRECTORY", "ratelimit".to_owned()),
        ("BACKEND_TYPE", "memory".to_owned()),
    ];
    let server = Ratekeeper::run(
        Command::new(container.at("/bin/ratelimit"))
            .env_clear()
            .envs(["GRPC_HOST", "HOST", "DEBUG_HOST"].map(|name| (name, "127.0.0.1")))
            .envs(["GRPC_PORT", "PORT", "DEBUG_PORT"].map(|name| (name, "0")))
            .envs(environment)
            .args(arguments),
    );
    assert_eq!(server.ask(ask("d", &["a=x"])).unwrap().overall_code, 1);
    for ignored in [
        "--quotaRateLimitServiceAddr",
        "-l",
        "check",
        "--other",
        "value",
    ] {
        let line = format!("argument {ignored} is ignored: it is not an option of the server");
        assert!(server.log().contains(&line), "{ignored}: {}", server.log());
    }
    assert!(!server.log().contains("ratelimit:8081"), "{}", server.log());
    assert!(server.stop().success());
    // Under our own name, they are a mistake.
    let printed = typed(["--quotaRateLimitServiceAddr=x"], []);
    assert_eq!(printed.code, 2, "{}", printed.stderr);
}

#[test]
fn memcached_is_refused_with_what_to_use() {
    for environment in [
        &[
            ("BACKEND_TYPE", "memcache"),
            ("MEMCACHE_HOST_PORT", "memcached:11211"),
        ][..],
        &[("MEMCACHE_HOST_PORT", "memcached:11211")],
        &[("MEMCACHE_SRV", "_memcached._tcp.example.com")],
    ] {
        let printed = typed(["serve"], environment.iter().copied());
        assert_eq!(printed.code, 2, "{}", printed.stderr);
        for text in ["memcached", "BACKEND_TYPE=memory"] {
            assert!(printed.stderr.contains(text), "{}", printed.stderr);
        }
    }
    // Once it is said where buckets live instead, what is left over is in nobody's way.
    let left = [
        ("BACKEND_TYPE", "memory"),
        ("MEMCACHE_HOST_PORT", "memcached:11211"),
    ];
    let server = Ratekeeper::start(RULES, left.map(|(name, value)| (name, value.to_owned())));
    assert!(
        server.log().contains("MEMCACHE_HOST_PORT has no effect"),
        "{}",
        server.log()
    );
}

#[test]
fn variables_without_effect_are_told_once_and_never_with_their_value() {
    let environment = [
        ("EXPIRATION_JITTER_MAX_SECONDS", "5"),
        ("LOCAL_CACHE_SIZE_IN_BYTES", "s3cret"),
        ("GRPC_SERVER_TLS_CERT", "/nonexistent"),
    ];
    let server = Ratekeeper::start(
        RULES,
        environment.map(|(name, value)| (name, value.to_owned())),
    );
    for (name, _) in environment {
        assert_eq!(server.log().matches(name).count(), 1, "{}", server.log());
    }
    assert!(!server.log().contains("s3cret"), "{}", server.log());
}
