//! Hits that a route sets, and costs that it reports when the stream is done.

use serde_json::json;

use super::{DAY, check, checked, generic_key, on_every_store, plan};
use crate::support::{Plan, Route, eventually, extension};

#[test]
fn hits_addend_of_a_route_takes_that_many() {
    let work = |value| json!([generic_key("work", value)]);
    let by_number = json!([{"actions": work("number"), "hits_addend": {"number": 4}}]);
    let by_format =
        json!([{"actions": work("format"), "hits_addend": {"format": "%REQ(x-hits)%"}}]);
    let refund = json!([{
        "actions": work("format"),
        "hits_addend": {"number": 5, "is_negative_hits": true},
    }]);
    let plan = Plan {
        routes: vec![
            Route::new("/number", by_number),
            Route::new("/format", by_format),
            Route::new("/refund", refund),
        ],
        ..Plan::default()
    };
    on_every_store(&[], &plan, |mesh| {
        assert_eq!(mesh.envoy.statuses(3, "/number", &[]), [200, 200, 429]);

        // What is denied takes nothing: after 6 of 10, 5 do not fit, and 4 still do.
        let take = |hits| mesh.envoy.get("/format", &[("x-hits", hits)]).status;
        assert_eq!(["6", "5", "4", "1"].map(take), [200, 429, 200, 429]);

        // Five are given back, and are there to be taken again, once.
        assert_eq!(mesh.envoy.get("/refund", &[]).status, 200);
        assert_eq!(["5", "1"].map(take), [200, 429]);
    });
}

/// What clients write into a header that hits are read from is no error, which would be a 500 here.
#[test]
fn hits_that_are_none_are_decided() {
    let limits = json!([{
        "actions": [generic_key("work", "format")],
        "hits_addend": {"format": "%REQ(x-hits)%"},
    }]);
    on_every_store(&[], &plan("/", limits), |mesh| {
        for hits in [
            "18446744073709551615",
            "18446744073709551616",
            "99999999999999999999999",
            "-1",
            "-0",
            "1e9",
            "0x10",
            "1.5",
            "NaN",
            "abc",
            ",",
            "4294967296",
        ] {
            let status = mesh.envoy.get("/", &[("x-hits", hits)]).status;
            assert!([200, 429].contains(&status), "{hits}: {status}");
        }
        // None of them has taken what it did not get, nor made the limit forget what was taken.
        let left = check(&mesh.ratekeeper, "work", "format").limit_remaining;
        let denied = mesh.envoy.get("/", &[("x-hits", "11")]);
        assert_eq!(denied.status, 429);
        assert_eq!(
            check(&mesh.ratekeeper, "work", "format").limit_remaining,
            left
        );
    });
}

/// Envoy's pattern for costs that are known only afterwards (Envoy Gateway's cost by response, tokens
/// of a language model): a request is checked with zero hits, and when its stream is done the true
/// cost is reported. A cost above what is left must count, or the limit would never bite.
#[test]
fn cost_reported_when_the_stream_is_done_holds_the_limit() {
    let actions = json!([generic_key("tokens", "ann")]);
    let limits = json!([
        {"actions": actions, "hits_addend": {"number": 0}},
        {
            "actions": actions,
            "hits_addend": {"format": "%DYNAMIC_METADATA(cost:tokens)%"},
            "apply_on_stream_done": true,
        },
    ]);
    let cost_of_response = extension(
        "envoy.filters.http.header_to_metadata",
        "envoy.extensions.filters.http.header_to_metadata.v3.Config",
        json!({"response_rules": [{
            "header": "x-cost",
            "on_header_present": {"metadata_namespace": "cost", "key": "tokens", "type": "NUMBER"},
        }]}),
    );
    let plan = Plan {
        filters_before: vec![cost_of_response],
        ..plan("/", limits)
    };
    on_every_store(&[], &plan, |mesh| {
        // Envoy reports after it has answered, so the bucket is watched until the report is in.
        let remaining = || check(&mesh.ratekeeper, "tokens", "ann").limit_remaining;
        let spend = |cost| mesh.envoy.get("/", &[("x-cost", cost)]);

        let reply = spend("60");
        assert_eq!((reply.status, reply.header("x-cost")), (200, "60"));
        assert_eq!(reply.header("x-ratelimit-remaining"), "100");
        eventually("60 of 100 are taken", || remaining() == 40);

        // 40 are left, so the check passes; the 100 that it then costs leave a debt of 60.
        assert_eq!(spend("100").status, 200);
        eventually("all are taken", || remaining() == 0);
        for _ in 0..3 {
            let reply = spend("1");
            assert_eq!(
                (reply.status, reply.header("x-ratelimit-remaining")),
                (429, "0")
            );
            // A hundredth of a day for each token of the debt, and for the one to be left then.
            let told: u64 = reply.header("x-ratelimit-reset").parse().unwrap();
            assert!(
                (60 * DAY / 100..=61 * DAY / 100).contains(&told),
                "{told} s"
            );
        }
    });
}

/// Envoy AI Gateway's `QuotaPolicy`: at the request, entries without hits; when the stream is done, the same entries with
/// the tokens that it cost.
#[test]
fn the_tokens_of_the_first_request_are_taken_though_it_only_asked() {
    let actions = json!([
        generic_key("backend_name", "openai"),
        generic_key("model_name_override", "gpt"),
    ]);
    let limits = json!([
        {"actions": actions},
        {"actions": actions, "hits_addend": {"format": "%RESP(x-cost)%"}, "apply_on_stream_done": true},
    ]);
    on_every_store(&[], &plan("/", limits), |mesh| {
        let entries = [("backend_name", "openai"), ("model_name_override", "gpt")];
        let spend = |cost| mesh.envoy.get("/", &[("x-cost", cost)]).status;
        assert_eq!(spend("20"), 200);
        eventually("the report is in", || {
            checked(&mesh.ratekeeper, &entries).limit_remaining == 0
        });
        for _ in 0..5 {
            assert_eq!(spend("5"), 429);
        }
    });
}

/// An estimate at the request; when the stream is done, the estimate back and the cost. A denied request ends, too, and
/// gives its estimate back.
#[test]
fn estimates_of_denied_requests_give_nothing_back() {
    let actions = json!([generic_key("credit", "ann")]);
    let limits = json!([
        {"actions": actions, "hits_addend": {"format": "%REQ(x-estimate)%"}},
        {
            "actions": actions,
            "hits_addend": {"format": "%REQ(x-estimate)%", "is_negative_hits": true},
            "apply_on_stream_done": true,
        },
        {"actions": actions, "hits_addend": {"format": "%RESP(x-cost)%"}, "apply_on_stream_done": true},
    ]);
    on_every_store(&[], &plan("/", limits), |mesh| {
        let statuses = (0..10).map(|_| {
            let headers = [("x-estimate", "100"), ("x-cost", "37")];
            let status = mesh.envoy.get("/", &headers).status;
            eventually("the end of the request is in", || {
                check(&mesh.ratekeeper, "credit", "ann").limit_remaining == 63
            });
            status
        });
        let statuses: Vec<u16> = statuses.collect();
        assert_eq!(statuses, [200, 429, 429, 429, 429, 429, 429, 429, 429, 429]);
    });
}
