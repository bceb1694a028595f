//! Rate limit headers that the server adds to responses.

use std::collections::BTreeMap;

use ratekeeper::service::pb::RateLimitResponse;

use crate::support::{Ratekeeper, ask, on_every_store};

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
fn shown_headers(response: &RateLimitResponse) -> String {
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
            assert_eq!(
                shown_headers(&response),
                expected,
                "{descriptors:?} on {store}"
            );
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
        // A quota that is over is shown only when it has the least left.
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
