//! Limits that are tried beside those in force: what they would have said is counted, to the hit, and nothing that
//! is answered changes by it.

use std::fs;

use tokio::runtime::Runtime;

use crate::support::{
    Backend, Ratekeeper, Redis, Scrape, ask, check, free_port, on_every_store, times, typed,
};

const RULES: &str = "
domain: m
descriptors:
  - key: narrow
    rate_limit: {unit: year, requests_per_unit: 5}
    candidate: {unit: year, requests_per_unit: 3}
  - key: wide
    rate_limit: {unit: year, requests_per_unit: 3}
    candidate: {unit: year, requests_per_unit: 6}
  - key: free
    rate_limit: {unlimited: true}
    candidate: {unit: year, requests_per_unit: 2}
  - key: list
    rate_limit: {unit: year, requests_per_unit: 9}
    candidate:
      - {unit: year, requests_per_unit: 4}
      - {unit: month, requests_per_unit: 5, algorithm: fixed_window}
  - key: user
    value_to_metric: true
    rate_limit: {unit: year, requests_per_unit: 9}
    candidate: {unit: year, requests_per_unit: 1}
  - {key: blocked, rate_limit: {unit: year, requests_per_unit: 0}}
  - {key: plain, rate_limit: {unit: year, requests_per_unit: 3}}
";

/// What the candidates of a rule would have admitted and denied.
fn tried(scrape: &Scrape, key1: &str) -> [f64; 2] {
    ["would_admit", "would_deny"].map(|outcome| {
        scrape.value(&format!(
            "ratekeeper_candidate_hits_total{{domain=\"m\",key1=\"{key1}\",outcome=\"{outcome}\"}}"
        ))
    })
}

/// How many of so many equal requests pass.
fn passing(server: &Ratekeeper, count: usize, descriptors: &[&str]) -> usize {
    let asked = (0..count).map(|_| server.ask(ask("m", descriptors)).unwrap());
    asked.filter(|answer| answer.overall_code == 1).count()
}

#[test]
fn a_candidate_counts_as_if_it_stood_in_for_the_limit() {
    on_every_store(RULES, &Scrape::environment(), |server, store| {
        assert_eq!(passing(server, 10, &["narrow=x"]), 5, "{store}");
        assert_eq!(passing(server, 10, &["wide=x"]), 3, "{store}");
        assert_eq!(passing(server, 5, &["free=x"]), 5, "{store}");
        assert_eq!(passing(server, 7, &["list=x"]), 7, "{store}");
        for user in ["a", "a", "b"] {
            passing(server, 1, &[&format!("user={user}")]);
        }
        passing(server, 2, &["plain=x"]);
        let scrape = Scrape::of(server);
        assert_eq!(tried(&scrape, "narrow"), [3.0, 7.0], "{store}");
        // The limit denies what this one would have taken, and what is denied is remembered, but it is told of all.
        assert_eq!(tried(&scrape, "wide"), [6.0, 4.0], "{store}");
        assert_eq!(tried(&scrape, "free"), [2.0, 3.0], "{store}");
        assert_eq!(tried(&scrape, "list"), [4.0, 3.0], "{store}");
        assert_eq!(tried(&scrape, "user_a"), [1.0, 1.0], "{store}");
        assert_eq!(tried(&scrape, "user_b"), [1.0, 0.0], "{store}");
        // Rules that try nothing have no such series.
        let series = scrape.series("ratekeeper_candidate_hits_total");
        assert_eq!(series, 12, "{store}");
        let decided = "ratekeeper_decisions_total{cause=\"no_limit\",verdict=\"ok\"}";
        assert_eq!(scrape.value(decided), 5.0, "{store}");
    });
}

#[test]
fn what_another_limit_denies_is_not_taken_from_a_candidate() {
    on_every_store(RULES, &Scrape::environment(), |server, store| {
        assert_eq!(passing(server, 4, &["narrow=x", "blocked=x"]), 0);
        assert_eq!(passing(server, 4, &["free=x", "blocked=x"]), 0);
        let scrape = Scrape::of(server);
        assert_eq!(tried(&scrape, "narrow"), [4.0, 0.0], "{store}");
        // In a cluster, nothing goes to a node for the sake of a candidate alone.
        let free = tried(&scrape, "free");
        assert!(
            free == [4.0, 0.0] || (store == "cluster" && free == [0.0; 2]),
            "{store}: {free:?}"
        );
        // Hits count as hits, and what is given back counts as nothing.
        server.ask(times(3, ask("m", &["narrow=x"]))).unwrap();
        server.ask(ask("m", &["narrow=x x-2"])).unwrap();
        server.ask(ask("m", &["narrow=x x0"])).unwrap();
        server.ask(times(2, ask("m", &["narrow=x"]))).unwrap();
        server.ask(times(4, ask("m", &["narrow=y"]))).unwrap();
        assert_eq!(tried(&Scrape::of(server), "narrow"), [9.0, 4.0], "{store}");
    });
}

/// The same requests, to servers with and without candidates, in an order that covers much.
#[test]
fn no_answer_changes() {
    let without: String = {
        let lines = RULES.lines();
        let is_tried = |line: &&str| line.contains("candidate") || line.starts_with("      -");
        lines
            .filter(|line| !is_tried(line))
            .map(|line| format!("{line}\n"))
            .collect()
    };
    assert!(!without.contains("candidate") && without.contains("blocked"));
    for backend in Backend::all() {
        let start = |rules: &str, prefix: &str| {
            let environment = backend.environment().into_iter();
            let own = matches!(backend, Backend::Redis(_))
                .then(|| ("CACHE_KEY_PREFIX", prefix.to_owned()));
            Ratekeeper::start(rules, environment.chain(own))
        };
        let servers = [start(RULES, "with:"), start(&without, "without:")];
        let keys = ["narrow", "wide", "free", "list", "user", "plain"];
        let mut dice = 7_usize;
        let mut roll = |sides: usize| {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % sides
        };
        for _ in 0..150 {
            let descriptors: Vec<String> = (0..=roll(2))
                .map(|_| {
                    let (key, value) = (keys[roll(keys.len())], roll(2));
                    format!("{key}={value} x{}", [1, 1, 2, 0, -1_i32][roll(5)])
                })
                .collect();
            let descriptors: Vec<&str> = descriptors.iter().map(String::as_str).collect();
            let [tried, plain] = servers.each_ref().map(|server| {
                let answer = server.ask(ask("m", &descriptors)).unwrap();
                let statuses = answer.statuses.iter();
                let told = statuses.map(|s| (s.code, s.limit_remaining, s.current_limit.clone()));
                (answer.overall_code, told.collect::<Vec<_>>())
            });
            assert_eq!(tried, plain, "{descriptors:?} on {backend:?}");
        }
    }
}

#[test]
fn while_the_store_fails_nothing_is_tried() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let start = |mode: &str| {
        let environment = [
            ("REDIS_URL", nobody.as_str()),
            ("REDIS_TIMEOUT", "10s"),
            ("STORE_FAILURE_MODE", mode),
        ];
        let own = Scrape::environment().into_iter().chain(environment);
        Ratekeeper::start(RULES, own.map(|(name, value)| (name, value.to_owned())))
    };
    for mode in ["local", "allow", "deny"] {
        let server = start(mode);
        let passes = match mode {
            "local" => 5,
            "allow" => 6,
            _ => 0,
        };
        assert_eq!(passing(&server, 6, &["narrow=x"]), passes, "{mode}");
        assert_eq!(passing(&server, 3, &["free=x"]), 3, "{mode}");
        let scrape = Scrape::of(&server);
        assert_eq!(
            scrape.series("ratekeeper_candidate_hits_total"),
            0,
            "{mode}"
        );
    }
    // A rule without a limit never fails for what is tried beside it.
    let server = start("error");
    server.ask(ask("m", &["narrow=x"])).unwrap_err();
    check(&server, "free", ask("m", &["free=x"]), "OK: OK unlimited");
}

#[test]
fn a_candidate_lives_where_the_limit_does() {
    let rules = "
domain: m
descriptors:
  - key: k
    rate_limit: {unit: year, requests_per_unit: 3}
    candidate: {unit: second, unit_multiplier: 40000000, requests_per_unit: 1}
";
    let (seconds, others) = (Redis::start(), Redis::start());
    let environment = [
        ("REDIS_URL", others.url()),
        ("REDIS_TIMEOUT", "20s".to_owned()),
        ("REDIS_PERSECOND", "true".to_owned()),
        ("REDIS_PERSECOND_URL", seconds.url()),
    ];
    let server = Ratekeeper::start(rules, environment);
    passing(&server, 2, &["k=x"]);
    let keys = |redis: &Redis| -> Vec<String> {
        let mut keys: Vec<String> = Runtime::new()
            .unwrap()
            .block_on(redis.run(&["KEYS", "rk:m|*"]));
        keys.sort();
        keys
    };
    assert_eq!(keys(&others), ["rk:m|k=x", "rk:m|k=x#candidate"]);
    assert_eq!(keys(&seconds), Vec::<String>::new());
}

#[test]
fn commands_and_pages_show_candidates() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yaml");
    fs::write(&file, RULES).unwrap();
    let path = file.to_str().unwrap();
    let checked = typed(["check", path], []);
    assert_eq!(
        checked.stdout,
        "ok: 1 file, 1 domain, 7 rules, 5 of them with a candidate\n"
    );
    let explained = typed(["explain", "--config", path, "m", "list=x"], []).stdout;
    let end = "bucket rk:m|list=x
candidate 4 per year, token bucket of 4: only counted, denies nothing
  bucket rk:m|list=x#candidate
candidate 5 per month, fixed window: only counted, denies nothing
  bucket rk:m|list=x#candidate#window#1
";
    assert!(explained.ends_with(end), "{explained}");
    let explained = typed(["explain", "--config", path, "m", "free=x"], []).stdout;
    assert!(
        explained.contains("unlimited") && explained.contains("candidate 2 per year"),
        "{explained}"
    );
    let server = Ratekeeper::start(RULES, []);
    let page = server.debug().get("/rlconfig").body;
    let line = "m.narrow: unit=YEAR requests_per_unit=5, shadow_mode: false, quota_mode: false, candidate: \
                (unit=YEAR requests_per_unit=3)";
    assert!(page.lines().any(|shown| shown == line), "{page}");
}

#[test]
fn a_candidate_that_is_taken_over_is_another_bucket() {
    let rules = |body: &str| format!("domain: m\ndescriptors:\n  - {{key: k, {body}}}\n");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yaml");
    let limit = |n: u32| format!("{{unit: year, requests_per_unit: {n}}}");
    fs::write(
        &file,
        rules(&format!(
            "rate_limit: {}, candidate: {}",
            limit(9),
            limit(2)
        )),
    )
    .unwrap();
    let environment = Scrape::environment().map(|(name, value)| (name, value.to_owned()));
    let mut server = Ratekeeper::start_with(["--config".as_ref(), file.as_os_str()], environment);
    passing(&server, 4, &["k=x"]);
    fs::write(&file, rules(&format!("rate_limit: {}", limit(2)))).unwrap();
    server.wait_for_log("configuration loaded");
    // The limit keeps what was taken from it, as with every change.
    check(
        &server,
        "then",
        ask("m", &["k=x"]),
        "OVER: OVER 0 of 2/year",
    );
    assert_eq!(tried(&Scrape::of(&server), "k"), [2.0, 2.0]);
}

#[test]
fn questions_to_a_candidate_are_none_to_limits_that_requests_bring() {
    let rules = "
domain: m
descriptors:
  - {key: k, rate_limit: {unlimited: true}, candidate: {unit: hour, requests_per_unit: 3}}
";
    on_every_store(rules, &[], |server, store| {
        server.ask(ask("m", &["k=x x0"])).unwrap();
        let own = || ask("m", &["k=y x2 limit=3/hour"]);
        check(server, store, own(), "OK: OK 1 of 3/hour");
        // As a report, it would have been taken.
        check(server, store, own(), "OVER: OVER 0 of 3/hour");
    });
}
