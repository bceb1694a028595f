//! The modes of rules and of the server: unlimited, replaced, shadow, quota; and the hits of a
//! request.

use crate::support::{ask, check, on_every_store, times};

// --- unlimited and replaces ---

const REPLACING: &str = "
domain: d
descriptors:
  - {key: user, rate_limit: {name: per-user, unit: year, requests_per_unit: 5}}
  - {key: path, rate_limit: {name: per-path, unit: year, requests_per_unit: 6}}
  - {key: twin, rate_limit: {name: per-user, unit: year, requests_per_unit: 7}}
  - {key: banned, rate_limit: {name: banned, unit: year, requests_per_unit: 0, replaces: [{name: per-user}]}}
  - {key: vip, rate_limit: {name: vip, unit: year, requests_per_unit: 9, replaces: [{name: per-user}, {name: per-path}]}}
  - {key: free, rate_limit: {name: free, unlimited: true, replaces: [{name: per-user}]}}
  - {key: thaw, rate_limit: {unit: year, requests_per_unit: 2, replaces: [{name: free}, {name: nobody}]}}
  - {key: left, rate_limit: {name: left, unit: year, requests_per_unit: 3, replaces: [{name: right}]}}
  - {key: right, rate_limit: {name: right, unit: year, requests_per_unit: 3, replaces: [{name: left}]}}
  - key: both
    rate_limit:
      - {name: per-user, unit: year, requests_per_unit: 1}
      - {name: other, unit: year, requests_per_unit: 4}
  - {key: quota, quota_mode: true, rate_limit: {name: q, unit: year, requests_per_unit: 0}}
  - {key: noquota, rate_limit: {unit: year, requests_per_unit: 8, replaces: [{name: q}]}}
";

#[test]
fn an_unlimited_rule_passes_everything() {
    on_every_store(REPLACING, &[], |server, store| {
        for row in 0..3 {
            let request = times(u32::MAX, ask("d", &["free=x"]));
            check(
                server,
                &format!("{row} on {store}"),
                request,
                "OK: OK unlimited",
            );
        }
        let request = ask("d", &["free=x x-5", "free=x x0"]);
        check(server, store, request, "OK: OK unlimited | OK unlimited");
    });
}

#[test]
fn a_replaced_limit_does_not_apply_to_the_request() {
    on_every_store(REPLACING, &[], |server, store| {
        let row = |descriptors: &[&str], expected| {
            let row = format!("{descriptors:?} on {store}");
            check(server, &row, ask("d", descriptors), expected);
        };
        row(&["vip=x", "user=u"], "OK: OK 8 of 9/year (vip) | OK");
        // The order of descriptors does not matter.
        row(&["user=u", "vip=x"], "OK: OK | OK 7 of 9/year (vip)");
        row(
            &["user=u", "vip=x", "path=p"],
            "OK: OK | OK 6 of 9/year (vip) | OK",
        );
        // All limits of that name are meant.
        row(
            &["user=u", "twin=t", "vip=x"],
            "OK: OK | OK | OK 5 of 9/year (vip)",
        );
        // What was replaced was not charged, and applies again without the other.
        row(&["user=u"], "OK: OK 4 of 5/year (per-user)");
        row(&["path=p"], "OK: OK 5 of 6/year (per-path)");
        // The one that replaces may deny.
        row(
            &["banned=b", "user=u"],
            "OVER: OVER 0 of 0/year (banned) never | OK",
        );
        row(&["user=u"], "OK: OK 3 of 5/year (per-user)");
        // An unlimited rule replaces, but cannot be replaced; unknown names are no harm.
        row(&["free=x", "user=u"], "OK: OK unlimited | OK");
        row(&["thaw=x", "free=x"], "OK: OK 1 of 2/year | OK unlimited");
        // Each replaced by the other, both go.
        row(&["left=x", "right=x"], "OK: OK | OK");
        row(&["left=x"], "OK: OK 2 of 3/year (left)");
        // Of a list, only the limit of that name goes.
        row(
            &["both=x", "vip=x"],
            "OK: OK 3 of 4/year (other) | OK 4 of 9/year (vip)",
        );
        row(&["both=x"], "OK: OK 0 of 1/year (per-user)");
        // A replaced quota does not count as one.
        row(&["quota=x", "noquota=x"], "OK: OK | OK 7 of 8/year");
    });
}

#[test]
fn an_override_is_not_replaced_and_replaces_nothing() {
    on_every_store(REPLACING, &[], |server, store| {
        let row = |descriptors: &[&str], expected| {
            let row = format!("{descriptors:?} on {store}");
            check(server, &row, ask("d", descriptors), expected);
        };
        row(
            &["vip=x", "user=u limit=3/day"],
            "OK: OK 8 of 9/year (vip) | OK 2 of 3/day",
        );
        row(
            &["vip=x limit=3/day", "user=u"],
            "OK: OK 2 of 3/day | OK 4 of 5/year (per-user)",
        );
    });
}

// --- Shadow mode ---

/// Descriptors with hits and without come in turn below, which would be read as questions and reports.
const PREPAID: [(&str, &str); 1] = [("DEFAULT_HITS", "prepaid")];

const MODES: &str = "
domain: d
descriptors:
  - {key: must, rate_limit: {unit: year, requests_per_unit: 2}}
  - {key: other, rate_limit: {unit: year, requests_per_unit: 2}}
  - {key: shadow, shadow_mode: true, rate_limit: {unit: year, requests_per_unit: 2}}
  - {key: quota, quota_mode: true, rate_limit: {unit: year, requests_per_unit: 2}}
  - {key: larger, quota_mode: true, rate_limit: {unit: year, requests_per_unit: 3}}
  - key: two
    quota_mode: true
    rate_limit: [{unit: year, requests_per_unit: 3}, {unit: week, requests_per_unit: 1}]
  - {key: ghost, quota_mode: true, shadow_mode: true, rate_limit: {unit: year, requests_per_unit: 0}}
  - {key: free, rate_limit: {unlimited: true}}
";

#[test]
fn a_shadow_rule_counts_but_never_denies() {
    on_every_store(MODES, &PREPAID, |server, store| {
        let row = |descriptors: &[&str], expected| {
            let row = format!("{descriptors:?} on {store}");
            check(server, &row, ask("d", descriptors), expected);
        };
        row(&["shadow=s"], "OK: OK 1 of 2/year");
        row(&["shadow=s"], "OK: OK 0 of 2/year");
        row(&["shadow=s"], "OK: OK 0 of 2/year");
        row(
            &["shadow=s", "must=m"],
            "OK: OK 0 of 2/year | OK 1 of 2/year",
        );
        // More than is left takes nothing, as everywhere; the reference shows 0 then.
        row(&["shadow=t x3"], "OK: OK 2 of 2/year never");
        row(
            &["shadow=t", "must=m x2"],
            "OVER: OK 2 of 2/year | OVER 0 of 2/year",
        );
        row(
            &["shadow=s", "must=m x2"],
            "OVER: OK 1 of 2/year | OVER 0 of 2/year",
        );
    });
}

#[test]
fn global_shadow_mode_lets_every_request_pass() {
    on_every_store(MODES, &[("SHADOW_MODE", "true")], |server, store| {
        let row = |descriptors: &[&str], expected| {
            let row = format!("{descriptors:?} on {store}");
            check(server, &row, ask("d", descriptors), expected);
        };
        row(&["must=m x2", "none=n"], "OK: OK 0 of 2/year | OK");
        // The statuses tell what would have been.
        row(&["must=m", "none=n"], "OK: OVER 0 of 2/year | OK");
        row(
            &["must=m", "quota=q"],
            "OK: OVER 0 of 2/year | OK 2 of 2/year",
        );
        row(&["quota=q x3"], "OK: OVER 0 of 2/year never");
    });
}

// --- Quota mode ---

#[test]
fn a_request_is_denied_only_when_all_its_quotas_are() {
    on_every_store(MODES, &[], |server, store| {
        let row = |descriptors: &[&str], expected| {
            let row = format!("{descriptors:?} on {store}");
            check(server, &row, ask("d", descriptors), expected);
        };
        row(
            &["quota=q", "larger=l"],
            "OK: OK 1 of 2/year | OK 2 of 3/year",
        );
        row(
            &["quota=q", "larger=l"],
            "OK: OK 0 of 2/year | OK 1 of 3/year",
        );
        row(
            &["quota=q", "larger=l"],
            "OK: OVER 0 of 2/year | OK 0 of 3/year",
        );
        row(
            &["quota=q", "larger=l"],
            "OVER: OVER 0 of 2/year | OVER 0 of 3/year",
        );
        row(&["quota=q"], "OVER: OVER 0 of 2/year");
        // Rules that are no quotas neither help nor go under.
        row(
            &["must=m", "quota=q"],
            "OVER: OK 2 of 2/year | OVER 0 of 2/year",
        );
        row(
            &["must=m", "quota=r"],
            "OK: OK 1 of 2/year | OK 1 of 2/year",
        );
        row(
            &["must=m x2", "quota=r"],
            "OVER: OVER 0 of 2/year | OK 1 of 2/year",
        );
        row(
            &["free=f", "none=n", "quota=q"],
            "OVER: OK unlimited | OK | OVER 0 of 2/year",
        );
        // A quota of two limits is denied by one of them.
        row(&["two=t"], "OK: OK 0 of 1/week");
        row(
            &["two=t", "quota=r"],
            "OK: OVER 0 of 1/week | OK 0 of 2/year",
        );
        row(
            &["two=t", "quota=r"],
            "OVER: OVER 0 of 1/week | OVER 0 of 2/year",
        );
        // A quota in shadow mode always passes, and so does the request.
        row(
            &["ghost=g", "quota=r"],
            "OK: OK 0 of 0/year never | OVER 0 of 2/year",
        );
    });
}

#[test]
fn global_quota_mode_makes_every_limit_a_quota() {
    on_every_store(MODES, &[("QUOTA_MODE", "true")], |server, store| {
        let row = |descriptors: &[&str], expected| {
            let row = format!("{descriptors:?} on {store}");
            check(server, &row, ask("d", descriptors), expected);
        };
        row(
            &["must=m x2", "other=o x2"],
            "OK: OK 0 of 2/year | OK 0 of 2/year",
        );
        row(
            &["must=m", "other=o"],
            "OVER: OVER 0 of 2/year | OVER 0 of 2/year",
        );
        row(
            &["must=m", "other=p"],
            "OK: OVER 0 of 2/year | OK 1 of 2/year",
        );
        row(&["must=m"], "OVER: OVER 0 of 2/year");
        row(
            &["must=m", "quota=q"],
            "OK: OVER 0 of 2/year | OK 1 of 2/year",
        );
        row(
            &["must=m limit=0/day", "other=o"],
            "OVER: OVER 0 of 0/day never | OVER 0 of 2/year",
        );
        // A descriptor that no limit applies to passes, one that is unlimited does not count.
        row(&["must=m", "none=n"], "OK: OVER 0 of 2/year | OK");
        row(
            &["must=m", "free=f"],
            "OVER: OVER 0 of 2/year | OK unlimited",
        );
    });
}

#[test]
fn both_global_modes_together_let_pass() {
    let both = [("SHADOW_MODE", "true"), ("QUOTA_MODE", "true")];
    on_every_store(MODES, &both, |server, store| {
        let request = ask("d", &["must=m x3", "other=o x3"]);
        let expected = "OK: OVER 0 of 2/year never | OVER 0 of 2/year never";
        check(server, store, request, expected);
    });
}

// --- Hits ---

const HITS: &str = "
domain: d
descriptors:
  - {key: ten, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: files, value: f*, share_threshold: true, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: window, rate_limit: {unit: year, requests_per_unit: 10, algorithm: fixed_window}}
";

#[test]
fn hits_are_those_of_the_descriptor_else_of_the_request_else_one() {
    on_every_store(HITS, &PREPAID, |server, store| {
        for key in ["ten", "window"] {
            let row = |request, descriptor: &str, expected| {
                let row = format!("{descriptor} of {key} on {store}");
                let descriptor = format!("{key}={descriptor}");
                check(
                    server,
                    &row,
                    times(request, ask("d", &[&descriptor])),
                    expected,
                );
            };
            row(0, "a", "OK: OK 9 of 10/year");
            row(1, "a", "OK: OK 8 of 10/year");
            row(3, "a", "OK: OK 5 of 10/year");
            row(9, "a x2", "OK: OK 3 of 10/year");
            // Not a part of them is taken.
            row(0, "a x4", "OVER: OVER 0 of 10/year");
            row(0, "a x3", "OK: OK 0 of 10/year");
            row(0, "a", "OVER: OVER 0 of 10/year");
            // More than the capacity will never pass, so no time is promised.
            row(11, "b", "OVER: OVER 0 of 10/year never");
            row(u32::MAX, "b", "OVER: OVER 0 of 10/year never");
            row(0, "b x9223372036854775807", "OVER: OVER 0 of 10/year never");
            row(10, "b", "OK: OK 0 of 10/year");
        }
    });
}

#[test]
fn zero_hits_ask_without_taking() {
    on_every_store(HITS, &[], |server, store| {
        for key in ["ten", "window"] {
            let row = |descriptor: &str, expected| {
                let row = format!("{descriptor} of {key} on {store}");
                let descriptor = format!("{key}={descriptor}");
                check(server, &row, ask("d", &[&descriptor]), expected);
            };
            row("a x10", "OK: OK 0 of 10/year");
            // The reference admits at exactly empty; here the answer is that of a hit.
            row("a x0", "OVER: OVER 0 of 10/year");
            row("b x0", "OK: OK 10 of 10/year");
            row("b x0", "OK: OK 10 of 10/year");
        }
    });
}

#[test]
fn negative_hits_give_back() {
    on_every_store(HITS, &PREPAID, |server, store| {
        for key in ["ten", "window"] {
            let row = |descriptor: &str, expected| {
                let row = format!("{descriptor} of {key} on {store}");
                let descriptor = format!("{key}={descriptor}");
                check(server, &row, ask("d", &[&descriptor]), expected);
            };
            row("a x-3", "OK: OK 10 of 10/year");
            row("a x4", "OK: OK 6 of 10/year");
            row("a x-1", "OK: OK 7 of 10/year");
            // Never more than there was to begin with.
            row("a x-99", "OK: OK 10 of 10/year");
            row("a x10", "OK: OK 0 of 10/year");
            row("a x-9223372036854775807", "OK: OK 10 of 10/year");
            row("a", "OK: OK 9 of 10/year");
        }
        // A denied request gives back what it says it does.
        let denied = ask("d", &["ten=c x11", "ten=a x4"]);
        let expected = "OVER: OVER 0 of 10/year never | OK 9 of 10/year";
        check(server, store, denied, expected);
        let returned = ask("d", &["ten=c x11", "ten=a x-1"]);
        let expected = "OVER: OVER 0 of 10/year never | OK 10 of 10/year";
        check(server, store, returned, expected);
    });
}

#[test]
fn negative_hits_count_for_every_descriptor_that_says_so() {
    on_every_store(HITS, &[], |server, store| {
        check(
            server,
            store,
            ask("d", &["ten=a x5"]),
            "OK: OK 5 of 10/year",
        );
        let mut request = times(3, ask("d", &["ten=a", "ten=b"]));
        request.descriptors[0].is_negative_hits = true;
        check(
            server,
            store,
            request,
            "OK: OK 8 of 10/year | OK 7 of 10/year",
        );
    });
}

#[test]
fn the_same_bucket_twice_is_charged_the_sum() {
    // The reference charges one after the other and admits the first; all or nothing cannot.
    on_every_store(HITS, &[], |server, store| {
        let row = |descriptors: &[&str], expected| {
            let row = format!("{descriptors:?} on {store}");
            check(server, &row, ask("d", descriptors), expected);
        };
        row(&["ten=a", "ten=a"], "OK: OK 8 of 10/year | OK 8 of 10/year");
        row(
            &["ten=a x3", "ten=a x4"],
            "OK: OK 1 of 10/year | OK 1 of 10/year",
        );
        row(
            &["ten=a", "ten=a"],
            "OVER: OVER 0 of 10/year | OVER 0 of 10/year",
        );
        row(
            &["ten=a x2", "ten=a x-1"],
            "OK: OK 0 of 10/year | OK 0 of 10/year",
        );
        row(
            &["files=f1", "files=f2"],
            "OK: OK 8 of 10/year | OK 8 of 10/year",
        );
        row(
            &["ten=b limit=5/day", "ten=b limit=5/day", "ten=b"],
            "OK: OK 3 of 5/day | OK 3 of 5/day | OK 9 of 10/year",
        );
    });
}
