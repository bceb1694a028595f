//! The demo of the README, as one would run it.

use std::process::Command;

use crate::support::{root, run};

#[test]
fn the_demo_shows_requests_passing_and_being_denied() {
    // It ends with success only when it saw both.
    let printed = run(Command::new(root().join("envoy/demo"))
        .env("RATEKEEPER", env!("CARGO_BIN_EXE_ratekeeper"))
        .current_dir("/"));
    for text in [
        "alice   200 OK                 remaining 3",
        "alice   429 Too Many Requests  remaining 0",
        "6, 6;w=60;name=\"per-client\"",
        "bob     200 OK                 remaining 3",
    ] {
        assert!(
            printed.contains(text),
            "{text:?} is missing from:\n{printed}"
        );
    }
}
