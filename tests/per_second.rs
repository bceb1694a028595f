//! Limits of a second in a Redis of their own.

use tokio::runtime::Runtime;

use crate::fleet::flood;
use crate::support::{Ratekeeper, Redis, ask, check, eventually};

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
    let environment = [
        ("REDIS_URL", others.url()),
        ("REDIS_TIMEOUT", timeout.to_owned()),
        ("REDIS_PERSECOND", "true".to_owned()),
        ("REDIS_PERSECOND_URL", seconds.url()),
        ("REDIS_PERSECOND_TIMEOUT", timeout.to_owned()),
        ("STORE_FAILURE_MODE", "error".to_owned()),
        // What is given back is in line before its request is answered, in the line of one thread.
        ("WORKER_THREADS", "1".to_owned()),
    ];
    Ratekeeper::start(RULES, environment)
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
