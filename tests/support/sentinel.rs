//! A Redis master with a replica, monitored by three Sentinels.

use std::fs;
use std::process::Command;

use redis::FromRedisValue;
use tempfile::TempDir;

use super::{Process, Redis, TIMEOUT, eventually, free_port};

/// The name of the monitored master.
pub const NAME: &str = "shop";

/// A running master, replica and three Sentinels.
#[derive(Debug)]
pub struct Watched {
    /// The initial master.
    pub first: Redis,
    /// The initial replica.
    pub second: Redis,
    /// The Sentinels.
    pub sentinels: Vec<Sentinel>,
}

/// Settings of the servers and the Sentinels.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// Additional arguments of the servers.
    pub servers: Vec<String>,
    /// Additional lines in the configuration of the Sentinels.
    pub sentinels: String,
}

impl Watched {
    /// Starts all processes and waits until the Sentinels know each other and the replica, and the replica is in sync.
    pub fn start(manner: &Manner) -> Self {
        let mut arguments: Vec<&str> = manner.servers.iter().map(String::as_str).collect();
        // Without this, the first synchronization starts five seconds late.
        arguments.extend(["--repl-diskless-sync-delay", "0"]);
        let first = Redis::start_with(&arguments);
        let port = first.port().to_string();
        let replica = ["--replicaof", "127.0.0.1", &port];
        let second = Redis::start_with(&[&arguments[..], &replica[..]].concat());
        let sentinels = (0..3).map(|_| Sentinel::start(first.port(), &manner.sentinels));
        let sentinels = sentinels.collect();
        let watched = Self {
            first,
            second,
            sentinels,
        };
        eventually("the sentinels know all others", || {
            watched.sentinels.iter().all(|sentinel| {
                let state: Vec<String> = sentinel.run(&["SENTINEL", "MASTER", NAME]);
                let value = |name: &str| {
                    let at = state.iter().position(|word| word == name).unwrap();
                    state[at + 1].clone()
                };
                value("num-slaves") == "1" && value("num-other-sentinels") == "2"
            })
        });
        eventually("the sentinels know that the replica follows", || {
            watched.sentinels.iter().all(|sentinel| {
                let replicas: Vec<Vec<String>> = sentinel.run(&["SENTINEL", "REPLICAS", NAME]);
                let state = replicas[0].join(" ");
                state.contains("master-link-status ok") && state.contains("flags slave ")
            })
        });
        watched
    }

    /// The value for `REDIS_URL`.
    pub fn url(&self) -> String {
        let sentinels = self.sentinels.iter();
        let ports = sentinels.map(|sentinel| format!(",127.0.0.1:{}", sentinel.port));
        format!("{NAME}{}", ports.collect::<String>())
    }

    /// Waits until all Sentinels report the server on a port as the master.
    pub fn named(&self, port: u16) {
        let names = |sentinel: &Sentinel| {
            let master: (String, u16) =
                sentinel.run(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
            master.1 == port
        };
        eventually("all sentinels name the new master", || {
            self.sentinels.iter().all(names)
        });
    }

    /// Makes the Sentinels monitor another master, as if they had been restarted.
    pub fn watch(&self, port: u16) {
        for sentinel in &self.sentinels {
            sentinel.run::<()>(&["SENTINEL", "REMOVE", NAME]);
            let port = port.to_string();
            sentinel.run::<()>(&["SENTINEL", "MONITOR", NAME, "127.0.0.1", &port, "2"]);
        }
    }
}

/// A running Sentinel.
#[derive(Debug)]
pub struct Sentinel {
    /// The port of the Sentinel.
    pub port: u16,
    /// The password of the Sentinel, if it requires one.
    password: Option<String>,
    process: Process,
    _directory: TempDir,
}

impl Sentinel {
    /// Starts a Sentinel that monitors the master on a port, with additional lines in its configuration.
    ///
    /// # Panics
    /// When the Sentinel does not start.
    pub fn start(master: u16, more: &str) -> Self {
        (0..5)
            .find_map(|_| Self::start_on(free_port(), master, more))
            .expect("a port is free for a sentinel")
    }

    fn start_on(port: u16, master: u16, more: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sentinel.conf");
        let text = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\n\
             sentinel monitor {NAME} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {NAME} 1000\n\
             sentinel failover-timeout {NAME} 5000\n{more}\n",
            directory.path().display(),
        );
        fs::write(&file, text).unwrap();
        let mut process = Process::start(
            "sentinel",
            Command::new("redis-server").arg(&file).arg("--sentinel"),
        );
        let ready = process.wait_for("it watched", |line| line.contains("+monitor").then_some(()));
        match ready {
            Ok(()) => Some(Self {
                port,
                password: more
                    .lines()
                    .find_map(|line| line.strip_prefix("requirepass "))
                    .map(str::to_owned),
                process,
                _directory: directory,
            }),
            Err(ended) if ended.report.contains("Address already in use") => None,
            Err(ended) => panic!("{}", ended.report),
        }
    }

    /// Runs a command, given as a list of words.
    pub fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let login = self.password.as_ref().map(|word| format!(":{word}@"));
        let url = format!(
            "redis://{}127.0.0.1:{}",
            login.unwrap_or_default(),
            self.port
        );
        let client = redis::Client::open(url).unwrap();
        let mut connection = client.get_connection_with_timeout(TIMEOUT).unwrap();
        redis::cmd(words[0])
            .arg(&words[1..])
            .query(&mut connection)
            .unwrap()
    }

    /// Stops the process with SIGSTOP.
    pub fn pause(&self) {
        self.process.signal("STOP");
    }
}
