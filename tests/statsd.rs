//! StatsD and DogStatsD: what a daemon receives by UDP; and logs for programs.

use std::collections::BTreeMap;
use std::net::UdpSocket;

use serde_json::Value;

use crate::support::{Ratekeeper, TIMEOUT, ask, free_port, typed};

const RULES: &str = "
domain: m
descriptors:
  - {key: user, rate_limit: {unit: year, requests_per_unit: 2}}
";

/// A daemon that adds up what it receives.
struct Daemon(UdpSocket);

impl Daemon {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self(socket)
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("STATSD_HOST", "localhost".to_owned()),
            (
                "STATSD_PORT",
                self.0.local_addr().unwrap().port().to_string(),
            ),
            ("STATS_FLUSH_INTERVAL", "20ms".to_owned()),
        ]
    }

    /// The sums of counters once one of them has come to that: name and all that stands after the value.
    fn counters(&self, name: &str, sum: u64) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::<String, u64>::new();
        let mut datagram = [0; 65_536];
        while sums.get(name) != Some(&sum) {
            let length = self
                .0
                .recv(&mut datagram)
                .unwrap_or_else(|_| panic!("{name}: {sums:?}"));
            let text = std::str::from_utf8(&datagram[..length]).unwrap();
            for line in text.lines() {
                let (name, value) = line.split_once(':').unwrap();
                let (value, kind) = value.split_once('|').unwrap();
                if let Some(tags) = kind.strip_prefix('c') {
                    *sums.entry(format!("{name}{tags}")).or_default() +=
                        value.parse::<u64>().unwrap();
                } else {
                    assert!(kind.starts_with("ms"), "{line}");
                    assert!(value.parse::<f64>().unwrap() > 0.0, "{line}");
                }
            }
        }
        sums
    }
}

fn used(server: &Ratekeeper) {
    for _ in 0..3 {
        server.ask(ask("m", &["user=u"])).unwrap();
    }
}

#[test]
fn statsd_receives_the_references_names() {
    let daemon = Daemon::start();
    let server = Ratekeeper::start(RULES, daemon.environment());
    used(&server);
    let counters = daemon.counters("ratelimit_server.ShouldRateLimit.total_requests", 3);
    for (name, count) in [
        ("ratelimit.service.rate_limit.m.user.total_hits", 3),
        ("ratelimit.service.rate_limit.m.user.within_limit", 2),
        ("ratelimit.service.rate_limit.m.user.over_limit", 1),
        ("ratelimit.service.config_load_success", 1),
    ] {
        assert_eq!(counters.get(name), Some(&count), "{name} in {counters:?}");
    }
}

#[test]
fn dogstatsd_receives_tags_and_statsd_names_with_them() {
    for (dialect, name) in [
        (
            "USE_DOG_STATSD",
            "ratelimit.service.rate_limit.m.user.total_hits|#env:test,zone:b",
        ),
        (
            "USE_STATSD",
            "ratelimit.service.rate_limit.m.user.total_hits.__env=test.__zone=b",
        ),
    ] {
        let daemon = Daemon::start();
        let own = [
            (dialect, "true".to_owned()),
            ("EXTRA_TAGS", "zone:b,env:test".to_owned()),
        ];
        let server = Ratekeeper::start(RULES, daemon.environment().into_iter().chain(own));
        used(&server);
        daemon.counters(name, 3);
    }
}

#[test]
fn dogstatsd_receives_rules_as_tags_beside_the_references_names() {
    let daemon = Daemon::start();
    let own = [
        ("USE_DOG_STATSD", "true".to_owned()),
        ("EXTRA_TAGS", "zone:b".to_owned()),
    ];
    let server = Ratekeeper::start(RULES, daemon.environment().into_iter().chain(own));
    used(&server);
    let tagged = "ratekeeper.rule.within_limit|#zone:b,domain:m,key1:user,rule:m.user";
    let counters = daemon.counters(tagged, 2);
    let named = "ratelimit.service.rate_limit.m.user.within_limit|#zone:b";
    assert_eq!(counters.get(named), Some(&2), "{counters:?}");
}

#[test]
fn decisions_by_fallback_are_sent_by_policy() {
    let daemon = Daemon::start();
    let redis = ("REDIS_URL", format!("127.0.0.1:{}", free_port()));
    let server = Ratekeeper::start(RULES, daemon.environment().into_iter().chain([redis]));
    used(&server);
    daemon.counters("ratekeeper.fallback_decisions.local", 3);
}

#[test]
fn the_last_counts_are_sent_before_the_end() {
    let daemon = Daemon::start();
    let mut environment = daemon.environment();
    environment.retain(|(name, _)| *name != "STATS_FLUSH_INTERVAL");
    environment.push(("STATS_FLUSH_INTERVAL", "1h".to_owned()));
    let server = Ratekeeper::start(RULES, environment);
    used(&server);
    assert!(server.stop().success());
    daemon.counters("ratelimit.service.rate_limit.m.user.total_hits", 3);
}

#[test]
fn nothing_is_sent_unless_it_is_to_be() {
    for (name, value) in [
        ("USE_STATSD", "false"),
        ("DISABLE_STATS", "true"),
        ("USE_PROMETHEUS", "true"),
    ] {
        let daemon = Daemon::start();
        let own = [(name, value), ("PROMETHEUS_ADDR", "127.0.0.1:0")];
        let own = own.map(|(name, value)| (name, value.to_owned()));
        let server = Ratekeeper::start(RULES, daemon.environment().into_iter().chain(own));
        used(&server);
        assert!(server.stop().success());
        // All that is sent before the end would be here by now.
        daemon.0.set_nonblocking(true).unwrap();
        assert!(daemon.0.recv(&mut [0; 10]).is_err(), "{name}");
    }
}

#[test]
fn a_daemon_that_cannot_be_found_is_told_and_awaited() {
    let environment = [
        ("STATSD_HOST", "daemon.invalid".to_owned()),
        ("STATS_FLUSH_INTERVAL", "50ms".to_owned()),
    ];
    let mut server = Ratekeeper::start(RULES, environment);
    server.wait_until_logged("STATSD_HOST daemon.invalid");
    used(&server);
}

#[test]
fn what_cannot_be_done_is_refused_with_what_to_do() {
    for (name, value, advice) in [
        (
            "USE_DOG_STATSD_MOGRIFIERS",
            "A,B",
            "dogstatsd_mapper_profiles",
        ),
        ("STATSD_PROTOCOL", "tcp", "UDP"),
        ("EXTRA_TAGS", "zone", "key:value"),
        ("NEAR_LIMIT_RATIO", "1.5", "from 0 to 1"),
        ("NEAR_LIMIT_RATIO", "NaN", "from 0 to 1"),
        ("TRACING_SAMPLING_RATE", "-1", "from 0 to 1"),
        ("TRACING_EXPORTER_PROTOCOL", "thrift", "grpc"),
        ("PROMETHEUS_ADDR", "9090", "host:port"),
        ("PROMETHEUS_PATH", "metrics", "/metrics"),
        ("PROMETHEUS_PATH", "/:x", "/metrics"),
        ("STATSD_PORT", "0", "1..=65535"),
        ("STATSD_HOST", "127.0.0.1:8125", "STATSD_PORT"),
        ("EXTRA_TAGS", "a:b,a:c", "once"),
        ("STATS_FLUSH_INTERVAL", "0s", "longer than 0"),
        ("METRICS_MAX_SERIES", "0", "from 1"),
    ] {
        let printed = typed(["serve", "--config", "/nonexistent"], [(name, value)]);
        assert_eq!(printed.code, 2, "{name}: {}", printed.stderr);
        assert!(printed.stderr.contains(name), "{}", printed.stderr);
        assert!(
            printed.stderr.contains(advice),
            "{name}: {}",
            printed.stderr
        );
    }
    let wrong = [
        ("TRACING_ENABLED", "true"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url"),
        ("GRPC_PORT", "0"),
    ];
    let printed = typed(["serve", "--config", "/nonexistent"], wrong);
    assert_eq!(printed.code, 2, "{}", printed.stderr);
    assert!(
        printed.stderr.contains("OTEL_EXPORTER_OTLP_"),
        "{}",
        printed.stderr
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let taken = [
        ("USE_PROMETHEUS", "true"),
        ("PROMETHEUS_ADDR", address.as_str()),
        ("GRPC_PORT", "0"),
    ];
    let printed = typed(["serve", "--config", "/nonexistent"], taken);
    assert_eq!(printed.code, 1, "{}", printed.stderr);
    assert!(printed.stderr.contains(&address), "{}", printed.stderr);
}

#[test]
fn logs_for_programs_have_the_references_names() {
    let environment = [
        ("LOG_FORMAT", "json".to_owned()),
        ("LOG_LEVEL", "info".to_owned()),
        ("GRPC_PORT", "0".to_owned()),
        (
            "PROMETHEUS_MAPPER_YAML",
            "/etc/statsd-exporter/conf.yaml".to_owned(),
        ),
    ];
    let environment = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()));
    // A port that is taken ends it.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let taken = [("GRPC_HOST", "127.0.0.1"), ("GRPC_PORT", port.as_str())];
    let printed = typed(
        ["serve", "--config", "/nonexistent"],
        environment.chain(taken),
    );
    let lines: Vec<Value> = printed
        .stderr
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let line = &lines[0];
    assert_eq!(line["level"], "info", "{}", printed.stderr);
    let message = line["@message"].as_str().unwrap();
    assert!(
        message.contains("PROMETHEUS_MAPPER_YAML has no effect"),
        "{message}"
    );
    let time = line["@timestamp"].as_str().unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
}
