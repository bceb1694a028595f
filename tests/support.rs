//! The real parts that tests use: servers, proxies, a browser. Each is started and stopped by the test that needs it.

mod admin;
mod backend;
mod browser;
mod certificates;
mod cluster;
mod collector;
mod command;
pub mod environments;
mod envoy;
mod http;
mod link;
mod management;
mod manifests;
mod process;
mod prometheus;
mod proxy;
mod python;
mod ratekeeper;
mod raw_call;
mod redis;
mod rows;
mod scrape;
pub mod sentinel;

pub use admin::Api;
pub use backend::Backend;
pub use browser::{Browser, Key};
pub use certificates::{Authority, Certified, Form, Pair};
pub use cluster::Cluster;
pub use collector::{Collector, Protocol};
pub use command::typed;
pub use envoy::{Envoy, Plan, Reply, Route, extension};
pub use http::{Http, Page};
pub use link::{Link, Quality};
pub use management::{Management, Session, mutual, resource};
pub use manifests::{deploy_tool, helm, helm_template, kustomize, validated, yaml};
pub use process::{Process, run};
pub use prometheus::Prometheus;
pub use proxy::{Proxy, Treatment};
pub use python::client;
pub use ratekeeper::Ratekeeper;
pub use raw_call::raw_call;
pub use redis::Redis;
pub use rows::{ask, check, json_of, on_every_store, times, unit_seconds};
pub use scrape::Scrape;

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The longest time that a test waits for an event before it fails. Much longer than any event takes, because the machine may be
/// slow.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// The root directory of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The path of a program that `tests/setup` installed with Envoy.
///
/// # Panics
/// When the program is not installed.
pub fn tool(name: &str) -> PathBuf {
    let path = root().join("target/test-tools/venv/bin").join(name);
    assert!(path.exists(), "{name} is not installed: run tests/setup");
    path
}

/// A free TCP port of the loopback address. Another process can take it before the caller does; the caller then tries another
/// one.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Polls a condition that has no event to wait for, until it is true.
///
/// # Panics
/// When the condition is still false after [`TIMEOUT`].
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "this did not happen in time: {what}"
        );
        // Leaves the processor to the processes under test.
        thread::sleep(Duration::from_millis(5));
    }
}
