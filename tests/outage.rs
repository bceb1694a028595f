//! What operators see of a Redis that fails: metrics, page, `top`, admin API, dashboard and alerts count the decisions of the
//! failure policy, on a single Redis, a second Redis for limits of a second, and a cluster.

use serde_json::{Value, json};

use crate::deploy::monitoring::question;
use crate::page::{Traffic, visit};
use crate::support::{
    Api, Cluster, Prometheus, Ratekeeper, Redis, Scrape, ask, eventually, root, typed,
};

const POLICIES: [&str; 4] = ["local", "allow", "deny", "error"];

/// A rule for each failure policy, and one that another Redis decides where there are two.
fn rules(unit: &str) -> String {
    let of_policy = |policy: &str| {
        format!(
            "  - {{key: {policy}, on_store_failure: {policy}, rate_limit: {{unit: {unit}, requests_per_unit: 1000000}}}}\n"
        )
    };
    let all: String = POLICIES.into_iter().map(of_policy).collect();
    format!(
        "domain: d\ndescriptors:\n{all}  - {{key: day, rate_limit: {{unit: day, requests_per_unit: 1000000}}}}\n"
    )
}

fn start(unit: &str, environment: impl IntoIterator<Item = (&'static str, String)>) -> Ratekeeper {
    let metrics = Scrape::environment().map(|(name, value)| (name, value.to_owned()));
    let timeout = ("REDIS_TIMEOUT", "2s".to_owned());
    let all = metrics.into_iter().chain([timeout]).chain(environment);
    Ratekeeper::start(&rules(unit), all)
}

/// Decisions by fallback: of the metric, and of the admin API.
fn fallback(server: &Ratekeeper) -> [u64; 4] {
    let scrape = Scrape::of(server);
    let status = Api::of(server).get("/status");
    POLICIES.map(|policy| {
        let series = format!("ratekeeper_fallback_decisions_total{{policy=\"{policy}\"}}");
        let told = status["fallback_decisions"][policy].as_u64().unwrap();
        assert_eq!(scrape.value(&series), told as f64, "{policy}");
        told
    })
}

/// Asks a descriptor of each policy so often, and checks that exactly those requests count.
fn every_request_counts(server: &Ratekeeper, value: &str) {
    let before = fallback(server);
    let counts = [5, 4, 3, 2];
    for (policy, count) in POLICIES.into_iter().zip(counts) {
        for _ in 0..count {
            let descriptor = format!("{policy}={value}");
            let answer = server.ask(ask("d", &[&descriptor]));
            assert_eq!(answer.is_err(), policy == "error", "{policy}: {answer:?}");
        }
    }
    let after = fallback(server);
    let grown: Vec<u64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    assert_eq!(grown, counts);
}

/// Asks until the breaker is open: from then on, no call to Redis is made.
fn wait_until_open(server: &Ratekeeper, value: &str) {
    let descriptor = format!("local={value}");
    eventually("the breaker opens", || {
        server.ask(ask("d", &[&descriptor])).unwrap();
        Scrape::of(server).value("ratekeeper_store_breaker_opened_total") > 0.0
    });
}

fn decide_by_redis(server: &Ratekeeper, descriptors: &[&str]) {
    for descriptor in descriptors {
        eventually("Redis decides", || {
            let before = fallback(server);
            server.ask(ask("d", &[descriptor])).is_ok() && fallback(server) == before
        });
    }
}

#[test]
fn decisions_by_fallback_are_counted_by_policy() {
    let redis = Redis::start();
    let server = start("hour", [("REDIS_URL", redis.url())]);
    decide_by_redis(&server, &["local=x", "day=x"]);
    let port = redis.port();
    drop(redis);
    wait_until_open(&server, "x");
    every_request_counts(&server, "x");
    let address = server.debug().address().to_string();
    let top = typed(["top", "--once", "--address", &address], []);
    let all: u64 = fallback(&server).iter().sum();
    assert!(
        top.stdout.contains(&format!("by fallback 0/s ({all})")),
        "{}",
        top.stdout
    );
    let redis = Redis::start_on(port, &[]).expect("the port is still free");
    decide_by_redis(&server, &["local=x", "error=x"]);
    drop(redis);
}

#[test]
fn only_what_the_failed_one_of_two_would_decide_falls_back() {
    let (seconds, others) = (Redis::start(), Redis::start());
    let server = start(
        "second",
        [
            ("REDIS_PERSECOND", "true".to_owned()),
            ("REDIS_PERSECOND_URL", seconds.url()),
            ("REDIS_URL", others.url()),
        ],
    );
    decide_by_redis(&server, &["local=x", "day=x"]);
    drop(seconds);
    wait_until_open(&server, "x");
    every_request_counts(&server, "x");
    decide_by_redis(&server, &["day=x"]);
}

#[test]
fn in_a_cluster_what_the_failed_nodes_would_decide_falls_back() {
    let mut cluster = Cluster::start();
    let server = start(
        "hour",
        [
            ("REDIS_TYPE", "cluster".to_owned()),
            ("REDIS_URL", cluster.url()),
        ],
    );
    decide_by_redis(&server, &["local=x", "day=x"]);
    // All of them, so that no replica is promoted.
    for node in 0..6 {
        cluster.kill(node);
    }
    wait_until_open(&server, "x");
    eventually("no call is made any more", || {
        let errors = || {
            let text = Scrape::of(&server);
            let of_kind =
                |kind| text.value(&format!("ratekeeper_store_errors_total{{kind=\"{kind}\"}}"));
            of_kind("unreachable") + of_kind("timeout")
        };
        let before = errors();
        for policy in POLICIES {
            let _ = server.ask(ask("d", &[&format!("{policy}=x")]));
        }
        errors() == before
    });
    every_request_counts(&server, "x");
}

/// Starts a Prometheus that scrapes the server and evaluates the alerts, often enough that the test need not wait.
fn scraping(server: &Ratekeeper) -> Prometheus {
    let configuration = json!({
        "global": {
            "scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms",
        },
        "rule_files": [root().join("deploy/prometheus/alerts.yaml")],
        "scrape_configs": [{
            "job_name": "ratekeeper",
            "static_configs": [{"targets": [Scrape::address(server).to_string()]}],
        }],
    });
    Prometheus::start(&configuration.to_string())
}

fn query(prometheus: &Prometheus, query: &str) -> Option<f64> {
    Some(prometheus.query(query)?.parse().unwrap())
}

/// The value of a panel's query.
fn panel(prometheus: &Prometheus, title: &str) -> f64 {
    query(prometheus, &question(title)).unwrap_or_default()
}

#[test]
fn page_dashboard_and_alerts_show_a_redis_that_stops_under_load() {
    let redis = Redis::start();
    let server = start("hour", [("REDIS_URL", redis.url())]);
    decide_by_redis(&server, &["local=x"]);
    let prometheus = scraping(&server);
    let browser = visit("outage", &server, "overview");
    browser.wait_for_text("#total-fallback", "0");
    let traffic = Traffic::start(&server, "d", &["local=a", "local=b", "allow=c", "error=d"]);
    eventually("requests are counted", || {
        panel(&prometheus, "Requests per second") > 0.0
    });
    let (alert, share) = (
        "ALERTS{alertname=\"RatekeeperFallbackDecisions\"}",
        "sum(rate(ratekeeper_fallback_decisions_total[5m])) / sum(rate(ratelimit_service_total_requests{grpc_method=\"ShouldRateLimit\"}[5m]))",
    );
    assert_eq!(panel(&prometheus, "Decisions by fallback"), 0.0);
    assert_eq!(query(&prometheus, alert), None);

    let port = redis.port();
    drop(redis);
    for (what, is_seen) in [
        ("the panel shows the rate", "Decisions by fallback"),
        (
            "the panel shows the share",
            "Share of requests decided by fallback",
        ),
        (
            "the panel counts the server",
            "Servers that decided without Redis",
        ),
        ("the panel counts the outage", "Redis became unavailable"),
    ] {
        eventually(what, || panel(&prometheus, is_seen) > 0.0);
    }
    eventually("the alert is pending", || {
        query(&prometheus, alert) == Some(1.0)
    });
    assert!(query(&prometheus, share).unwrap() > 0.01);
    let is_shown =
        "Number(document.getElementById('rate-fallback').textContent.replaceAll(',', '')) > 0";
    browser.wait(is_shown);

    // What was counted stays visible when Redis is back: shorter outages than a scrape are seen by it.
    let redis = Redis::start_on(port, &[]).expect("the port is still free");
    eventually("Redis decides again", || {
        Scrape::of(&server).value("ratekeeper_degraded") == 0.0
    });
    drop(traffic);
    decide_by_redis(&server, &["local=x"]);
    let all: u64 = fallback(&server).iter().sum();
    assert!(fallback(&server).iter().filter(|&&count| count > 0).count() == 3);
    let shown = "document.getElementById('total-fallback').textContent.replaceAll(',', '')";
    browser.wait(&format!("{shown} === '{all}'"));
    let facts = browser.text("#store");
    assert!(
        facts.contains("Decisions by failure policy, since start"),
        "{facts}"
    );
    eventually("Prometheus has the last count", || {
        query(&prometheus, "sum(ratekeeper_fallback_decisions_total)") == Some(all as f64)
    });
    assert!(panel(&prometheus, "Redis became unavailable") > 0.0);
    let status = Api::of(&server).get("/status");
    assert_ne!(
        status["store"]["breakers"][0]["times_opened"],
        Value::from(0)
    );
    drop(redis);
}
