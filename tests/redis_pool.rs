//! `REDIS_POOL_SIZE` bounds the connections of a server to each Redis, however many threads it has.

use tokio::runtime::Runtime;

use crate::support::{Cluster, Ratekeeper, Redis, ask, check, eventually};

const RULES: &str = "
domain: d
descriptors:
  - {key: k, rate_limit: {unit: year, requests_per_unit: 1000000}}
";

/// Threads of the server; gRPC connections are handed to one after the other.
const THREADS: u64 = 16;

fn server(kind: &str, url: &str, pool_size: u64) -> Ratekeeper {
    let environment = [
        ("REDIS_TYPE", kind.to_owned()),
        ("REDIS_URL", url.to_owned()),
        ("REDIS_POOL_SIZE", pool_size.to_string()),
        ("REDIS_TIMEOUT", "10s".to_owned()),
        ("STORE_FAILURE_MODE", "error".to_owned()),
        ("WORKER_THREADS", THREADS.to_string()),
    ];
    Ratekeeper::start(RULES, environment)
}

/// Sends requests over so many gRPC connections that each thread has several. Redis decides all of them.
fn call_all_threads(server: &Ratekeeper, value: &str) {
    for taken in 1..=4 * THREADS {
        let expected = format!("OK: OK {} of 1000000/year", 1_000_000 - taken);
        let descriptor = format!("k={value}");
        check(server, "taken", ask("d", &[&descriptor]), &expected);
    }
}

/// The number of connections of others than this test.
fn connections(redis: &Redis) -> u64 {
    let list: String = Runtime::new()
        .unwrap()
        .block_on(redis.run(&["CLIENT", "LIST", "TYPE", "normal"]));
    list.lines().count() as u64 - 1
}

#[test]
fn threads_share_the_connections_of_the_pool() {
    for pool_size in [1, 3, 10, 17, 40] {
        let redis = Redis::start();
        let server = server("single", &redis.url(), pool_size);
        call_all_threads(&server, "a");
        // One more is for probes, and the store of the HTTP port has not connected.
        let expected = pool_size.min(THREADS);
        let found = connections(&redis) - 1;
        assert!(found <= pool_size, "{found} of {pool_size}");
        assert!(found + 1 >= expected, "{found} of {expected}: all are used");
    }
}

#[test]
fn threads_share_the_connections_to_each_node_of_a_cluster() {
    let cluster = Cluster::start();
    let server = server("cluster", &cluster.url(), 4);
    for value in ["a", "b", "c", "d", "e", "f"] {
        call_all_threads(&server, value);
    }
    // The topology is read over a connection that is closed when the cluster is known to be whole.
    for node in 0..cluster.ports().len() {
        eventually("no more connections than the pool and the probe", || {
            connections(cluster.node(node)) <= 4 + 1
        });
    }
}
