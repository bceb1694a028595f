//! Rehearsal: what a live server recorded, played again, is what it answered; and what a change would have done.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ratekeeper::service::pb::rate_limit_response::Code;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Backend, Envoy, Plan, Ratekeeper, Route, Scrape, ask, eventually, extension, root, times, typed,
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

// --- What can go wrong with the file ---

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

#[test]
fn two_configurations_are_told_apart() {
    let desk = Desk::new();
    let hostile = "<script>alert(1)</script>&\"'\u{202e}\n";
    let recording = desk.write("minute.jsonl", &minute(&["ann", hostile]));
    let new = desk.write(
        "new.yaml",
        "domain: mesh\ndescriptors:\n  - {key: user, rate_limit: {unit: day, requests_per_unit: 50}}\n  \
         - {key: user, value: ann, rate_limit: {unit: second, requests_per_unit: 1}}\n",
    );
    let page = desk.path("report.html");
    let report = desk.replayed(&[
        "--against".as_ref(),
        new.as_ref(),
        "--html".as_ref(),
        page.as_ref(),
        recording.as_ref(),
    ]);
    let [old, new] = [&report["configurations"][0], &report["configurations"][1]];
    assert_eq!((&old["admitted"], &old["denied"]), (&json!(6), &json!(114)));
    assert_eq!(
        (&new["admitted"], &new["denied"]),
        (&json!(110), &json!(10))
    );
    let rule = &old["rules"][0];
    assert_eq!(rule["path"], "mesh.user");
    assert_eq!(rule["asked"], json!({"requests": 120, "hits": 120}));
    assert_eq!(rule["denied"], json!({"requests": 114, "hits": 114}));
    assert_eq!(rule["first_denied"]["time"], "2026-11-24T21:00:03.000000Z");
    assert_eq!(rule["first_denied"]["descriptor"], "mesh user=ann");
    let denied = &old["over_time"]["denied"];
    assert_eq!(denied.as_array().unwrap().len(), 60);
    assert_eq!((&denied[2], &denied[3]), (&json!(0), &json!(2)));
    assert_eq!(report["compared_with_answers"], Value::Null);
    let compared = &report["compared_with_each_other"];
    assert_eq!(
        (&compared["now_denied"], &compared["now_admitted"]),
        (&json!(0), &json!(104))
    );
    let moved = json!([{"from": "mesh.user", "to": "mesh.user_ann", "descriptors": 60}]);
    assert_eq!(compared["other_rule_met"], moved);
    let most = &compared["now_admitted_most"];
    assert_eq!(most[0], json!({"descriptor": "mesh user=ann", "times": 57}));

    let page = fs::read_to_string(page).unwrap();
    assert_well_formed(&page);
    assert!(
        !page.contains("<script") && !page.contains("alert(1)</") && !page.contains('\u{202e}')
    );
    assert!(
        page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;"),
        "{page}"
    );
    assert!(page.contains("default-src 'none'") && page.contains("<svg"));
    assert!(
        !page.contains("http://") && !page.contains("https://") && !page.contains("src="),
        "{page}"
    );
}

/// Every element is closed where it was opened.
fn assert_well_formed(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
    for (at, _) in rest.match_indices('<') {
        let tag = &rest[at + 1..at + rest[at..].find('>').unwrap()];
        let name = tag
            .trim_start_matches('/')
            .split([' ', '/', '\n'])
            .next()
            .unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "<{tag}>");
        } else if !tag.ends_with('/') && !["meta", "br"].contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn the_text_says_who_would_be_denied() {
    let desk = Desk::new();
    let recording = desk.write("minute.jsonl", &minute(&["ann", "ben"]));
    let printed = typed(
        [
            "replay".as_ref(),
            "--config".as_ref(),
            desk.rules.as_os_str(),
            recording.as_os_str(),
        ],
        [],
    );
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    for line in [
        "requests: 120, from 2026-11-24 21:00:00 to 2026-11-24 21:00:59 (UTC, 59s)",
        "6 admitted, 114 denied (95.0 %)",
        "3 per day, token bucket of 3, named \"per-user\"",
        "2026-11-24 21:00:03  mesh user=ann  by mesh.user",
        "57  mesh user=ben",
    ] {
        assert!(printed.stdout.contains(line), "{line}:\n{}", printed.stdout);
    }
}

#[test]
fn the_servers_own_options_count() {
    let desk = Desk::new();
    let recording = desk.write("minute.jsonl", &minute(&["ann"]));
    let denied = |environment: &[(&'static str, &'static str)]| {
        let printed = typed(
            [
                "replay".as_ref(),
                "--json".as_ref(),
                "--config".as_ref(),
                desk.rules.as_os_str(),
                recording.as_os_str(),
            ],
            environment.iter().copied(),
        );
        let report: Value = serde_json::from_str(&printed.stdout).unwrap();
        (
            report["configurations"][0]["denied"].as_u64().unwrap(),
            report["configurations"][0]["rules"][0]["limits"]
                .as_str()
                .unwrap()
                .to_owned(),
        )
    };
    assert_eq!(denied(&[("SHADOW_MODE", "true")]).0, 0);
    let (denied, limits) = denied(&[("DEFAULT_ALGORITHM", "fixed_window")]);
    assert_eq!((denied, limits.contains("fixed window")), (57, true));
}

#[test]
fn lines_that_cannot_be_played_are_named() {
    let desk = Desk::new();
    let good = r#"{"time":1764020334,"domain":"mesh","descriptors":["user=ann"]}"#;
    let replay = |arguments: &[&str], input: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ratekeeper"))
            .env_clear()
            .arg("replay")
            .arg("--config")
            .arg(&desk.rules)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may have seen enough before the end.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            told,
        )
    };
    for (input, expected) in [
        ("", "there are no lines"),
        ("\n\n", "there are no lines"),
        ("nonsense\n", "-:1: this is no line of JSON"),
        (
            &format!("{good}\n\n{{\"time\":1}}\n"),
            "-:3: the line has no descriptors",
        ),
        (
            &format!("{good}\n{{\"time\":1,\"domain\":\"\",\"descriptors\":[\"a=1\"]}}\n"),
            "-:2: rate limit domain must not be empty",
        ),
        (
            &format!("{good}\n{{\"v\":9,\"time\":1}}\n"),
            "-:2: the line is of version 9",
        ),
        ("\u{1f}\u{8b}", "-:1: this is no line"),
    ] {
        let (code, _, told) = replay(&["-"], input);
        assert_eq!(code, 1, "{input}: {told}");
        assert!(
            told.contains(expected) && told.lines().count() == 1,
            "{input}: {told}"
        );
    }
    let (code, text, told) = replay(
        &["--skip-broken", "-"],
        &format!("{good}\nnonsense\n{good}\n"),
    );
    assert_eq!((code, told.as_str()), (0, ""));
    assert!(
        text.contains("requests: 2,")
            && text.contains("left out: 1; the first: -:2: this is no line"),
        "{text}"
    );
    let (code, _, told) = replay(&["--skip-broken", "-"], "nonsense\n");
    assert!(
        code == 1 && told.contains("no line could be read: -:1:"),
        "{told}"
    );

    // Compressed, a directory, nothing.
    let packed = desk.path("requests.jsonl.gz");
    fs::write(&packed, b"\x1f\x8b\x08\x00").unwrap();
    for (path, expected) in [
        (packed.to_str().unwrap(), "gunzip -c"),
        (
            desk.directory.path().to_str().unwrap(),
            "is a directory; name the files in it",
        ),
        ("/nonexistent.jsonl", "cannot be read: No such file"),
    ] {
        let (code, _, told) = replay(&[path], "");
        assert!(code == 1 && told.contains(expected), "{path}: {told}");
    }
    for (arguments, expected) in [
        (&["--domain", "mesh", "-"][..], "--descriptor"),
        (&["--descriptor", "a={b}", "-"], "--domain"),
        (
            &["--domain", "d", "--descriptor", "a={b|c}", "-"],
            "write one of host",
        ),
        (
            &[
                "--domain",
                "d",
                "--descriptor",
                "a={b}",
                "--log-format",
                "x",
                "-",
            ],
            "format string",
        ),
        (&[], "<FILE>"),
    ] {
        let (code, _, told) = replay(arguments, "");
        assert!(
            code == 2 && told.contains(expected),
            "{arguments:?}: {told}"
        );
    }
}

#[test]
fn lines_out_of_order_are_put_in_order() {
    let desk = Desk::new();
    let text = minute(&["ann", "ben"]);
    let mut lines: Vec<&str> = text.lines().collect();
    let ordered = desk.replayed(&[desk.write("ordered.jsonl", &text).as_ref()]);
    lines.reverse();
    let (one, other) = lines.split_at(70);
    let one = desk.write("one.jsonl", &one.join("\n"));
    let other = desk.write("other.jsonl", &other.join("\n"));
    let merged = desk.replayed(&[one.as_ref(), other.as_ref()]);
    let numbers = |report: &Value| {
        let side = &report["configurations"][0];
        (
            side["denied"].clone(),
            side["over_time"].clone(),
            report["lines"]["late"].clone(),
        )
    };
    assert_eq!(numbers(&merged), numbers(&ordered));
    assert_eq!(merged["lines"]["late"], 0);
}

// --- Diff ---

#[test]
fn a_change_is_told_in_words_and_by_the_exit_code() {
    let desk = Desk::new();
    let old = desk.rules.to_str().unwrap();
    let changed = RULES.replace(
        "name: per-user, unit: day, requests_per_unit: 3",
        "name: per-user, unit: day, requests_per_unit: 6",
    );
    fs::create_dir(desk.path("new")).unwrap();
    let new = desk.write("new/mesh.yaml", &changed);
    let (new, directory) = (new.to_str().unwrap(), desk.path("new"));
    let directory = directory.to_str().unwrap();

    let same = typed(["diff", old, old], []);
    assert_eq!((same.code, same.stdout.as_str()), (0, "both do the same\n"));
    for new in [new, directory] {
        let differs = typed(["diff", old, new], []);
        assert_eq!((differs.code, differs.stderr.as_str()), (1, ""));
        assert!(
            differs.stdout.ends_with(
                "is raised from 3 per day to 6 per day (+100 %), its burst from 3 to 6 (+100 %); buckets keep what was taken\n"
            ),
            "{}",
            differs.stdout
        );
        assert_eq!(differs.stdout.lines().count(), 1);
    }
    let json = typed(["diff", "--json", old, new], []);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    let change = &json["changes"][0];
    assert_eq!(
        (&change["kind"], &change["path"], &change["buckets"]),
        (&json!("limit_raised"), &json!("mesh.user"), &json!("kept"))
    );

    let broken = desk.write("broken.yaml", "domain: mesh\ndescriptors: [{kye: a}]\n");
    for (one, other, expected) in [
        (old, broken.to_str().unwrap(), "has mistakes"),
        ("/nonexistent.yaml", old, "does not exist"),
    ] {
        let printed = typed(["diff", one, other], []);
        assert_eq!((printed.code, printed.stdout.as_str()), (2, ""));
        assert!(printed.stderr.contains(expected), "{}", printed.stderr);
    }
}

// --- The page ---

#[test]
fn the_examples_of_the_page_work_as_written() {
    let page = fs::read_to_string(root().join("docs/rehearsal.md")).unwrap();
    let desk = Desk::new();
    // Files that the page shows: a name in the line before.
    for (before, block) in blocks(&page) {
        if let Some(name) = before
            .strip_prefix('`')
            .and_then(|name| name.strip_suffix("`:"))
        {
            desk.write(name, block);
        }
    }
    let mut commands = 0;
    for (_, block) in blocks(&page) {
        for command in block.lines().filter_map(|line| line.strip_prefix("$ ")) {
            let shown: Vec<&str> = block
                .split(&format!("$ {command}\n"))
                .nth(1)
                .unwrap()
                .lines()
                .take_while(|line| !line.starts_with("$ "))
                .collect();
            let output = Command::new("sh")
                .args([
                    "-c",
                    &command.replace(
                        "ratekeeper ",
                        &format!("{} ", env!("CARGO_BIN_EXE_ratekeeper")),
                    ),
                ])
                .current_dir(desk.directory.path())
                .env_clear()
                .env("PATH", "/usr/local/bin:/usr/bin:/bin")
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap()
                + &String::from_utf8(output.stderr).unwrap();
            assert_eq!(text.trim_end(), shown.join("\n").trim_end(), "{command}");
            commands += 1;
        }
    }
    assert_eq!(commands, 2);
}

/// The blocks of code of a page, each with the line before it.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let mut blocks = Vec::new();
    let mut pieces = page.split("```");
    let mut before = pieces.next().unwrap_or_default();
    while let (Some(block), Some(behind)) = (pieces.next(), pieces.next()) {
        let (_, block) = block.split_once('\n').unwrap();
        blocks.push((before.trim_end().lines().last().unwrap_or_default(), block));
        before = behind;
    }
    blocks
}

#[test]
fn a_report_does_not_overwrite_what_it_is_about() {
    let desk = Desk::new();
    let line = r#"{"time":1764018000,"domain":"mesh","descriptors":["user=ann"]}"#;
    let recording = desk.path("requests.jsonl");
    fs::write(&recording, line).unwrap();
    for taken in [&recording, &desk.rules] {
        let [config, taken, file] =
            [&desk.rules, taken, &recording].map(|path| path.to_str().unwrap());
        let arguments = ["replay", "--config", config, "--html", taken, file];
        let printed = typed(arguments, []);
        assert_eq!(printed.code, 2, "{}", printed.stderr);
        assert!(
            printed.stderr.contains("another file"),
            "{}",
            printed.stderr
        );
    }
    assert_eq!(fs::read_to_string(&recording).unwrap(), line);
}

#[test]
fn what_cannot_be_printed_is_no_difference() {
    let desk = Desk::new();
    let script = r#""$0" diff "$1" "$1" > /dev/full"#;
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_ratekeeper")])
        .arg(&desk.rules)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
