//! Values with wildcards.

use super::WILDCARDS;
use crate::support::{ask, check, on_every_store};

#[test]
fn a_star_matches_any_text() {
    on_every_store(WILDCARDS, &[], |server, store| {
        let row = |descriptor, expected| {
            let row = format!("{descriptor} on {store}");
            check(server, &row, ask("wild", &[descriptor]), expected);
        };
        for matching in ["end=foo", "end=foo1", "end=foo2", "end=foo*"] {
            row(matching, "OK: OK 10 of 11/year");
        }
        for matching in ["middle=barb", "middle=barab", "middle=bar123b"] {
            row(matching, "OK: OK 13 of 14/year");
        }
        for matching in [
            "many=foobarbaz",
            "many=foo123bar456baz",
            "many=foobarbarbaz",
        ] {
            row(matching, "OK: OK 14 of 15/year");
        }
        row("start=a.png", "OK: OK 15 of 16/year");
        row("start=.png", "OK: OK 15 of 16/year");
        row("any=", "OK: OK 16 of 17/year");
        row("any=thing", "OK: OK 16 of 17/year");
        row("dots=a.c", "OK: OK 17 of 18/year");
        row("x-user=ann", "OK: OK 18 of 19/year");
        row("x-=", "OK: OK 18 of 19/year");
        row("outer=one,inner=goo2", "OK: OK 24 of 25/year");
        for other in [
            "end=fo",
            "end=bar",
            "end=xfoo",
            "plain=foo1",
            "middle=bara",
            "middle=xbarb",
            "middle=ba",
            "many=foo123baz",
            "many=bar456baz",
            "start=png",
            "dots=abc",
            "y-user=ann",
            "outer=two,inner=goo2",
            "outer=one,inner=go",
        ] {
            row(other, "OK: OK");
        }
    });
}

#[test]
fn exact_comes_before_wildcards_in_their_order_before_the_key_alone() {
    on_every_store(WILDCARDS, &[], |server, store| {
        let row = |descriptor, expected| {
            let row = format!("{descriptor} on {store}");
            check(server, &row, ask("wild", &[descriptor]), expected);
        };
        row("order=aaaa", "OK: OK 23 of 24/year");
        // The first that matches, not the longest.
        row("order=aaab", "OK: OK 21 of 22/year");
        row("order=b", "OK: OK 20 of 21/year");
        // What was taken is not reconsidered when it turns out to lead nowhere.
        row("stuck=exact,only=this", "OK: OK 25 of 26/year");
        row("stuck=exact,only=that", "OK: OK");
        row("stuck=exact", "OK: OK");
        row("stuck=else,only=that", "OK: OK 27 of 28/year");
        row("stuck=else", "OK: OK 26 of 27/year");
        row("stuck=other,only=that", "OK: OK");
        row("stuck=other", "OK: OK 28 of 29/year");
    });
}

#[test]
fn every_value_of_a_wildcard_or_a_key_has_a_bucket_of_its_own() {
    on_every_store(WILDCARDS, &[], |server, store| {
        for descriptor in [
            "end=foo", "end=foo1", "alone=1", "alone=2", "x-a=1", "x-b=1",
        ] {
            let row = format!("{descriptor} on {store}");
            let response = server.ask(ask("wild", &[descriptor])).unwrap();
            let full = response.statuses[0].current_limit.as_ref().unwrap();
            let left = full.requests_per_unit - 1;
            assert_eq!(response.statuses[0].limit_remaining, left, "{row}");
        }
    });
}
