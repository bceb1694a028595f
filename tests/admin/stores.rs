//! Buckets of several servers and stores.

use serde_json::Value;

use super::{RULES, of, peek, set, shown, whose};
use crate::support::{Api, Ratekeeper, Redis, ask, check, eventually, times};

#[test]
fn another_server_sees_a_reset_although_it_remembers_the_denial() {
    let redis = Redis::start();
    let start = || {
        let environment = [
            ("REDIS_URL", redis.url()),
            ("REDIS_TIMEOUT", "20s".to_owned()),
            ("ADMIN_TOKEN", Api::environment().1.to_owned()),
        ];
        Ratekeeper::start(RULES, environment)
    };
    let (one, other) = (start(), start());
    let request = || ask("shop", &["client=a"]);
    check(&one, "all", times(10, request()), "OK: OK 0 of 10/year");
    for server in [&one, &other] {
        check(server, "denied", request(), "OVER: OVER 0 of 10/year");
        // From memory this time.
        check(server, "again", request(), "OVER: OVER 0 of 10/year");
    }
    Api::of(&one).post("/buckets/reset", &whose("client=a"));
    // Here at once; there when what is remembered is too old, which is a second at most.
    check(&one, "reset", request(), "OK: OK 9 of 10/year");
    eventually("the other server admits again", || {
        let answer = other.ask(request()).unwrap();
        answer.overall_code == 1
    });
}

#[test]
fn while_the_store_fails_it_is_said_who_decides() {
    let rules = "
domain: shop
descriptors:
  - {key: k, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: allow, on_store_failure: allow, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: deny, on_store_failure: deny, rate_limit: {unit: year, requests_per_unit: 10}}
  - {key: error, on_store_failure: error, rate_limit: {unit: year, requests_per_unit: 10}}
";
    let mut redis = Some(Redis::start());
    let environment = [
        ("REDIS_URL", redis.as_ref().unwrap().url()),
        ("LOCAL_FALLBACK_SHARE", "0.5".to_owned()),
        ("ADMIN_TOKEN", Api::environment().1.to_owned()),
    ];
    let mut server = Ratekeeper::start(rules, environment);
    let api = Api::of(&server);
    eventually("Redis decides", || {
        peek(&api, "k=a") == ["10 of 10 by buckets"]
    });
    assert_eq!(api.get("/status")["store"]["degraded"], false);
    redis.take();
    eventually("Redis is left alone", || {
        server.ask(ask("shop", &["allow=b"])).unwrap();
        api.get("/status")["store"]["degraded"] == true
    });
    server.wait_for_log("redis unavailable");
    check(
        &server,
        "local",
        ask("shop", &["k=a"]),
        "OK: OK 4 of 10/year",
    );
    assert_eq!(peek(&api, "k=a"), ["4 of 5 by fallback_local"]);
    let changed = api.post("/buckets/set", &set("k=a", 2));
    assert_eq!(shown(Api::bucket(&changed)), "2 of 5 by fallback_local");
    let changed = api.post("/buckets/reset", &whose("k=a"));
    assert_eq!(shown(Api::bucket(&changed)), "5 of 5 by fallback_local");
    assert_eq!(peek(&api, "allow=a"), ["5 of 5 by fallback_allow"]);
    assert_eq!(peek(&api, "deny=a"), ["0 of 5 by fallback_deny"]);
    for (descriptor, expected) in [
        ("allow=a", "(allow)"),
        ("deny=a", "(deny)"),
        ("error=a", "cannot be reached"),
    ] {
        let (status, why) = api.try_post("/buckets/reset", &whose(descriptor));
        assert_eq!(status, 503, "{why}");
        assert!(why["error"].as_str().unwrap().contains(expected), "{why}");
        let (status, _) = api.try_post("/buckets/set", &set(descriptor, 1));
        assert_eq!(status, 503);
    }
    assert_eq!(api.ask(&of("error=a")).0, 503);
    let status = api.get("/status");
    let store = &status["store"];
    assert_eq!(store["breakers"][0]["name"], "redis");
    assert_ne!(store["breakers"][0]["state"], "closed");
    assert_eq!(status["decisions"]["ok"]["fallback_local"], 1);
}

#[test]
fn limits_of_a_second_are_where_they_are() {
    let rules = "
domain: shop
descriptors:
  - key: both
    rate_limit:
      - {unit: second, requests_per_unit: 4, unit_multiplier: 400000}
      - {unit: year, requests_per_unit: 10}
";
    let (mut seconds, others) = (Some(Redis::start()), Redis::start());
    let environment = [
        ("REDIS_URL", others.url()),
        ("REDIS_PERSECOND", "true".to_owned()),
        ("REDIS_PERSECOND_URL", seconds.as_ref().unwrap().url()),
        ("ADMIN_TOKEN", Api::environment().1.to_owned()),
    ];
    let server = Ratekeeper::start(rules, environment);
    let api = Api::of(&server);
    let full = ["4 of 4 by buckets", "10 of 10 by buckets"];
    eventually("both decide", || peek(&api, "both=a") == full);
    eventually("a request is decided", || {
        server.ask(ask("shop", &["both=a"])).unwrap();
        peek(&api, "both=a") != full
    });
    api.post("/buckets/reset", &whose("both=a"));
    assert_eq!(peek(&api, "both=a"), full);
    let names = |status: &Value| -> Vec<String> {
        let breakers = status["store"]["breakers"].as_array().unwrap();
        breakers
            .iter()
            .map(|breaker| breaker["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&api.get("/status")), ["redis", "redis per second"]);
    seconds.take();
    // Each bucket for itself: that of the year is none the worse.
    eventually("the one for seconds is away", || {
        peek(&api, "both=a") == ["4 of 4 by fallback_local", "10 of 10 by buckets"]
    });
}
