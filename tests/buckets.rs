//! What the limits of ratekeeper can do that those of the reference cannot, and limits that requests
//! bring themselves.

use crate::support::{Ratekeeper, ask, check, on_every_store};

/// A day in seconds.
const DAY: i64 = 86_400;

/// Checks rows of one descriptor each, in the domain `d`.
fn rows(server: &Ratekeeper, store: &str, rows: &[(&str, &str)]) {
    for (i, (descriptor, expected)) in rows.iter().enumerate() {
        let row = format!("row {i}, {descriptor} on {store}");
        check(server, &row, ask("d", &[descriptor]), expected);
    }
}

/// The seconds until reset that one descriptor is told.
fn reset(server: &Ratekeeper, descriptor: &str) -> i64 {
    let response = server.ask(ask("d", &[descriptor])).unwrap();
    let reset = &response.statuses[0].duration_until_reset;
    reset.as_ref().expect("it comes").seconds
}

// --- burst and unit_multiplier ---

const SHAPES: &str = "
domain: d
descriptors:
  - {key: large, rate_limit: {unit: year, requests_per_unit: 2, burst: 5}}
  - {key: small, rate_limit: {unit: year, requests_per_unit: 100, burst: 1}}
  - {key: long, rate_limit: {unit: day, unit_multiplier: 30, requests_per_unit: 3}}
  - {key: largest, rate_limit: {unit: year, unit_multiplier: 100, requests_per_unit: 4294967295}}
  - {key: slow, rate_limit: {unit: year, unit_multiplier: 100, requests_per_unit: 1, burst: 4294967295}}
  - {key: window, rate_limit: {unit: year, unit_multiplier: 50, requests_per_unit: 3, algorithm: fixed_window}}
";

#[test]
fn burst_is_what_may_come_at_once() {
    on_every_store(SHAPES, &[], |server, store| {
        rows(
            server,
            store,
            &[
                ("large=a x1", "OK: OK 4 of 2/year"),
                ("large=a x4", "OK: OK 0 of 2/year"),
                ("large=a x1", "OVER: OVER 0 of 2/year"),
                ("large=b x6", "OVER: OVER 0 of 2/year never"),
                ("small=a x2", "OVER: OVER 0 of 100/year never"),
                ("small=a", "OK: OK 0 of 100/year"),
                ("small=a", "OVER: OVER 0 of 100/year"),
            ],
        );
        // It comes back at the rate: five halves of a year, all of it.
        assert_eq!(reset(server, "large=c x5"), 365 * DAY * 5 / 2, "{store}");
    });
}

#[test]
fn a_period_may_be_several_units() {
    on_every_store(SHAPES, &[], |server, store| {
        assert_eq!(reset(server, "long=a x3"), 30 * DAY, "{store}");
        rows(
            server,
            store,
            &[
                ("long=a", "OVER: OVER 0 of 3/30day"),
                ("long=b", "OK: OK 2 of 3/30day"),
                ("window=a x2", "OK: OK 1 of 3/50year"),
                ("window=a x2", "OVER: OVER 0 of 3/50year"),
            ],
        );
    });
}

#[test]
fn the_largest_numbers_are_counted_exactly() {
    on_every_store(SHAPES, &[], |server, store| {
        let max = u32::MAX;
        rows(
            server,
            store,
            &[
                (
                    "largest=a x4294967296",
                    &format!("OVER: OVER 0 of {max}/100year never"),
                ),
                (
                    "largest=b x4294967295",
                    &format!("OK: OK 0 of {max}/100year"),
                ),
                ("slow=a x1", &format!("OK: OK {} of 1/100year", max - 1)),
                ("slow=a x4294967294", "OK: OK 0 of 1/100year"),
                ("slow=a x1", "OVER: OVER 0 of 1/100year"),
            ],
        );
    });
}

// --- Several limits on one rule ---

const LISTS: &str = "
domain: d
descriptors:
  - key: two
    rate_limit:
      - {name: daily, unit: day, requests_per_unit: 10}
      - {name: yearly, unit: year, requests_per_unit: 25}
  - key: waits
    rate_limit:
      - {name: short, unit: week, requests_per_unit: 3}
      - {name: long, unit: year, requests_per_unit: 4}
  - key: equal
    rate_limit:
      - {name: first, unit: year, requests_per_unit: 5}
      - {name: second, unit: year, requests_per_unit: 5}
  - key: never
    rate_limit:
      - {name: slow, unit: year, requests_per_unit: 4}
      - {name: narrow, unit: day, requests_per_unit: 100, burst: 2}
  - {key: one, rate_limit: [{name: only, unit: year, requests_per_unit: 2}]}
";

#[test]
fn of_several_limits_all_must_admit_and_the_status_shows_what_matters_most() {
    on_every_store(LISTS, &[], |server, store| {
        rows(
            server,
            store,
            &[
                // Admitted: the one with the least left.
                ("two=a x6", "OK: OK 4 of 10/day (daily)"),
                ("two=a x5", "OVER: OVER 0 of 10/day (daily)"),
                ("two=a x4", "OK: OK 0 of 10/day (daily)"),
                ("equal=a", "OK: OK 4 of 5/year (first)"),
                ("one=a", "OK: OK 1 of 2/year (only)"),
                // Denied by both: the one with the longest wait.
                ("waits=a x3", "OK: OK 0 of 3/week (short)"),
                ("waits=a", "OVER: OVER 0 of 3/week (short)"),
                ("waits=a x2", "OVER: OVER 0 of 4/year (long)"),
                // What one denies is taken from neither.
                ("waits=b x4", "OVER: OVER 0 of 3/week (short) never"),
                ("waits=b x3", "OK: OK 0 of 3/week (short)"),
                // Never is the longest wait of all.
                ("never=a x2", "OK: OK 0 of 100/day (narrow)"),
                ("never=a x3", "OVER: OVER 0 of 100/day (narrow) never"),
            ],
        );
    });
}

// --- Hits before and after the work ---

const PAYMENTS: &str = "
domain: d
descriptors:
  - {key: auto, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: fresh, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: prepaid, rate_limit: {unit: year, requests_per_unit: 10, hits: prepaid}}
  - {key: postpaid, rate_limit: {unit: year, requests_per_unit: 10, hits: postpaid}}
  - {key: debt, rate_limit: {unit: year, requests_per_unit: 10, hits: postpaid, max_debt: 3}}
  - {key: nodebt, rate_limit: {unit: year, requests_per_unit: 10, hits: postpaid, max_debt: 0}}
  - {key: zero, rate_limit: {unit: year, requests_per_unit: 0}}
";

#[test]
fn hits_become_postpaid_once_a_rule_is_asked_and_reported() {
    on_every_store(PAYMENTS, &[], |server, store| {
        rows(
            server,
            store,
            &[
                ("fresh=a x15", "OVER: OVER 0 of 10/year never"),
                ("fresh=a x8", "OK: OK 2 of 10/year"),
                ("fresh=a x3", "OVER: OVER 0 of 10/year"),
                ("auto=a x0", "OK: OK 10 of 10/year"),
                ("auto=a x4", "OK: OK 6 of 10/year"),
                ("auto=a x0", "OK: OK 6 of 10/year"),
                // More than is left is taken all the same, into debt.
                ("auto=a x9", "OVER: OVER 0 of 10/year"),
                ("auto=a x0", "OVER: OVER 0 of 10/year"),
                ("auto=a x-3", "OK: OK 0 of 10/year"),
                ("auto=a x0", "OVER: OVER 0 of 10/year"),
                ("auto=a x-1", "OK: OK 1 of 10/year"),
                ("auto=a x0", "OK: OK 1 of 10/year"),
                // The rule is asked and reported, so all its buckets are.
                ("auto=b x15", "OVER: OVER 0 of 10/year never"),
                ("auto=b x0", "OVER: OVER 0 of 10/year"),
                // Other rules were not.
                ("fresh=a x3", "OVER: OVER 0 of 10/year"),
                ("fresh=a x2", "OK: OK 0 of 10/year"),
            ],
        );
    });
}

/// The AI Gateway's end-to-end test: a call without hits at the request, and the tokens on stream done.
#[test]
fn a_request_without_hits_asks_and_the_first_report_is_taken() {
    on_every_store(PAYMENTS, &[], |server, store| {
        rows(
            server,
            store,
            &[
                ("auto=a", "OK: OK 9 of 10/year"),
                ("auto=a x20", "OVER: OVER 0 of 10/year never"),
                ("auto=a", "OVER: OVER 0 of 10/year"),
                // Eleven are owed. A client that goes on asking does not owe more.
                ("auto=a", "OVER: OVER 0 of 10/year"),
                ("auto=a", "OVER: OVER 0 of 10/year"),
                ("auto=a x-10", "OK: OK 0 of 10/year"),
                ("auto=a x-1", "OK: OK 1 of 10/year"),
            ],
        );
    });
}

/// Many clients of a rule that counts requests, and one that once sends hits of its own.
#[test]
fn one_odd_request_does_not_change_a_rule_for_others() {
    on_every_store(PAYMENTS, &[], |server, store| {
        for i in 0..30 {
            let (usual, other) = (format!("auto=u{i}"), format!("fresh=u{i} x1"));
            check(server, store, ask("d", &[&usual]), "OK: OK 9 of 10/year");
            check(server, store, ask("d", &[&other]), "OK: OK 9 of 10/year");
        }
        rows(
            server,
            store,
            &[
                // A report among requests without hits: as it does not fit, nothing is taken.
                ("auto=a x15", "OVER: OVER 0 of 10/year never"),
                ("auto=a", "OK: OK 9 of 10/year"),
                // A question among requests with hits.
                ("fresh=a x0", "OK: OK 10 of 10/year"),
                ("fresh=a x15", "OVER: OVER 0 of 10/year never"),
                ("fresh=a x1", "OK: OK 9 of 10/year"),
                // Something given back among them.
                ("fresh=a x-1", "OK: OK 10 of 10/year"),
                ("fresh=a x15", "OVER: OVER 0 of 10/year never"),
            ],
        );
    });
}

const CREDIT: &str = "
domain: d
descriptors:
  - {key: auto, rate_limit: {unit: year, requests_per_unit: 1, burst: 100}}
  - {key: prepaid, rate_limit: {unit: year, requests_per_unit: 1, burst: 100, hits: prepaid}}
  - {key: postpaid, rate_limit: {unit: year, requests_per_unit: 1, burst: 100, hits: postpaid}}
  - {key: slots, rate_limit: {unit: year, requests_per_unit: 1, burst: 2}}
";

/// An estimate at the request, and at its end the estimate given back and the cost, if there is one.
#[test]
fn a_refund_of_a_denied_request_frees_nothing() {
    on_every_store(CREDIT, &[], |server, store| {
        for key in ["auto", "postpaid"] {
            let [open, refund, cost, none] =
                ["x100", "x-100", "x37", "x0"].map(|hits| format!("{key}=a {hits}"));
            let left = |expected: &str| check(server, store, ask("d", &[&none]), expected);
            let passed = server.ask(ask("d", &[&open])).unwrap();
            assert_eq!(passed.overall_code, 1, "{key} on {store}");
            server.ask(ask("d", &[&refund, &cost])).unwrap();
            left("OK: OK 63 of 1/year");
            for _ in 0..5 {
                let denied = server.ask(ask("d", &[&open])).unwrap();
                assert_eq!(denied.overall_code, 2, "{key} on {store}");
                server.ask(ask("d", &[&refund])).unwrap();
                left("OK: OK 63 of 1/year");
            }
            // Many at once, all denied: what they owe together is more than the capacity.
            for _ in 0..12 {
                server.ask(ask("d", &[&open])).unwrap();
            }
            left("OVER: OVER 0 of 1/year");
            for _ in 0..12 {
                server.ask(ask("d", &[&refund])).unwrap();
            }
            left("OK: OK 63 of 1/year");
        }
        // With `hits: prepaid`, hits that were never taken are given back all the same.
        for (row, expected) in [
            ("prepaid=a x100", "OK: OK 0 of 1/year"),
            ("prepaid=a x100", "OVER: OVER 0 of 1/year"),
            ("prepaid=a x-100", "OK: OK 100 of 1/year"),
        ] {
            check(server, store, ask("d", &[row]), expected);
        }
    });
}

/// One token for each request that is under way, given back at its end.
#[test]
fn a_denied_request_frees_no_slot_of_others() {
    on_every_store(CREDIT, &[], |server, store| {
        let send = |row: &str| server.ask(ask("d", &[row])).unwrap().overall_code;
        // The pattern is seen in the first request that ends.
        assert_eq!([send("slots=a"), send("slots=a x-1")], [1, 1]);
        assert_eq!([send("slots=a"), send("slots=a")], [1, 1]);
        for _ in 0..10 {
            assert_eq!(send("slots=a"), 2, "{store}");
            send("slots=a x-1");
        }
        send("slots=a x-1");
        assert_eq!([send("slots=a"), send("slots=a")], [1, 2], "{store}");
    });
}

#[test]
fn the_default_of_hits_is_an_option() {
    on_every_store(
        PAYMENTS,
        &[("DEFAULT_HITS", "postpaid")],
        |server, store| {
            rows(
                server,
                store,
                &[
                    // The first report is taken though the rule was never asked.
                    ("fresh=a x15", "OVER: OVER 0 of 10/year never"),
                    ("fresh=a", "OVER: OVER 0 of 10/year"),
                    ("prepaid=a x11", "OVER: OVER 0 of 10/year never"),
                    ("own=a limit=10/year x15", "OVER: OVER 0 of 10/year never"),
                ],
            );
            let page = server.debug().get("/rlconfig").body;
            assert!(page.contains("d.fresh: unit=YEAR requests_per_unit=10, shadow_mode: false, quota_mode: false\n"), "{page}");
            assert!(page.contains("d.prepaid: unit=YEAR requests_per_unit=10, shadow_mode: false, quota_mode: false, hits: prepaid\n"), "{page}");
        },
    );
    on_every_store(PAYMENTS, &[("DEFAULT_HITS", "prepaid")], |server, store| {
        rows(
            server,
            store,
            &[
                ("auto=a x0", "OK: OK 10 of 10/year"),
                ("auto=a x11", "OVER: OVER 0 of 10/year never"),
                ("postpaid=a x12", "OVER: OVER 0 of 10/year never"),
            ],
        );
    });
}

#[test]
fn a_running_server_explains_when_hits_are_taken_and_logs_it_once() {
    let mut server = Ratekeeper::start(PAYMENTS, []);
    let explained = |key: &str| {
        let path = format!("/api/v1/explain?domain=d&descriptor={key}%3Da");
        server.debug().get(&path).body
    };
    assert!(explained("auto").contains("hits: auto (prepaid: no calls yet)"));
    assert!(!explained("postpaid").contains("hits: auto"));
    for _ in 0..12 {
        server.ask(ask("d", &["auto=a x0"])).unwrap();
        server.ask(ask("d", &["auto=b x1"])).unwrap();
    }
    server.ask(ask("d", &["auto=b x1"])).unwrap();
    let text = explained("auto");
    let expected = "hits: auto (postpaid: asked and reported in 48 % / 52 % of the recent calls)";
    assert!(text.contains(expected), "{text}");
    let rules = server.debug().get("/api/v1/rules?search=d.auto").body;
    let rules: serde_json::Value = serde_json::from_str(&rules).unwrap();
    let used = &rules["rules"][0]["use"];
    assert_eq!(used["text"], expected, "{used}");
    assert_eq!(
        (&used["hits"], &used["asked_percent"]),
        (&"postpaid".into(), &48.into())
    );
    server.wait_for_log("hits: auto is now postpaid");
}

#[test]
fn hits_are_prepaid_or_postpaid_when_a_limit_says_so() {
    on_every_store(PAYMENTS, &[], |server, store| {
        rows(
            server,
            store,
            &[
                ("prepaid=a x0", "OK: OK 10 of 10/year"),
                ("prepaid=a x11", "OVER: OVER 0 of 10/year never"),
                ("prepaid=a x10", "OK: OK 0 of 10/year"),
                ("postpaid=a x12", "OVER: OVER 0 of 10/year never"),
                ("postpaid=a x-2", "OK: OK 0 of 10/year"),
                ("postpaid=a x-1", "OK: OK 1 of 10/year"),
                // The debt is at most the capacity, or what max_debt says.
                ("postpaid=b x999", "OVER: OVER 0 of 10/year never"),
                ("postpaid=b x-10", "OK: OK 0 of 10/year"),
                ("postpaid=b x-1", "OK: OK 1 of 10/year"),
                ("debt=a x999", "OVER: OVER 0 of 10/year never"),
                ("debt=a x-3", "OK: OK 0 of 10/year"),
                ("debt=a x-1", "OK: OK 1 of 10/year"),
                ("nodebt=a x999", "OVER: OVER 0 of 10/year never"),
                ("nodebt=a x-1", "OK: OK 1 of 10/year"),
            ],
        );
    });
}

#[test]
fn a_debt_is_waited_for() {
    on_every_store(PAYMENTS, &[], |server, store| {
        // Five are owed; until one is left, six must come back, a tenth of a year each.
        server.ask(ask("d", &["postpaid=a x15"])).unwrap();
        let wait = reset(server, "postpaid=a x0");
        let expected = 6 * 365 * DAY / 10;
        assert!(
            (expected - 120..=expected).contains(&wait),
            "{wait} on {store}"
        );
    });
}

#[test]
fn what_was_done_already_counts_even_in_a_denied_request() {
    on_every_store(PAYMENTS, &[], |server, store| {
        let request = ask("d", &["postpaid=a x4", "prepaid=a x4", "zero=z"]);
        let expected = "OVER: OK 6 of 10/year | OK 10 of 10/year | OVER 0 of 0/year never";
        check(server, store, request, expected);
    });
}

#[test]
fn a_window_can_be_asked_first_too() {
    let environment = [("DEFAULT_ALGORITHM", "fixed_window")];
    let rules = "
domain: d
descriptors: [{key: auto, rate_limit: {unit: year, requests_per_unit: 10}}]
";
    on_every_store(rules, &environment, |server, store| {
        rows(
            server,
            store,
            &[
                ("auto=a x11", "OVER: OVER 0 of 10/year never"),
                ("auto=a x0", "OK: OK 10 of 10/year"),
                ("auto=a x8", "OK: OK 2 of 10/year"),
                ("auto=a x8", "OVER: OVER 0 of 10/year"),
                ("auto=a x0", "OVER: OVER 0 of 10/year"),
                ("auto=a x-7", "OK: OK 1 of 10/year"),
            ],
        );
    });
}

// --- Limits that requests bring themselves ---

const OVERRIDDEN: &str = "
domain: d
descriptors:
  - {key: five, rate_limit: {name: five, unit: year, requests_per_unit: 5}}
  - {key: shadow, shadow_mode: true, rate_limit: {unit: year, requests_per_unit: 5}}
  - {key: quota, quota_mode: true, rate_limit: {unit: year, requests_per_unit: 5}}
  - {key: free, rate_limit: {unlimited: true}}
  - {key: shared, value: s*, share_threshold: true, rate_limit: {unit: year, requests_per_unit: 5}}
  - {key: replacing, rate_limit: {unit: year, requests_per_unit: 5, replaces: [{name: five}]}}
";

#[test]
fn an_override_takes_the_place_of_the_rule() {
    for algorithm in ["token_bucket", "fixed_window"] {
        let environment = [("DEFAULT_ALGORITHM", algorithm)];
        on_every_store(OVERRIDDEN, &environment, |server, store| {
            let store = &format!("{algorithm} on {store}");
            rows(
                server,
                store,
                &[
                    ("five=a limit=10/year x3", "OK: OK 7 of 10/year"),
                    // Neither the rule's bucket nor its name.
                    ("five=a", "OK: OK 4 of 5/year (five)"),
                    ("five=a limit=10/year x7", "OK: OK 0 of 10/year"),
                    ("five=a limit=10/year", "OVER: OVER 0 of 10/year"),
                    // The same entries and unit are the same bucket, whatever the number.
                    ("five=a limit=12/year", "OK: OK 1 of 12/year"),
                    ("five=a limit=2/2year", "OK: OK 1 of 2/2year"),
                    ("five=b limit=12/year", "OK: OK 11 of 12/year"),
                    // No rule need be there.
                    ("any=a,thing=b limit=3/year", "OK: OK 2 of 3/year"),
                    (" limit=3/year", "OK: OK 2 of 3/year"),
                    // What the rule says otherwise does not count.
                    ("shadow=a limit=0/year", "OVER: OVER 0 of 0/year never"),
                    ("free=a limit=1/year", "OK: OK 0 of 1/year"),
                    ("free=a limit=1/year", "OVER: OVER 0 of 1/year"),
                    ("shared=s1 limit=3/year", "OK: OK 2 of 3/year"),
                    ("shared=s2 limit=3/year", "OK: OK 2 of 3/year"),
                ],
            );
            // Of two limits for one bucket, the stricter one counts for the sum, whatever their order.
            for (bucket, order) in [("pair=a", ["10", "2"]), ("pair=b", ["2", "10"])] {
                let pair = order.map(|limit| format!("{bucket} limit={limit}/year"));
                let pair = || ask("d", &pair.each_ref().map(String::as_str));
                let [one, other] = order;
                let expected = format!("OK: OK 0 of {one}/year | OK 0 of {other}/year");
                check(server, store, pair(), &expected);
                let expected = format!("OVER: OVER 0 of {one}/year | OVER 0 of {other}/year");
                check(server, store, pair(), &expected);
            }
            let nothing = ["pair=c limit=10/year", "pair=c limit=0/year"];
            let expected = "OVER: OVER 0 of 10/year never | OVER 0 of 0/year never";
            check(server, store, ask("d", &nothing), expected);
            let request = ask("d", &["quota=a limit=0/year", "quota=b"]);
            let expected = "OVER: OVER 0 of 0/year never | OK 5 of 5/year";
            check(server, store, request, expected);
        });
    }
}

#[test]
fn an_override_may_have_every_unit() {
    on_every_store(OVERRIDDEN, &[], |server, store| {
        for unit in ["minute", "hour", "day", "week", "month", "year"] {
            let descriptor = format!("five=x limit=9/{unit}");
            let expected = format!("OK: OK 8 of 9/{unit}");
            check(server, store, ask("d", &[&descriptor]), &expected);
        }
        // The numbers on the wire, week being the last to have come.
        for (number, unit) in
            (1..).zip(["second", "minute", "hour", "day", "month", "year", "week"])
        {
            let mut request = ask("d", &[&format!("five={unit} limit=1/day")]);
            request.descriptors[0].limit.as_mut().unwrap().unit = number;
            check(server, unit, request, &format!("OK: OK 0 of 1/{unit}"));
        }
        // The reference dies of a unit that it does not know.
        for unknown in [0, 8] {
            let mut request = ask("d", &["five=x limit=1/day"]);
            request.descriptors[0].limit.as_mut().unwrap().unit = unknown;
            check(server, store, request, "OVER: ");
        }
    });
}
