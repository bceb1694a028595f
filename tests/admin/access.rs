//! Who may use the admin API, and requests that it rejects.

use std::fs;

use super::{RULES, peek, set, whose};
use crate::support::{Api, Ratekeeper, typed};

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
    server.wait_for_log("admin API rejected a change");
    server.wait_for_log("admin API reset a bucket");
    api.post("/buckets/set", &set("client=a", 4));
    server.wait_for_log("admin API set a bucket");
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
