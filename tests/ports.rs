//! The ports that speak HTTP: requests as JSON, health, and pages for people.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpStream};

use serde_json::{Value, json};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::{Backend, Http, Page, Ratekeeper, Redis, Scrape, TIMEOUT, ask, eventually};

const RULES: &str = "
domain: d
descriptors:
  - {key: k, rate_limit: {name: limit, unit: year, requests_per_unit: 3}}
  - {key: banned, shadow_mode: true, rate_limit: {unit: day, requests_per_unit: 0}}
  - {key: free, rate_limit: {unlimited: true}}
";

fn none() -> [(&'static str, String); 0] {
    []
}

fn true_of(name: &'static str) -> [(&'static str, String); 1] {
    [(name, "true".to_owned())]
}

fn page(status: u16, kind: &str, body: &str) -> Page {
    Page {
        status,
        kind: kind.to_owned(),
        body: body.to_owned(),
    }
}

/// Asks with JSON, and reads the answer as JSON.
fn asked(http: &Http, request: &Value) -> (u16, Value) {
    let page = http.send("POST", "/json", &request.to_string());
    assert_eq!(page.kind, "application/json", "{page:?}");
    (page.status, serde_json::from_str(&page.body).unwrap())
}

fn request(key: &str) -> Value {
    json!({"domain": "d", "descriptors": [{"entries": [{"key": key, "value": "1"}]}]})
}

#[test]
fn json_is_decided_as_grpc_is_on_the_same_buckets() {
    for backend in Backend::all() {
        let environment = backend.environment().into_iter();
        let patience = [("REDIS_TIMEOUT", "10s".to_owned())];
        let server = Ratekeeper::start(RULES, environment.chain(patience));
        let http = server.http();
        server.ask(ask("d", &["k=1"])).unwrap();
        let (status, mut answer) = asked(&http, &request("k"));
        let reset = answer["statuses"][0]["durationUntilReset"].take();
        assert!(reset.as_str().unwrap().ends_with('s'), "{reset}");
        let limit = json!({"name": "limit", "requestsPerUnit": 3, "unit": "YEAR"});
        assert_eq!(status, 200);
        assert_eq!(
            answer,
            json!({"overallCode": "OK", "statuses": [{
                "code": "OK", "currentLimit": limit, "limitRemaining": 1, "durationUntilReset": null,
            }]})
        );
        assert_eq!(asked(&http, &request("k")).0, 200);
        let (status, answer) = asked(&http, &request("k"));
        assert_eq!(
            (status, &answer["overallCode"]),
            (429, &json!("OVER_LIMIT"))
        );
        let over = server.ask(ask("d", &["k=1"])).unwrap();
        assert_eq!(over.statuses[0].limit_remaining, 0);
    }
}

#[test]
fn json_takes_every_field_in_both_spellings_and_any_method() {
    let server = Ratekeeper::start(RULES, none());
    let http = server.http();
    for (hits, expected) in [("hitsAddend", 1), ("hits_addend", 0)] {
        let mut request = request("k");
        request["descriptors"][0][hits] = json!(if expected == 1 { json!("2") } else { json!(1) });
        let (status, answer) = asked(&http, &request);
        assert_eq!(status, 200, "{answer}");
        let left = answer["statuses"][0].get("limitRemaining").cloned();
        assert_eq!(left.unwrap_or(json!(0)), json!(expected), "{answer}");
    }
    let mut own = request("other");
    own["descriptors"][0]["limit"] = json!({"requests_per_unit": 7, "unit": "DAY"});
    let (_, answer) = asked(&http, &own);
    assert_eq!(
        answer["statuses"][0]["currentLimit"],
        json!({"requestsPerUnit": 7, "unit": "DAY"})
    );
    assert_eq!(answer["statuses"][0]["limitRemaining"], 6);
    let (_, answer) = asked(&http, &request("free"));
    assert_eq!(answer["statuses"][0]["limitRemaining"], u32::MAX);
    let page = http.send("PUT", "/json", &request("nothing").to_string());
    assert_eq!(
        page.body,
        r#"{"overallCode":"OK","statuses":[{"code":"OK"}]}"#
    );
}

#[test]
fn what_is_no_request_is_refused_with_a_sentence() {
    let server = Ratekeeper::start(RULES, none());
    let http = server.http();
    for (body, why) in [
        ("", "EOF"),
        ("}", "expected"),
        ("[]", "expected"),
        (r#"{"domain":"d"}"#, "descriptor list must not be empty"),
        (r#"{"descriptors":[{}]}"#, "domain must not be empty"),
        (r#"{"domain":"d","descriptors":[{}]} x"#, "trailing"),
        (r#"{"domain":"d","descriptor":[]}"#, "descriptor"),
        (r#"{"domain":7}"#, "string"),
    ] {
        let page = http.send("POST", "/json", body);
        assert_eq!(page.status, 400, "{body}: {page:?}");
        assert_eq!(page.kind, "text/plain; charset=utf-8");
        assert!(page.body.starts_with("Bad Request"), "{body}: {page:?}");
        assert!(page.body.contains(why), "{body}: {page:?}");
    }
    assert_eq!(http.get("/json").status, 400);
    assert_eq!(http.get("/nothing").status, 404);
    let vast = json!({"domain": "x".repeat(5_000_000)}).to_string();
    let page = http.send("POST", "/json", &vast);
    assert_eq!(page.status, 413);
    assert!(page.body.contains("more than"), "{page:?}");
    let deep = "[".repeat(100_000);
    assert_eq!(http.send("POST", "/json", &deep).status, 400);
    let many = format!(
        r#"{{"domain":"d","descriptors":[{}{{}}]}}"#,
        "{},".repeat(2_000)
    );
    let page = http.send("POST", "/json", &many);
    assert_eq!(page.status, 429, "{page:?}");
    assert_eq!(asked(&http, &request("k")).0, 200);
}

#[test]
fn no_verdict_is_a_bad_request_as_in_the_reference() {
    let server = Ratekeeper::start("domain: [", none());
    let page = server
        .http()
        .send("POST", "/json", &request("k").to_string());
    let why = "Bad Request: no rate limit configuration loaded\n";
    assert_eq!(page, self::page(400, "text/plain; charset=utf-8", why));
}

#[test]
fn pages_tell_what_is_in_force() {
    let server = Ratekeeper::start(RULES, none());
    let debug = server.debug();
    let plain = "text/plain; charset=utf-8";
    let lines = "\
d.k: unit=YEAR requests_per_unit=3, shadow_mode: false, quota_mode: false
d.banned: unit=DAY requests_per_unit=0, shadow_mode: true, quota_mode: false
d.free: unit=UNKNOWN requests_per_unit=0, shadow_mode: false, quota_mode: false
";
    assert_eq!(debug.get("/rlconfig"), page(200, plain, lines));
    let list = debug.get("/");
    for path in [
        "/rlconfig",
        "/stats",
        "/healthcheck",
        "/api/v1/openapi.json",
    ] {
        assert!(list.body.contains(path), "{list:?}");
        assert_eq!(debug.get(path).status, 200, "{path}");
    }
    server.ask(ask("d", &["k=1"])).unwrap();
    let stats = debug.get("/stats").body;
    for line in [
        "config.rules: 3",
        "server.healthy: 1",
        "grpc.connections.accepted: 1",
    ] {
        assert!(stats.lines().any(|known| known == line), "{stats}");
    }
    assert_eq!(debug.get("/debug/pprof/").status, 404);
}

/// Starts a server on such rules, and checks what both kinds of health say.
fn healthy(rules: &str, environment: &[(&'static str, String)], expected: bool) -> Ratekeeper {
    let server = Ratekeeper::start(rules, environment.to_vec());
    check_health(&server, expected, &format!("{rules:?} {environment:?}"));
    server
}

fn check_health(server: &Ratekeeper, expected: bool, row: &str) {
    let (status, page) = if expected {
        (
            ServingStatus::Serving,
            page(200, "text/plain; charset=utf-8", "OK"),
        )
    } else {
        (ServingStatus::NotServing, page(500, "", ""))
    };
    for name in ["", "ratelimit"] {
        assert_eq!(server.health(name), status, "{row} {name:?}");
    }
    assert_eq!(server.http().get("/healthcheck"), page, "{row}");
    assert_eq!(server.debug().get("/healthcheck"), page, "{row}");
}

#[test]
fn health_is_the_same_over_grpc_and_http() {
    const FORCED: &str = "FORCE_START_WITHOUT_INITIAL_CONFIG";
    const NEEDED: &str = "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED";
    let broken = "domain: [";
    let both = [true_of(FORCED), true_of(NEEDED)].concat();
    for (rules, environment, expected) in [
        (RULES, &none()[..], true),
        (broken, &none(), false),
        (RULES, &true_of(FORCED), true),
        (broken, &true_of(FORCED), true),
        (RULES, &true_of(NEEDED), true),
        (broken, &true_of(NEEDED), false),
        (broken, &both, false),
        (RULES, &both, true),
    ] {
        healthy(rules, environment, expected);
    }
}

#[test]
fn health_follows_the_domains_when_it_needs_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    let flags = ["--config".as_ref(), directory.path().as_os_str()];
    let server = Ratekeeper::start_with(flags, true_of("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED"));
    check_health(&server, false, "no files");
    let is = |status| {
        eventually("health follows", || {
            server.http().get("/healthcheck").status == status
        })
    };
    fs::write(&file, RULES).unwrap();
    is(200);
    // What is wrong changes nothing.
    fs::write(&file, "domain: [").unwrap();
    fs::remove_file(&file).unwrap();
    is(500);
    check_health(&server, false, "no files again");
}

/// A server whose Redis answers nothing any more.
fn stuck() -> (Ratekeeper, Redis) {
    let redis = Redis::start();
    let environment = [
        ("REDIS_URL", redis.url()),
        ("REDIS_TIMEOUT", "60s".to_owned()),
    ];
    let server = Ratekeeper::start(RULES, environment);
    assert_eq!(asked(&server.http(), &request("k")).0, 200);
    redis.pause();
    (server, redis)
}

#[test]
fn while_calls_are_in_flight_health_is_bad() {
    let (mut server, redis) = stuck();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut client = runtime.block_on(server.client());
    let call = runtime.spawn(async move { client.should_rate_limit(ask("d", &["k=2"])).await });
    eventually("Redis has been asked", || redis.has_unread());
    server.signal("TERM");
    server.wait_for_log("shutting down");
    assert_eq!(server.http().get("/healthcheck").status, 500);
    assert_eq!(server.debug().get("/healthcheck").status, 500);
    redis.resume();
    assert!(runtime.block_on(call).unwrap().is_ok());
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn json_that_is_in_flight_is_answered() {
    let (mut server, redis) = stuck();
    let address = server.http().address();
    let waiting = std::thread::spawn(move || asked(&Http::at(address), &request("k")));
    eventually("Redis has been asked", || redis.has_unread());
    server.signal("TERM");
    server.wait_for_log("shutting down");
    redis.resume();
    assert_eq!(waiting.join().unwrap().0, 200);
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("all requests were answered"), "{log}");
}

/// Sends bytes and reads until the server closes.
fn closed_after(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the server closes");
    answer
}

#[test]
fn whoever_is_slow_is_in_nobodys_way_and_is_not_waited_for() {
    let server = Ratekeeper::start(RULES, none());
    let http = server.http();
    let head = b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n";
    let body = b"POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";
    let slow: Vec<_> = [&b""[..], &head[..], &body[..]]
        .into_iter()
        .map(|bytes| {
            let (address, bytes) = (http.address(), bytes.to_vec());
            std::thread::spawn(move || closed_after(address, &bytes))
        })
        .collect();
    let idle: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(http.address()).unwrap();
            stream.write_all(head).unwrap();
            stream
        })
        .collect();
    for _ in 0..10 {
        assert_eq!(http.get("/healthcheck").status, 200);
    }
    drop(idle);
    let answers: Vec<_> = slow.into_iter().map(|slow| slow.join().unwrap()).collect();
    assert_eq!(answers[0], b"");
    let late = String::from_utf8_lossy(&answers[2]);
    assert!(
        late.starts_with("HTTP/1.1 400") && late.contains("in time"),
        "{late}"
    );
}

#[test]
fn connections_to_every_port_of_http_are_bounded() {
    let own = Scrape::environment().map(|(name, value)| (name, value.to_owned()));
    let mut server = Ratekeeper::start(RULES, own);
    for address in [
        server.http().address(),
        server.debug().address(),
        Scrape::address(&server),
    ] {
        let connect = || TcpStream::connect(address).unwrap();
        let mut idle: Vec<_> = (0..600).map(|_| connect()).collect();
        server.wait_for_log("closing the oldest");
        // Nobody is kept out, and the first are sent away.
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let mut stream = connect();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1"));
        idle[0].set_read_timeout(Some(TIMEOUT)).unwrap();
        assert_eq!(idle[0].read(&mut [0]).unwrap(), 0);
    }
    // Whoever asks for metrics slowly is not waited for.
    let half = b"GET /metrics HTTP/1.1\r\nHost: x\r\n";
    closed_after(Scrape::address(&server), half);
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let server = Ratekeeper::start(RULES, none());
    let address = server.http().address();
    let head = format!(
        "GET /healthcheck HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    // It may close before it has read everything.
    let _ = stream.write_all(head.as_bytes());
    let mut answer = [0; 12];
    if stream.read_exact(&mut answer).is_ok() {
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
    assert_eq!(server.http().get("/healthcheck").status, 200);
}

#[test]
fn ports_are_served_on_ipv6_and_ipv4_alike() {
    let environment = ["HOST", "DEBUG_HOST", "GRPC_HOST"].map(|name| (name, "::".to_owned()));
    let server = Ratekeeper::start(RULES, environment);
    let port = |http: &Http| http.address().port();
    for (port, path) in [
        (port(&server.http()), "/healthcheck"),
        (port(&server.debug()), "/rlconfig"),
    ] {
        let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let four = SocketAddr::from(([127, 0, 0, 1], port));
        for address in [six, four] {
            assert_eq!(Http::at(address).get(path).status, 200, "{address}");
        }
    }
    let port = server.address().port();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert!(TcpStream::connect(("::1", port)).is_ok());
}

#[test]
fn sighup_reads_again_and_stops_nothing() {
    let mut server = Ratekeeper::start(RULES, none());
    server.signal("HUP");
    server.wait_for_log("SIGHUP");
    assert!(server.ask(ask("d", &["k=1"])).is_ok());
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn json_of_a_page_of_another_origin_is_rejected() {
    let server = Ratekeeper::start(RULES, []);
    let http = server.http();
    let own = format!("http://{}", http.address());
    let body = r#"{"domain": "d", "descriptors": [{"entries": [{"key": "k", "value": "x"}]}]}"#;
    for (name, value, status) in [
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
        ("sec-fetch-site", "same-origin", 200),
        ("origin", own.as_str(), 200),
        ("origin", "http://127.0.0.1:1", 403),
        // What curl and forms send.
        ("content-type", "application/x-www-form-urlencoded", 200),
    ] {
        let page = http.send_with("POST", "/json", &[(name, value)], body);
        assert_eq!(page.status, status, "{name}: {value}: {}", page.body);
    }
    // A page whose name resolves to this server (DNS rebinding) is of the same origin for the browser.
    for (host, is_rejected) in [
        ("localhost:8080", false),
        ("LOCALHOST", false),
        ("192.0.2.1", false),
        ("[::1]:8080", false),
        ("evil.example:8080", true),
        ("127.0.0.1.evil.example", true),
        ("localhost.evil.example", true),
        ("1", true),
    ] {
        let origin = format!("http://{host}");
        let headers = [("host", host), ("origin", &origin)];
        let page = http.send_with("POST", "/json", &headers, body);
        assert_eq!(page.status == 403, is_rejected, "{host}: {}", page.body);
    }
    let headers = [
        ("origin", "http://evil.example"),
        ("sec-fetch-site", "same-origin"),
    ];
    let page = http.send_with("POST", "/json", &headers, body);
    assert_eq!(page.status, 403, "{}", page.body);
}

#[test]
fn json_with_a_field_twice_is_rejected() {
    let server = Ratekeeper::start(RULES, []);
    for (body, field) in [
        (r#"{"domain": "d", "domain": "e"}"#, "domain"),
        (
            r#"{"domain": "d", "hits_addend": 1, "hitsAddend": 2}"#,
            "hitsAddend",
        ),
        (
            r#"{"domain": "d", "descriptors": [{"entries": [{"key": "k", "key": "l"}]}]}"#,
            "key",
        ),
    ] {
        let page = server.http().send("POST", "/json", body);
        assert_eq!(page.status, 400, "{body}");
        let why = format!("the field {field:?} is given twice");
        assert!(page.body.contains(&why), "{}", page.body);
    }
}
