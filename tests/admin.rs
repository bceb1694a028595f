//! The admin API, asked of the real server. Every answer is also held to the API's own description.

use std::fs;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ratekeeper::source::xds::pb::{
    RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
};
use serde_json::{Value, json};

use crate::support::{
    Api, Management, Ratekeeper, Redis, Scrape, ask, check, eventually, on_every_store, times,
    typed,
};

const RULES: &str = r#"
domain: shop
descriptors:
  - {key: client, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: window, rate_limit: {unit: year, requests_per_unit: 10, algorithm: fixed_window}}
  - key: both
    rate_limit:
      - {unit: day, requests_per_unit: 5, name: short}
      - {unit: year, requests_per_unit: 100, algorithm: fixed_window, name: long}
  - {key: tokens, rate_limit: {unit: year, requests_per_unit: 100, hits: postpaid, max_debt: 50}}
  - {key: files, value: "a/*/b*", share_threshold: true, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: "x*", share_threshold: true, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: free, rate_limit: {unlimited: true}}
  - {key: none, rate_limit: {unit: year, requests_per_unit: 0}}
  - key: path
    value: /cart
    descriptors:
      - {key: user, detailed_metric: true, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: tenant, value_to_metric: true, rate_limit: {unit: year, requests_per_unit: 3}}
"#;

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn of(descriptor: &str) -> String {
    format!("/buckets?domain=shop&descriptor={}", encoded(descriptor))
}

fn by_key(key: &str) -> String {
    format!("/buckets?key={}", encoded(key))
}

fn whose(descriptor: &str) -> Value {
    json!({"domain": "shop", "descriptor": descriptor})
}

fn set(descriptor: &str, tokens: i64) -> Value {
    json!({"domain": "shop", "descriptor": descriptor, "tokens": tokens})
}

/// What of a bucket is told that depends on no time.
fn shown(bucket: &Value) -> String {
    let [capacity, remaining, debt] =
        ["capacity", "remaining", "debt"].map(|name| bucket[name].as_u64().unwrap());
    let debt = if debt > 0 {
        format!(" debt {debt}")
    } else {
        String::new()
    };
    format!(
        "{} of {capacity}{debt} by {}",
        remaining,
        bucket["decided_by"].as_str().unwrap()
    )
}

fn peek(api: &Api, descriptor: &str) -> Vec<String> {
    let answer = api.get(&of(descriptor));
    answer["buckets"]
        .as_array()
        .unwrap()
        .iter()
        .map(shown)
        .collect()
}

// --- Buckets ---

#[test]
fn buckets_are_looked_at_filled_and_set_on_every_store() {
    on_every_store(RULES, &[Api::environment()], |server, store| {
        let api = Api::of(server);
        for descriptor in [
            "client=a",
            "window=a",
            "files=a/1/b2",
            "x1=a",
            "path=/cart,user=7",
        ] {
            let row = format!("{store} {descriptor}");
            assert_eq!(peek(&api, descriptor), ["10 of 10 by buckets"], "{row}");
            check(
                server,
                &row,
                times(4, ask("shop", &[descriptor])),
                "OK: OK 6 of 10/year",
            );
            // Looking takes nothing, however often.
            for _ in 0..3 {
                assert_eq!(peek(&api, descriptor), ["6 of 10 by buckets"], "{row}");
            }
            let changed = api.post("/buckets/set", &set(descriptor, 1));
            assert_eq!(shown(Api::bucket(&changed)), "1 of 10 by buckets", "{row}");
            check(
                server,
                &row,
                ask("shop", &[descriptor]),
                "OK: OK 0 of 10/year",
            );
            check(
                server,
                &row,
                ask("shop", &[descriptor]),
                "OVER: OVER 0 of 10/year",
            );
            // A denial is remembered where buckets are in Redis; a look sees through it, a reset ends it.
            assert_eq!(peek(&api, descriptor), ["0 of 10 by buckets"], "{row}");
            let changed = api.post("/buckets/reset", &whose(descriptor));
            assert_eq!(shown(Api::bucket(&changed)), "10 of 10 by buckets", "{row}");
            check(
                server,
                &row,
                ask("shop", &[descriptor]),
                "OK: OK 9 of 10/year",
            );
            let changed = api.post("/buckets/set", &set(descriptor, 10));
            assert_eq!(shown(Api::bucket(&changed)), "10 of 10 by buckets", "{row}");
            // By the key that it has, whatever that looks like.
            let key = Api::bucket(&changed)["key"].as_str().unwrap().to_owned();
            check(
                server,
                &row,
                ask("shop", &[descriptor]),
                "OK: OK 9 of 10/year",
            );
            let found = api.get(&by_key(&key));
            assert_eq!(
                shown(Api::bucket(&found)),
                "9 of 10 by buckets",
                "{row} {key}"
            );
            let changed = api.post("/buckets/set", &json!({"key": key, "tokens": 3}));
            assert_eq!(
                shown(Api::bucket(&changed)),
                "3 of 10 by buckets",
                "{row} {key}"
            );
            let changed = api.post("/buckets/reset", &json!({"key": key}));
            assert_eq!(
                shown(Api::bucket(&changed)),
                "10 of 10 by buckets",
                "{row} {key}"
            );
        }
    });
}

#[test]
fn a_rule_with_several_limits_has_several_buckets() {
    on_every_store(RULES, &[Api::environment()], |server, store| {
        let api = Api::of(server);
        check(
            server,
            store,
            times(5, ask("shop", &["both=a"])),
            "OK: OK 0 of 5/day (short)",
        );
        let all = ["0 of 5 by buckets", "95 of 100 by buckets"];
        assert_eq!(peek(&api, "both=a"), all, "{store}");
        let found = api.get(&of("both=a"));
        let keys: Vec<&str> = (0..2)
            .map(|i| found["buckets"][i]["key"].as_str().unwrap())
            .collect();
        let windows: Vec<bool> = (0..2)
            .map(|i| found["buckets"][i]["window"].as_bool().unwrap())
            .collect();
        assert_eq!(windows, [false, true]);
        // One number for both would mean nothing.
        let (status, why) = api.try_post("/buckets/set", &set("both=a", 5));
        assert_eq!(status, 400);
        assert!(
            keys.iter()
                .all(|key| why["error"].as_str().unwrap().contains(key)),
            "{why}"
        );
        let changed = api.post("/buckets/set", &json!({"key": keys[1], "tokens": 50}));
        assert_eq!(shown(Api::bucket(&changed)), "50 of 100 by buckets");
        assert_eq!(
            peek(&api, "both=a"),
            ["0 of 5 by buckets", "50 of 100 by buckets"]
        );
        api.post("/buckets/reset", &whose("both=a"));
        assert_eq!(
            peek(&api, "both=a"),
            ["5 of 5 by buckets", "100 of 100 by buckets"]
        );
    });
}

#[test]
fn debt_is_told_and_can_be_set() {
    on_every_store(RULES, &[Api::environment()], |server, store| {
        let api = Api::of(server);
        check(
            server,
            store,
            times(120, ask("shop", &["tokens=a"])),
            "OVER: OVER 0 of 100/year never",
        );
        assert_eq!(
            peek(&api, "tokens=a"),
            ["0 of 100 debt 20 by buckets"],
            "{store}"
        );
        for (tokens, expected) in [
            (-50, "0 of 100 debt 50 by buckets"),
            (-1, "0 of 100 debt 1 by buckets"),
            (0, "0 of 100 by buckets"),
            (100, "100 of 100 by buckets"),
            (-7, "0 of 100 debt 7 by buckets"),
        ] {
            let changed = api.post("/buckets/set", &set("tokens=a", tokens));
            assert_eq!(shown(Api::bucket(&changed)), expected, "{store}");
        }
        for tokens in [-51, 101, i64::MAX, i64::MIN] {
            let (status, why) = api.try_post("/buckets/set", &set("tokens=a", tokens));
            assert_eq!(status, 400);
            assert!(
                why["error"].as_str().unwrap().contains("set -50 to 100"),
                "{why}"
            );
        }
        api.post("/buckets/reset", &whose("tokens=a"));
        assert_eq!(peek(&api, "tokens=a"), ["100 of 100 by buckets"], "{store}");
    });
}

#[test]
fn times_are_told_from_the_bucket() {
    let rules = "{domain: d, descriptors: [{key: k, rate_limit: {unit: second, unit_multiplier: 1000, requests_per_unit: 10, burst: 20}}, \
        {key: never, rate_limit: {unit: day, requests_per_unit: 0}}]}";
    let server = Ratekeeper::start(rules, [("ADMIN_TOKEN", Api::environment().1.to_owned())]);
    let api = Api::of(&server);
    let body = json!({"domain": "d", "descriptor": "k=1", "tokens": 0});
    let changed = api.post("/buckets/set", &body);
    let bucket = Api::bucket(&changed);
    assert_eq!(bucket["refill_per_second"], 0.01);
    assert_eq!(bucket["full_in_us"], 2_000_000_000_u64);
    assert_eq!(bucket["retry_in_us"], 100_000_000);
    let found = api.get("/buckets?domain=d&descriptor=never%3D1");
    assert_eq!(Api::bucket(&found)["retry_in_us"], Value::Null);
}

#[test]
fn what_is_no_bucket_is_refused_with_a_sentence() {
    let server = Ratekeeper::start(RULES, [("ADMIN_TOKEN", Api::environment().1.to_owned())]);
    let api = Api::of(&server);
    let long = format!("client={}", "x".repeat(300));
    let hashed = api.get(&of(&long));
    let hashed = Api::bucket(&hashed)["key"].as_str().unwrap().to_owned();
    for (path, status, expected) in [
        (of("nothing=1"), 404, "no rule applies"),
        (of("free=1"), 404, "unlimited"),
        (of("client"), 400, "key=value"),
        (of(&"client=a,".repeat(500)), 400, "key=value"),
        (
            of(&vec!["client=a"; 500].join(",")),
            400,
            "MAX_DESCRIPTOR_ENTRIES",
        ),
        ("/buckets".to_owned(), 400, "by key"),
        ("/buckets?domain=shop".to_owned(), 400, "by key"),
        (
            "/buckets?key=rk%3Ashop&domain=shop".to_owned(),
            400,
            "by key",
        ),
        (
            "/buckets?kye=rk%3Ashop".to_owned(),
            400,
            "\"kye\" is no parameter",
        ),
        ("/buckets?key=a&key=b".to_owned(), 400, "twice"),
        (by_key("shop|client=a"), 400, "CACHE_KEY_PREFIX"),
        (by_key("rk:shop"), 400, "not a bucket key"),
        (by_key(&hashed), 400, "shortened to a hash"),
        (
            by_key("rk:shop|client=a#override-1-day"),
            400,
            "a request brought",
        ),
        (
            by_key("rk:shop|client=a#window"),
            404,
            "is now \"rk:shop|client=a\"",
        ),
        (by_key("rk:shop|client=a#1"), 404, "is now"),
        (by_key("rk:shop|both=a#7"), 404, "is now"),
        (
            by_key("rk:shop|nothing=a"),
            404,
            "no rule of the configuration",
        ),
        (
            by_key("rk:shop|free=a"),
            404,
            "no rule of the configuration",
        ),
        (
            by_key("rk:shop|files=a/1/b2"),
            404,
            "is now \"rk:shop|files=a/*/b*\"",
        ),
        (
            by_key("rk:elsewhere|client=a"),
            404,
            "no rule of the configuration",
        ),
    ] {
        let (found, why) = api.ask(&path);
        assert_eq!(found, status, "{path}: {why}");
        assert!(
            why["error"].as_str().unwrap().contains(expected),
            "{path}: {why}"
        );
    }
    for (body, status, expected) in [
        (
            json!({"domain": "shop", "descriptor": "client=a"}),
            400,
            "tokens is missing",
        ),
        (
            json!({"domain": "shop", "descriptor": "client=a", "tokens": "5"}),
            400,
            "whole number",
        ),
        (
            json!({"domain": "shop", "descriptor": "client=a", "tokens": 1.5}),
            400,
            "whole number",
        ),
        (
            json!({"domain": 1, "descriptor": "client=a", "tokens": 5}),
            400,
            "domain must be a text",
        ),
        (
            json!({"domain": "shop", "descriptor": "client=a", "token": 5}),
            400,
            "\"token\" is no field",
        ),
        (set("free=1", 5), 404, "unlimited"),
        (set("none=1", 1), 400, "set 0 to 0"),
        (json!([]), 400, "JSON object"),
    ] {
        let (found, why) = api.try_post("/buckets/set", &body);
        assert_eq!(found, status, "{body}: {why}");
        assert!(
            why["error"].as_str().unwrap().contains(expected),
            "{body}: {why}"
        );
    }
}

#[test]
fn another_server_sees_a_reset_although_it_remembers_the_denial() {
    let redis = Redis::start();
    let start = || {
        let environment = [
            ("REDIS_URL", redis.url()),
            ("REDIS_TIMEOUT", "20s".to_owned()),
            ("ADMIN_TOKEN", Api::environment().1.to_owned()),
        ];
        Ratekeeper::start(RULES, environment)
    };
    let (one, other) = (start(), start());
    let request = || ask("shop", &["client=a"]);
    check(&one, "all", times(10, request()), "OK: OK 0 of 10/year");
    for server in [&one, &other] {
        check(server, "denied", request(), "OVER: OVER 0 of 10/year");
        // From memory this time.
        check(server, "again", request(), "OVER: OVER 0 of 10/year");
    }
    Api::of(&one).post("/buckets/reset", &whose("client=a"));
    // Here at once; there when what is remembered is too old, which is a second at most.
    check(&one, "reset", request(), "OK: OK 9 of 10/year");
    eventually("the other server admits again", || {
        let answer = other.ask(request()).unwrap();
        answer.overall_code == 1
    });
}

#[test]
fn while_the_store_fails_it_is_said_who_decides() {
    let rules = "
domain: shop
descriptors:
  - {key: k, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: allow, on_store_failure: allow, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: deny, on_store_failure: deny, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: error, on_store_failure: error, rate_limit: {unit: year, requests_per_unit: 10}}
";
    let mut redis = Some(Redis::start());
    let environment = [
        ("REDIS_URL", redis.as_ref().unwrap().url()),
        ("LOCAL_FALLBACK_SHARE", "0.5".to_owned()),
        ("ADMIN_TOKEN", Api::environment().1.to_owned()),
    ];
    let mut server = Ratekeeper::start(rules, environment);
    let api = Api::of(&server);
    eventually("Redis decides", || {
        peek(&api, "k=a") == ["10 of 10 by buckets"]
    });
    assert_eq!(api.get("/status")["store"]["degraded"], false);
    redis.take();
    eventually("Redis is left alone", || {
        server.ask(ask("shop", &["allow=b"])).unwrap();
        api.get("/status")["store"]["degraded"] == true
    });
    server.wait_for_log("Redis does not decide");
    check(
        &server,
        "local",
        ask("shop", &["k=a"]),
        "OK: OK 4 of 10/year",
    );
    assert_eq!(peek(&api, "k=a"), ["4 of 5 by fallback_local"]);
    let changed = api.post("/buckets/set", &set("k=a", 2));
    assert_eq!(shown(Api::bucket(&changed)), "2 of 5 by fallback_local");
    let changed = api.post("/buckets/reset", &whose("k=a"));
    assert_eq!(shown(Api::bucket(&changed)), "5 of 5 by fallback_local");
    assert_eq!(peek(&api, "allow=a"), ["5 of 5 by fallback_allow"]);
    assert_eq!(peek(&api, "deny=a"), ["0 of 5 by fallback_deny"]);
    for (descriptor, expected) in [
        ("allow=a", "(allow)"),
        ("deny=a", "(deny)"),
        ("error=a", "cannot be reached"),
    ] {
        let (status, why) = api.try_post("/buckets/reset", &whose(descriptor));
        assert_eq!(status, 503, "{why}");
        assert!(why["error"].as_str().unwrap().contains(expected), "{why}");
        let (status, _) = api.try_post("/buckets/set", &set(descriptor, 1));
        assert_eq!(status, 503);
    }
    assert_eq!(api.ask(&of("error=a")).0, 503);
    let status = api.get("/status");
    let store = &status["store"];
    assert_eq!(store["breakers"][0]["name"], "redis");
    assert_ne!(store["breakers"][0]["state"], "closed");
    assert_eq!(status["decisions"]["ok"]["fallback_local"], 1);
}

#[test]
fn limits_of_a_second_are_where_they_are() {
    let rules = "
domain: shop
descriptors:
  - key: both
    rate_limit:
      - {unit: second, requests_per_unit: 4, unit_multiplier: 400000}
      - {unit: year, requests_per_unit: 10}
";
    let (mut seconds, others) = (Some(Redis::start()), Redis::start());
    let environment = [
        ("REDIS_URL", others.url()),
        ("REDIS_PERSECOND", "true".to_owned()),
        ("REDIS_PERSECOND_URL", seconds.as_ref().unwrap().url()),
        ("ADMIN_TOKEN", Api::environment().1.to_owned()),
    ];
    let server = Ratekeeper::start(rules, environment);
    let api = Api::of(&server);
    let full = ["4 of 4 by buckets", "10 of 10 by buckets"];
    eventually("both decide", || peek(&api, "both=a") == full);
    eventually("a request is decided", || {
        server.ask(ask("shop", &["both=a"])).unwrap();
        peek(&api, "both=a") != full
    });
    api.post("/buckets/reset", &whose("both=a"));
    assert_eq!(peek(&api, "both=a"), full);
    let names = |status: &Value| -> Vec<String> {
        let breakers = status["store"]["breakers"].as_array().unwrap();
        breakers
            .iter()
            .map(|breaker| breaker["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&api.get("/status")), ["redis", "redis per second"]);
    seconds.take();
    // Each bucket for itself: that of the year is none the worse.
    eventually("the one for seconds is away", || {
        peek(&api, "both=a") == ["4 of 4 by fallback_local", "10 of 10 by buckets"]
    });
}

// --- Who may ---

#[test]
fn changes_need_the_token_and_come_from_no_page() {
    let (_, token) = Api::environment();
    let mut server = Ratekeeper::start(RULES, [("ADMIN_TOKEN", token.to_owned())]);
    let api = Api::of(&server);
    let host = server.debug().address().to_string();
    let (good, wrong) = (format!("Bearer {token}"), format!("Bearer {token}x"));
    let (here, secure) = (format!("http://{host}"), format!("https://{host}"));
    let json = ("content-type", "application/json");
    let body = whose("client=a").to_string();
    let cases: &[(&[(&str, &str)], u16)] = &[
        (&[json], 401),
        (&[json, ("authorization", &wrong)], 401),
        (&[json, ("authorization", token)], 401),
        (&[json, ("authorization", "Bearer ")], 401),
        (&[json, ("authorization", "Basic eDp5")], 401),
        (&[("authorization", &good)], 400),
        (
            &[("authorization", &good), ("content-type", "text/plain")],
            400,
        ),
        (
            &[
                ("authorization", &good),
                ("content-type", "application/x-www-form-urlencoded"),
            ],
            400,
        ),
        (
            &[
                json,
                ("authorization", &good),
                ("origin", "http://evil.example"),
            ],
            403,
        ),
        (&[json, ("authorization", &good), ("origin", "null")], 403),
        (&[json, ("authorization", &good), ("origin", &here)], 200),
        (&[json, ("authorization", &good), ("origin", &secure)], 200),
        (
            &[
                ("content-type", "application/json; charset=utf-8"),
                ("authorization", &good),
            ],
            200,
        ),
    ];
    for (headers, expected) in cases {
        let (status, answer) = api.send("POST", "/buckets/reset", headers, &body);
        assert_eq!(status, *expected, "{headers:?}: {answer}");
    }
    server.wait_for_log("the admin API refused to change something");
    server.wait_for_log("the admin API reset a bucket");
    api.post("/buckets/set", &set("client=a", 4));
    server.wait_for_log("the admin API set a bucket");
    let log = server.log();
    let line = log.lines().last().unwrap();
    for part in ["peer=127.0.0.1:", "key=\"rk:shop|client=a\"", "tokens=4"] {
        assert!(line.contains(part), "{line}");
    }
    for page in ["/stats", "/rlconfig", "/metrics", "/"] {
        assert!(!server.debug().get(page).body.contains(token), "{page}");
    }
    assert!(!server.log().contains(token));
    assert_eq!(api.get("/status")["can_change"], true);
}

#[test]
fn nothing_is_changed_without_a_token() {
    let server = Ratekeeper::start(RULES, []);
    let api = Api::of(&server);
    for path in ["/buckets/reset", "/buckets/set"] {
        let (status, why) = api.try_post(path, &set("client=a", 1));
        assert_eq!(status, 403, "{why}");
        assert!(
            why["error"].as_str().unwrap().contains("ADMIN_TOKEN"),
            "{why}"
        );
    }
    assert_eq!(peek(&api, "client=a"), ["10 of 10 by buckets"]);
    assert_eq!(api.get("/status")["can_change"], false);
}

#[test]
fn a_token_may_be_in_a_file_that_changes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let (_, token) = Api::environment();
    fs::write(&file, format!("{token}\n")).unwrap();
    let path = file.to_str().unwrap().to_owned();
    let server = Ratekeeper::start(RULES, [("ADMIN_TOKEN_FILE", path)]);
    let api = Api::of(&server);
    api.post("/buckets/reset", &whose("client=a"));
    fs::write(&file, "another\n").unwrap();
    assert_eq!(api.try_post("/buckets/reset", &whose("client=a")).0, 401);
    fs::write(&file, "\n").unwrap();
    let (status, why) = api.try_post("/buckets/reset", &whose("client=a"));
    assert_eq!(status, 500);
    assert!(why["error"].as_str().unwrap().contains("is empty"), "{why}");
}

#[test]
fn tokens_that_make_no_sense_are_refused_and_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty");
    fs::write(&empty, "\n").unwrap();
    let (empty, missing) = (empty.to_str().unwrap(), "/nonexistent/token");
    for (environment, expected) in [
        (
            &[("ADMIN_TOKEN", "two hush words")][..],
            "ADMIN_TOKEN: the token cannot be sent",
        ),
        (
            &[("ADMIN_TOKEN_FILE", empty)],
            "ADMIN_TOKEN_FILE: the token file",
        ),
        (&[("ADMIN_TOKEN_FILE", missing)], "cannot be read"),
        (
            &[("ADMIN_TOKEN", "hush"), ("ADMIN_TOKEN_FILE", empty)],
            "leave one of them out",
        ),
    ] {
        let printed = typed(["serve"], environment.iter().copied());
        assert_eq!(printed.code, 2, "{environment:?}: {}", printed.stderr);
        assert!(
            printed.stderr.contains(expected),
            "{environment:?}: {}",
            printed.stderr
        );
        assert!(!printed.stderr.contains("hush"), "{}", printed.stderr);
    }
    for command in [&["--help"][..], &["serve", "--help"], &["options"]] {
        let printed = typed(command, [("ADMIN_TOKEN", "hush-hush")]);
        assert!(!printed.stdout.contains("hush"), "{}", printed.stdout);
    }
}

#[test]
fn what_is_not_there_and_what_is_too_large_is_refused_in_json() {
    let server = Ratekeeper::start(RULES, [("ADMIN_TOKEN", Api::environment().1.to_owned())]);
    let api = Api::of(&server);
    for path in ["", "/", "/nothing", "/buckets/", "/buckets/nothing"] {
        assert_eq!(api.ask(path).0, 404, "{path}");
    }
    for (method, path) in [
        ("POST", "/status"),
        ("PUT", "/rules"),
        ("DELETE", "/buckets"),
        ("GET", "/buckets/reset"),
        ("GET", "/buckets/set"),
        ("OPTIONS", "/buckets/set"),
    ] {
        assert_eq!(api.send(method, path, &[], "").0, 405, "{method} {path}");
    }
    let (status, _) = api.try_post("/buckets/reset", &whose(&"x".repeat(1 << 20)));
    assert_eq!(status, 413);
    for path in [
        "/rules?limit=1001",
        "/rules?limit=-1",
        "/rules?offset=x",
        "/status?x=1",
        "/explain?domain=shop",
    ] {
        assert_eq!(api.ask(path).0, 400, "{path}");
    }
}

// --- Rules, explanations ---

#[test]
fn rules_are_listed_with_counts_that_agree_with_the_metrics() {
    let own = Scrape::environment()
        .into_iter()
        .map(|(name, value)| (name, value.to_owned()));
    let server = Ratekeeper::start(RULES, own);
    let api = Api::of(&server);
    for (hits, descriptor) in [
        (4, "client=a"),
        (9, "client=b"),
        (20, "client=c"),
        (3, "path=/cart,user=1"),
        (2, "path=/cart,user=2"),
        (2, "tenant=x"),
        (2, "tenant=x"),
        (2, "tenant=y"),
        (1, "files=a/1/b"),
        (1, "files=a/2/b"),
    ] {
        server.ask(times(hits, ask("shop", &[descriptor]))).unwrap();
    }
    server.ask(ask("shop", &["client=a x-3"])).unwrap();
    let scrape = Scrape::of(&server);
    for (search, path, labels) in [
        ("client", "shop.client", &["key1=\"client\""][..]),
        (
            "cart",
            "shop.path_/cart.user",
            &[
                "key1=\"path_/cart\",key2=\"user_1\"",
                "key1=\"path_/cart\",key2=\"user_2\"",
            ],
        ),
        (
            "tenant",
            "shop.tenant",
            &["key1=\"tenant_x\"", "key1=\"tenant_y\""],
        ),
        ("FILES", "shop.files_a/*/b*", &["key1=\"files_a/*/b*\""]),
    ] {
        let answer = api.get(&format!("/rules?search={search}"));
        assert_eq!(answer["total"], 1, "{answer:#}");
        let rule = &answer["rules"][0];
        assert_eq!(rule["path"], path);
        let told = |end: &str| -> f64 {
            let series = labels.iter().map(|labels| {
                format!("ratelimit_service_rate_limit_{end}{{domain=\"shop\",{labels}}}")
            });
            series.map(|series| scrape.value(&series)).sum()
        };
        let hits = |name: &str| rule["hits"][name].as_f64().unwrap();
        let total = hits("within") + hits("denied");
        assert!(total > 0.0);
        assert_eq!(total, told("total_hits"), "{path}");
        for (name, end) in [
            ("within", "within_limit"),
            ("near", "near_limit"),
            ("over", "over_limit"),
            ("shadow", "shadow_mode"),
            ("remembered", "over_limit_with_local_cache"),
            ("given_back", "total_negative_hits"),
        ] {
            assert_eq!(hits(name), told(end), "{path} {name}");
        }
    }
}

#[test]
fn counts_outlive_a_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.yaml");
    fs::write(&file, RULES).unwrap();
    let mut server = Ratekeeper::start_with(["--config".as_ref(), file.as_os_str()], []);
    let api = Api::of(&server);
    let within = |api: &Api, search: &str| {
        api.get(&format!("/rules?search={search}"))["rules"][0]["hits"]["within"].clone()
    };
    for descriptor in ["client=a", "tenant=x", "path=/cart,user=1"] {
        server.ask(ask("shop", &[descriptor])).unwrap();
    }
    for round in 1..=2 {
        fs::write(
            &file,
            format!("{RULES}  - {{key: more{round}, rate_limit: {{unlimited: true}}}}\n"),
        )
        .unwrap();
        server.wait_for_log("rules in force");
        for search in ["shop.client", "tenant", "cart"] {
            assert_eq!(within(&api, search), 1, "{search}");
        }
    }
    server.ask(ask("shop", &["tenant=y"])).unwrap();
    server.ask(ask("shop", &["client=a"])).unwrap();
    assert_eq!(within(&api, "tenant"), 2);
    assert_eq!(within(&api, "shop.client"), 2);
}

#[test]
fn rules_come_in_pages() {
    let rules: String = (0..1_200)
        .map(|i| {
            format!(
                "  - {{key: k, value: v{i:04}, rate_limit: {{unit: day, requests_per_unit: 1}}}}\n"
            )
        })
        .collect();
    let server = Ratekeeper::start(&format!("domain: d\ndescriptors:\n{rules}"), []);
    let api = Api::of(&server);
    let paths = |query: &str| -> (u64, Vec<String>) {
        let answer = api.get(&format!("/rules{query}"));
        let rules = answer["rules"].as_array().unwrap();
        let paths = rules
            .iter()
            .map(|rule| rule["path"].as_str().unwrap().to_owned());
        (answer["total"].as_u64().unwrap(), paths.collect())
    };
    let (total, first) = paths("");
    assert_eq!((total, first.len()), (1_200, 500));
    let (_, last) = paths("?offset=1199&limit=1000");
    assert_eq!(last, ["d.k_v1199"]);
    assert_eq!(paths("?limit=0"), (1_200, Vec::new()));
    assert_eq!(paths("?offset=5000").1, Vec::<String>::new());
    assert_eq!(
        paths("?search=V11&limit=2"),
        (100, vec!["d.k_v1100".to_owned(), "d.k_v1101".to_owned()])
    );
}

#[test]
fn explanations_are_those_of_the_command() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.yaml");
    fs::write(&file, RULES).unwrap();
    let server = Ratekeeper::start_with(["--config".as_ref(), file.as_os_str()], []);
    let api = Api::of(&server);
    for (domain, descriptor, rule, buckets) in [
        ("shop", "both=a", json!("shop.both"), 2),
        ("shop", "files=a/x/b", json!("shop.files_a/*/b*"), 1),
        (
            "shop",
            "path=/cart,user=1",
            json!("shop.path_/cart.user"),
            1,
        ),
        ("shop", "free=1", json!("shop.free"), 0),
        ("shop", "path=/cart", Value::Null, 0),
        ("shop", "nothing=1", Value::Null, 0),
        ("elsewhere", "client=1", Value::Null, 0),
    ] {
        let answer = api.get(&format!(
            "/explain?domain={domain}&descriptor={}",
            encoded(descriptor)
        ));
        let printed = typed(
            [
                "explain",
                "--config",
                file.to_str().unwrap(),
                domain,
                descriptor,
            ],
            [],
        );
        // Only a running server knows how its rules are used.
        let text = answer["text"].as_str().unwrap();
        assert_eq!(
            text.replace("hits: auto (prepaid: no calls yet)\n", ""),
            printed.stdout
        );
        assert_eq!(text.contains("hits: auto"), buckets > 0, "{text}");
        assert_eq!(answer["rule"], rule);
        assert_eq!(answer["limits"].as_array().unwrap().len(), buckets);
    }
    let answer = api.get(&format!(
        "/explain?domain=shop&descriptor={}",
        encoded("path=/cart,uesr=1")
    ));
    assert_eq!(
        answer["descriptor"],
        json!([["path", "/cart"], ["uesr", "1"]])
    );
    let matched: Vec<_> = answer["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["matched"].clone())
        .collect();
    assert_eq!(matched, [true, false]);
}

// --- The server ---

#[test]
fn the_status_tells_of_every_store() {
    on_every_store(RULES, &[], |server, store| {
        let api = Api::of(server);
        server.ask(times(10, ask("shop", &["client=a"]))).unwrap();
        server.ask(ask("shop", &["client=a"])).unwrap();
        server.ask(ask("shop", &["nothing=a"])).unwrap();
        server.ask(ask("", &["client=a"])).unwrap_err();
        let status = api.get("/status");
        let in_memory = store == "memory";
        assert_eq!(status["healthy"], true);
        assert_eq!(
            status["store"]["kind"],
            if in_memory { "memory" } else { "redis" }
        );
        assert_eq!(
            status["store"]["buckets"],
            if in_memory { json!(1) } else { Value::Null }
        );
        assert_eq!(status["store"]["latency"].is_null(), in_memory);
        assert_eq!(status["decisions"]["ok"]["buckets"], 1, "{store}");
        assert_eq!(status["decisions"]["over_limit"]["buckets"], 1, "{store}");
        assert_eq!(status["decisions"]["ok"]["no_limit"], 1, "{store}");
        assert_eq!(status["errors"]["service"], 1, "{store}");
        assert_eq!(status["answers"]["count"], 4, "{store}");
        assert_eq!(status["source"]["kind"], "files");
        assert_eq!(status["configuration"]["rules"], 10);
    });
}

#[test]
fn mistakes_are_kept_until_a_good_configuration_comes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.yaml");
    fs::write(&file, RULES).unwrap();
    let mut server =
        Ratekeeper::start_with(["--config".as_ref(), directory.path().as_os_str()], []);
    let api = Api::of(&server);
    let first = api.get("/status")["configuration"].clone();
    let version = first["version"].as_str().unwrap();
    assert!(
        version.len() == 12 && version.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{version}"
    );
    assert_eq!(first["rejected"], Value::Null);
    fs::write(&file, RULES.replace("year", "eon")).unwrap();
    server.wait_for_log("the rules in force stay");
    let now = api.get("/status")["configuration"].clone();
    assert_eq!(
        (&now["version"], &now["loaded_us"]),
        (&first["version"], &first["loaded_us"])
    );
    let mistakes = now["rejected"]["mistakes"].as_array().unwrap();
    assert!(
        mistakes[0].as_str().unwrap().contains("shop.yaml:4:"),
        "{mistakes:?}"
    );
    let configuration = api.get("/configuration");
    assert_eq!(configuration["rejected"], now["rejected"]);
    assert_eq!(configuration["text"], server.debug().get("/rlconfig").body);
    assert_eq!(configuration["files"][0]["rules"], 10);
    fs::write(&file, RULES.replace("year", "day")).unwrap();
    server.wait_for_log("rules in force");
    let now = api.get("/status")["configuration"].clone();
    assert_eq!(now["rejected"], Value::Null);
    assert_ne!(now["version"], first["version"]);
}

#[test]
fn before_there_are_rules_there_is_a_status() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("bad.yaml"), "domain: [").unwrap();
    let server = Ratekeeper::start_with(["--config".as_ref(), directory.path().as_os_str()], []);
    let api = Api::of(&server);
    let status = api.get("/status");
    assert_eq!(status["healthy"], false);
    assert_eq!(status["configuration"]["version"], Value::Null);
    assert!(status["configuration"]["rejected"]["mistakes"][0].is_string());
    assert_eq!(api.get("/rules")["total"], 0);
    api.get("/configuration");
    for path in [&of("client=a"), "/explain?domain=d&descriptor=a%3Db"] {
        let (status, why) = api.ask(path);
        assert_eq!(status, 503, "{why}");
    }
}

// --- Hot buckets ---

#[test]
fn the_hottest_and_the_most_denied_are_told() {
    on_every_store(RULES, &[Api::environment()], |server, store| {
        let api = Api::of(server);
        let empty = api.get("/top");
        assert_eq!(
            (&empty["total_hits"], &empty["hottest"]),
            (&json!(0), &json!([]))
        );
        for (requests, descriptors) in [
            (3, &["client=a"][..]),
            (12, &["client=b"]),
            (1, &["client=c", "path=/cart,user=7"]),
            (2, &["none=1"]),
        ] {
            for _ in 0..requests {
                server.ask(ask("shop", descriptors)).unwrap();
            }
        }
        server
            .ask(times(20, ask("shop", &["client=d", "both=\u{202e}<b>"])))
            .unwrap();
        let found = |descriptor: &str| {
            let buckets = api.get(&of(descriptor));
            buckets["buckets"][0]["key"].as_str().unwrap().to_owned()
        };
        for window in ["minute", "hour"] {
            let top = api.get(&format!("/top?window={window}"));
            assert_eq!(top["window"], window);
            assert_eq!(top["error"], 0, "{store}: few buckets are counted exactly");
            assert_eq!(top["total_hits"], 3 + 12 + 2 + 2 + 3 * 20, "{store}");
            assert_eq!(top["total_denied"], 2 + 2 + 2 * 20, "{store}");
            let hottest = top["hottest"].as_array().unwrap();
            let of_key =
                |list: &[Value], key: &str| list.iter().find(|entry| entry["key"] == key).cloned();
            let b = of_key(hottest, &found("client=b")).unwrap();
            assert_eq!(
                (&b["hits"], &b["denied"], &b["rule"]),
                (&json!(12), &json!(2), &json!("shop.client"))
            );
            assert_eq!(hottest[0]["hits"], 20);
            let denied = top["denied"].as_array().unwrap();
            let d = of_key(denied, &found("client=d")).unwrap();
            assert_eq!((&d["hits"], &d["denied"]), (&json!(20), &json!(20)));
            assert_eq!(d["request"], "shop client=d; both=\u{202e}<b>");
            assert!(of_key(denied, &found("client=a")).is_none());
        }
        let limited = api.get("/top?limit=1");
        assert_eq!(limited["hottest"].as_array().unwrap().len(), 1);
        let bucket = api.get(&of("client=d"));
        let last = &Api::bucket(&bucket)["last_denied"];
        assert_eq!(
            (&last["hits"], &last["rule"]),
            (&json!(20), &json!("shop.client"))
        );
        assert_eq!(last["request"], "shop client=d; both=\u{202e}<b>");
        assert_eq!(
            Api::bucket(&api.get(&of("client=a")))["last_denied"],
            Value::Null
        );
        for path in [
            "/top?window=day",
            "/top?limit=101",
            "/top?limit=x",
            "/top?x=1",
        ] {
            assert_eq!(api.ask(path).0, 400, "{path}");
        }
    });
}

#[test]
fn no_client_makes_the_counters_grow() {
    let server = Ratekeeper::start(
        RULES,
        [
            ("TOP_SIZE", "8".to_owned()),
            ("WORKER_THREADS", "1".to_owned()),
        ],
    );
    let api = Api::of(&server);
    for i in 0..200 {
        server.ask(ask("shop", &[&format!("client={i}")])).unwrap();
        if i % 4 == 0 {
            server.ask(ask("shop", &["client=hot"])).unwrap();
        }
    }
    let top = api.get("/top?limit=100");
    let hottest = top["hottest"].as_array().unwrap();
    assert!(hottest.len() <= 8 * 7, "{top:#}");
    assert_eq!(hottest[0]["key"], "rk:shop|client=hot");
    let (hits, error) = (
        hottest[0]["hits"].as_u64().unwrap(),
        top["error"].as_u64().unwrap(),
    );
    assert_eq!(top["total_hits"], 250);
    assert!(error > 0 && error <= 250 / 8, "{error}");
    assert!((50..=50 + error).contains(&hits), "{hits} {error}");
}

#[test]
fn counting_by_bucket_can_be_off() {
    let server = Ratekeeper::start(RULES, [("TOP_SIZE", "0".to_owned())]);
    let api = Api::of(&server);
    server.ask(times(20, ask("shop", &["client=a"]))).unwrap();
    let (status, why) = api.ask("/top");
    assert_eq!(status, 404);
    assert!(why["error"].as_str().unwrap().contains("TOP_SIZE"), "{why}");
    assert_eq!(
        Api::bucket(&api.get(&of("client=a")))["last_denied"],
        Value::Null
    );
}

#[test]
fn a_management_server_is_told_of() {
    let management = Management::start();
    let environment = [
        (
            "CONFIG_GRPC_XDS_SERVER_URL",
            management.address().to_string(),
        ),
        ("CONFIG_TYPE", "GRPC_XDS_SOTW".to_owned()),
    ];
    let server = Ratekeeper::start_with(Vec::<&str>::new(), environment);
    let api = Api::of(&server);
    let session = management.session();
    session.request();
    let source = api.get("/status")["source"].clone();
    assert_eq!(source["kind"], "xds");
    assert_eq!(source["origin"], management.address().to_string());
    assert_eq!(source["connected"], true);
    let config = |unit: RateLimitUnit| RateLimitConfig {
        name: "shop".to_owned(),
        domain: "shop".to_owned(),
        descriptors: vec![RateLimitDescriptor {
            key: "client".to_owned(),
            rate_limit: Some(RateLimitPolicy {
                unit: unit.into(),
                requests_per_unit: 10,
                ..RateLimitPolicy::default()
            }),
            ..RateLimitDescriptor::default()
        }],
    };
    session.accepted("v\n1", &[config(RateLimitUnit::Year)]);
    session.send("v2", &[config(RateLimitUnit::Unknown)]);
    session.refused("v2", "v\n1");
    let configuration = api.get("/status")["configuration"].clone();
    assert_eq!(configuration["version"], "v\\n1");
    let mistake = configuration["rejected"]["mistakes"][0].as_str().unwrap();
    assert!(mistake.contains("resource shop"), "{mistake}");
    assert_eq!(
        api.get("/configuration")["files"][0]["name"],
        "resource shop"
    );
    drop((session, management));
    eventually("it is told that the management server is gone", || {
        api.get("/status")["source"]["connected"] == false
    });
    assert_eq!(peek(&api, "client=a"), ["10 of 10 by buckets"]);
}
