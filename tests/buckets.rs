//! What the limits of ratekeeper can do that those of the reference cannot, and limits that requests
//! bring themselves.

mod overrides;
mod payment;

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
