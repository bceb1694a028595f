//! The demo, as a reader of the README runs it.

use std::fs;
use std::os::unix::fs::symlink;
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

#[test]
fn the_demo_uses_the_release_build_that_is_there() {
    let target = tempfile::tempdir().unwrap();
    let binary = target.path().join("release/ratekeeper");
    fs::create_dir(target.path().join("release")).unwrap();
    symlink(env!("CARGO_BIN_EXE_ratekeeper"), &binary).unwrap();
    let printed = run(Command::new(root().join("envoy/demo"))
        .env_remove("RATEKEEPER")
        .env("CARGO_TARGET_DIR", target.path())
        .current_dir("/"));
    let expected = format!("binary      {}", binary.display());
    assert!(printed.contains(&expected), "{printed}");
    assert!(!printed.contains("building"), "{printed}");
    assert!(printed.contains("429 Too Many Requests"), "{printed}");
}
