//! Two versions beside each other, as during an upgrade and a rollback: this one, and the one of the commit in
//! `tests/rollout/commit`, which `tests/setup` builds.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ratekeeper::service::pb::RateLimitRequest;
use serde_json::Value;

use crate::support::{Backend, Ratekeeper, ask, eventually, root, times, typed};

const RULES: &str = "
domain: d
descriptors:
  - {key: bucket, rate_limit: {unit: year, requests_per_unit: 100, burst: 40}}
  - {key: window, rate_limit: {unit: year, requests_per_unit: 40, algorithm: fixed_window}}
  - {key: cost, rate_limit: {unit: year, requests_per_unit: 40, hits: postpaid}}
  - {key: several, rate_limit: [{unit: year, requests_per_unit: 40}, {unit: day, requests_per_unit: 1000}]}
  - {key: tried, rate_limit: {unit: year, requests_per_unit: 40}, candidate: {unit: year, requests_per_unit: 2}}
  - {key: path, value: /files/*, share_threshold: true, rate_limit: {unit: year, requests_per_unit: 40}}
";

/// The earlier version.
fn previous() -> PathBuf {
    let path = root().join("target/test-tools/previous/ratekeeper");
    assert!(
        path.exists(),
        "the earlier version is not built: run tests/setup"
    );
    path
}

/// Runs a command of a version to its end.
fn run(binary: &Path, arguments: &[&OsStr]) -> Output {
    let mut command = Command::new(binary);
    let command = command.env_clear().args(arguments).stdin(Stdio::null());
    command.output().unwrap()
}

/// Starts a version of the server.
fn start(binary: &Path, rules: &Path, environment: &[(&'static str, String)]) -> Ratekeeper {
    Ratekeeper::run(
        Command::new(binary)
            .env_clear()
            .envs(["GRPC_HOST", "HOST", "DEBUG_HOST"].map(|name| (name, "127.0.0.1")))
            .envs(["GRPC_PORT", "PORT", "DEBUG_PORT"].map(|name| (name, "0")))
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .args(["serve".as_ref(), "--config".as_ref(), rules.as_os_str()]),
    )
}

/// Both versions on the same buckets: the earlier one first.
struct Both {
    servers: [Ratekeeper; 2],
    _directory: tempfile::TempDir,
}

impl Both {
    fn on(backend: &Backend) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rules = directory.path().join("ratelimit.yaml");
        fs::write(&rules, RULES).unwrap();
        let environment = backend.environment();
        let this = PathBuf::from(env!("CARGO_BIN_EXE_ratekeeper"));
        Self {
            servers: [previous(), this].map(|binary| start(&binary, &rules, &environment)),
            _directory: directory,
        }
    }
}

/// The first status: whether the request is allowed, and what is left.
fn left(server: &Ratekeeper, request: RateLimitRequest) -> (bool, u32) {
    let response = server.ask(request).unwrap();
    (
        response.overall_code == 1,
        response.statuses[0].limit_remaining,
    )
}

fn on_both_stores(test: impl Fn(&Both)) {
    let [_, redis, cluster] = Backend::all();
    for backend in [redis, cluster] {
        test(&Both::on(&backend));
    }
}

#[test]
fn both_versions_take_from_the_same_buckets() {
    let long = format!("bucket={}", "x".repeat(5_000));
    let descriptors = [
        "bucket=a",
        "window=a",
        "cost=a",
        "several=a",
        "tried=a",
        "path=/files/1",
        "bucket=own limit=40/year",
        "bucket={}|#1é%\u{7f}",
        "bucket=",
        &long,
    ];
    on_both_stores(|both| {
        for descriptor in descriptors {
            let request = || ask("d", &[descriptor]);
            for (turn, server) in both.servers.iter().chain(&both.servers).enumerate() {
                let expected = 40 - 5 * (u32::try_from(turn).unwrap() + 1);
                let answer = left(server, times(5, request()));
                assert_eq!(answer, (true, expected), "{descriptor}, turn {turn}");
            }
        }
    });
}

#[test]
fn debts_refunds_and_denials_of_one_version_count_for_the_other() {
    on_both_stores(|both| {
        for (name, [first, second]) in [
            ("up", [&both.servers[0], &both.servers[1]]),
            ("down", [&both.servers[1], &both.servers[0]]),
        ] {
            // In debt for one, so for the other; paid back by one, so for the other.
            let cost = |rest: &str| ask("d", &[&format!("cost={name}{rest}")]);
            first.ask(cost(" x60")).unwrap();
            assert!(!left(second, cost(" x0")).0, "{name}: in debt");
            second.ask(cost(" x-30")).unwrap();
            // A denial may be remembered for a second.
            eventually("what was given back is there", || {
                left(first, cost(" x0")) == (true, 10)
            });

            let bucket = || ask("d", &[&format!("bucket={name}")]);
            assert_eq!(left(first, times(40, bucket())), (true, 0));
            assert!(!left(second, bucket()).0, "{name}: used up");
            // All or nothing, whoever asks.
            let both_limits = ask("d", &[&format!("window={name}"), &format!("bucket={name}")]);
            assert!(!left(second, both_limits.clone()).0);
            assert!(!left(first, both_limits).0);
            let window = ask("d", &[&format!("window={name}")]);
            assert_eq!(left(first, window), (true, 39));
        }
    });
}

#[test]
fn each_version_watches_the_other() {
    let [_, redis, _] = Backend::all();
    let both = Both::on(&redis);
    let this = PathBuf::from(env!("CARGO_BIN_EXE_ratekeeper"));
    for server in &both.servers {
        server.ask(ask("d", &["bucket=a"])).unwrap();
    }
    for (binary, server) in [(previous(), &both.servers[1]), (this, &both.servers[0])] {
        let address = server.debug().address().to_string();
        let arguments = ["top", "--once", "--interval", "10ms", "--address", &address];
        let arguments: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
        let printed = run(&binary, &arguments);
        let (text, errors) = (printed.stdout, printed.stderr);
        let text = String::from_utf8(text).unwrap();
        assert!(
            printed.status.success(),
            "{}",
            String::from_utf8_lossy(&errors)
        );
        assert!(text.contains("d.bucket"), "{text}");
    }
}

#[test]
fn each_version_replays_what_the_other_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let rules = directory.path().join("ratelimit.yaml");
    fs::write(&rules, RULES).unwrap();
    let this = PathBuf::from(env!("CARGO_BIN_EXE_ratekeeper"));
    for (recorder, player) in [(previous(), this.clone()), (this, previous())] {
        let recording = directory.path().join("requests.jsonl");
        let _ = fs::remove_file(&recording);
        let environment = [("RECORD_PATH", recording.to_str().unwrap().to_owned())];
        let server = start(&recorder, &rules, &environment);
        for _ in 0..50 {
            server.ask(ask("d", &["bucket=a"])).unwrap();
        }
        assert!(server.stop().success());
        let arguments = [
            "replay".as_ref(),
            "--json".as_ref(),
            "--config".as_ref(),
            rules.as_os_str(),
            recording.as_os_str(),
        ];
        let printed = run(&player, &arguments);
        assert!(
            printed.status.success(),
            "{}",
            String::from_utf8_lossy(&printed.stderr)
        );
        let report: Value = serde_json::from_slice(&printed.stdout).unwrap();
        assert_eq!(report["requests"], 50, "{report}");
    }
}

#[test]
fn this_version_takes_every_option_of_the_earlier_one() {
    let variables = |help: &str| -> BTreeSet<String> {
        let names = help.split("[env: ").skip(1);
        names
            .map(|text| text.split(['=', ']']).next().unwrap().to_owned())
            .collect()
    };
    let earlier = run(&previous(), &["serve".as_ref(), "--help".as_ref()]);
    let earlier = variables(&String::from_utf8(earlier.stdout).unwrap());
    let now = variables(&typed(["serve", "--help"], []).stdout);
    assert!(earlier.len() > 80, "{earlier:?}");
    assert_eq!(earlier.difference(&now).collect::<Vec<_>>(), [""; 0]);
}
