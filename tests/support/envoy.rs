//! A real Envoy in front of a ratekeeper.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::http;

use super::{Process, TIMEOUT, eventually, tool};

/// The configuration of an Envoy for a test.
#[derive(Debug, Default)]
pub struct Plan {
    /// The routes; each path responds with 200 and "hello" unless its limits deny the request.
    pub routes: Vec<Route>,
    /// Fields of the rate limit filter that replace the defaults.
    pub filter: Value,
    /// Fields of the HTTP connection manager that replace the defaults.
    pub manager: Value,
    /// Fields of the ratekeeper cluster that replace the defaults.
    pub cluster: Value,
    /// HTTP filters that run before the rate limit filter.
    pub filters_before: Vec<Value>,
}

/// A path and the descriptors of its requests.
#[derive(Debug)]
pub struct Route {
    /// The path; a `*` at its end makes it a prefix.
    pub path: &'static str,
    /// The `rate_limits` of the route; each makes a descriptor.
    pub rate_limits: Value,
    /// Response headers to add: name and Envoy's format string.
    pub response_headers: Vec<(&'static str, &'static str)>,
}

impl Route {
    /// A route with limits.
    pub fn new(path: &'static str, rate_limits: Value) -> Self {
        Self {
            path,
            rate_limits,
            response_headers: Vec::new(),
        }
    }
}

/// A running Envoy; killed when dropped.
#[derive(Debug)]
pub struct Envoy {
    front: SocketAddr,
    agent: ureq::Agent,
    _process: Process,
    _directory: TempDir,
}

/// A response of Envoy.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Headers by their names in lower case; the values of repeated headers are joined by commas.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// The value of a header; empty when the header is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

impl Envoy {
    /// Starts an Envoy that uses the given ratekeeper, on ports that Envoy chooses, and waits until it accepts requests.
    pub fn start(ratekeeper: SocketAddr, plan: &Plan) -> Self {
        Self::start_with(&bootstrap(ratekeeper, plan).to_string())
    }

    /// Starts an Envoy with a configuration that has a listener `front` and lets Envoy choose all ports, and waits until it accepts
    /// requests.
    ///
    /// # Panics
    /// When Envoy does not start.
    pub fn start_with(configuration_text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let configuration = directory.path().join("envoy.yaml");
        fs::write(&configuration, configuration_text).unwrap();
        let admin = directory.path().join("admin");
        let mut process = Process::start(
            "envoy",
            Command::new(tool("envoy"))
                .args(["--concurrency", "1", "--disable-hot-restart"])
                // Tests read the access log soon after a request.
                .args(["--file-flush-interval-msec", "50", "-c"])
                .arg(&configuration)
                .arg("--admin-address-path")
                .arg(&admin),
        );
        process
            .wait_for("it was ready", |line| {
                line.contains("starting main dispatch loop").then_some(())
            })
            .unwrap_or_else(|ended| panic!("{}", ended.report));
        let agent = agent();
        let listeners = format!("http://{}/listeners", fs::read_to_string(admin).unwrap());
        let listeners = agent
            .get(listeners)
            .call()
            .unwrap()
            .body_mut()
            .read_to_string()
            .unwrap();
        let front = listeners
            .lines()
            .find_map(|line| line.strip_prefix("front::"));
        let front: SocketAddr = front.expect("Envoy lists its listener").parse().unwrap();
        // Envoy listens after the first health checks of its clusters.
        eventually("Envoy listens", || TcpStream::connect(front).is_ok());
        Self {
            front,
            agent,
            _process: process,
            _directory: directory,
        }
    }

    /// The address at which Envoy accepts requests.
    pub fn address(&self) -> SocketAddr {
        self.front
    }

    /// Sends a GET request with headers.
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send("GET", path, headers)
    }

    /// Sends a GET request with a header whose value can be any bytes.
    pub fn get_bytes(&self, path: &str, (name, value): (&str, &[u8])) -> Reply {
        let request = http::Request::get(format!("http://{}{path}", self.front));
        self.run(request.header(name, value))
    }

    /// Sends a request with headers and no body.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.front));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.run(request)
    }

    fn run(&self, request: http::request::Builder) -> Reply {
        let mut response = self.agent.run(request.body(()).unwrap()).unwrap();
        let mut headers = BTreeMap::<String, String>::new();
        for (name, value) in response.headers() {
            let value = value.to_str().unwrap();
            headers
                .entry(name.as_str().to_owned())
                .and_modify(|values| *values = format!("{values}, {value}"))
                .or_insert_with(|| value.to_owned());
        }
        Reply {
            status: response.status().as_u16(),
            headers,
            body: response.body_mut().read_to_string().unwrap(),
        }
    }

    /// Sends `count` equal GET requests and returns their statuses.
    pub fn statuses(&self, count: usize, path: &str, headers: &[(&str, &str)]) -> Vec<u16> {
        (0..count).map(|_| self.get(path, headers).status).collect()
    }
}

/// An HTTP client that returns responses of any status and uses no proxy.
pub(super) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_global(Some(TIMEOUT))
        .build()
        .into()
}

/// The configuration of Envoy: a listener with the rate limit filter, in front of an internal listener that responds to every request. (Envoy does not limit
/// routes with a direct response.)
fn bootstrap(ratekeeper: SocketAddr, plan: &Plan) -> Value {
    let any_port = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    let ratekeeper = json!({"socket_address": {
        "address": ratekeeper.ip().to_string(), "port_value": ratekeeper.port(),
    }});
    let mut service = cluster(
        "ratekeeper",
        &ratekeeper,
        json!({"typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                json!({"explicit_http_config": {"http2_protocol_options": {}}}),
            ),
        }}),
    );
    overlay(&mut service, &plan.cluster);
    let upstream = json!({"envoy_internal_address": {"server_listener_name": "upstream"}});
    json!({
        "admin": {"address": any_port},
        "bootstrap_extensions": [extension(
            "envoy.bootstrap.internal_listener",
            "envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
            json!({}),
        )],
        "static_resources": {
            "listeners": [
                {"name": "front", "address": any_port, "filter_chains": [{"filters": [front(plan)]}]},
                {"name": "upstream", "internal_listener": {}, "filter_chains": [
                    {"filters": [manager("upstream", &[upstream_route()], vec![], &json!({}))]},
                ]},
            ],
            "clusters": [
                service,
                cluster("upstream", &upstream, json!({})),
            ],
        },
    })
}

/// The connection manager with the rate limit filter.
fn front(plan: &Plan) -> Value {
    let routes: Vec<Value> = plan.routes.iter().map(limited_route).collect();
    let mut filter = json!({
        "domain": "mesh",
        "timeout": "30s",
        "failure_mode_deny": true,
        "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
        "enable_retry_after_header": true,
        "rate_limit_service": {
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": "ratekeeper"}},
        },
    });
    overlay(&mut filter, &plan.filter);
    let mut filters = plan.filters_before.clone();
    filters.push(extension(
        "envoy.filters.http.ratelimit",
        "envoy.extensions.filters.http.ratelimit.v3.RateLimit",
        filter,
    ));
    manager("front", &routes, filters, &plan.manager)
}

fn limited_route(route: &Route) -> Value {
    let headers: Vec<Value> = route
        .response_headers
        .iter()
        .map(|(key, value)| json!({"header": {"key": key, "value": value}}))
        .collect();
    let path = match route.path.strip_suffix('*') {
        Some(prefix) => json!({"prefix": prefix}),
        None => json!({"path": route.path}),
    };
    json!({
        "match": path,
        "route": {"cluster": "upstream", "timeout": "30s"},
        "response_headers_to_add": headers,
        "typed_per_filter_config": {"envoy.filters.http.ratelimit": typed(
            "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute",
            json!({"rate_limits": route.rate_limits}),
        )},
    })
}

/// Responds to every request and copies its `x-cost` header, as a model server reports the tokens it used.
fn upstream_route() -> Value {
    json!({
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": "hello"}},
        "response_headers_to_add": [{"header": {"key": "x-cost", "value": "%REQ(x-cost)%"}}],
    })
}

fn manager(name: &str, routes: &[Value], mut filters: Vec<Value>, fields: &Value) -> Value {
    filters.push(extension(
        "envoy.filters.http.router",
        "envoy.extensions.filters.http.router.v3.Router",
        json!({}),
    ));
    let mut manager = json!({
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}]},
        "http_filters": filters,
    });
    overlay(&mut manager, fields);
    extension(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        manager,
    )
}

fn cluster(name: &str, address: &Value, fields: Value) -> Value {
    let mut cluster = json!({
        "name": name,
        "connect_timeout": "30s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    });
    overlay(&mut cluster, &fields);
    cluster
}

/// An extension of Envoy with its name and configuration.
pub fn extension(name: &str, message: &str, configuration: Value) -> Value {
    json!({"name": name, "typed_config": typed(message, configuration)})
}

fn typed(message: &str, mut configuration: Value) -> Value {
    configuration["@type"] = format!("type.googleapis.com/{message}").into();
    configuration
}

/// Merges the object `fields` into `base`.
fn overlay(base: &mut Value, fields: &Value) {
    for (name, value) in fields.as_object().into_iter().flatten() {
        base[name] = value.clone();
    }
}
