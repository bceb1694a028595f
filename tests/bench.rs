//! `ratekeeper bench`, on servers whose answers are known beforehand.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use ratekeeper::service::pb::rate_limit_descriptor::Entry;
use ratekeeper::service::pb::{RateLimitDescriptor, RateLimitRequest};
use serde_json::{Value, json};

use crate::support::{Process, Ratekeeper, eventually};

const RULES: &str = "
domain: load
descriptors:
  - key: few
    rate_limit: {unit: year, requests_per_unit: 100}
  - key: many
    rate_limit: {unit: year, requests_per_unit: 4000000000}
";

fn start() -> Ratekeeper {
    Ratekeeper::start(RULES, [])
}

fn bench(address: &str, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ratekeeper"));
    command
        .env_clear()
        .args(["bench", "--domain", "load", "--address", address])
        .args(options)
        .stdin(Stdio::null());
    command
}

/// The report of a run that measured something.
fn report(server: &Ratekeeper, options: &[&str]) -> Value {
    let output = bench(&server.address().to_string(), options)
        .arg("--json")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a run says that fails: one sentence.
fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    sentence(output)
}

/// All that a run says to people: one sentence.
fn sentence(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

// --- What is counted ---

#[test]
fn verdicts_are_those_of_the_server() {
    let report = report(
        &start(),
        &[
            "--descriptor",
            "few={}",
            "--distribution",
            "one",
            "--requests",
            "250",
        ],
    );
    assert_eq!(report["verdicts"], json!({ "OK": 100, "OVER_LIMIT": 150 }));
    assert_eq!(report["decisions"], 250);
    assert_eq!(report["errors"], json!({}));
    assert_eq!(report["unanswered"], 0);
}

#[test]
fn every_key_has_a_bucket_and_every_descriptor_takes_from_one() {
    // 3 buckets of 100; 4 hits a request on each of its 2 descriptors.
    let options = [
        ["--descriptor", "few={}"],
        ["--keys", "3"],
        ["--descriptors", "2"],
        ["--hits", "4"],
        ["--requests", "500"],
        ["--threads", "2"],
    ];
    let report = report(&start(), &options.concat());
    let admitted = report["verdicts"]["OK"].as_u64().unwrap();
    // All three are empty but for less than the hits of a request that needs two of them, or of one
    // that needs the same bucket twice.
    assert!((35..=37).contains(&admitted), "{report:#}");
    assert_eq!(report["decisions"], 500);
}

#[test]
fn an_open_loop_sends_what_is_scheduled() {
    let options = [
        "--descriptor",
        "many={}",
        "--rate",
        "5000",
        "--requests",
        "301",
        "--threads",
        "2",
    ];
    let report = report(&start(), &options);
    assert_eq!(report["decisions"], 301);
    let open = &report["open_loop"];
    assert_eq!(
        (&open["scheduled"], &open["sent"]),
        (&json!(301), &json!(301))
    );
    // The last call is due 60 ms after the first.
    assert!(
        report["wall_seconds"].as_f64().unwrap() >= 0.06,
        "{report:#}"
    );
}

#[test]
fn calls_that_nobody_answers_are_counted_and_those_beyond_the_bound_are_not_sent() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = bench(
        &silent.local_addr().unwrap().to_string(),
        &[
            "--rate",
            "1000000",
            "--requests",
            "50",
            "--max-in-flight",
            "20",
            "--deadline",
            "1s",
            "--json",
        ],
    )
    .output()
    .unwrap();
    let complaint = complaint(&output);
    assert!(complaint.contains("no response within 1s"), "{complaint}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["errors"]["DEADLINE_EXCEEDED"]["count"], 20);
    assert_eq!(report["open_loop"]["not_sent_too_many_in_flight"], 30);
    assert!(
        report["latency_us"]["p50"].as_f64().unwrap() >= 1e6,
        "{report:#}"
    );
}

#[test]
fn a_measurement_in_time_leaves_out_the_warm_up() {
    let options = [
        "--descriptor",
        "many={}",
        "--rate",
        "1000",
        "--warm-up",
        "200ms",
        "--duration",
        "300ms",
    ];
    let report = report(&start(), &options);
    assert_eq!(report["wall_seconds"], 0.3);
    assert_eq!(report["open_loop"]["scheduled"], 300);
}

// --- What is told ---

#[test]
fn the_report_has_the_fields_that_the_help_names() {
    let server = start();
    let process = format!("server={}", server.id());
    let options = [
        "--descriptor",
        "many={}",
        "--ramp",
        "--p99",
        "1m",
        "--max-in-flight",
        "64",
        "--duration",
        "100ms",
        "--warm-up",
        "0s",
        "--process",
        &process,
    ];
    let report = report(&server, &options);
    let help = Command::new(env!("CARGO_BIN_EXE_ratekeeper"))
        .args(["bench", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, fields) = help.split_once("The fields of --json").unwrap();
    let documented: BTreeSet<&str> = fields
        .lines()
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|field| !field.is_empty())
        .collect();
    let found: BTreeSet<&str> = report
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(found, documented);

    let server = &report["processes"][0];
    assert_eq!(server["name"], "server");
    assert!(server["memory_bytes"].as_u64().unwrap() > 100_000);
    assert!(server["cpu_us_per_decision"].is_number(), "{report:#}");

    // The other fields are those of the best step.
    let ramp = &report["ramp"];
    let steps = ramp["steps"].as_array().unwrap();
    let good = steps.iter().filter(|step| step["shortcoming"].is_null());
    let highest = good.map(|step| step["rate"].as_u64().unwrap()).max();
    assert_eq!(ramp["highest_rate"].as_u64(), highest);
    assert_eq!(report["setup"]["rate"].as_u64(), highest);
    // A million a second cannot go well with 64 in flight.
    assert!(highest < Some(1_000_000), "{report:#}");
}

#[test]
fn what_is_told_to_people_has_the_same_figures() {
    let output = bench(
        &start().address().to_string(),
        &[
            "--descriptor",
            "few={}",
            "--distribution",
            "one",
            "--requests",
            "120",
        ],
    )
    .output()
    .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(": 100 OK, 20 OVER_LIMIT\n"), "{text}");
    assert!(text.contains("p99.9"), "{text}");
    assert!(output.stderr.is_empty(), "no terminal, no progress line");
}

#[test]
fn an_address_that_is_none_is_a_wrong_option() {
    let output = bench("no address", &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let sentence = sentence(&output);
    assert!(sentence.contains("write host:port"), "{sentence}");
    assert!(output.stdout.is_empty());
}

#[test]
fn what_cannot_be_measured_is_said_in_a_sentence() {
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let server = start();
    let address = server.address().to_string();
    for (address, options, expected) in [
        (&gone.to_string(), &[][..], "no server at 127.0.0.1:"),
        (
            &address,
            &["--descriptor", "few=x"],
            "has no {} for the number of the key",
        ),
        (
            &address,
            &["--threads", "5"],
            "but --connections is 4; raise it",
        ),
        (
            &address,
            &["--process", "redis=2147483647"],
            "2147483647 (redis)",
        ),
    ] {
        let output = bench(address, options).output().unwrap();
        let complaint = complaint(&output);
        assert!(complaint.contains(expected), "{complaint}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn errors_of_the_server_are_counted_by_their_code() {
    let bound = [("MAX_DESCRIPTORS", "1"), ("BAD_REQUEST_MODE", "error")];
    let server = Ratekeeper::start(RULES, bound.map(|(name, value)| (name, value.to_owned())));
    let output = bench(
        &server.address().to_string(),
        &["--descriptors", "2", "--requests", "10", "--json"],
    )
    .output()
    .unwrap();
    let complaint = complaint(&output);
    assert!(
        complaint.contains("10 calls failed, such as INVALID_ARGUMENT: "),
        "{complaint}"
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["errors"]["INVALID_ARGUMENT"]["count"], 10);
}

// --- How it ends ---

#[test]
fn a_server_that_dies_is_reported_and_ends_a_number_of_requests() {
    let server = start();
    let process = format!("server={}", server.id());
    let bench = endless(&server, &["--process", &process]);
    drop(server);
    let text = bench.output();
    assert!(text.contains("UNAVAILABLE"), "{text}");
    assert!(text.contains("the server stopped responding"), "{text}");
    assert!(text.contains("(server) ended"), "{text}");
}

#[test]
fn ctrl_c_ends_it_and_what_was_measured_is_printed() {
    let server = start();
    let bench = endless(&server, &[]);
    bench.signal("INT");
    let text = bench.output();
    assert!(text.contains("The measurement was interrupted."), "{text}");
    assert!(text.contains(" 0 OVER_LIMIT"), "{text}");
}

/// A run of more requests than anyone waits for, whose calls have begun to arrive.
fn endless(server: &Ratekeeper, options: &[&str]) -> Process {
    let one = [
        "--descriptor",
        "many={}",
        "--distribution",
        "one",
        "--keys",
        "1",
    ];
    let mut command = bench(&server.address().to_string(), &one);
    command.args(["--requests", "1000000000000"]).args(options);
    let process = Process::start("bench", &mut command);
    let question = RateLimitRequest {
        domain: "load".into(),
        hits_addend: 0,
        descriptors: vec![RateLimitDescriptor {
            entries: vec![Entry {
                key: "many".into(),
                value: "0".into(),
            }],
            hits_addend: Some(0),
            ..RateLimitDescriptor::default()
        }],
    };
    eventually("the load arrives", || {
        let answer = server.ask(question.clone()).unwrap();
        answer.statuses[0].limit_remaining < 3_999_999_000
    });
    process
}
