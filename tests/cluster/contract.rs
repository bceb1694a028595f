//! The contract of a store, on a cluster.

use std::cell::RefCell;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use ratekeeper::key::{BucketKey, GROUPS, HashTag, KeyFormat, LimitTag, Segment};
use ratekeeper::store::redis::{ClusterStore, RedisSettings, SCRIPT, Topology, slot};
use ratekeeper::store::split::{Split, SplitContext};
use ratekeeper::store::{Charge, Decision, Store};
use ratekeeper::time::Micros;
use redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;

use crate::stores::{InMemory, START, Subject, calls, in_order, part, payment};
use crate::support::Cluster;

const SECOND: Micros = 1_000_000;

/// A store in a cluster, under names of its own, and a hand on its clock.
pub(crate) struct InCluster {
    store: Split<ClusterStore>,
    keys: KeyFormat,
    /// Its buckets are full again in the next life.
    life: u32,
    /// A clock for each slot, as a script reads but one; and the node that has it.
    clocks: Vec<(String, usize)>,
    nodes: Vec<MultiplexedConnection>,
}

impl InCluster {
    pub(crate) async fn new(hash_tag: HashTag) -> Self {
        let cluster = Cluster::shared();
        let prefix = Cluster::prefix();
        let reads_clock = "redis.call('TIME')";
        let of_slot = "redis.call('LRANGE', string.match(KEYS[1], '^.-}') .. 'clock', '0', '1')";
        assert_eq!(SCRIPT.matches(reads_clock).count(), 1);
        let ports = cluster.ports().into_iter();
        let seeds: Vec<_> = ports.map(|port| ("127.0.0.1".to_owned(), port)).collect();
        let settings = RedisSettings {
            timeout: Duration::from_secs(30),
            ..RedisSettings::new(Topology::Cluster(seeds.clone()))
        };
        let source = SCRIPT.replace(reads_clock, of_slot);
        let store = ClusterStore::with_script(&settings, &seeds, &source);
        let keys = KeyFormat::new(prefix.clone()).with_hash_tag(hash_tag);
        let mut clocks: Vec<(String, usize)> = Vec::new();
        // So many names are in all groups.
        for name in 0..20 * GROUPS {
            let key = key(&keys, &name.to_string(), 0);
            let (tag, _) = key.as_str().split_once('}').unwrap();
            let clock = format!("{tag}}}clock");
            if !clocks.iter().any(|(known, _)| *known == clock) {
                let owner = cluster.owner(slot(&clock));
                clocks.push((clock, owner));
            }
        }
        let mut nodes = Vec::new();
        for node in 0..3 {
            nodes.push(cluster.node(node).connect().await);
        }
        Self {
            store: Split::new(store, SplitContext::default()),
            keys,
            life: 0,
            clocks,
            nodes,
        }
    }
}

fn key(keys: &KeyFormat, name: &str, life: u32) -> BucketKey {
    let tag = LimitTag {
        index: 0,
        is_window: false,
        override_period: None,
    };
    let life = life.to_string();
    let entries = [
        (&b"k"[..], Segment::Value(name.as_bytes())),
        (b"life", Segment::Value(life.as_bytes())),
    ];
    // By domain, all of them are in one slot.
    keys.key(&keys.stem("d", entries), tag)
}

impl Subject for InCluster {
    async fn set_clock(&mut self, now: Micros) {
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let mut set = redis::pipe();
            for (clock, _) in self.clocks.iter().filter(|(_, owner)| *owner == number) {
                set.del(clock).rpush(clock, &[now / SECOND, now % SECOND]);
            }
            if !set.is_empty() {
                set.exec_async(node).await.unwrap();
            }
        }
    }

    fn store(&self) -> &impl Store {
        &self.store
    }

    async fn decide(&mut self, now: Micros, charges: &[Charge]) -> Decision {
        self.set_clock(now).await;
        let own = charges.iter().map(|charge| Charge {
            key: key(&self.keys, charge.key.as_str(), self.life),
            ..charge.clone()
        });
        self.store
            .decide(own.collect(), crate::stores::soon())
            .await
            .unwrap()
    }

    async fn decide_batch(&mut self, now: Micros, requests: &[Vec<Charge>]) -> Vec<Decision> {
        in_order(self, now, requests).await
    }
}

#[test]
fn memory_and_a_cluster_answer_alike() {
    let runtime = Runtime::new().unwrap();
    let cluster = runtime.block_on(InCluster::new(HashTag::Domain));
    let cluster = RefCell::new(cluster);
    let mut runner = TestRunner::new(ProptestConfig {
        source_file: Some(file!()),
        ..ProptestConfig::with_cases(60)
    });
    runner
        .run(&calls(payment(), part()), |calls| {
            let mut memory = InMemory::new();
            let mut cluster = cluster.borrow_mut();
            cluster.life += 1;
            let mut now = START;
            runtime.block_on(async {
                for (step, requests) in calls {
                    now = now.saturating_add_signed(step.max(0));
                    for charges in &requests {
                        let expected = memory.decide(now, charges).await;
                        let actual = cluster.decide(now, charges).await;
                        prop_assert_eq!(&actual, &expected, "at {} of {:?}", now, charges);
                    }
                }
                Ok(())
            })
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}
