//! Limits of a second in a Redis of their own.

use tokio::runtime::Runtime;

use crate::fleet::flood;
use ratekeeper::service::pb::rate_limit_response::Code;
use tonic::Code as Failure;

use crate::support::{Ratekeeper, Redis, Scrape, ask, check, eventually, json_of};

const RULES: &str = "
domain: d
descriptors:
  - {key: often, rate_limit: {unit: second, requests_per_unit: 1, unit_multiplier: 40000}}
  - {key: daily, rate_limit: {unit: day, requests_per_unit: 3}}
  - key: both
    rate_limit:
      - {unit: second, requests_per_unit: 2, unit_multiplier: 40000}
      - {unit: day, requests_per_unit: 5}
  - {key: plenty, rate_limit: {unit: second, requests_per_unit: 100000, unit_multiplier: 3000000}}
  - {key: scarce, rate_limit: {unit: year, requests_per_unit: 700}}
";

fn server(seconds: &Redis, others: &Redis) -> Ratekeeper {
    server_within("10s", seconds, others)
}

fn server_within(timeout: &str, seconds: &Redis, others: &Redis) -> Ratekeeper {
    server_by("error", timeout, seconds, others)
}

/// A server with this failure policy.
fn server_by(mode: &str, timeout: &str, seconds: &Redis, others: &Redis) -> Ratekeeper {
    let environment = [
        ("REDIS_URL", others.url()),
        ("REDIS_TIMEOUT", timeout.to_owned()),
        ("REDIS_PERSECOND", "true".to_owned()),
        ("REDIS_PERSECOND_URL", seconds.url()),
        ("REDIS_PERSECOND_TIMEOUT", timeout.to_owned()),
        ("STORE_FAILURE_MODE", mode.to_owned()),
        ("RESPONSE_DYNAMIC_METADATA", "true".to_owned()),
        // What is given back is in line before its request is answered, in the line of one thread.
        ("WORKER_THREADS", "1".to_owned()),
    ];
    let scrape = Scrape::environment().map(|(name, value)| (name, value.to_owned()));
    Ratekeeper::start(RULES, environment.into_iter().chain(scrape))
}

fn keys(redis: &Redis) -> Vec<String> {
    let mut keys: Vec<String> = Runtime::new()
        .unwrap()
        .block_on(redis.run(&["KEYS", "rk:d|*"]));
    keys.sort();
    keys
}

#[test]
fn buckets_are_where_the_unit_says() {
    let (seconds, others) = (Redis::start(), Redis::start());
    let server = server(&seconds, &others);
    check(
        &server,
        "a second",
        ask("d", &["often=1"]),
        "OK: OK 0 of 1/40000second",
    );
    check(
        &server,
        "a day",
        ask("d", &["daily=1"]),
        "OK: OK 2 of 3/day",
    );
    check(
        &server,
        "both",
        ask("d", &["both=1"]),
        "OK: OK 1 of 2/40000second",
    );
    assert_eq!(keys(&seconds), ["rk:d|both=1", "rk:d|often=1"]);
    assert_eq!(keys(&others), ["rk:d|both=1#1", "rk:d|daily=1"]);
}

#[test]
fn what_one_denies_is_given_back_to_the_other() {
    let (seconds, others) = (Redis::start(), Redis::start());
    let server = server(&seconds, &others);
    for left in [2, 1, 0] {
        let expected = format!("OK: OK {left} of 3/day");
        check(&server, "taken", ask("d", &["daily=1"]), &expected);
    }
    // The day is over, so the second must keep its token; whichever of them is asked first.
    for i in 0..20 {
        let both = [format!("often={i}"), "daily=1".to_owned()];
        let both: Vec<&str> = both.iter().map(String::as_str).collect();
        let answer = server.ask(ask("d", &both)).unwrap();
        assert_eq!(answer.statuses[0].limit_remaining, 1, "{answer:?}");
        assert_ne!(answer.overall_code, 1, "{answer:?}");
        check(
            &server,
            "kept",
            ask("d", &[both[0]]),
            "OK: OK 0 of 1/40000second",
        );
    }
    let told = || {
        let metrics = server.debug().get("/metrics").body;
        ["given_back", "lost"].map(|outcome| {
            let series = format!("ratekeeper_give_backs_total{{outcome=\"{outcome}\"}} ");
            let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
            value.unwrap().parse::<u32>().unwrap()
        })
    };
    // Not all of them: some are denied by what was known to be empty.
    eventually("it is counted", || told()[0] > 0);
    assert_eq!(told()[1], 0);
}

#[test]
fn one_that_is_gone_fails_what_needs_it_and_nothing_else() {
    let (seconds, others) = (Redis::start(), Redis::start());
    let server = server_within("2s", &seconds, &others);
    eventually("it decides both", || {
        server.ask(ask("d", &["both=2"])).is_ok()
    });
    check(
        &server,
        "both",
        ask("d", &["both=1"]),
        "OK: OK 1 of 2/40000second",
    );
    drop(seconds);
    check(
        &server,
        "a day",
        ask("d", &["daily=1"]),
        "OK: OK 2 of 3/day",
    );
    assert!(server.ask(ask("d", &["both=1"])).is_err());
    // The token of the day was given back: four were left, and are.
    let left = || {
        let bucket: Vec<u8> = Runtime::new()
            .unwrap()
            .block_on(others.run(&["GET", "rk:d|both=1#1"]));
        f64::from_le_bytes(bucket[8..16].try_into().unwrap())
    };
    eventually("it is given back", || left() < 1.5);
}

/// Asks so often; how many requests were allowed, and how many of all responses name a failure policy. `None`: none of
/// them was decided.
fn allowed(server: &Ratekeeper, times: u32, descriptors: &[&str]) -> Option<(u32, u32)> {
    let (mut allowed, mut by_policy, mut failed) = (0, 0, 0);
    for _ in 0..times {
        match server.ask(ask("d", descriptors)) {
            Ok(answer) => {
                allowed += u32::from(answer.overall_code() == Code::Ok);
                let metadata = json_of(&answer.dynamic_metadata.unwrap());
                by_policy += u32::from(metadata.get("onStoreFailure").is_some());
            }
            Err(failure) => {
                assert_eq!(failure.code(), Failure::Unavailable, "{failure}");
                failed += 1;
            }
        }
    }
    assert!([0, times].contains(&failed), "{failed} of {times}");
    (failed == 0).then_some((allowed, by_policy))
}

/// What is used up in the Redis that is there is denied, and what it has left is given out, whatever the policy for the
/// other one says.
#[test]
fn policies_decide_only_what_is_in_the_redis_that_is_gone() {
    for mode in ["local", "allow", "deny", "error"] {
        let (seconds, others) = (Redis::start(), Redis::start());
        let server = server_by(mode, "10s", &seconds, &others);
        check(
            &server,
            mode,
            ask("d", &["daily=1 x3"]),
            "OK: OK 0 of 3/day",
        );
        drop(seconds);
        let (over, left) = (["plenty=x", "daily=1"], ["plenty=x", "daily=2"]);
        assert_eq!(allowed(&server, 30, &over), Some((0, 0)), "{mode}");
        let expected = match mode {
            // Three and no more, which is what the day has.
            "local" | "allow" => Some((3, 3)),
            "deny" => Some((0, 10)),
            _ => None,
        };
        assert_eq!(allowed(&server, 10, &left), expected, "{mode}");
        let day = match mode {
            "local" | "allow" => 0,
            _ => 3,
        };
        let answer = server.ask(ask("d", &["daily=2 x0"])).unwrap();
        assert_eq!(answer.statuses[0].limit_remaining, day, "{mode}");
        // With several limits on one rule, too: five a day, of which the other limit is none of the matter.
        let expected = match mode {
            // Two of a second, in this instance.
            "local" => Some((2, 10)),
            "allow" => Some((5, 5)),
            "deny" => Some((0, 10)),
            _ => None,
        };
        assert_eq!(allowed(&server, 10, &["both=1"]), expected, "{mode}");
        let by_policy = |verdict: &str| {
            let cause = format!("cause=\"fallback_{mode}\",verdict=\"{verdict}\"");
            Scrape::of(&server).value(&format!("ratekeeper_decisions_total{{{cause}}}"))
        };
        match mode {
            "local" => assert_eq!([by_policy("ok"), by_policy("over_limit")], [5.0, 8.0]),
            "allow" => assert_eq!([by_policy("ok"), by_policy("over_limit")], [8.0, 0.0]),
            "deny" => assert_eq!([by_policy("ok"), by_policy("over_limit")], [0.0, 20.0]),
            _ => {}
        }
    }
}

/// One that hangs is waited for until the deadline, and no longer.
#[test]
fn a_denial_stands_while_the_other_redis_hangs() {
    let (seconds, others) = (Redis::start(), Redis::start());
    let server = server_by("allow", "3s", &seconds, &others);
    check(
        &server,
        "used up",
        ask("d", &["daily=1 x3"]),
        "OK: OK 0 of 3/day",
    );
    check(
        &server,
        "both answer",
        ask("d", &["plenty=x", "daily=2"]),
        "OK: OK 99999 of 100000/3000000second | OK 2 of 3/day",
    );
    seconds.pause();
    assert_eq!(allowed(&server, 1, &["plenty=x", "daily=1"]), Some((0, 0)));
    assert_eq!(allowed(&server, 1, &["plenty=x", "daily=2"]), Some((1, 1)));
    seconds.resume();
    eventually("it was taken where it could be", || {
        let answer = server.ask(ask("d", &["daily=2 x0"])).unwrap();
        answer.statuses[0].limit_remaining == 1
    });
}

#[test]
fn a_fleet_takes_from_both_or_from_none() {
    let (seconds, others) = (Redis::start(), Redis::start());
    let fleet: Vec<Ratekeeper> = (0..3).map(|_| server(&seconds, &others)).collect();
    let counts = Runtime::new()
        .unwrap()
        .block_on(flood(&fleet, &ask("d", &["plenty=x", "scarce=x"])));
    assert_eq!(counts.admitted, 700, "{counts:?}");
    assert_eq!(counts.denied, counts.sent - 700, "{counts:?}");
    // What is still on its way back when the flood is over is there soon; a token flows in every 30 seconds.
    let gone = || {
        let answer = fleet[0].ask(ask("d", &["plenty=x x0"])).unwrap();
        100_000 - answer.statuses[0].limit_remaining
    };
    eventually("all that was taken in vain is back", || gone() <= 701);
    assert!(gone() >= 690, "{}", gone());
}
