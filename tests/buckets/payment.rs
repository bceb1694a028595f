//! When hits are taken: prepaid, postpaid, given back.

use super::{DAY, reset, rows};
use crate::support::{Ratekeeper, ask, check, on_every_store};

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
