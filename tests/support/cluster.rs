//! A real Redis Cluster: six redis-servers, three of them masters with a replica each.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::FromRedisValue;
use tempfile::TempDir;

use super::process::Guard;
use super::{Redis, eventually, free_port};

/// How long a node may be silent until the others take it for dead, in milliseconds. Short, so that a test
/// need not wait long for a replica to be promoted.
const NODE_TIMEOUT: &str = "1000";

/// How often other ports are tried when somebody was faster.
const ATTEMPTS: usize = 5;

const MASTERS: usize = 3;
const SLOTS: usize = 16384;

/// A cluster of the test's own. At first, nodes 0 to 2 are masters with a third of the slots each, and
/// node 3 is the replica of node 0, and so on.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    /// Has what each node knows of the others, which must outlive it.
    directory: TempDir,
}

#[derive(Debug)]
struct Node {
    port: u16,
    bus: u16,
    id: String,
    /// `None` while it is down.
    redis: Option<Redis>,
}

impl Cluster {
    /// Starts one, and waits until all nodes agree that it is whole.
    pub fn start() -> Self {
        let cluster = Self::without_slots();
        cluster.make();
        cluster
    }

    /// Starts nodes that know nothing of one another, and that no slots are of.
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

    /// Makes a cluster of its nodes, and waits until all of them agree that it is whole.
    pub fn make(&self) {
        self.share_out();
        self.meet();
        self.replicate();
    }

    /// One cluster for all tests that leave it whole. It takes seconds to start, so it runs until the test program ends.
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

    /// What keys of nobody else begin with.
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

    /// Waits until all nodes that are up see a master for each slot.
    pub fn wait_until_whole(&self) {
        eventually("the cluster is whole", || self.all_say("cluster_state:ok"));
    }

    fn all_say(&self, line: &str) -> bool {
        let up = self.nodes.iter().filter(|node| node.redis.is_some());
        { up }.all(|node| {
            node.run::<String>(&["CLUSTER", "INFO"])
                .lines()
                .any(|said| said == line)
        })
    }

    /// The addresses of all nodes, as `REDIS_URL` takes them.
    pub fn url(&self) -> String {
        let urls = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port));
        urls.collect::<Vec<_>>().join(",")
    }

    /// A node that is up.
    ///
    /// # Panics
    /// When it is down.
    pub fn node(&self, number: usize) -> &Redis {
        self.nodes[number].redis.as_ref().expect("it is up")
    }

    /// The processes of the nodes.
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.port).collect()
    }

    /// Runs a command on a node, given as its words, and returns what it answers.
    pub fn run<T: FromRedisValue>(&self, number: usize, words: &[&str]) -> T {
        self.nodes[number].run(words)
    }

    /// Which node owns a slot, as a node that is up sees it.
    ///
    /// # Panics
    /// When none does.
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

    /// Kills a node, with SIGKILL.
    pub fn kill(&mut self, number: usize) {
        self.nodes[number].redis = None;
    }

    /// Starts a node again that is down. It has kept nothing but who the others are.
    ///
    /// # Panics
    /// When somebody else took its port meanwhile.
    pub fn restart(&mut self, number: usize) {
        let node = &self.nodes[number];
        self.nodes[number] = Node::start(number, node.port, node.bus, &self.directory)
            .expect("the port was free a moment ago");
    }

    /// Waits until the replica of a master that is down has taken its place.
    pub fn wait_for_promotion(&self, replica: usize) {
        eventually("the replica is promoted", || {
            self.run::<String>(replica, &["INFO", "replication"])
                .contains("role:master")
        });
        self.wait_until_whole();
    }

    // --- Moving slots ---

    /// Moves a slot and its keys to another master, as redis-cli does.
    pub fn migrate(&self, slot: u16, to: usize) {
        let from = self.begin_migration(slot, to);
        self.move_keys(slot, from, to);
        self.end_migration(slot, to);
    }

    /// Has keys of a slot that are not there be asked for at another master. Returns the owner.
    pub fn begin_migration(&self, slot: u16, to: usize) -> usize {
        let from = self.owner(slot);
        let (slot, source, target) = (slot.to_string(), &self.nodes[from].id, &self.nodes[to].id);
        self.run::<()>(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", source]);
        self.run::<()>(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", target]);
        from
    }

    /// Moves the keys of a slot that is migrating.
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

    /// Gives a slot to its new owner.
    pub fn end_migration(&self, slot: u16, to: usize) {
        let (text, target) = (slot.to_string(), &self.nodes[to].id);
        // The new owner first, so that nobody is sent in circles.
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

/// Whether a line of CLUSTER NODES is that of the living master of a slot.
fn owns(line: &str, slot: u16) -> bool {
    let mut words = line.split(' ');
    let flags = words.nth(2).unwrap_or_default();
    let is_master = flags.contains("master") && !flags.contains("fail");
    let mut ranges = words.skip(5);
    is_master
        && ranges.any(|range| match range.split_once('-') {
            Some((first, last)) => match (first.parse(), last.parse()) {
                (Ok(first), Ok(last)) => (first..=last).contains(&slot),
                // A slot on its way is in brackets; its owner is told in the plain form, too.
                _ => false,
            },
            None => range.parse() == Ok(slot),
        })
}

impl Node {
    /// Starts a node on these ports; `None` when one is taken.
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
            // A replica whose link was down a moment ago may be promoted all the same.
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
