//! Limits that requests bring.

use super::rows;
use crate::support::{ask, check, on_every_store};

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
