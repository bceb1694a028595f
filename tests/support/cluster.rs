//! A real Redis Cluster: six redis-servers, three of them masters with a replica each.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::FromRedisValue;
use tempfile::TempDir;

use super::process::Guard;
use super::{Redis, eventually, free_port};

/// The time after which nodes report a silent node as failed, in milliseconds. Short, so that a replica is promoted soon.
const NODE_TIMEOUT: &str = "1000";

/// The number of ports to try when another process takes a port first.
const ATTEMPTS: usize = 5;

const MASTERS: usize = 3;
const SLOTS: usize = 16384;

/// A running cluster. Initially, nodes 0 to 2 are masters with a third of the slots each, and nodes 3 to 5 are their replicas in
/// the same order.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    /// The cluster configuration files of the nodes, which survive a restart of a node.
    directory: TempDir,
}

#[derive(Debug)]
struct Node {
    port: u16,
    bus: u16,
    id: String,
    /// `None` while the node is down.
    redis: Option<Redis>,
}

impl Cluster {
    /// Starts a cluster and waits until all nodes report that it is complete.
    pub fn start() -> Self {
        let cluster = Self::without_slots();
        cluster.make();
        cluster
    }

    /// Starts nodes that do not know each other and own no slots.
    pub fn without_slots() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let nodes = (0..2 * MASTERS)
            .map(|number| {
                (0..ATTEMPTS)
                    .find_map(|_| Node::start(number, free_port(), free_port(), &directory))
                    .expect("ports are free for redis-server")
            })
            .collect();
        Self { nodes, directory }
    }

    /// Joins the nodes to a cluster and waits until all nodes report that it is complete.
    pub fn make(&self) {
        self.share_out();
        self.meet();
        self.replicate();
    }

    /// A cluster that tests share, if they do not change its nodes or slots. It takes seconds to start, so it runs until the test
    /// program ends.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<(Cluster, Guard)> = OnceLock::new();
        let (cluster, _) = SHARED.get_or_init(|| {
            let cluster = Self::start();
            let nodes = || cluster.nodes.iter().filter_map(|node| node.redis.as_ref());
            let directories = nodes().map(Redis::directory);
            let guard = Guard::new(
                nodes().map(Redis::id),
                directories.chain([cluster.directory.path()]),
            );
            (cluster, guard)
        });
        cluster
    }

    /// A key prefix that no other test uses.
    pub fn prefix() -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        format!("test{}:", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    fn share_out(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let epoch = (number + 1).to_string();
            node.run::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
            if number < MASTERS {
                let first = (number * SLOTS / MASTERS).to_string();
                let last = ((number + 1) * SLOTS / MASTERS - 1).to_string();
                node.run::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            }
        }
    }

    fn meet(&self) {
        for node in &self.nodes[1..] {
            let (port, bus) = (node.port.to_string(), node.bus.to_string());
            self.run::<()>(0, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        let all = format!("cluster_known_nodes:{}", self.nodes.len());
        eventually("all nodes know one another", || self.all_say(&all));
    }

    fn replicate(&self) {
        for (master, replica) in self.nodes[..MASTERS].iter().zip(&self.nodes[MASTERS..]) {
            replica.run::<()>(&["CLUSTER", "REPLICATE", &master.id]);
        }
        eventually("the replicas follow", || {
            self.nodes[MASTERS..].iter().all(|replica| {
                let info: String = replica.run(&["INFO", "replication"]);
                info.contains("master_link_status:up")
            })
        });
        self.wait_until_whole();
    }

    /// Waits until all running nodes report a master for each slot.
    pub fn wait_until_whole(&self) {
        eventually("the cluster is whole", || self.all_say("cluster_state:ok"));
    }

    fn all_say(&self, line: &str) -> bool {
        let up = self.nodes.iter().filter(|node| node.redis.is_some());
        { up }.all(|node| {
            node.run::<String>(&["CLUSTER", "INFO"])
                .lines()
                .any(|reported| reported == line)
        })
    }

    /// The addresses of all nodes for `REDIS_URL`.
    pub fn url(&self) -> String {
        let urls = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port));
        urls.collect::<Vec<_>>().join(",")
    }

    /// A running node.
    ///
    /// # Panics
    /// When the node is down.
    pub fn node(&self, number: usize) -> &Redis {
        self.nodes[number].redis.as_ref().expect("it is up")
    }

    /// The ports of the nodes.
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.port).collect()
    }

    /// Runs a command on a node, given as a list of words, and returns the reply.
    pub fn run<T: FromRedisValue>(&self, number: usize, words: &[&str]) -> T {
        self.nodes[number].run(words)
    }

    /// The number of the node that owns a slot, according to a running node.
    ///
    /// # Panics
    /// When no node owns the slot.
    pub fn owner(&self, slot: u16) -> usize {
        let asked = self.nodes.iter().find(|node| node.redis.is_some()).unwrap();
        let known: String = asked.run(&["CLUSTER", "NODES"]);
        let owner = known
            .lines()
            .find(|line| owns(line, slot))
            .expect("some node owns it");
        let id = owner.split(' ').next().unwrap();
        self.nodes.iter().position(|node| node.id == id).unwrap()
    }

    /// Kills a node with SIGKILL.
    pub fn kill(&mut self, number: usize) {
        self.nodes[number].redis = None;
    }

    /// Restarts a node that is down. It has lost its keys, but still knows the other nodes.
    ///
    /// # Panics
    /// When another process has taken its port.
    pub fn restart(&mut self, number: usize) {
        let node = &self.nodes[number];
        self.nodes[number] = Node::start(number, node.port, node.bus, &self.directory)
            .expect("the port was free a moment ago");
    }

    /// Waits until a replica has been promoted and the cluster is complete.
    pub fn wait_for_promotion(&self, replica: usize) {
        eventually("the replica is promoted", || {
            self.run::<String>(replica, &["INFO", "replication"])
                .contains("role:master")
        });
        self.wait_until_whole();
    }

    // --- Moving slots ---

    /// Moves a slot and its keys to another master, in the steps of redis-cli.
    pub fn migrate(&self, slot: u16, to: usize) {
        let from = self.begin_migration(slot, to);
        self.move_keys(slot, from, to);
        self.end_migration(slot, to);
    }

    /// Starts the migration of a slot: the owner redirects missing keys to another master. Returns the owner.
    pub fn begin_migration(&self, slot: u16, to: usize) -> usize {
        let from = self.owner(slot);
        let (slot, source, target) = (slot.to_string(), &self.nodes[from].id, &self.nodes[to].id);
        self.run::<()>(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", source]);
        self.run::<()>(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", target]);
        from
    }

    /// Moves the keys of a migrating slot.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize) {
        let (slot, port) = (slot.to_string(), self.nodes[to].port.to_string());
        loop {
            let some: Vec<String> = self.run(from, &["CLUSTER", "GETKEYSINSLOT", &slot, "50"]);
            if some.is_empty() {
                break;
            }
            let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            words.extend(some.iter().map(String::as_str));
            self.run::<()>(from, &words);
        }
    }

    /// Ends the migration of a slot: the new owner takes it.
    pub fn end_migration(&self, slot: u16, to: usize) {
        let (text, target) = (slot.to_string(), &self.nodes[to].id);
        // The new owner first, so that clients are not redirected in circles.
        let masters = self.nodes.iter().enumerate().filter(|(_, node)| {
            node.redis.is_some()
                && node
                    .run::<String>(&["INFO", "replication"])
                    .contains("role:master")
        });
        let others = masters
            .map(|(number, _)| number)
            .filter(|&number| number != to);
        for number in [to].into_iter().chain(others) {
            self.run::<()>(number, &["CLUSTER", "SETSLOT", &text, "NODE", target]);
        }
    }
}

/// Whether a line of CLUSTER NODES describes a running master that owns a slot.
fn owns(line: &str, slot: u16) -> bool {
    let mut words = line.split(' ');
    let flags = words.nth(2).unwrap_or_default();
    let is_master = flags.contains("master") && !flags.contains("fail");
    let mut ranges = words.skip(5);
    is_master
        && ranges.any(|range| match range.split_once('-') {
            Some((first, last)) => match (first.parse(), last.parse()) {
                (Ok(first), Ok(last)) => (first..=last).contains(&slot),
                // A migrating slot is in brackets; its owner also lists it without brackets.
                _ => false,
            },
            None => range.parse() == Ok(slot),
        })
}

impl Node {
    /// Starts a node on two ports; `None` when one is taken.
    fn start(number: usize, port: u16, bus: u16, directory: &TempDir) -> Option<Self> {
        let known = directory.path().join(format!("nodes-{number}.conf"));
        let arguments = [
            "--cluster-enabled",
            "yes",
            "--cluster-config-file",
            known.to_str().unwrap(),
            "--cluster-port",
            &bus.to_string(),
            "--cluster-node-timeout",
            NODE_TIMEOUT,
            // A replica can be promoted even if its link to the master was down.
            "--cluster-replica-validity-factor",
            "0",
        ];
        let redis = Redis::start_on(port, &arguments)?;
        let mut node = Self {
            port,
            bus,
            id: String::new(),
            redis: Some(redis),
        };
        node.id = node.run(&["CLUSTER", "MYID"]);
        Some(node)
    }

    fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        assert!(
            self.redis.is_some(),
            "the node on port {} is down",
            self.port
        );
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command
            .query(&mut client.get_connection().unwrap())
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }
}
