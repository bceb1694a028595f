//! Redis servers and proxies that know less than Redis of today: no `HELLO`, no `SCRIPT`, no users.

use std::fs;
use std::net::TcpStream;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::support::{
    Api, Process, Ratekeeper, Redis, ask, check, eventually, extension, free_port, tool,
};

const RULES: &str = "
domain: d
descriptors:
- {key: k, rate_limit: {unit: hour, requests_per_unit: 10}}
- {key: w, rate_limit: {unit: day, requests_per_unit: 10, algorithm: fixed_window}}
- {key: p, rate_limit: {unit: day, requests_per_unit: 10, hits: postpaid}}
";

fn server(url: &str, more: &[(&'static str, &str)]) -> Ratekeeper {
    let more = more.iter().map(|&(name, value)| (name, value.to_owned()));
    let environment = [
        ("REDIS_URL", url.to_owned()),
        ("REDIS_TIMEOUT", "10s".to_owned()),
        ("STORE_FAILURE_MODE", "error".to_owned()),
    ];
    Ratekeeper::start(RULES, environment.into_iter().chain(more))
}

/// Everything that the script does, as `who` sees it: buckets that are new, known, several, full again and in debt.
fn works(server: &Ratekeeper) {
    for (name, request, expected) in [
        ("new", ask("d", &["k=1"]), "OK: OK 9 of 10/hour"),
        ("again", ask("d", &["k=1"]), "OK: OK 8 of 10/hour"),
        ("back", ask("d", &["k=1 x-10"]), "OK: OK 10 of 10/hour"),
        (
            "two",
            ask("d", &["k=1", "w=1"]),
            "OK: OK 9 of 10/hour | OK 9 of 10/day",
        ),
        (
            "debt",
            ask("d", &["p=1 x15"]),
            "OVER: OVER 0 of 10/day never",
        ),
        ("in debt", ask("d", &["p=1 x0"]), "OVER: OVER 0 of 10/day"),
    ] {
        check(server, name, request, expected);
    }
}

/// What the admin API says of the server.
fn seen(server: &Ratekeeper) -> Value {
    let status = Api::of(server).get("/status");
    status["store"]["breakers"][0]["server"].clone()
}

fn run<T: redis::FromRedisValue>(redis: &Redis, words: &[&str]) -> T {
    Runtime::new().unwrap().block_on(redis.run(words))
}

#[test]
fn the_version_of_redis_is_seen() {
    let redis = Redis::start();
    let info: String = run(&redis, &["INFO", "server"]);
    let version = info
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"));
    let version = format!("redis {}", version.unwrap());
    let mut server = server(&redis.url(), &[("LOG_LEVEL", "info")]);
    server.wait_until_logged("connected to redis");
    works(&server);
    assert_eq!(seen(&server), json!({"version": version, "protocol": 3}));
}

#[test]
fn redis_5_decides() {
    let redis = Redis::start_old(&["--requirepass", "hush", "--databases", "4"]);
    let url = format!("redis://{}/3", redis.url());
    let mut first = server(&url, &[("REDIS_AUTH", "hush")]);
    first.wait_until_logged("without HELLO");
    works(&first);
    assert_eq!(seen(&first), json!({"version": null, "protocol": 2}));
    // The default user is what there is before there are users; another one is none.
    let second = server(&url, &[("REDIS_AUTH", "default:hush")]);
    check(&second, "shared", ask("d", &["k=1"]), "OK: OK 8 of 10/hour");
    let mut third = server(&url, &[("REDIS_AUTH", "envoy:hush")]);
    third.wait_until_logged("leave the user out");
    let mut fourth = server(&url, &[]);
    fourth.wait_until_logged("the server requires a password");
}

#[test]
fn a_connection_that_redis_5_closed_is_not_used() {
    let redis = Redis::start_old(&[]);
    let server = server(&redis.url(), &[("WORKER_THREADS", "1")]);
    check(&server, "new", ask("d", &["k=1"]), "OK: OK 9 of 10/hour");
    for left in [8, 7, 6] {
        run::<()>(&redis, &["CLIENT", "KILL", "TYPE", "normal"]);
        run::<()>(&redis, &["SCRIPT", "FLUSH"]);
        let expected = format!("OK: OK {left} of 10/hour");
        check(&server, "closed", ask("d", &["k=1"]), &expected);
    }
}

/// A proxy in front of a Redis, and the port that it listens on.
struct Between {
    port: u16,
    _process: Process,
    _directory: TempDir,
}

impl Between {
    /// An Envoy with its `redis_proxy`, which wants this password.
    fn envoy(redis: &Redis, password: &str) -> Self {
        let port = free_port();
        let address =
            |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
        let filter = extension(
            "envoy.filters.network.redis_proxy",
            "envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
            json!({
                "stat_prefix": "redis",
                "settings": {"op_timeout": "30s"},
                "prefix_routes": {"catch_all_route": {"cluster": "redis"}},
                "downstream_auth_passwords": [{"inline_string": password}],
            }),
        );
        let configuration = json!({"static_resources": {
            "listeners": [
                {"name": "redis", "address": address(port), "filter_chains": [{"filters": [filter]}]},
            ],
            "clusters": [{
                "name": "redis",
                "load_assignment": {
                    "cluster_name": "redis",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(redis.port())}}]}],
                },
            }],
        }});
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("envoy.json");
        fs::write(&path, configuration.to_string()).unwrap();
        let mut command = Command::new(tool("envoy"));
        command.args(["--concurrency", "1", "--disable-hot-restart", "-c"]);
        let mut process = Process::start("envoy", command.arg(&path));
        process
            .wait_for("it was ready", |line| {
                line.contains("starting main dispatch loop").then_some(())
            })
            .unwrap_or_else(|ended| panic!("{}", ended.report));
        Self {
            port,
            _process: process,
            _directory: directory,
        }
    }

    /// A twemproxy, which closes the connection at a command that it does not know: `HELLO` and `SCRIPT` among them.
    fn twemproxy(redis: &Redis, password: &str) -> Self {
        let (port, statistics) = (free_port(), free_port());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nutcracker.yml");
        let configuration = format!(
            "pool:\n  listen: 127.0.0.1:{port}\n  redis: true\n  redis_auth: {password}\n  hash: fnv1a_64\n  \
             distribution: ketama\n  servers:\n   - {}:1\n",
            redis.url()
        );
        fs::write(&path, configuration).unwrap();
        let mut command = Command::new("/usr/sbin/nutcracker");
        command.args([
            "--stats-addr",
            "127.0.0.1",
            "--stats-port",
            &statistics.to_string(),
        ]);
        let process = Process::start("nutcracker", command.arg("--conf-file").arg(&path));
        eventually("it listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            port,
            _process: process,
            _directory: directory,
        }
    }

    fn url(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

#[test]
fn redis_decides_through_envoys_proxy() {
    let redis = Redis::start();
    let envoy = Between::envoy(&redis, "hush");
    let mut first = server(&envoy.url(), &[("REDIS_AUTH", "hush")]);
    first.wait_until_logged("which must send all keys to one server");
    works(&first);
    run::<()>(&redis, &["SCRIPT", "FLUSH"]);
    check(&first, "loaded", ask("d", &["k=1"]), "OK: OK 8 of 10/hour");
    assert_eq!(seen(&first), json!({"version": null, "protocol": 2}));
    // What comes directly shares the buckets.
    let second = server(&redis.url(), &[]);
    check(&second, "shared", ask("d", &["k=1"]), "OK: OK 7 of 10/hour");
    let mut third = server(&envoy.url(), &[]);
    third.wait_until_logged("the server requires a password");
    let mut fourth = server(&envoy.url(), &[("REDIS_AUTH", "wrong")]);
    fourth.wait_until_logged("rejected the login");
}

#[test]
fn redis_decides_through_twemproxy() {
    let redis = Redis::start_with(&["--requirepass", "hush"]);
    let twemproxy = Between::twemproxy(&redis, "hush");
    let server = server(&twemproxy.url(), &[("REDIS_AUTH", "hush")]);
    works(&server);
    assert_eq!(seen(&server), json!({"version": null, "protocol": 2}));
}
