//! A real Redis Cluster that spreads, reshards and loses nodes, in the middle of load from several servers.
//!
//! Limits are per year, so that nothing comes back: what was admitted and what is left are together what there
//! was, to the token.

mod changes;
mod contract;
mod outages;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ratekeeper::key::{HashTag, KeyFormat, LimitTag, Segment};
use ratekeeper::service::pb::RateLimitRequest;
use ratekeeper::service::pb::rate_limit_response::Code;
use ratekeeper::store::redis::slot;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::Code as Failure;

use crate::support::{Cluster, Ratekeeper, Redis, ask, check, eventually, typed};

pub(crate) use contract::InCluster;

const RULES: &str = "
domain: c
descriptors:
  - {key: one, rate_limit: {unit: year, requests_per_unit: 400, hits: prepaid}}
  - {key: plenty, rate_limit: {unit: year, requests_per_unit: 1000000, hits: prepaid}}
  - {key: scarce, rate_limit: {unit: year, requests_per_unit: 700, hits: prepaid}}
  - key: fast
    rate_limit:
      - {unit: second, requests_per_unit: 1000000, hits: prepaid}
      - {unit: year, requests_per_unit: 5, hits: prepaid}
  - key: two
    rate_limit:
      - {unit: year, requests_per_unit: 400, hits: prepaid}
      - {unit: year, requests_per_unit: 500, hits: prepaid}
";

/// Tokens of the keys `one` and `two`.
const TOKENS: u64 = 400;

fn server(cluster: &Cluster) -> Ratekeeper {
    server_with(cluster, [])
}

fn server_with<'a>(
    cluster: &Cluster,
    more: impl IntoIterator<Item = (&'a str, String)>,
) -> Ratekeeper {
    let environment = [
        ("REDIS_TYPE", "cluster".to_owned()),
        ("REDIS_URL", cluster.url()),
        ("REDIS_TIMEOUT", "10s".to_owned()),
        ("STORE_FAILURE_MODE", "error".to_owned()),
    ];
    Ratekeeper::start(RULES, environment.into_iter().chain(more))
}

fn fleet(cluster: &Cluster) -> Vec<Ratekeeper> {
    (0..3).map(|_| server(cluster)).collect()
}

/// The slot of the buckets of a descriptor.
fn slot_of(key: &str, value: &str) -> u16 {
    let keys = KeyFormat::new("rk:").with_hash_tag(HashTag::Group);
    let stem = keys.stem("c", [(key.as_bytes(), Segment::Value(value.as_bytes()))]);
    let tag = LimitTag {
        index: 0,
        is_window: false,
        override_period: None,
    };
    slot(keys.key(&stem, tag).as_str())
}

// --- Load ---

/// What a load came to.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    admitted: u64,
    denied: u64,
    failed: u64,
}

/// Callers that send requests in turn, at all servers, until they are told to stop.
struct Load {
    runtime: Runtime,
    callers: JoinSet<Counts>,
    stop: Arc<AtomicBool>,
}

impl Load {
    fn start(servers: &[Ratekeeper], requests: Vec<RateLimitRequest>) -> Self {
        let runtime = Runtime::new().unwrap();
        let (requests, stop) = (Arc::new(requests), Arc::new(AtomicBool::new(false)));
        let mut callers = JoinSet::new();
        for caller in 0..8 * servers.len() {
            let mut client = runtime.block_on(servers[caller % servers.len()].client());
            let (requests, stop) = (Arc::clone(&requests), Arc::clone(&stop));
            let calls = async move {
                let mut counts = Counts::default();
                for turn in caller * 7.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let request = requests[turn % requests.len()].clone();
                    match client.should_rate_limit(request).await {
                        Ok(answer) if answer.get_ref().overall_code() == Code::Ok => {
                            counts.admitted += 1;
                        }
                        Ok(_) => counts.denied += 1,
                        Err(status) => {
                            assert_eq!(status.code(), Failure::Unavailable, "{status}");
                            counts.failed += 1;
                        }
                    }
                }
                counts
            };
            callers.spawn_on(calls, runtime.handle());
        }
        Self {
            runtime,
            callers,
            stop,
        }
    }

    fn stop(mut self) -> Counts {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Counts::default();
        while let Some(counts) = self.runtime.block_on(self.callers.join_next()) {
            let counts = counts.unwrap();
            all.admitted += counts.admitted;
            all.denied += counts.denied;
            all.failed += counts.failed;
        }
        all
    }
}

/// Tokens left of buckets, each named by its descriptor.
fn left(server: &Ratekeeper, descriptors: &[String]) -> u64 {
    let left = descriptors.iter().map(|descriptor| {
        // A question takes nothing. Nodes do not all know at once that the cluster is whole again.
        let mut answer = None;
        eventually("it tells what is left", || {
            let question = ask("c", &[&format!("{descriptor} x0")]);
            answer = server.ask(question).ok();
            answer.is_some()
        });
        u64::from(answer.unwrap().statuses[0].limit_remaining)
    });
    left.sum()
}

fn descriptors(key: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{key}={i}")).collect()
}

fn requests(descriptors: &[String]) -> Vec<RateLimitRequest> {
    let each = descriptors.iter();
    each.map(|descriptor| ask("c", &[descriptor])).collect()
}

// --- Where buckets are ---

#[test]
fn buckets_spread_over_all_nodes_and_are_exact() {
    let cluster = Cluster::start();
    let servers = fleet(&cluster);
    let keys = descriptors("one", 60);
    let load = Load::start(&servers, requests(&keys));
    eventually("each master has buckets", || {
        (0..3).all(|node| cluster.run::<u64>(node, &["DBSIZE"]) > 5)
    });
    let counts = load.stop();
    assert_eq!(counts.failed, 0, "{counts:?}");
    assert_eq!(
        counts.admitted + left(&servers[0], &keys),
        60 * TOKENS,
        "{counts:?}"
    );
    for node in 0..3 {
        for key in buckets(&cluster, node) {
            assert!(key.starts_with("rk:{") && key.contains("}c|one="), "{key}");
        }
    }
}

#[test]
fn by_domain_a_domain_is_in_one_slot() {
    let cluster = Cluster::start();
    let tag = ("REDIS_CLUSTER_HASH_TAG", "domain".to_owned());
    let server = server_with(&cluster, [tag]);
    for i in 0..20 {
        let (one, two) = (format!("one={i}"), format!("two={i}"));
        let row = "OK: OK 399 of 400/year | OK 399 of 400/year";
        check(&server, "a request", ask("c", &[&one, &two]), row);
    }
    let owner = cluster.owner(slot("{c}"));
    let keys = buckets(&cluster, owner);
    assert_eq!(keys.len(), 60, "{keys:?}");
    assert!(
        keys.iter().all(|key| key.starts_with("rk:{c}|")),
        "{keys:?}"
    );
    // One call of the script for each, and none for what is given back; a probe or two, and one that did not know it.
    let stats: String = cluster.run(owner, &["INFO", "commandstats"]);
    let (_, calls) = stats.split_once("cmdstat_evalsha:calls=").unwrap();
    let calls: u32 = calls.split(',').next().unwrap().parse().unwrap();
    assert!((20..=24).contains(&calls), "{stats}");
}

/// The keys on a node but for those that are probed.
fn buckets(cluster: &Cluster, node: usize) -> Vec<String> {
    let mut keys: Vec<String> = cluster.run(node, &["KEYS", "*"]);
    keys.retain(|key| !key.contains("}|probe="));
    keys
}

// --- Requests over several slots ---

#[test]
fn a_request_over_several_slots_takes_from_all_or_gives_back() {
    let cluster = Cluster::start();
    let server = server(&cluster);
    let owner = |key, value| cluster.owner(slot_of(key, value));
    assert_ne!(owner("plenty", "a"), owner("scarce", "x"));
    let both = |hits: u64| {
        ask(
            "c",
            &[&format!("plenty=a x{hits}"), &format!("scarce=x x{hits}")],
        )
    };
    check(
        &server,
        "taken",
        both(600),
        "OK: OK 999400 of 1000000/year | OK 100 of 700/year",
    );
    check(
        &server,
        "denied",
        both(200),
        "OVER: OK 999400 of 1000000/year | OVER 0 of 700/year",
    );
    check(
        &server,
        "again",
        both(200),
        "OVER: OK 999400 of 1000000/year | OVER 0 of 700/year",
    );
    check(
        &server,
        "the rest",
        both(100),
        "OK: OK 999300 of 1000000/year | OK 0 of 700/year",
    );
    let questions = ask("c", &["plenty=a x0", "scarce=x x0"]);
    check(
        &server,
        "after",
        questions,
        "OVER: OK 999300 of 1000000/year | OVER 0 of 700/year",
    );
}

#[test]
fn several_servers_together_admit_no_more_over_several_slots() {
    let cluster = Cluster::start();
    let servers = fleet(&cluster);
    let load = Load::start(&servers, vec![ask("c", &["plenty=a", "scarce=x"])]);
    eventually("the scarce one is used up", || {
        left(&servers[0], &["scarce=x".to_owned()]) == 0
    });
    let counts = load.stop();
    assert_eq!(counts.failed, 0, "{counts:?}");
    // Hits that were taken in vain may have denied somebody for a moment, so it may be less.
    let rest = left(&servers[0], &["scarce=x".to_owned()]);
    assert_eq!(counts.admitted + rest, 700, "{counts:?}");
    eventually("all is given back", || {
        let plenty = left(&servers[0], &["plenty=a".to_owned()]);
        assert!(
            plenty <= 1_000_000 - counts.admitted,
            "{plenty} left, {counts:?}"
        );
        plenty >= 1_000_000 - counts.admitted - 1
    });
}

#[test]
fn limits_of_a_second_can_live_beside_a_cluster() {
    let cluster = Cluster::start();
    let redis = Redis::start();
    let more = [
        ("REDIS_PERSECOND", "true".to_owned()),
        ("REDIS_PERSECOND_URL", redis.url()),
        ("REDIS_PERSECOND_TIMEOUT", "10s".to_owned()),
    ];
    let server = server_with(&cluster, more);
    // Both limits are of one descriptor, and in two places.
    check(
        &server,
        "taken",
        ask("c", &["fast=x x3"]),
        "OK: OK 2 of 5/year",
    );
    let of_seconds: Vec<String> = on(&redis, &["KEYS", "*|fast=*"]);
    assert_eq!(of_seconds.len(), 1, "{of_seconds:?}");
    check(
        &server,
        "denied",
        ask("c", &["fast=x x3"]),
        "OVER: OVER 0 of 5/year",
    );
}

/// Runs a command on a Redis that is no node of a cluster.
fn on<T: redis::FromRedisValue>(redis: &Redis, words: &[&str]) -> T {
    Runtime::new().unwrap().block_on(redis.run(words))
}

#[test]
fn explain_tells_the_key_in_a_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yaml");
    std::fs::write(&file, RULES).unwrap();
    for (redis_type, tag, key) in [
        ("single", "group", "bucket rk:c|one=1\n"),
        ("cluster", "group", "}c|one=1\n"),
        ("cluster", "domain", "bucket rk:{c}|one=1\n"),
    ] {
        let arguments = ["explain", "--config", file.to_str().unwrap(), "c", "one=1"];
        let environment = [("REDIS_TYPE", redis_type), ("REDIS_CLUSTER_HASH_TAG", tag)];
        let printed = typed(arguments, environment);
        assert!(
            printed.stdout.contains(key),
            "{redis_type} {tag}: {printed:?}"
        );
    }
}

// --- Slots that move ---

/// docs/redis.md names these rights.
#[test]
fn few_rights_are_enough() {
    let cluster = Cluster::start();
    let rights = "ACL SETUSER ratekeeper on >password ~rk:* -@all +evalsha +script|load +time +mget +set \
                  +setrange +del +asking +cluster|slots +cluster|info";
    let words: Vec<&str> = rights.split_whitespace().collect();
    for node in 0..6 {
        cluster.run::<()>(node, &words);
    }
    let server = server_with(&cluster, [("REDIS_AUTH", "ratekeeper:password".to_owned())]);
    let row = "OK: OK 399 of 400/year";
    check(&server, "at the owner", ask("c", &["one=1"]), row);
    let slot = slot_of("one", "1");
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    cluster.begin_migration(slot, to);
    cluster.move_keys(slot, from, to);
    let row = "OK: OK 398 of 400/year";
    check(&server, "at the one to come", ask("c", &["one=1"]), row);
    let both = ask("c", &["one=1", "plenty=a"]);
    let row = "OK: OK 397 of 400/year | OK 999999 of 1000000/year";
    check(&server, "over two slots", both, row);
}

// --- What is no cluster ---

#[test]
fn a_redis_that_is_no_cluster_is_told_of() {
    let redis = Redis::start();
    let environment = [
        ("REDIS_TYPE", "cluster".to_owned()),
        ("REDIS_URL", redis.url()),
        ("STORE_FAILURE_MODE", "error".to_owned()),
    ];
    let mut server = Ratekeeper::start(RULES, environment);
    server.wait_for_log("REDIS_TYPE=single");
    let failure = server.ask(ask("c", &["one=1"])).unwrap_err();
    assert_eq!(failure.code(), Failure::Unavailable);
    assert!(failure.message().contains("REDIS_TYPE=single"), "{failure}");
}

#[test]
fn a_cluster_that_is_taken_for_one_server_is_told_of() {
    let cluster = Cluster::start();
    let environment = [
        ("REDIS_URL", cluster.node(0).url()),
        ("STORE_FAILURE_MODE", "error".to_owned()),
    ];
    let server = Ratekeeper::start(RULES, environment);
    let failures = (0..20).filter_map(|i| server.ask(ask("c", &[&format!("one={i}")])).err());
    let failure = failures.last().expect("some bucket is elsewhere");
    assert!(
        failure.message().contains("REDIS_TYPE=cluster"),
        "{failure}"
    );
}
