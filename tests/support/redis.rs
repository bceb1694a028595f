//! A real redis-server.

use std::process::Command;

use tempfile::TempDir;

use super::{Process, free_port};

/// How often another port is tried when somebody was faster.
const ATTEMPTS: usize = 5;

/// A redis-server of the test's own, on a port of its own, that keeps nothing on disk.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    _process: Process,
    _directory: TempDir,
}

impl Redis {
    /// Starts one and waits until it accepts connections.
    pub fn start() -> Self {
        for _ in 0..ATTEMPTS {
            let directory = tempfile::tempdir().unwrap();
            let port = free_port();
            let mut process = Process::start(
                "redis-server",
                Command::new("redis-server")
                    .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
                    .args(["--save", "", "--appendonly", "no", "--dir"])
                    .arg(directory.path()),
            );
            let ready = process.wait_for("it was ready", |line| {
                line.contains("Ready to accept connections").then_some(())
            });
            match ready {
                Ok(()) => {
                    return Self {
                        port,
                        _process: process,
                        _directory: directory,
                    };
                }
                Err(ended) if ended.report.contains("Address already in use") => {}
                Err(ended) => panic!("{}", ended.report),
            }
        }
        panic!("no port was free for redis-server");
    }

    /// The address as `REDIS_URL` takes it.
    pub fn url(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}
