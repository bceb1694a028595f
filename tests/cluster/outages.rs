//! What a cluster does that is not whole, or whose nodes fail, and what is told of it.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;
use tonic_health::pb::health_check_response::ServingStatus;

use super::{Code, Failure, RULES, server_with, slot_of};
use crate::support::{
    Cluster, Proxy, Ratekeeper, Redis, Scrape, Treatment, ask, check, eventually,
};

/// A server as operators run it, with metrics and more patience: the machine may be slow.
fn usual<'a>(url: String, more: impl IntoIterator<Item = (&'a str, &'a str)>) -> Ratekeeper {
    let own = [("REDIS_TYPE", "cluster".to_owned()), ("REDIS_URL", url)];
    let patience = [("REDIS_TIMEOUT", "2s")].into_iter();
    let more = patience.chain(Scrape::environment()).chain(more);
    let more = more.map(|(name, value)| (name, value.to_owned()));
    Ratekeeper::start(RULES, own.into_iter().chain(more))
}

/// The value of a metric.
fn value(server: &Ratekeeper, metric: &str) -> f64 {
    Scrape::of(server).value(metric)
}

/// Whether a metric is that.
fn is(server: &Ratekeeper, metric: &str, expected: f64) -> bool {
    value(server, metric).to_bits() == expected.to_bits()
}

/// A descriptor whose buckets are in a slot that is wanted.
fn descriptor(is_wanted: impl Fn(u16) -> bool) -> String {
    let mut values = (0..).map(|i: u32| i.to_string());
    let value = values.find(|value| is_wanted(slot_of("plenty", value)));
    format!("plenty={}", value.unwrap())
}

/// The same, on a node.
fn descriptor_on(cluster: &Cluster, node: usize) -> String {
    descriptor(|slot| cluster.owner(slot) == node)
}

/// Asks until a metric has a value.
fn ask_until(server: &Ratekeeper, descriptors: &[&str], metric: &str, expected: f64) {
    eventually(&format!("{metric} is {expected}"), || {
        for descriptor in descriptors {
            // Whether it is decided, and by whom, is no matter here.
            let _ = server.ask(ask("c", &[descriptor]));
        }
        is(server, metric, expected)
    });
}

fn all_nodes(cluster: &Cluster, words: &[&str]) {
    for node in 0..6 {
        cluster.run::<()>(node, words);
    }
}

/// How often a text is in what a server that is stopped has logged.
fn logged(server: Ratekeeper, texts: &[&str]) -> (Vec<usize>, String) {
    server.signal("TERM");
    let (_, log) = server.ended();
    let counts = texts.iter().map(|text| log.matches(text).count());
    (counts.collect(), log)
}

// --- What is told ---

#[test]
fn a_cluster_that_is_down_is_seen_in_metrics_health_and_log() {
    let mut cluster = Cluster::start();
    let server = usual(
        cluster.url(),
        [
            ("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "true"),
            ("WORKER_THREADS", "3"),
            ("LOG_LEVEL", "warn"),
        ],
    );
    let lost = descriptor_on(&cluster, 0);
    let other = descriptor_on(&cluster, 1);
    let both = [lost.as_str(), other.as_str()];
    ask_until(&server, &both, "ratekeeper_degraded", 0.0);
    assert_eq!(server.health(""), ServingStatus::Serving);
    // Nobody takes its place, and with full coverage the others decide nothing, either.
    cluster.kill(3);
    cluster.kill(0);
    ask_until(&server, &both, "ratekeeper_degraded", 1.0);
    eventually("health is bad", || {
        server.health("") == ServingStatus::NotServing
    });
    eventually("the breakers say so", || {
        let _ = server.ask(ask("c", &[&other]));
        value(&server, "ratekeeper_store_breaker_state") >= 1.0
            && value(&server, "ratekeeper_store_breaker_opened_total") >= 2.0
            && value(&server, "ratekeeper_store_errors_total{kind=\"unfit\"}") >= 3.0
    });
    let mut server = server;
    server.wait_for_log("is_down=true");
    cluster.restart(0);
    server.wait_for_log("cluster complete again");
    ask_until(&server, &both, "ratekeeper_degraded", 0.0);
    eventually("health is good", || {
        server.health("") == ServingStatus::Serving
    });
    let (counts, log) = logged(
        server,
        &[
            "cluster node unavailable",
            "cluster node available again",
            "is_down=true",
            "cluster complete again",
            "The cluster is down",
        ],
    );
    assert_eq!(counts, [1, 1, 1, 1, 0], "{log}");
}

#[test]
fn one_node_of_several_that_is_down_degrades_and_is_no_reason_to_be_unhealthy() {
    let mut cluster = Cluster::start();
    all_nodes(
        &cluster,
        &["CONFIG", "SET", "cluster-require-full-coverage", "no"],
    );
    let health = ("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "true");
    let mut server = usual(cluster.url(), [health]);
    let other = descriptor_on(&cluster, 1);
    cluster.kill(3);
    cluster.kill(0);
    ask_until(&server, &[&other], "ratekeeper_degraded", 1.0);
    server.wait_for_log("slots have no master, applying failure policy");
    assert_eq!(server.health(""), ServingStatus::Serving);
    cluster.restart(0);
    ask_until(&server, &[&other], "ratekeeper_degraded", 0.0);
}

/// What its own node denies is denied, and what that has left is given out, whatever the policy for another node says.
#[test]
fn policies_decide_only_what_is_on_the_node_that_is_down() {
    let mut cluster = Cluster::start();
    all_nodes(
        &cluster,
        &["CONFIG", "SET", "cluster-require-full-coverage", "no"],
    );
    let modes = ["local", "allow", "deny", "error"];
    let servers = modes.map(|mode| {
        let patient = [("STORE_FAILURE_MODE", mode), ("REDIS_TIMEOUT", "10s")];
        usual(cluster.url(), patient)
    });
    let (lost, kept) = (descriptor_on(&cluster, 0), descriptor_on(&cluster, 1));
    let mut values = (0..).map(|i: u32| i.to_string());
    let used_up = values.find(|value| cluster.owner(slot_of("one", value)) == 1);
    let used_up = format!("one={}", used_up.unwrap());
    let all = ask("c", &[&format!("{used_up} x400")]);
    check(&servers[0], "all at once", all, "OK: OK 0 of 400/year");
    cluster.kill(3);
    cluster.kill(0);
    for server in &servers {
        ask_until(server, &[&lost], "ratekeeper_degraded", 1.0);
    }
    let mut taken = 0;
    for (mode, server) in modes.iter().zip(&servers) {
        for _ in 0..20 {
            let answer = server.ask(ask("c", &[&lost, &used_up])).unwrap();
            assert_eq!(answer.overall_code(), Code::OverLimit, "{mode}");
        }
        for _ in 0..5 {
            let told = server.ask(ask("c", &[&lost, &kept]));
            let told = told.map(|answer| answer.overall_code());
            match *mode {
                "deny" => assert_eq!(told.unwrap(), Code::OverLimit),
                "error" => assert_eq!(told.unwrap_err().code(), Failure::Unavailable),
                _ => assert_eq!(told.unwrap(), Code::Ok, "{mode}"),
            }
            taken += u32::from(["local", "allow"].contains(mode));
        }
    }
    let question = format!("{kept} x0");
    let answer = servers[0].ask(ask("c", &[&question])).unwrap();
    assert_eq!(answer.statuses[0].limit_remaining, 1_000_000 - taken);
}

/// A failover, as operators see it by default.
#[test]
fn a_failover_is_told_once_for_all_threads() {
    let mut cluster = Cluster::start();
    let warnings = [("WORKER_THREADS", "4"), ("LOG_LEVEL", "warn")];
    let mut server = usual(cluster.url(), warnings);
    let lost = descriptor_on(&cluster, 0);
    ask_until(&server, &[&lost], "ratekeeper_degraded", 0.0);
    cluster.kill(0);
    ask_until(&server, &[&lost], "ratekeeper_degraded", 1.0);
    cluster.wait_for_promotion(3);
    server.wait_for_log("no longer owns any slots");
    ask_until(&server, &[&lost], "ratekeeper_degraded", 0.0);
    let (counts, log) = logged(
        server,
        &["cluster node unavailable", "no longer owns any slots"],
    );
    assert_eq!(counts, [1, 1], "{log}");
    assert!(log.matches("cluster degraded").count() <= 1, "{log}");
    assert!(log.matches("cluster complete again").count() <= 1, "{log}");
}

// --- Nodes that fail ---

/// Full, a node still answers what takes nothing.
#[test]
fn a_node_that_cannot_write_is_down_until_it_can() {
    let cluster = Cluster::start();
    let mut server = usual(cluster.url(), [("LOG_LEVEL", "warn")]);
    let (full, other) = (descriptor_on(&cluster, 0), descriptor_on(&cluster, 1));
    ask_until(&server, &[&full, &other], "ratekeeper_degraded", 0.0);
    cluster.run::<()>(0, &["CONFIG", "SET", "maxmemory", "1"]);
    ask_until(&server, &[&full], "ratekeeper_degraded", 1.0);
    server.wait_for_log("cluster node unavailable");
    let by_policy = "ratekeeper_decisions_total{cause=\"fallback_local\",verdict=\"ok\"}";
    let before = value(&server, by_policy);
    for _ in 0..300 {
        server.ask(ask("c", &[&full])).unwrap();
    }
    assert!(is(&server, by_policy, before + 300.0), "it is left alone");
    assert!(is(&server, "ratekeeper_store_breaker_opened_total", 1.0));
    cluster.run::<()>(0, &["CONFIG", "SET", "maxmemory", "0"]);
    server.wait_for_log("cluster node available again");
    ask_until(&server, &[&full, &other], "ratekeeper_degraded", 0.0);
}

/// What one thread finds out, all know.
#[test]
fn a_node_that_hangs_has_one_breaker_for_all_threads() {
    let mut cluster = Cluster::start();
    all_nodes(
        &cluster,
        &["CONFIG", "SET", "cluster-require-full-coverage", "no"],
    );
    let threads = [("WORKER_THREADS", "4"), ("LOG_LEVEL", "warn")];
    let mut server = usual(cluster.url(), threads);
    let hanging = descriptor_on(&cluster, 0);
    ask_until(&server, &[&hanging], "ratekeeper_degraded", 0.0);
    // Nobody is to take its place.
    cluster.kill(3);
    cluster.node(0).pause();
    // Each call is at another thread.
    ask_until(&server, &[&hanging], "ratekeeper_degraded", 1.0);
    assert!(is(&server, "ratekeeper_store_breaker_opened_total", 1.0));
    cluster.node(0).resume();
    server.wait_for_log("cluster node unavailable");
    let (counts, log) = logged(server, &["cluster node unavailable"]);
    assert_eq!(counts, [1], "{log}");
}

/// One call that is late is enough to have it probed.
#[test]
fn a_node_that_hangs_is_found_out_by_its_probe() {
    let cluster = Cluster::start();
    let server = usual(cluster.url(), []);
    let hanging = descriptor_on(&cluster, 0);
    ask_until(&server, &[&hanging], "ratekeeper_degraded", 0.0);
    cluster.node(0).pause();
    server.ask(ask("c", &[&hanging])).unwrap();
    eventually("its breaker is open", || {
        is(&server, "ratekeeper_store_breaker_opened_total", 1.0)
    });
    cluster.node(0).resume();
}

// --- Slots without a master ---

#[test]
fn nodes_without_slots_are_told_of_at_once() {
    let cluster = Cluster::without_slots();
    // Longer than any test waits.
    let patient = [("REDIS_TIMEOUT", "600s"), ("STORE_FAILURE_MODE", "error")];
    let mut server = usual(cluster.url(), patient);
    server.wait_for_log("no slot has a master");
    let failure = server.ask(ask("c", &["one=1"])).unwrap_err();
    assert_eq!(failure.code(), Failure::Unavailable);
    assert!(
        failure.message().contains("no slot has a master"),
        "{failure}"
    );
    assert!(is(&server, "ratekeeper_degraded", 1.0));
    cluster.make();
    server.wait_for_log("redis available again");
    eventually("it decides", || server.ask(ask("c", &["one=1"])).is_ok());
}

#[test]
fn slots_that_nobody_serves_leave_the_others_alone() {
    let cluster = Cluster::start();
    all_nodes(
        &cluster,
        &["CONFIG", "SET", "cluster-require-full-coverage", "no"],
    );
    let patient = [("STORE_FAILURE_MODE", "error"), ("REDIS_TIMEOUT", "10s")];
    let server = usual(cluster.url(), patient);
    let lost = descriptor(|slot| slot <= 2000);
    let kept = descriptor(|slot| (2001..=5000).contains(&slot));
    server.ask(ask("c", &[&kept])).unwrap();
    // Replicas still take them for those of their master, and only they say so.
    for node in 0..3 {
        cluster.run::<()>(node, &["ACL", "SETUSER", "default", "-cluster|slots"]);
        cluster.run::<()>(node, &["CLUSTER", "DELSLOTSRANGE", "0", "2000"]);
    }
    for _ in 0..50 {
        let failure = server.ask(ask("c", &[&lost])).unwrap_err();
        assert_eq!(failure.code(), Failure::Unavailable);
        server.ask(ask("c", &[&kept])).unwrap();
    }
}

#[test]
fn slots_without_a_master_are_told_of_though_the_cluster_says_it_is_well() {
    let cluster = Cluster::start();
    all_nodes(
        &cluster,
        &["CONFIG", "SET", "cluster-require-full-coverage", "no"],
    );
    let mut server = usual(cluster.url(), [("LOG_LEVEL", "warn")]);
    all_nodes(&cluster, &["CLUSTER", "DELSLOTSRANGE", "0", "2000"]);
    let lost = descriptor(|slot| slot <= 2000);
    ask_until(&server, &[&lost], "ratekeeper_degraded", 1.0);
    server.wait_for_log("slots_unassigned=2001");
}

// --- The map ---

#[test]
fn a_map_that_cannot_be_read_any_more_is_gone_by() {
    let cluster = Cluster::start();
    let mut server = server_with(&cluster, [("LOG_LEVEL", "info".to_owned())]);
    server.wait_for_log("cluster complete");
    let lost = descriptor_on(&cluster, 0);
    server.ask(ask("c", &[&lost])).unwrap();
    all_nodes(&cluster, &["ACL", "SETUSER", "default", "-cluster|slots"]);
    cluster.run::<()>(3, &["CLUSTER", "FAILOVER", "TAKEOVER"]);
    eventually("it has taken over", || {
        cluster
            .run::<String>(0, &["INFO", "replication"])
            .contains("role:slave")
    });
    // Its node says that the slot has moved, which is a reason to read the map.
    server.ask(ask("c", &[&lost])).unwrap();
    server.wait_for_log("cluster topology unavailable");
    for node in [3, 1, 2] {
        let descriptor = descriptor_on(&cluster, node);
        server.ask(ask("c", &[&descriptor])).unwrap();
    }
    all_nodes(&cluster, &["ACL", "SETUSER", "default", "+cluster|slots"]);
    server.wait_for_log("cluster complete again");
}

/// To connect and to ask takes several answers, each of which may take its time.
#[test]
fn seeds_that_are_far_away_are_asked_all_the_same() {
    let cluster = Cluster::start();
    let seed = Proxy::start(cluster.node(0).port());
    seed.treat(Treatment::Delay(Duration::from_millis(80)));
    let url = format!("127.0.0.1:{}", seed.port());
    let more = [("STORE_FAILURE_MODE", "error"), ("REDIS_TIMEOUT", "100ms")];
    let server = usual(url, more);
    eventually("it decides", || server.ask(ask("c", &["one=1"])).is_ok());
}

#[test]
fn a_cluster_that_is_not_whole_is_asked_over_the_same_connections() {
    let mut cluster = Cluster::start();
    let mut server = usual(
        cluster.url(),
        [("WORKER_THREADS", "8"), ("LOG_LEVEL", "warn")],
    );
    let lost = descriptor_on(&cluster, 0);
    cluster.kill(3);
    cluster.kill(0);
    ask_until(&server, &[&lost], "ratekeeper_degraded", 1.0);
    server.wait_for_log("cluster degraded");
    let runtime = Runtime::new().unwrap();
    let mut nodes: Vec<MultiplexedConnection> = [1, 2, 4, 5]
        .iter()
        .map(|&node| runtime.block_on(cluster.node(node).connect()))
        .collect();
    let mut told = |section: &str, of: &str| -> u64 {
        let each = nodes.iter_mut().map(|node| {
            let mut info = redis::cmd("INFO");
            let told: String = runtime
                .block_on(info.arg(section).query_async(node))
                .unwrap();
            number(&told, of)
        });
        each.sum()
    };
    let readings = "cmdstat_cluster|slots:calls=";
    let (before, connected) = (
        told("commandstats", readings),
        told("stats", "total_connections_received:"),
    );
    eventually("the map was read many times", || {
        let _ = server.ask(ask("c", &[&lost]));
        told("commandstats", readings) > before + 80
    });
    let connected = told("stats", "total_connections_received:") - connected;
    assert!(connected < 20, "{connected} connections for 80 readings");
}

/// The number behind a text.
fn number(told: &str, of: &str) -> u64 {
    let Some((_, rest)) = told.split_once(of) else {
        return 0;
    };
    let end = rest.find(|c: char| !c.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().unwrap()
}

/// What a Redis that is no node says is told once, in its own words.
#[test]
fn what_several_commands_are_answered_is_told_of_the_first() {
    let redis = Redis::start();
    let mut server = usual(redis.url(), [("STORE_FAILURE_MODE", "error")]);
    server.wait_for_log("REDIS_TYPE=single");
    let failure = server.ask(ask("c", &["one=1"])).unwrap_err();
    assert!(
        failure
            .message()
            .contains("cluster support disabled; the server is not a node"),
        "{failure}"
    );
}
