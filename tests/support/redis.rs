//! A real redis-server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue};
use tempfile::TempDir;

use super::{Process, TIMEOUT, free_port, root};

/// The number of ports to try when another process takes a port first.
const ATTEMPTS: usize = 5;

/// A redis-server on a free port that writes nothing to disk; killed when dropped.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    process: Process,
    directory: TempDir,
}

impl Redis {
    /// Starts a server and waits until it accepts connections.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with additional arguments and waits until it accepts connections.
    ///
    /// # Panics
    /// When the server does not start.
    pub fn start_with(arguments: &[&str]) -> Self {
        (0..ATTEMPTS)
            .find_map(|_| Self::start_on(free_port(), arguments))
            .expect("a port is free for redis-server")
    }

    /// Starts a Redis 5.0.6, which has no `HELLO`, no ACL users and no `PXAT`.
    pub fn start_old(arguments: &[&str]) -> Self {
        let program = root().join("target/test-tools/redis-5.0.6/redis-server");
        (0..ATTEMPTS)
            .find_map(|_| Self::start_program(&program, free_port(), arguments))
            .expect("a port is free for redis-server")
    }

    /// Starts a server on a port; `None` when the port is taken.
    ///
    /// # Panics
    /// When the server does not start for another reason.
    pub fn start_on(port: u16, arguments: &[&str]) -> Option<Self> {
        Self::start_program(Path::new("redis-server"), port, arguments)
    }

    fn start_program(program: &Path, port: u16, arguments: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut process = Process::start(
            "redis-server",
            Command::new(program)
                .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
                .args(["--save", "", "--appendonly", "no", "--dir"])
                .arg(directory.path())
                .arg("--unixsocket")
                .arg(socket(&directory))
                .args(arguments),
        );
        let ready = process.wait_for("it was ready", |line| {
            line.contains("Ready to accept connections").then_some(())
        });
        match ready {
            Ok(()) => Some(Self {
                port,
                process,
                directory,
            }),
            Err(ended) if ended.report.contains("Address already in use") => None,
            Err(ended) => panic!("{}", ended.report),
        }
    }

    /// The address for `REDIS_URL`.
    pub fn url(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The working directory of the server.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The port of the server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path of the server's Unix socket.
    pub fn socket(&self) -> PathBuf {
        socket(&self.directory)
    }

    /// Stops the process with SIGSTOP: connections stay open, and no command is answered until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.process.signal("STOP");
    }

    /// Continues the process.
    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    /// Whether a socket of the stopped process has unread bytes, so that a call is certainly in flight.
    pub fn has_unread(&self) -> bool {
        let port = format!(":{:04X}", self.port);
        let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
        sockets.lines().any(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let queues = columns.get(4).and_then(|queues| queues.split_once(':'));
            columns.get(1).is_some_and(|local| local.ends_with(&port))
                && columns.get(3) == Some(&"01")
                && queues.is_some_and(|(_, unread)| unread != "00000000")
        })
    }

    /// Opens a connection.
    pub async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(format!("redis://{}", self.url())).unwrap();
        // The driver's default timeout is too short for a machine that runs many tests.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .unwrap()
    }

    /// Runs a command, given as a list of words, and returns the reply.
    pub async fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(word);
        }
        command
            .query_async(&mut self.connect().await)
            .await
            .unwrap()
    }
}

fn socket(directory: &TempDir) -> PathBuf {
    directory.path().join("socket")
}
