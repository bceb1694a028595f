//! Recording on a live server.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use ratekeeper::service::pb::rate_limit_response::Code;
use serde_json::{Value, json};

use super::{Desk, lines};
use crate::support::{Ratekeeper, Scrape, ask, eventually, typed};

#[test]
fn a_sample_has_buckets_whole_and_a_restart_goes_on() {
    let desk = Desk::new();
    let users: Vec<String> = (0..40).map(|user| format!("user={user}")).collect();
    for _ in 0..2 {
        let server = desk.server(vec![("RECORD_SHARE", "0.3".to_owned())]);
        for _ in 0..5 {
            for user in &users {
                server.ask(ask("mesh", &[user, "plan=gold"])).unwrap();
            }
        }
        assert_eq!(server.stop().code(), Some(0));
    }
    let lines = desk.lines();
    let of = |user: &String| {
        let value = user.strip_prefix("user=").unwrap();
        let is_it = |line: &&Value| line["descriptors"][0]["entries"][0] == json!(["user", value]);
        lines.iter().filter(is_it).count()
    };
    let is_plan_sampled = lines[0]["descriptors"][1].get("sampled").is_none();
    let counts: Vec<usize> = users.iter().map(of).collect();
    // Both times the same, and all of them or none.
    assert!(
        counts.iter().all(|count| [0, 10].contains(count)),
        "{counts:?}"
    );
    let sampled = counts.iter().filter(|count| **count > 0).count();
    assert!(is_plan_sampled || (1..30).contains(&sampled), "{counts:?}");
}

#[test]
fn a_path_that_cannot_be_recorded_to_ends_the_start_with_a_sentence() {
    let desk = Desk::new();
    let directory = desk.directory.path().to_str().unwrap();
    let file = desk.rules.to_str().unwrap();
    for (path, expected) in [
        (directory.to_owned(), "is a directory; name a file, such as"),
        ("/dev/full".to_owned(), "is no file"),
        (
            format!("{directory}/missing/requests.jsonl"),
            "cannot be written to: No such file",
        ),
        (
            format!("{file}/requests.jsonl"),
            "cannot be written to: Not a directory",
        ),
    ] {
        let printed = typed(
            ["serve", "--config", file],
            [("RECORD_PATH", path.as_str())],
        );
        assert_eq!(printed.code, 2, "{path}: {}", printed.stderr);
        let sentence = printed.stderr.strip_prefix("error: RECORD_PATH=").unwrap();
        assert!(
            sentence.contains(expected) && sentence.lines().count() == 1,
            "{path}: {sentence}"
        );
    }
    for (name, value, expected) in [
        ("RECORD_SHARE", "0", "above 0 and up to 1"),
        ("RECORD_SHARE", "half", "above 0 and up to 1"),
        ("RECORD_PATH", file, "something else"),
        ("RECORD_MAX_BYTES", "1", "from 64KiB"),
        ("RECORD_MAX_BYTES", "1GB", "from 64KiB"),
    ] {
        let printed = typed(["serve", "--config", file], [(name, value)]);
        assert_eq!(printed.code, 2, "{name}={value}: {}", printed.stderr);
        assert!(
            printed.stderr.contains(expected),
            "{name}={value}: {}",
            printed.stderr
        );
    }
}

#[test]
fn a_full_disk_is_told_once_and_costs_no_request() {
    let desk = Desk::new();
    let recording = desk.path("requests.jsonl");
    // The shell's blocks: the file can grow to 4 KiB. Ignored, the signal becomes an error, as of a full disk.
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" serve --config \"$1\"";
    let mut command = Command::new("sh");
    command
        .env_clear()
        .envs(["GRPC_HOST", "HOST", "DEBUG_HOST"].map(|name| (name, "127.0.0.1")))
        .envs(["GRPC_PORT", "PORT", "DEBUG_PORT"].map(|name| (name, "0")))
        .envs(Scrape::environment())
        .env("RECORD_PATH", &recording)
        .args(["-c", script, env!("CARGO_BIN_EXE_ratekeeper")])
        .arg(&desk.rules);
    let mut server = Ratekeeper::run(&mut command);
    for _ in 0..200 {
        let answer = server.ask(ask("mesh", &["unlimited=by-any-rule"])).unwrap();
        assert_eq!(answer.overall_code(), Code::Ok);
    }
    server.wait_for_log("requests cannot be recorded, which costs none of them");
    let counted = |outcome: &str| {
        let name = format!("ratekeeper_recorded_requests_total{{outcome=\"{outcome}\"}}");
        Scrape::of(&server).value(&name)
    };
    eventually("all are counted", || {
        counted("written") + counted("dropped") == 200.0
    });
    let written = counted("written");
    assert!(written > 0.0 && written < 200.0, "{written}");
    server.signal("TERM");
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(
        log.matches("requests cannot be recorded").count(),
        1,
        "{log}"
    );
    // What was written is whole.
    assert_eq!(lines(&recording).len() as f64, written);
}

#[test]
fn a_directory_that_goes_and_comes_back_is_recorded_to_again() {
    let desk = Desk::new();
    let directory = desk.path("recordings");
    fs::create_dir(&directory).unwrap();
    let path = directory.join("requests.jsonl");
    let environment = [("RECORD_PATH", path.to_str().unwrap().to_owned())];
    let flags: [&OsStr; 2] = ["--config".as_ref(), desk.rules.as_ref()];
    let mut server = Ratekeeper::start_with(flags, environment);
    let hit = |server: &Ratekeeper| server.ask(ask("mesh", &["user=ann"])).unwrap();
    fs::remove_dir_all(&directory).unwrap();
    hit(&server);
    server.wait_for_log("requests cannot be recorded");
    fs::create_dir(&directory).unwrap();
    hit(&server);
    server.wait_for_log("requests are recorded again");
    assert_eq!(server.stop().code(), Some(0));
    assert_eq!(lines(&path).len(), 1);
}

#[test]
fn the_latest_requests_stay_when_there_are_too_many() {
    let desk = Desk::new();
    let own = Scrape::environment().map(|(name, value)| (name, value.to_owned()));
    let bound = ("RECORD_MAX_BYTES", "64KiB".to_owned());
    let server = desk.server(own.into_iter().chain([bound]).collect());
    let printed = typed(
        [
            "bench",
            "--domain",
            "mesh",
            "--address",
            &server.address().to_string(),
            "--requests",
            "3000",
        ],
        [],
    );
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    // Threads hand over their lines in turn: the last is last once all others are written.
    eventually("all are written", || {
        let written = "ratekeeper_recorded_requests_total{outcome=\"written\"}";
        Scrape::of(&server).value(written) == 3_000.0
    });
    server.ask(ask("mesh", &["user=last"])).unwrap();
    assert_eq!(server.stop().code(), Some(0));
    let (old, new) = (desk.path("requests.jsonl.1"), desk.path("requests.jsonl"));
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    assert!(size(&old) + size(&new) <= 64 << 10);
    assert!(size(&old) > 30 << 10);
    let last = json!([["user", "last"]]);
    assert_eq!(
        lines(&new).last().unwrap()["descriptors"][0]["entries"],
        last
    );
    // Both together are one recording.
    let count = lines(&old).len() + lines(&new).len();
    assert_eq!(
        desk.replayed(&[new.as_ref(), old.as_ref()])["requests"],
        count
    );
}
