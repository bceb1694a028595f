//! `ratekeeper top`: against a live server, as text, as JSON, and on a terminal.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Ratekeeper, Scrape, ask, free_port, on_every_store, root, run, tool, typed};

const RULES: &str = "
domain: d
descriptors:
  - {key: calm, rate_limit: {unit: year, requests_per_unit: 9}}
  - {key: busy, rate_limit: {unit: year, requests_per_unit: 3}}
";

fn address(server: &Ratekeeper) -> String {
    server.debug().address().to_string()
}

/// The words of the line that begins with this one.
fn words<'t>(text: &'t str, first: &str) -> Vec<&'t str> {
    let line = text
        .lines()
        .map(str::trim_start)
        .find(|line| line.split(' ').next() == Some(first));
    let line = line.unwrap_or_else(|| panic!("no line begins with {first}\n{text}"));
    line.split_whitespace().collect()
}

#[test]
fn once_tells_what_metrics_tell() {
    on_every_store(RULES, &Scrape::environment(), |server, store| {
        for _ in 0..5 {
            server.ask(ask("d", &["busy=x"])).unwrap();
        }
        server.ask(ask("d", &["calm=x"])).unwrap();
        server.ask(ask("d", &["unknown=x"])).unwrap();
        let printed = typed(
            [
                "top",
                "--once",
                "--interval",
                "10ms",
                "--address",
                &address(server),
            ],
            [],
        );
        assert_eq!((printed.code, printed.stderr.as_str()), (0, ""), "{store}");
        let text = printed.stdout;
        let scrape = Scrape::of(server);
        let hits = |end: &str, key1: &str| {
            scrape.value(&format!(
                "ratelimit_service_rate_limit_{end}{{domain=\"d\",key1=\"{key1}\"}}"
            ))
        };
        for rule in ["busy", "calm"] {
            let within = hits("within_limit", rule);
            let denied = hits("total_hits", rule) - within;
            let words = words(&text, &format!("d.{rule}"));
            let [.., admitted, refused] = words.as_slice() else {
                panic!("{words:?}");
            };
            assert_eq!(
                [*admitted, *refused],
                [within, denied].map(|n| n.to_string()),
                "{store}"
            );
        }
        let decisions = |verdict: &str| {
            let lines = scrape.text().lines();
            let of_verdict = lines.filter(|line| {
                line.starts_with("ratekeeper_decisions_total")
                    && line.contains(&format!("verdict=\"{verdict}\""))
            });
            of_verdict
                .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
                .sum::<f64>()
        };
        let told = format!(
            "requests: admitted 0/s ({}), denied 0/s ({}), by fallback 0/s (0), errors 0/s (0)",
            decisions("ok"),
            decisions("over_limit"),
        );
        assert!(text.contains(&told), "{told}\n{text}");
        let is_redis = text.contains("round trips to Redis p50");
        assert_eq!(is_redis, store != "memory", "{text}");
        // Without a terminal, it is the same.
        let bare = typed(
            ["top", "--interval", "10ms", "--address", &address(server)],
            [],
        );
        assert!(bare.stdout.contains(&told), "{}", bare.stdout);
    });
}

/// A rule in shadow mode, and a server in that mode: what would be denied is not among what is.
#[test]
fn shadow_mode_is_no_denial_anywhere() {
    let rules = "
domain: d
descriptors:
  - {key: ghost, shadow_mode: true, rate_limit: {unit: year, requests_per_unit: 2}}
  - {key: busy, rate_limit: {unit: year, requests_per_unit: 3}}
";
    for (mode, denied, would_deny) in [("false", 4, 5), ("true", 0, 9)] {
        let environment = Scrape::environment()
            .into_iter()
            .chain([("SHADOW_MODE", mode)]);
        let environment = environment.map(|(name, value)| (name, value.to_owned()));
        let server = Ratekeeper::start(rules, environment);
        for _ in 0..7 {
            server.ask(ask("d", &["ghost=x"])).unwrap();
            server.ask(ask("d", &["busy=x"])).unwrap();
        }
        let own = ["top", "--address", &address(&server)];
        let printed = typed(own.into_iter().chain(["--json"]), []).stdout;
        let all: Value = serde_json::from_str(&printed).unwrap();
        let sums = |name: &str| -> u64 {
            let rules = all["rules"].as_array().unwrap().iter();
            rules.map(|rule| rule["hits"][name].as_u64().unwrap()).sum()
        };
        assert_eq!(
            (sums("denied"), sums("would_deny")),
            (denied, would_deny),
            "{printed}"
        );
        for window in ["minute", "hour"] {
            let top = &all["top"][window];
            let totals = (&top["total_denied"], &top["total_would_deny"]);
            assert_eq!(totals, (&json!(denied), &json!(would_deny)), "{printed}");
            let denying = top["denied"].as_array().unwrap();
            assert_eq!(denying.len(), usize::from(denied > 0), "{printed}");
            let ghost = &top["would_deny"].as_array().unwrap()[0];
            assert_eq!(ghost["rule"], "d.ghost", "{printed}");
            let counts = (&ghost["denied"], &ghost["would_deny"]);
            assert_eq!(counts, (&json!(0), &json!(5)), "{printed}");
        }
        let once = own.into_iter().chain(["--once", "--interval", "10ms"]);
        let text = typed(once, []).stdout;
        let shown = format!(
            "requests: admitted 0/s ({}), denied 0/s ({denied})",
            14 - denied
        );
        assert!(text.contains(&shown), "{text}");
        assert_eq!(words(&text, "d.ghost").last(), Some(&"5"), "{text}");
        assert_eq!(
            words(&text, "d.ghost")[words(&text, "d.ghost").len() - 2],
            "0",
            "{text}"
        );
        let title =
            format!("would deny most (shadow mode) of the last minute: {would_deny} hits in total");
        assert!(text.contains(&title), "{text}");
        // The figures of the metrics: what is denied is what is over the limit, less what shadow mode let pass.
        let scrape = Scrape::of(&server);
        let ghost = |end: &str| {
            scrape.value(&format!(
                "ratelimit_service_rate_limit_{end}{{domain=\"d\",key1=\"ghost\"}}"
            ))
        };
        assert_eq!(ghost("over_limit"), ghost("shadow_mode"));
    }
}

#[test]
fn json_is_what_the_server_answers_and_harmless() {
    let server = Ratekeeper::start(RULES, []);
    let evil = "busy=\u{9b}2J\u{202e}\u{1b}[31m";
    for _ in 0..4 {
        server.ask(ask("d", &[evil])).unwrap();
    }
    for arguments in [vec!["--json"], vec!["--once", "--interval", "10ms"]] {
        let address = address(&server);
        let own = ["top", "--address", &address].into_iter().chain(arguments);
        let printed = typed(own, []).stdout;
        let harmful = |char: char| (char.is_control() && char != '\n') || char == '\u{202e}';
        assert!(!printed.contains(harmful), "{printed:?}");
    }
    let printed = typed(["top", "--json", "--address", &address(&server)], []).stdout;
    let all: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(all["status"]["decisions"]["ok"]["buckets"], 3);
    assert_eq!(all["rules"][1]["path"], "d.busy");
    assert_eq!(all["rules"][1]["hits"]["denied"], 1);
    for window in ["minute", "hour"] {
        let top = &all["top"][window];
        assert_eq!(
            (&top["total_hits"], &top["hottest"][0]["hits"]),
            (&json!(4), &json!(4)),
            "{printed}"
        );
        assert_eq!(top["denied"][0]["denied"], 1, "{printed}");
    }
}

#[test]
fn what_cannot_be_asked_is_told_of_in_a_sentence() {
    let environment = Scrape::environment().map(|(name, value)| (name, value.to_owned()));
    let server = Ratekeeper::start(RULES, environment);
    for (address, expected) in [
        (
            format!("127.0.0.1:{}", free_port()),
            "check that the server is running and that --address is its debug port",
        ),
        (
            server.address().to_string(),
            "does not respond with HTTP/1.1; set --address to the debug port",
        ),
        (
            Scrape::address(&server).to_string(),
            "is not the debug port of a ratekeeper with /api/v1/status (HTTP 404)",
        ),
    ] {
        for way in ["--once", "--json"] {
            let printed = typed(["top", way, "--address", &address], []);
            assert_eq!((printed.code, printed.stdout.as_str()), (1, ""));
            assert!(printed.stderr.contains(expected), "{}", printed.stderr);
            assert_eq!(printed.stderr.lines().count(), 1, "{}", printed.stderr);
        }
    }
}

/// What a command does on a terminal of 80x24.
fn on_a_terminal(steps: &Value, environment: &[(&str, &str)], address: &str) -> Value {
    let printed = run(Command::new(tool("python"))
        .arg("-I")
        .arg(root().join("tests/top/screen.py"))
        .arg(steps.to_string())
        .args([
            env!("CARGO_BIN_EXE_ratekeeper"),
            "top",
            "--interval",
            "100ms",
            "--address",
            address,
        ])
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .envs(environment.iter().copied()));
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("not JSON ({error}): {printed}"))
}

#[test]
fn a_screen_draws_obeys_keys_and_leaves_the_terminal_as_it_was() {
    let server = Ratekeeper::start(RULES, []);
    for _ in 0..4 {
        server.ask(ask("d", &["busy=x"])).unwrap();
    }
    let address = address(&server);
    let steps = json!([
        {"wait": "q quit"}, {"type": "s"}, {"wait": "by denied"}, {"type": "h"}, {"type": "p"}, {"wait": "PAUSED"},
        {"size": [120, 40]}, {"wait": "q quit"}, {"type": "q"}, {"end": null},
    ]);
    let seen = on_a_terminal(&steps, &[], &address);
    let lines: Vec<&str> = seen["screens"][0]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l.as_str().unwrap())
        .collect();
    assert_eq!(lines.len(), 24);
    assert!(lines[0].starts_with("ratekeeper "), "{lines:#?}");
    assert!(
        lines[1].contains("admitted") && lines[23].starts_with("q quit"),
        "{lines:#?}"
    );
    assert!(lines.contains(&"rules: 2, by rate"), "{lines:#?}");
    let busy = words(&lines.join("\n"), "d.busy").join(" ");
    assert!(busy.ends_with("3 1"), "{busy}");
    assert_eq!(seen["has_colours"], true);
    let wide = seen["screens"][7].as_array().unwrap();
    assert!(
        wide[39].as_str().unwrap().starts_with("q quit"),
        "{wide:#?}"
    );
    let ends = |seen: &Value| {
        ["code", "is_restored", "left", "shows_cursor"].map(|name| seen[name].clone())
    };
    let well = [json!(0), json!(true), json!(true), json!(true)];
    assert_eq!(ends(&seen), well);
    // However it is ended.
    for end in [
        json!({"type": "\u{3}"}),
        json!({"type": "\u{1b}"}),
        json!({"signal": "SIGTERM"}),
        json!({"signal": "SIGINT"}),
    ] {
        let steps = json!([{"wait": "q quit"}, end, {"end": null}]);
        assert_eq!(ends(&on_a_terminal(&steps, &[], &address)), well, "{end}");
    }
    let steps = json!([{"wait": "q quit"}, {"type": "q"}, {"end": null}]);
    let seen = on_a_terminal(&steps, &[("NO_COLOR", "1")], &address);
    assert_eq!(
        (&seen["has_colours"], &seen["code"]),
        (&json!(false), &json!(0))
    );
    // A server that goes leaves what it said, and that it is old.
    let steps = json!([
        {"wait": "q quit"}, {"stop": server.id()}, {"wait": "outdated: "}, {"type": "q"}, {"end": null},
    ]);
    assert_eq!(ends(&on_a_terminal(&steps, &[], &address)), well);
    assert_eq!(server.ended().0.code(), Some(0));
}
