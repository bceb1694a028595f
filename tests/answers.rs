//! What an answer says: codes, what is left, when it is reset, headers, dynamic metadata; and what is
//! no request.

mod bad_requests;
mod headers;
mod metadata;

use crate::support::{ask, check, on_every_store, times, unit_seconds};

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
