//! What an answer says: codes, what is left, when it is reset, headers, dynamic metadata; and what is
//! no request.

use std::collections::BTreeMap;

use ratekeeper::service::pb::rate_limit_descriptor::RateLimitOverride;
use ratekeeper::service::pb::{RateLimitRequest, RateLimitResponse};
use serde_json::{Value, json};
use tonic::Code;

use crate::support::{Ratekeeper, ask, check, json_of, on_every_store, times, typed, unit_seconds};

// --- What is left ---

const COUNTS: &str = "
domain: d
descriptors:
  - {key: c8, rate_limit: {unit: year, requests_per_unit: 8}}
  - {key: c10, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: c14, rate_limit: {unit: year, requests_per_unit: 14}}
  - {key: c15, rate_limit: {unit: year, requests_per_unit: 15}}
  - {key: c20, rate_limit: {unit: year, requests_per_unit: 20}}
";

#[test]
fn a_limit_admits_what_is_left_of_it_and_no_more() {
    for algorithm in ["token_bucket", "fixed_window"] {
        on_every_store(
            COUNTS,
            &[("DEFAULT_ALGORITHM", algorithm)],
            |server, store| {
                for (i, (limit, before, hits, expected)) in [
                    (10, 4, 1, "OK: OK 5"),
                    (10, 10, 1, "OVER: OVER 0"),
                    (15, 10, 1, "OK: OK 4"),
                    (15, 12, 1, "OK: OK 2"),
                    (15, 15, 1, "OVER: OVER 0"),
                    (20, 2, 3, "OK: OK 15"),
                    (8, 5, 2, "OK: OK 1"),
                    (20, 16, 3, "OK: OK 1"),
                    // The reference keeps the hits; here a denied request takes nothing.
                    (20, 19, 3, "OVER: OVER 0"),
                    (20, 15, 7, "OVER: OVER 0"),
                    (10, 0, 10, "OK: OK 0"),
                ]
                .into_iter()
                .enumerate()
                {
                    let row = format!("row {i}, {algorithm} on {store}");
                    let bucket = format!("c{limit}={i}");
                    if before > 0 {
                        server.ask(times(before, ask("d", &[&bucket]))).unwrap();
                    }
                    let expected = format!("{expected} of {limit}/year");
                    check(server, &row, times(hits, ask("d", &[&bucket])), &expected);
                }
            },
        );
    }
}

#[test]
fn a_denied_request_takes_from_none_of_its_buckets() {
    // So answers the reference with STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT, except that there the
    // bucket that denied still grows.
    for algorithm in ["token_bucket", "fixed_window"] {
        on_every_store(
            COUNTS,
            &[("DEFAULT_ALGORITHM", algorithm)],
            |server, store| {
                let row = |hits, expected| {
                    let request = times(hits, ask("d", &["c15=a", "c14=a"]));
                    check(
                        server,
                        &format!("{hits}, {algorithm} on {store}"),
                        request,
                        expected,
                    );
                };
                row(10, "OK: OK 5 of 15/year | OK 4 of 14/year");
                row(1, "OK: OK 4 of 15/year | OK 3 of 14/year");
                row(2, "OK: OK 2 of 15/year | OK 1 of 14/year");
                row(2, "OVER: OK 2 of 15/year | OVER 0 of 14/year");
                row(1, "OK: OK 1 of 15/year | OK 0 of 14/year");
            },
        );
    }
}

#[test]
fn one_denied_descriptor_denies_the_request() {
    on_every_store(COUNTS, &[], |server, store| {
        let row = |descriptors: &[&str], expected| {
            let row = format!("{descriptors:?} on {store}");
            check(server, &row, ask("d", descriptors), expected);
        };
        row(&["c8=a x9", "none=n"], "OVER: OVER 0 of 8/year never | OK");
        row(&["none=n", "c8=a x9"], "OVER: OK | OVER 0 of 8/year never");
        row(&["none=n"], "OK: OK");
        row(
            &["c10=a", "c8=a x9", "none=n"],
            "OVER: OK 10 of 10/year | OVER 0 of 8/year never | OK",
        );
    });
}

#[test]
fn a_limit_of_nothing_denies_everything() {
    let rules = "
domain: d
descriptors:
  - {key: zero, rate_limit: {unit: second, requests_per_unit: 0}}
  - {key: unsaid, rate_limit: {unit: second}}
  - {key: shadow, shadow_mode: true, rate_limit: {unit: second, requests_per_unit: 0}}
";
    on_every_store(rules, &[], |server, store| {
        let row = |descriptor, expected| check(server, store, ask("d", &[descriptor]), expected);
        row("zero=z", "OVER: OVER 0 of 0/second never");
        row("zero=z x0", "OVER: OVER 0 of 0/second never");
        row("unsaid=z", "OVER: OVER 0 of 0/second never");
        row("shadow=z", "OK: OK 0 of 0/second never");
        row("zero=z x-1", "OK: OK 0 of 0/second");
    });
}

// --- When it is reset ---

/// A rule of one hit for each unit, and one of twelve.
fn units() -> String {
    let units = ["second", "minute", "hour", "day", "week", "month", "year"];
    let rules: String = units
        .iter()
        .map(|unit| {
            format!(
                "  - {{key: {unit}, rate_limit: {{unit: {unit}, requests_per_unit: 1}}}}\n  \
                 - {{key: twelve-{unit}, rate_limit: {{unit: {unit}, requests_per_unit: 12}}}}\n"
            )
        })
        .collect();
    format!("domain: d\ndescriptors:\n{rules}")
}

#[test]
fn a_token_bucket_is_reset_when_it_is_full_again() {
    on_every_store(&units(), &[], |server, store| {
        for unit in ["minute", "hour", "day", "week", "month", "year"] {
            let reset = |key: &str, hits| {
                let request = times(hits, ask("d", &[&format!("{key}=x")]));
                let status = server.ask(request).unwrap().statuses.remove(0);
                let seconds = status.duration_until_reset.expect("it comes").seconds;
                (seconds, unit_seconds(&status))
            };
            let row = format!("{unit} on {store}");
            // Rounded up, so that a moment later it is still the whole period.
            let (seconds, period) = reset(unit, 1);
            assert_eq!(seconds, period, "{row}");
            let (seconds, _) = reset(&format!("twelve-{unit}"), 1);
            assert_eq!(seconds, period / 12 + i64::from(period % 12 > 0), "{row}");
            // Denied, it is the time until it would pass: of one, until one has come back.
            let (seconds, _) = reset(unit, 1);
            assert!((1..=period).contains(&seconds), "{row}: {seconds}");
            // Eleven are left; another two want one, and so do twelve.
            for hits in [12, 12] {
                let (seconds, _) = reset(&format!("twelve-{unit}"), hits);
                assert!((1..=period / 12 + 1).contains(&seconds), "{row}: {seconds}");
            }
        }
        let full = server.ask(ask("d", &["minute=full x0"])).unwrap();
        let reset = full.statuses[0].duration_until_reset.unwrap();
        assert_eq!(reset.seconds, 0, "it is full already, on {store}");
    });
}

#[test]
fn a_window_is_reset_when_it_ends() {
    let environment = [("DEFAULT_ALGORITHM", "fixed_window")];
    on_every_store(&units(), &environment, |server, store| {
        for unit in ["second", "minute", "hour", "day", "week", "month", "year"] {
            for hits in [1, 1, 0, 5] {
                let descriptor = format!("{unit}=x x{hits}");
                let response = server.ask(ask("d", &[&descriptor])).unwrap();
                let status = &response.statuses[0];
                let period = unit_seconds(status);
                let Some(reset) = status.duration_until_reset else {
                    assert_eq!(hits, 5, "only what can never pass has no time: {status:?}");
                    continue;
                };
                assert!(
                    (1..=period).contains(&reset.seconds),
                    "{descriptor} on {store}: {reset:?}"
                );
            }
        }
    });
}

#[test]
fn the_wait_never_grows_while_nothing_is_taken() {
    for algorithm in ["token_bucket", "fixed_window"] {
        let environment = [("DEFAULT_ALGORITHM", algorithm)];
        on_every_store(&units(), &environment, |server, store| {
            let mut last = i64::MAX;
            for _ in 0..5 {
                let response = server.ask(ask("d", &["year=x"])).unwrap();
                let reset = response.statuses[0].duration_until_reset.unwrap().seconds;
                assert!(reset <= last, "{algorithm} on {store}");
                last = reset;
            }
        });
    }
}

// --- Headers ---

const HEADERS: &str = "
domain: d
descriptors:
  - {key: five, rate_limit: {unit: year, requests_per_unit: 5}}
  - {key: nine, rate_limit: {unit: year, requests_per_unit: 9}}
  - {key: also-five, rate_limit: {unit: day, requests_per_unit: 5}}
  - {key: zero, rate_limit: {unit: year, requests_per_unit: 0}}
  - {key: quota, quota_mode: true, rate_limit: {unit: year, requests_per_unit: 1}}
  - {key: shadow, shadow_mode: true, rate_limit: {unit: year, requests_per_unit: 1}}
  - {key: free, rate_limit: {unlimited: true}}
";

/// The headers of a response by name.
fn headers(response: &RateLimitResponse) -> BTreeMap<&str, &str> {
    let all = response.response_headers_to_add.iter();
    all.map(|header| (header.key.as_str(), header.value.as_str()))
        .collect()
}

/// A year in seconds, the unit of all limits here.
const YEAR: i64 = 365 * 86_400;

/// Limit and remaining as the headers show them; no text when there are no headers. The reset is
/// checked to be that of a status, or where its hits can never pass, the period of its limit.
fn told(response: &RateLimitResponse) -> String {
    let headers = headers(response);
    if headers.is_empty() {
        return String::new();
    }
    let mut resets = response.statuses.iter().map(|status| {
        let reset = status.duration_until_reset.as_ref();
        reset.map_or(YEAR, |reset| reset.seconds).to_string()
    });
    assert!(
        resets.any(|known| known == headers["RateLimit-Reset"]),
        "{response:?}"
    );
    format!(
        "{} of {}",
        headers["RateLimit-Remaining"], headers["RateLimit-Limit"]
    )
}

#[test]
fn headers_tell_of_the_status_that_matters_most() {
    let environment = [
        ("LIMIT_RESPONSE_HEADERS_ENABLED", "true"),
        // Requests with and without hits of their own meet the same rules here.
        ("DEFAULT_HITS", "prepaid"),
    ];
    on_every_store(HEADERS, &environment, |server, store| {
        let row = |descriptors: &[&str], expected: &str| {
            let response = server.ask(ask("d", descriptors)).unwrap();
            assert_eq!(told(&response), expected, "{descriptors:?} on {store}");
        };
        row(&["none=n"], "");
        row(&["free=f"], "");
        row(&["five=a", "none=n"], "4 of 5");
        row(&["nine=a", "five=a", "free=f"], "3 of 5");
        // Of two with the same left, the first.
        row(&["five=b", "also-five=b"], "4 of 5");
        // What denies comes before what has less left; the last one does.
        row(&["zero=a", "nine=a x10"], "0 of 9");
        row(&["nine=a x10", "zero=a"], "0 of 0");
        // A quota that is over is told only when it has the least left.
        row(&["quota=q", "nine=a"], "0 of 1");
        row(&["quota=q x2", "nine=a x99"], "0 of 9");
        row(&["quota=r x2", "five=c x3"], "0 of 1");
        row(&["shadow=s x2", "nine=c"], "1 of 1");
    });
}

#[test]
fn headers_tell_the_names_that_were_asked_for() {
    let names = [
        ("LIMIT_RESPONSE_HEADERS_ENABLED", "true"),
        ("LIMIT_LIMIT_HEADER", "X-Limit"),
        ("LIMIT_REMAINING_HEADER", "X-Remaining"),
        ("LIMIT_RESET_HEADER", "X-Reset"),
    ];
    let start = |environment: &[(&'static str, &str)]| {
        Ratekeeper::start(HEADERS, environment.iter().map(|&(n, v)| (n, v.to_owned())))
    };
    let year = YEAR.to_string();
    let request = || ask("d", &["five=a x5", "none=n"]);
    let response = start(&names).ask(request()).unwrap();
    let expected = [("X-Limit", "5"), ("X-Remaining", "0"), ("X-Reset", &year)];
    assert_eq!(headers(&response), BTreeMap::from(expected));
    let response = start(&names[..1]).ask(request()).unwrap();
    let expected = [
        ("RateLimit-Limit", "5"),
        ("RateLimit-Remaining", "0"),
        ("RateLimit-Reset", &year),
    ];
    assert_eq!(headers(&response), BTreeMap::from(expected));
    let server = start(&[]);
    for _ in 0..2 {
        let response = server.ask(request()).unwrap();
        assert_eq!(headers(&response), BTreeMap::new());
    }
}

#[test]
fn headers_are_sent_in_shadow_mode_too_and_always_with_a_reset() {
    let environment = [
        ("LIMIT_RESPONSE_HEADERS_ENABLED", "1"),
        ("SHADOW_MODE", "t"),
    ];
    let server = Ratekeeper::start(HEADERS, environment.map(|(n, v)| (n, v.to_owned())));
    let response = server.ask(ask("d", &["zero=a"])).unwrap();
    let year = YEAR.to_string();
    let expected = [
        ("RateLimit-Limit", "0"),
        ("RateLimit-Remaining", "0"),
        ("RateLimit-Reset", &year),
    ];
    assert_eq!(headers(&response), BTreeMap::from(expected));
}

// --- Dynamic metadata ---

const METADATA: &str = "
domain: d
descriptors:
  - key: a
    metadata: {owner: one, deep: {left: 1, both: [true, null]}, list: [1, 2]}
    rate_limit: {unit: year, requests_per_unit: 1}
  - key: b
    metadata: {owner: two, deep: {right: 1.5, both: other}, more: text}
    rate_limit: {unit: year, requests_per_unit: 1}
  - {key: plain, rate_limit: {unit: year, requests_per_unit: 1}}
  - {key: free, metadata: {free: true}, rate_limit: {unlimited: true}}
  - {key: unlimited-not, metadata: {none: true}}
  - {key: shadow, shadow_mode: true, metadata: {shadow: true}, rate_limit: {unit: year, requests_per_unit: 0}}
  - key: child
    metadata: {parent: true}
    descriptors: [{key: a, detailed_metric: true, metadata: {leaf: true}, rate_limit: {unit: year, requests_per_unit: 9}}]
  - {key: c, value: x*, share_threshold: true, value_to_metric: true, metadata: {c: 1}, rate_limit: {unit: year, requests_per_unit: 9}}
";

#[test]
fn dynamic_metadata_tells_what_was_asked_and_by_whose_leave() {
    let environment = [("RESPONSE_DYNAMIC_METADATA", "true")];
    on_every_store(METADATA, &environment, |server, store| {
        let row = |request: RateLimitRequest, expected: Value| {
            let shown = format!("{request:?} on {store}");
            let response = server.ask(request).unwrap();
            let metadata = json_of(
                response
                    .dynamic_metadata
                    .as_ref()
                    .expect("it was asked for"),
            );
            assert_eq!(metadata, expected, "{shown}");
        };
        let entries = |entries: &[&str]| json!({"entries": entries});
        // Maps are united, and of one name the first value stays.
        row(
            ask("d", &["a=1", "b=2"]),
            json!({
                "domain": "d",
                "descriptors": [entries(&["a=1"]), entries(&["b=2"])],
                "metadata": {
                    "owner": "one",
                    "deep": {"left": 1.0, "right": 1.5, "both": [true, null]},
                    "list": [1.0, 2.0],
                    "more": "text",
                },
            }),
        );
        // Only those that pass bring theirs, and only with a limit.
        row(
            ask("d", &["a=1", "free=f", "unlimited-not=n", "none=n", ""]),
            json!({
                "domain": "d",
                "descriptors": [
                    entries(&["a=1"]), entries(&["free=f"]), entries(&["unlimited-not=n"]),
                    entries(&["none=n"]), entries(&[]),
                ],
            }),
        );
        row(
            ask("d", &["a=1", "shadow=s"]),
            json!({
                "domain": "d",
                "descriptors": [entries(&["a=1"]), entries(&["shadow=s"])],
                "metadata": {"shadow": true},
            }),
        );
        // Only the rule's own, whatever its metrics show (the reference loses it then).
        row(
            ask("d", &["child=x,a=y", "c=xy"]),
            json!({
                "domain": "d",
                "descriptors": [entries(&["child=x", "a=y"]), entries(&["c=xy"])],
                "metadata": {"leaf": true, "c": 1.0},
            }),
        );
        row(
            times(
                3,
                ask(
                    "d",
                    &["plain=p x0", "a=2 limit=9/hour", "plain=q limit=9/2day x2"],
                ),
            ),
            json!({
                "domain": "d",
                "hitsAddend": 3.0,
                "descriptors": [
                    {"entries": ["plain=p"], "hitsAddend": 0.0},
                    {"entries": ["a=2"], "limit": "requests_per_unit:9 unit:HOUR"},
                    {
                        "entries": ["plain=q"],
                        "limit": "requests_per_unit:9 unit:DAY unit_multiplier:{value:2}",
                        "hitsAddend": 2.0,
                    },
                ],
            }),
        );
        row(
            ask("nowhere", &["a=1"]),
            json!({"domain": "nowhere", "descriptors": [entries(&["a=1"])]}),
        );
    });
}

#[test]
fn no_dynamic_metadata_unless_asked_for() {
    let server = Ratekeeper::start(METADATA, []);
    assert_eq!(
        server.ask(ask("d", &["a=1"])).unwrap().dynamic_metadata,
        None
    );
}

// --- What is no request ---

#[test]
fn a_request_that_makes_no_sense_is_told_so_and_takes_nothing() {
    let bounds = [
        ("MAX_DESCRIPTORS", "3"),
        ("MAX_DESCRIPTOR_ENTRIES", "2"),
        ("MAX_REQUEST_BYTES", "40"),
        ("BAD_REQUEST_MODE", "error"),
    ];
    on_every_store(COUNTS, &bounds, |server, store| {
        let row = |request: RateLimitRequest, sentence: &str| {
            let status = server.ask(request).unwrap_err();
            assert_eq!(
                status.code(),
                Code::InvalidArgument,
                "{sentence} on {store}"
            );
            assert!(
                status.message().contains(sentence),
                "{sentence} on {store}: {status}"
            );
        };
        row(ask("", &["c8=a"]), "rate limit domain must not be empty");
        row(
            ask("d", &[]),
            "rate limit descriptor list must not be empty",
        );
        row(ask("", &[]), "rate limit domain must not be empty");
        row(
            ask("d", &["c8=a", "c8=b", "c8=c", "c8=d"]),
            "the request has 4 descriptors, more than MAX_DESCRIPTORS=3",
        );
        row(
            ask("d", &["c8=a", "a=,b=,c="]),
            "descriptor 1 has 3 entries, more than MAX_DESCRIPTOR_ENTRIES=2",
        );
        let long = format!("c8={}", "x".repeat(38));
        row(
            ask("d", &[&long]),
            "have 41 bytes, more than MAX_REQUEST_BYTES=40",
        );
        let unit = |unit| RateLimitOverride {
            requests_per_unit: 5,
            unit,
            unit_multiplier: None,
        };
        for wrong in [0, 8, -1, i32::MAX] {
            let mut request = ask("d", &["c8=a", "c8=a"]);
            request.descriptors[1].limit = Some(unit(wrong));
            row(
                request,
                &format!("descriptor 1 has a limit with unit {wrong}; use 1 (SECOND)"),
            );
        }
        row(ask("d", &["c8=a limit=5/0day"]), "unit_multiplier 0");
        row(ask("d", &["c8=a limit=5/101year"]), "unit_multiplier 101");
        check(server, store, ask("d", &["c8=a"]), "OK: OK 7 of 8/year");
        // At the bounds it is one.
        let long = format!("c8={}", "x".repeat(37));
        check(server, store, ask("d", &[&long]), "OK: OK 7 of 8/year");
    });
}

#[test]
fn a_request_that_a_client_of_envoy_spoils_is_answered_as_the_operator_chose() {
    for (mode, shadow_mode, expected) in [
        (None, "false", "OVER: "),
        (Some("deny"), "false", "OVER: "),
        (Some("deny"), "true", "OK: "),
        (Some("allow"), "false", "OK: "),
    ] {
        let bounds = [
            ("MAX_DESCRIPTORS", "3"),
            ("MAX_DESCRIPTOR_ENTRIES", "2"),
            ("MAX_REQUEST_BYTES", "40"),
            ("SHADOW_MODE", shadow_mode),
        ];
        let mode = mode.map(|mode| ("BAD_REQUEST_MODE", mode));
        let environment = bounds.into_iter().chain(mode);
        let environment = environment.map(|(name, value)| (name, value.to_owned()));
        let mut server = Ratekeeper::start(COUNTS, environment);
        let long = format!("c8={}", "x".repeat(38));
        let mut requests = vec![
            ask("d", &["c8=a", "c8=b", "c8=c", "c8=d"]),
            ask("d", &["c8=a", "a=,b=,c="]),
            ask("d", &[&long]),
            ask("d", &["c8=a limit=5/0day"]),
        ];
        for unit in [0, 8, -1] {
            let mut request = ask("d", &["c8=a"]);
            request.descriptors[0].limit = Some(RateLimitOverride {
                requests_per_unit: 5,
                unit,
                unit_multiplier: None,
            });
            requests.push(request);
        }
        let count = requests.len();
        for request in requests {
            check(&server, &format!("{mode:?}"), request, expected);
        }
        // Nothing was taken.
        check(&server, "after", ask("d", &["c8=a"]), "OK: OK 7 of 8/year");
        server.wait_until_logged("BAD_REQUEST_MODE");
        let warnings = server.log().matches("BAD_REQUEST_MODE").count();
        assert!(
            (1..count).contains(&warnings),
            "{warnings} for {count} requests"
        );
        let metrics = server.debug().get("/metrics").body;
        let line = format!("ratekeeper_bad_requests_total {count}\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[test]
fn a_request_without_a_configuration_is_told_to_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.yaml");
    let server = Ratekeeper::start_with(["--config".as_ref(), missing.as_os_str()], []);
    let status = server.ask(ask("d", &["k=v"])).unwrap_err();
    // UNAVAILABLE, not UNKNOWN as in the reference: a caller may try again.
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "no rate limit configuration loaded");
    let printed = typed(["check".as_ref(), missing.as_os_str()], []);
    assert_eq!(printed.code, 1);
    assert!(printed.stderr.contains("does not exist"), "{printed:?}");
}
