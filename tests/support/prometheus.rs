//! A real Prometheus.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::envoy::agent;
use super::{Process, free_port};

/// A running Prometheus; killed when dropped.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    agent: ureq::Agent,
    _process: Process,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts a Prometheus with the text of a configuration file and waits until it responds to queries. Rule files need
    /// absolute paths.
    ///
    /// # Panics
    /// When Prometheus does not start.
    pub fn start(configuration: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, configuration).unwrap();
        let (port, process) = (0..5)
            .find_map(|_| start_on(free_port(), &file))
            .expect("a port is free for Prometheus");
        Self {
            port,
            agent: agent(),
            _process: process,
            _directory: directory,
        }
    }

    /// Runs an instant query and returns the value of the first series, or `None` if there is no series.
    ///
    /// # Panics
    /// When Prometheus rejects the query.
    pub fn query(&self, query: &str) -> Option<String> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let mut answer = self.agent.get(url).query("query", query).call().unwrap();
        let answer = answer.body_mut().read_to_string().unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        Some(answer["data"]["result"][0]["value"][1].as_str()?.to_owned())
    }
}

/// Starts Prometheus on a port; `None` when the port is taken.
fn start_on(port: u16, configuration: &Path) -> Option<(u16, Process)> {
    let data = configuration.with_file_name("data");
    let mut process = Process::start(
        "prometheus",
        Command::new("prometheus")
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}")),
    );
    let ready = process.wait_for("it was ready", |line| {
        line.contains("Server is ready").then_some(())
    });
    match ready {
        Ok(()) => Some((port, process)),
        Err(ended) if ended.report.contains("address already in use") => None,
        Err(ended) => panic!("{}", ended.report),
    }
}
