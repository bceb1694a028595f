//! The calls that the reference's integration tests and sample deployments make, in its own
//! algorithm and in ours: where all answers are listed, both give the same.

use crate::support::{Ratekeeper, ask, check, on_every_store};

// Periods are longer than the reference's, so that neither a refill nor the end of a window comes
// into a test.
const RULES: [&str; 3] = [
    "
domain: basic
descriptors:
  - {key: key1, rate_limit: {unit: second, requests_per_unit: 50}}
  - {key: one_per_year, rate_limit: {unit: year, requests_per_unit: 1}}
",
    "
domain: another
descriptors:
  - {key: key2, rate_limit: {unit: year, requests_per_unit: 20}}
  - {key: key3, rate_limit: {unit: year, requests_per_unit: 10}}
",
    "
domain: sharing
descriptors:
  - {key: together, value: files/*, share_threshold: true, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: apart, value: files/*, rate_limit: {unit: year, requests_per_unit: 10}}
",
];

/// Runs a test on the rules of one domain, on every store and by both algorithms.
fn everywhere(rules: &str, test: impl Fn(&Ratekeeper, &str)) {
    for algorithm in ["token_bucket", "fixed_window"] {
        let environment = [
            ("DEFAULT_ALGORITHM", algorithm),
            ("CACHE_KEY_PREFIX", "prefix:"),
        ];
        on_every_store(rules, &environment, |server, store| {
            test(server, &format!("{algorithm} on {store}"));
        });
    }
}

#[test]
fn first_calls() {
    everywhere(RULES[0], |server, row| {
        check(server, row, ask("foo", &["hello=world"]), "OK: OK");
        check(server, row, ask("basic", &["hello=world"]), "OK: OK");
        check(
            server,
            row,
            ask("basic", &["key1=foo"]),
            "OK: OK 49 of 50/second",
        );
        check(
            server,
            row,
            ask("basic", &["one_per_year=foo"]),
            "OK: OK 0 of 1/year",
        );
        check(
            server,
            row,
            ask("basic", &["one_per_year=foo"]),
            "OVER: OVER 0 of 1/year",
        );
    });
}

#[test]
fn twenty_pass_of_twenty_five() {
    everywhere(RULES[1], |server, row| {
        for i in 0..25 {
            let expected = match i {
                0..20 => format!("OK: OK {} of 20/year", 19 - i),
                _ => "OVER: OVER 0 of 20/year".to_owned(),
            };
            let row = format!("call {i}, {row}");
            check(server, &row, ask("another", &["key2=r"]), &expected);
        }
    });
}

#[test]
fn two_descriptors_pass_until_one_is_over() {
    everywhere(RULES[1], |server, row| {
        for i in 0..15 {
            let expected = match i {
                0..10 => format!("OK: OK {} of 20/year | OK {} of 10/year", 19 - i, 9 - i),
                // Nothing more is taken from the first; in the reference only with
                // STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT.
                _ => "OVER: OK 10 of 20/year | OVER 0 of 10/year".to_owned(),
            };
            let row = format!("call {i}, {row}");
            check(
                server,
                &row,
                ask("another", &["key2=r", "key3=r"]),
                &expected,
            );
        }
    });
}

#[test]
fn values_share_a_threshold_or_not() {
    everywhere(RULES[2], |server, row| {
        for i in 0..10 {
            let expected = format!("OK: OK {} of 10/year", 9 - i);
            check(
                server,
                row,
                ask("sharing", &["together=files/a.pdf"]),
                &expected,
            );
        }
        let over = "OVER: OVER 0 of 10/year";
        check(server, row, ask("sharing", &["together=files/b.csv"]), over);
        for i in 0..10 {
            let descriptor = format!("apart=files/{i}");
            check(
                server,
                row,
                ask("sharing", &[&descriptor]),
                "OK: OK 9 of 10/year",
            );
        }
    });
}

// --- The sample deployments ---

const SAMPLES: &str = "
domain: rl
descriptors:
  - key: source
    rate_limit: {name: per-source, unit: year, requests_per_unit: 7}
  - key: destination
    rate_limit: {name: per-destination, unit: year, requests_per_unit: 7}
  - key: banned
    rate_limit: {name: banned, unit: year, requests_per_unit: 0}
  - key: pardoned
    rate_limit: {unit: year, requests_per_unit: 2, replaces: [{name: banned}]}
  - key: both
    rate_limit: {unit: year, requests_per_unit: 4, replaces: [{name: per-source}, {name: per-destination}]}
  - key: foo
    value: pre*
    descriptors:
      - {key: baz, value: not-so-shady, rate_limit: {unit: year, requests_per_unit: 3}}
      - {key: baz, value: shady, shadow_mode: true, rate_limit: {unit: year, requests_per_unit: 3}}
  - key: service
    value: one
    quota_mode: true
    rate_limit: {name: one, unit: year, requests_per_unit: 1}
  - key: service
    value: two
    quota_mode: true
    rate_limit: {name: two, unit: year, requests_per_unit: 2}
  - {key: cost, rate_limit: {unit: year, requests_per_unit: 2}}
";

#[test]
fn replacing_limits() {
    everywhere(SAMPLES, |server, row| {
        let row = |descriptors: &[&str], expected: &str| {
            check(
                server,
                &format!("{descriptors:?}, {row}"),
                ask("rl", descriptors),
                expected,
            );
        };
        row(&["banned=b"], "OVER: OVER 0 of 0/year (banned) never");
        row(&["banned=b", "pardoned=p"], "OK: OK | OK 1 of 2/year");
        row(&["banned=b", "pardoned=p"], "OK: OK | OK 0 of 2/year");
        row(&["banned=b", "pardoned=p"], "OVER: OK | OVER 0 of 2/year");
        for left in [3, 2, 1, 0] {
            let expected = format!("OK: OK | OK | OK {left} of 4/year");
            row(&["source=s", "destination=d", "both=b"], &expected);
        }
        row(
            &["source=s", "destination=d", "both=b"],
            "OVER: OK | OK | OVER 0 of 4/year",
        );
        // The limits themselves are as they were.
        row(
            &["source=s", "destination=d"],
            "OK: OK 6 of 7/year (per-source) | OK 6 of 7/year (per-destination)",
        );
    });
}

#[test]
fn a_pattern_above_an_exact_value() {
    everywhere(SAMPLES, |server, row| {
        let row = |descriptor, expected: &str| {
            check(
                server,
                &format!("{descriptor}, {row}"),
                ask("rl", &[descriptor]),
                expected,
            );
        };
        for left in [2, 1, 0] {
            row(
                "foo=pre,baz=not-so-shady",
                &format!("OK: OK {left} of 3/year"),
            );
        }
        row("foo=pre,baz=not-so-shady", "OVER: OVER 0 of 3/year");
        row("foo=prefix,baz=not-so-shady", "OK: OK 2 of 3/year");
        for left in [2, 1, 0, 0, 0] {
            row("foo=pre,baz=shady", &format!("OK: OK {left} of 3/year"));
        }
        row("foo=other,baz=shady", "OK: OK");
    });
}

#[test]
fn two_quotas_pass_until_both_are_over() {
    everywhere(SAMPLES, |server, row| {
        for (i, expected) in [
            "OK: OK 0 of 1/year (one) | OK 1 of 2/year (two)",
            "OK: OVER 0 of 1/year (one) | OK 0 of 2/year (two)",
            "OVER: OVER 0 of 1/year (one) | OVER 0 of 2/year (two)",
        ]
        .into_iter()
        .enumerate()
        {
            let request = ask("rl", &["service=one", "service=two"]);
            check(server, &format!("call {i}, {row}"), request, expected);
        }
    });
}

#[test]
fn asked_first_and_charged_on_response() {
    // The reference lets one more pass: to it, a counter that stands at the limit is not over yet.
    everywhere(SAMPLES, |server, row| {
        for left in [2, 1] {
            let asked = format!("OK: OK {left} of 2/year");
            check(server, row, ask("rl", &["cost=c x0"]), &asked);
            let charged = format!("OK: OK {} of 2/year", left - 1);
            check(server, row, ask("rl", &["cost=c x1"]), &charged);
        }
        check(
            server,
            row,
            ask("rl", &["cost=c x0"]),
            "OVER: OVER 0 of 2/year",
        );
        // A response that costs more than is left runs into debt.
        check(server, row, ask("rl", &["cost=d x0"]), "OK: OK 2 of 2/year");
        check(
            server,
            row,
            ask("rl", &["cost=d x100"]),
            "OVER: OVER 0 of 2/year never",
        );
        check(
            server,
            row,
            ask("rl", &["cost=d x0"]),
            "OVER: OVER 0 of 2/year",
        );
    });
}

#[test]
fn the_service_that_still_has_quota_is_charged() {
    everywhere(SAMPLES, |server, row| {
        for (asked, service) in [
            ("OK: OK 1 of 1/year (one) | OK 2 of 2/year (two)", "one"),
            ("OK: OVER 0 of 1/year (one) | OK 2 of 2/year (two)", "two"),
            ("OK: OVER 0 of 1/year (one) | OK 1 of 2/year (two)", "two"),
        ] {
            check(
                server,
                row,
                ask("rl", &["service=one x0", "service=two x0"]),
                asked,
            );
            server
                .ask(ask("rl", &[&format!("service={service}")]))
                .unwrap();
        }
        let over = "OVER: OVER 0 of 1/year (one) | OVER 0 of 2/year (two)";
        check(
            server,
            row,
            ask("rl", &["service=one x0", "service=two x0"]),
            over,
        );
    });
}
