//! The environments in which meshes start envoyproxy/ratelimit, variable by variable: in each of them the
//! server starts, becomes healthy and serves.
//!
//! Only what a test cannot have is replaced: paths at the root of the file system, and ports and addresses
//! that another test may be using.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::{Authority, Ratekeeper, Redis, ask, typed};
use crate::tls::is_let_in;

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

/// Istio's samples/ratelimit/rate-limit-service.yaml.
const ISTIO: &str = "\
LOG_LEVEL=debug
REDIS_SOCKET_TYPE=tcp
REDIS_URL=redis:6379
USE_STATSD=false
RUNTIME_ROOT=/data
RUNTIME_SUBDIRECTORY=ratelimit
RUNTIME_WATCH_ROOT=false
RUNTIME_IGNOREDOTFILES=true
HOST=::
GRPC_HOST=::
";

/// What Envoy Gateway 1.9 sets, with tracing on.
const ENVOY_GATEWAY: &str = "\
RUNTIME_ROOT=/data
RUNTIME_SUBDIRECTORY=ratelimit
RUNTIME_IGNOREDOTFILES=true
RUNTIME_WATCH_ROOT=false
LOG_LEVEL=info
USE_STATSD=false
CONFIG_TYPE=GRPC_XDS_SOTW
CONFIG_GRPC_XDS_SERVER_URL=envoy-gateway:18001
CONFIG_GRPC_XDS_NODE_ID=envoy-ratelimit
CONFIG_GRPC_XDS_SERVER_USE_TLS=true
CONFIG_GRPC_XDS_CLIENT_TLS_CERT=/certs/tls.crt
CONFIG_GRPC_XDS_CLIENT_TLS_KEY=/certs/tls.key
CONFIG_GRPC_XDS_SERVER_TLS_CACERT=/certs/ca.crt
FORCE_START_WITHOUT_INITIAL_CONFIG=true
GRPC_SERVER_USE_TLS=true
GRPC_SERVER_TLS_CERT=/certs/tls.crt
GRPC_SERVER_TLS_KEY=/certs/tls.key
GRPC_SERVER_TLS_CA_CERT=/certs/ca.crt
REDIS_SOCKET_TYPE=tcp
REDIS_URL=redis.redis-system.svc.cluster.local:6379
USE_PROMETHEUS=true
PROMETHEUS_ADDR=:19001
PROMETHEUS_MAPPER_YAML=/etc/statsd-exporter/conf.yaml
TRACING_ENABLED=true
TRACING_SERVICE_NAME=envoy-ratelimit
TRACING_SERVICE_NAMESPACE=envoy-gateway-system
TRACING_SERVICE_INSTANCE_ID=envoy-ratelimit-0
TRACING_SAMPLING_RATE=1.0
OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1
";

/// What AI Gateway 1.1 sets: plaintext everywhere, and rules from its own controller.
const AI_GATEWAY: &str = "\
RUNTIME_ROOT=/data
RUNTIME_SUBDIRECTORY=ratelimit
RUNTIME_IGNOREDOTFILES=true
RUNTIME_WATCH_ROOT=false
LOG_LEVEL=info
USE_STATSD=false
CONFIG_TYPE=GRPC_XDS_SOTW
CONFIG_GRPC_XDS_SERVER_URL=ai-gateway-controller:18002
CONFIG_GRPC_XDS_NODE_ID=envoy-ai-gateway-ratelimit
FORCE_START_WITHOUT_INITIAL_CONFIG=true
REDIS_SOCKET_TYPE=tcp
REDIS_URL=redis:6379
";

fn is_well(server: &Ratekeeper) {
    let page = server.http().get("/healthcheck");
    assert_eq!((page.status, page.body.as_str()), (200, "OK"));
}

/// What people and their tools see of it.
fn has_rules(server: &Ratekeeper) {
    let request = r#"{"domain":"mesh","descriptors":[{"entries":[{"key":"k","value":"2"}]}]}"#;
    let page = server.http().send("POST", "/json", request);
    assert_eq!(page.status, 200, "{page:?}");
    let lines = "mesh.k: unit=YEAR requests_per_unit=5, shadow_mode: false, quota_mode: false\n";
    assert_eq!(server.debug().get("/rlconfig").body, lines);
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

/// Rules from files: what the management server would send is tested where that server is.
const FROM_FILES: (&str, &str) = ("CONFIG_TYPE", "FILE");

#[test]
fn envoy_gateway_s_deployment_is_served() {
    let redis = Redis::start();
    let container = Container::new(Some(RULES));
    let authority = Authority::new("envoy-gateway");
    let certs = container.at("/certs");
    fs::create_dir(&certs).unwrap();
    authority.write(&Path::new(&certs).join("ca.crt"));
    authority.sign(Path::new(&certs), "tls", &["envoy-ratelimit", "localhost"]);
    let envoy = authority.sign(container.root.path(), "envoy", &["envoy"]);
    let url = redis.url();
    let replaced = [
        FROM_FILES,
        ("REDIS_URL", url.as_str()),
        ("REDIS_TIMEOUT", "10s"),
        ("PROMETHEUS_ADDR", "127.0.0.1:0"),
    ];
    let server = container.start(ENVOY_GATEWAY, &replaced);
    is_well(&server);
    has_rules(&server);
    assert!(is_let_in(&server, &authority, Some(&envoy)));
    assert!(
        !is_let_in(&server, &authority, None),
        "Envoy shows a certificate"
    );
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn ai_gateway_s_deployment_is_served() {
    let redis = Redis::start();
    let container = Container::new(None);
    let url = redis.url();
    let server = container.start(AI_GATEWAY, &[FROM_FILES, ("REDIS_URL", url.as_str())]);
    is_well(&server);
    assert_eq!(server.health(""), ServingStatus::Serving);
    assert!(
        server.ask(ask("ai-gateway-quota", &["k=1"])).is_ok(),
        "nothing is limited yet"
    );
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
    let (code, error) = run(&["check"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("check"), "{error}");
    let (code, error) = run(&["--grpc-port", "x"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("--grpc-port=x"), "{error}");
    assert_eq!(run(&["--version"]).0, Some(0));
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
