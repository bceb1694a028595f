//! Rehearsal: what a live server recorded, played again, is what it answered; and what a change would have done.

mod comparison;
mod input;
mod recording;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ratekeeper::service::pb::rate_limit_response::Code;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Backend, Envoy, Plan, Ratekeeper, Route, ask, eventually, extension, root, times, typed,
};

const RULES: &str = "
domain: mesh
descriptors:
  - key: plan
    rate_limit: {name: per-plan, unit: day, requests_per_unit: 9}
  - key: user
    rate_limit: {name: per-user, unit: day, requests_per_unit: 3}
  - key: window
    rate_limit: {name: window, unit: day, requests_per_unit: 4, algorithm: fixed_window}
  - key: work
    rate_limit: {name: work, unit: day, requests_per_unit: 10}
  - key: tokens
    rate_limit: {name: tokens, unit: day, requests_per_unit: 100}
  - key: twice
    rate_limit:
      - {name: hourly, unit: hour, requests_per_unit: 2}
      - {name: daily, unit: day, requests_per_unit: 250}
  - key: path
    value: /files/*
    share_threshold: true
    rate_limit: {name: files, unit: day, requests_per_unit: 3}
  - key: trial
    shadow_mode: true
    rate_limit: {name: trial, unit: day, requests_per_unit: 1}
  - key: fast
    rate_limit: {name: fast, unit: second, requests_per_unit: 40}
";

/// Where a test keeps its files.
struct Desk {
    directory: TempDir,
    rules: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rules = directory.path().join("rules.yaml");
        fs::write(&rules, RULES).unwrap();
        Self { directory, rules }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A server that records, with more environment.
    fn server(&self, environment: Vec<(&'static str, String)>) -> Ratekeeper {
        let recording = self.path("requests.jsonl").to_str().unwrap().to_owned();
        let own = [("RECORD_PATH", recording)];
        let flags: [&OsStr; 2] = ["--config".as_ref(), self.rules.as_ref()];
        Ratekeeper::start_with(flags, environment.into_iter().chain(own))
    }

    /// The report of a replay against the rules, as JSON.
    fn replayed(&self, arguments: &[&OsStr]) -> Value {
        let mut all: Vec<&OsStr> = vec![
            "replay".as_ref(),
            "--json".as_ref(),
            "--config".as_ref(),
            self.rules.as_ref(),
        ];
        all.extend(arguments);
        let printed = typed(all, []);
        assert_eq!(
            (printed.code, printed.stderr.as_str()),
            (0, ""),
            "{arguments:?}"
        );
        serde_json::from_str(&printed.stdout).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        lines(&self.path("requests.jsonl"))
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Asserts that the replay gives what was answered, to so many requests.
fn assert_same(report: &Value, requests: usize) {
    let compared = &report["compared_with_answers"];
    let counts = [
        "now_denied",
        "now_admitted",
        "not_compared",
        "changed_descriptors",
    ];
    for count in counts {
        assert_eq!(compared[count], 0, "{count}: {compared:#}");
    }
    assert_eq!(report["requests"], requests, "{report:#}");
    let both = compared["admitted"].as_u64().unwrap() + compared["denied"].as_u64().unwrap();
    assert_eq!(both, requests as u64);
}

// --- A live server ---

fn header(header: &str, key: &str) -> Value {
    json!({"request_headers": {"header_name": header, "descriptor_key": key}})
}

/// Routes with all that Envoy can ask.
fn plan(log: &Path) -> Plan {
    let tokens = json!([header("x-user", "tokens")]);
    let cost_of_response = extension(
        "envoy.filters.http.header_to_metadata",
        "envoy.extensions.filters.http.header_to_metadata.v3.Config",
        json!({"response_rules": [{
            "header": "x-cost",
            "on_header_present": {"metadata_namespace": "cost", "key": "tokens", "type": "NUMBER"},
        }]}),
    );
    Plan {
        routes: vec![
            Route::new("/user", json!([{"actions": [header("x-user", "user")]}])),
            Route::new(
                "/both",
                json!([
                    {"actions": [header("x-plan", "plan")]},
                    {"actions": [header("x-user", "user")]},
                    {"actions": [header("x-unknown", "unknown")]},
                ]),
            ),
            Route::new(
                "/window",
                json!([{"actions": [header("x-user", "window")]}]),
            ),
            Route::new(
                "/work",
                json!([{"actions": [header("x-user", "work")], "hits_addend": {"format": "%REQ(x-hits)%"}}]),
            ),
            Route::new(
                "/tokens",
                json!([
                    {"actions": tokens, "hits_addend": {"number": 0}},
                    {
                        "actions": tokens,
                        "hits_addend": {"format": "%DYNAMIC_METADATA(cost:tokens)%"},
                        "apply_on_stream_done": true,
                    },
                ]),
            ),
            Route::new("/twice", json!([{"actions": [header("x-user", "twice")]}])),
            Route::new("/trial", json!([{"actions": [header("x-user", "trial")]}])),
        ],
        filters_before: vec![cost_of_response],
        manager: json!({"access_log": access_logs(log)}),
        ..Plan::default()
    }
}

/// A log in the format that docs/rehearsal.md has, and one in Envoy's own.
fn access_logs(log: &Path) -> Vec<Value> {
    let logger = |name: &str, format: Option<Value>| {
        let path = log.join(name);
        let mut configuration = json!({"path": path.to_str().unwrap()});
        if let Some(format) = format {
            configuration["log_format"] = format;
        }
        extension(
            "envoy.access_loggers.file",
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            configuration,
        )
    };
    vec![
        logger(
            "access.json",
            Some(json!({"json_format": documented_format()})),
        ),
        logger("access.text", None),
    ]
}

/// The format of the page, which has it as YAML: a name and a format on each line.
fn documented_format() -> Value {
    let page = fs::read_to_string(root().join("docs/rehearsal.md")).unwrap();
    let (_, format) = page.split_once("json_format:\n").unwrap();
    let lines = format
        .lines()
        .take_while(|line| line.trim_start().len() < line.len());
    let fields = lines.map(|line| {
        let (name, format) = line.trim().split_once(": ").unwrap();
        (name.to_owned(), Value::from(format.trim_matches('"')))
    });
    fields.collect()
}

/// Traffic through Envoy and beside it. Returns the statuses that Envoy gave, but for those of tokens.
fn traffic(server: &Ratekeeper, envoy: &Envoy) -> Vec<u16> {
    let mut statuses = Vec::new();
    for round in 0..6 {
        for user in ["ann", "ben \"b\" \\ <i>"] {
            statuses.extend(envoy.statuses(1, "/user", &[("x-user", user)]));
            statuses.extend(envoy.statuses(1, "/window", &[("x-user", user)]));
            statuses.extend(envoy.statuses(1, "/work", &[("x-user", user), ("x-hits", "4")]));
            statuses.extend(envoy.statuses(1, "/twice", &[("x-user", user)]));
            statuses.extend(envoy.statuses(1, "/trial", &[("x-user", user)]));
        }
        let third = format!("third {}", round % 2);
        let both = [("x-plan", "gold"), ("x-user", &third), ("x-unknown", "x")];
        statuses.extend(envoy.statuses(2, "/both", &both));
        // Envoy reports the cost after it has answered.
        let before = tokens_left(server);
        envoy.get("/tokens", &[("x-user", "ann"), ("x-cost", "45")]);
        if before > 0 {
            eventually("the cost is reported", || tokens_left(server) < before);
        }
    }
    for (request, code) in [
        // Given back: one of three.
        (ask("mesh", &["user=ann x-1"]), Code::Ok),
        (ask("mesh", &["user=ann"]), Code::Ok),
        (ask("mesh", &["user=ann"]), Code::OverLimit),
        // A limit of its own.
        (ask("mesh", &["own=a limit=2/2hour"]), Code::Ok),
        (
            times(2, ask("mesh", &["own=a limit=2/2hour", "unknown=x"])),
            Code::OverLimit,
        ),
        (ask("elsewhere", &["own=a"]), Code::Ok),
        // All that match share one bucket.
        (ask("mesh", &["path=/files/a", "path=/files/b"]), Code::Ok),
        (
            ask("mesh", &["path=/files/c", "path=/files/a"]),
            Code::OverLimit,
        ),
        (ask("mesh", &["path=/files/c"]), Code::Ok),
    ] {
        let answer = server.ask(request.clone()).unwrap();
        assert_eq!(answer.overall_code(), code, "{request:?}");
    }
    statuses
}

fn tokens_left(server: &Ratekeeper) -> u32 {
    let answer = server.ask(ask("mesh", &["tokens=ann x0"])).unwrap();
    answer.statuses[0].limit_remaining
}

#[test]
fn what_a_live_server_recorded_replays_to_the_verdicts_that_it_gave() {
    for backend in Backend::all() {
        let desk = Desk::new();
        let server = desk.server(backend.environment());
        let envoy = Envoy::start(server.address(), &plan(desk.directory.path()));
        let statuses = traffic(&server, &envoy);
        assert_eq!(server.stop().code(), Some(0));

        let lines = desk.lines();
        // Of the tokens, not only Envoy asks.
        let counted = lines
            .iter()
            .filter(|line| line["descriptors"][0]["entries"][0][0] != "tokens");
        let count = |code: &str| counted.clone().filter(|line| line["code"] == code).count();
        // What Envoy denied was denied, and three requests beside it.
        let denied = statuses.iter().filter(|status| **status == 429).count();
        assert_eq!(count("OVER_LIMIT"), denied + 3, "{statuses:?}");
        assert!(denied > 10 && count("OK") > 30);
        let path = desk.path("requests.jsonl");
        let report = desk.replayed(&[path.as_ref()]);
        assert_same(&report, lines.len());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        // Nobody is told of as denied first who was not.
        let first = &report["configurations"][0]["denied_first"];
        assert_eq!(first[0]["descriptor"], "mesh work=ann", "{first:#}");

        // The proxy's own logs tell the same of what one route asked.
        let from_proxy = |name: &str, format: &[&str]| {
            let log = desk.path(name);
            let only_users: String = fs::read_to_string(&log)
                .unwrap()
                .lines()
                .filter(|line| line.contains("/user"))
                .fold(String::new(), |text, line| text + line + "\n");
            let log = desk.write(&format!("{name}.user"), &only_users);
            let mut arguments: Vec<&OsStr> = vec!["--domain".as_ref(), "mesh".as_ref()];
            arguments.extend(format.iter().map(OsStr::new));
            arguments.push(log.as_ref());
            desk.replayed(&arguments)
        };
        let is_logged = |name: &str| {
            let text = fs::read_to_string(desk.path(name)).unwrap_or_default();
            text.lines().filter(|line| line.contains("/user")).count() == 12
        };
        eventually("Envoy wrote its logs", || {
            is_logged("access.json") && is_logged("access.text")
        });
        assert_same(
            &from_proxy("access.json", &["--descriptor", "user={user}"]),
            12,
        );
        // The default format has no such header; the route is one bucket then.
        let text = from_proxy(
            "access.text",
            &["--log-format", "envoy", "--descriptor", "user={path}"],
        );
        assert_eq!(text["requests"], 12);
        let compared = &text["compared_with_answers"];
        assert_eq!(
            (&compared["now_denied"], &compared["denied"]),
            (&json!(3), &json!(6)),
            "{text:#}"
        );
    }
}

#[test]
fn requests_at_once_replay_to_the_verdicts_that_they_got() {
    for backend in Backend::all() {
        let desk = Desk::new();
        let mut environment = backend.environment();
        environment.push(("WORKER_THREADS", "2".to_owned()));
        let server = desk.server(environment);
        let bench = |descriptor: &str, hits: &str| {
            let printed = typed(
                [
                    "bench",
                    "--domain",
                    "mesh",
                    "--address",
                    &server.address().to_string(),
                    "--json",
                    "--descriptor",
                    descriptor,
                    "--keys",
                    "7",
                    "--hits",
                    hits,
                    "--requests",
                    "3000",
                ],
                [],
            );
            assert_eq!(printed.code, 0, "{}", printed.stderr);
        };
        bench("fast={}", "1");
        bench("fast={}", "3");
        bench("plan={}", "1");
        assert_eq!(server.stop().code(), Some(0));
        let recorded = desk.lines().len();
        assert!(recorded >= 9_000, "{recorded}");
        let report = desk.replayed(&[desk.path("requests.jsonl").as_ref()]);
        assert_same(&report, recorded);
    }
}

// --- Replay ---

/// A request of each of these users every second, for a minute.
fn minute(users: &[&str]) -> String {
    let mut text = String::new();
    for second in 0..60 {
        for user in users {
            let line = json!({
                "time": format!("2026-11-24T21:00:{second:02}Z"),
                "domain": "mesh",
                "descriptors": [{"entries": [["user", user]]}],
            });
            text += &format!("{line}\n");
        }
    }
    text
}
