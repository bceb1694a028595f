//! The real parts that tests are made of, each started and stopped by the test that needs it.

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
pub use collector::{Collector, Speaks};
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

/// The longest that a test waits for anything, before it says what did not happen. Long, because the
/// machine may be slow; nothing that works takes anywhere near it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The root of the checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A program of the environment that `tests/setup` makes.
///
/// # Panics
/// When it is not there.
pub fn tool(name: &str) -> PathBuf {
    let path = root().join("target/test-tools/venv/bin").join(name);
    assert!(path.exists(), "{name} is not installed: run tests/setup");
    path
}

/// A TCP port of the loopback address that nobody listened on a moment ago. Another process may take
/// it first; whoever uses this tries again then.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Waits until something is so that nobody announces.
///
/// # Panics
/// When it does not come about.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "this did not come about: {what}");
        // Leaves the processor to those who are to bring it about.
        thread::sleep(Duration::from_millis(5));
    }
}
