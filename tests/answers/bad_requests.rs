//! Requests that cannot be decided.

use ratekeeper::service::pb::RateLimitRequest;
use ratekeeper::service::pb::rate_limit_descriptor::RateLimitOverride;
use tonic::Code;

use super::COUNTS;
use crate::support::{Ratekeeper, ask, check, on_every_store, typed};

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
