//! Redis is milliseconds away: over a network that is long, not always equally long, that loses segments and connections.
//!
//! What Redis decided is counted against what it must. The round trips are much longer than those of a managed service, and so are
//! the timeouts: what counts is how the one relates to the other, and a busy machine adds its own to both.

mod table;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ratekeeper::service::pb::RateLimitResponse;
use ratekeeper::service::pb::rate_limit_response::Code;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::Request;

use crate::support::{Link, Quality, Ratekeeper, Redis, Scrape, ask, eventually};

const RULES: &str = "
domain: d
descriptors:
  - {key: k, rate_limit: {unit: year, requests_per_unit: 30, hits: prepaid}}
  - {key: plenty, rate_limit: {unit: year, requests_per_unit: 1000000, hits: prepaid}}
";

const MS: Duration = Duration::from_millis(1);

/// A server, and the network between it and its Redis.
struct Site {
    server: Ratekeeper,
    link: Link,
    _redis: Redis,
    runtime: Runtime,
}

impl Site {
    /// A server on one thread that is connected to its Redis.
    fn new() -> Self {
        let redis = Redis::start();
        let link = Link::start(redis.port(), Quality::default());
        let environment = [
            ("REDIS_URL", format!("127.0.0.1:{}", link.port())),
            ("REDIS_TIMEOUT", "2s".to_owned()),
            ("STORE_FAILURE_MODE", "deny".to_owned()),
            ("RESPONSE_DYNAMIC_METADATA", "true".to_owned()),
            ("WORKER_THREADS", "1".to_owned()),
        ];
        let metrics = Scrape::environment().map(|(name, value)| (name, value.to_owned()));
        let server = Ratekeeper::start(RULES, environment.into_iter().chain(metrics));
        let site = Self {
            server,
            link,
            _redis: redis,
            runtime: Runtime::new().unwrap(),
        };
        eventually("Redis decides", || {
            !by_policy(&site.server.ask(ask("d", &["plenty=1"])).unwrap())
        });
        site
    }

    /// The answers to so many requests on a key, each some time after the one before it, whether that is answered or not. So
    /// long do their callers wait, if they say so.
    fn answers(
        &self,
        key: &'static str,
        count: u32,
        apart: Duration,
        patience: Option<Duration>,
    ) -> Vec<RateLimitResponse> {
        self.runtime.block_on(async {
            let client = Arc::new(self.server.client().await);
            let mut calls = JoinSet::new();
            for _ in 0..count {
                let client = Arc::clone(&client);
                calls.spawn(async move {
                    let mut request = Request::new(ask("d", &[key]));
                    if let Some(patience) = patience {
                        request.set_timeout(patience);
                    }
                    // A caller may give up while the answer is on its way.
                    let answer = (*client).clone().should_rate_limit(request).await;
                    answer.ok().map(tonic::Response::into_inner)
                });
                tokio::time::sleep(apart).await;
            }
            let answers = calls.join_all().await;
            assert!(patience.is_some() || answers.iter().all(Option::is_some));
            answers.into_iter().flatten().collect()
        })
    }

    fn metric(&self, name: &str) -> f64 {
        Scrape::of(&self.server).value(name)
    }
}

pub(crate) fn by_policy(answer: &RateLimitResponse) -> bool {
    let metadata = answer.dynamic_metadata.as_ref().unwrap();
    metadata.fields.contains_key("onStoreFailure")
}

fn count(answers: &[RateLimitResponse], which: impl Fn(&RateLimitResponse) -> bool) -> usize {
    answers.iter().filter(|answer| which(answer)).count()
}

/// All were decided by Redis, which allowed as many as it has.
fn are_exact(answers: &[RateLimitResponse]) {
    assert_eq!(count(answers, by_policy), 0);
    assert_eq!(
        count(answers, |answer| answer.overall_code() == Code::Ok),
        30
    );
}

/// A request that had to wait for the reply to the one before it would have no answer in time.
#[test]
fn requests_do_not_wait_for_one_anothers_round_trips() {
    let site = Site::new();
    site.link.become_(Quality {
        round_trip: 1_100 * MS,
        ..Quality::default()
    });
    are_exact(&site.answers("k=long", 100, 10 * MS, None));
}

#[test]
fn round_trips_may_differ() {
    let site = Site::new();
    site.link.become_(Quality {
        round_trip: 100 * MS,
        jitter: 300 * MS,
        ..Quality::default()
    });
    are_exact(&site.answers("k=uneven", 100, 10 * MS, None));
}

#[test]
fn lost_segments_are_waited_for_and_nothing_is_sent_twice() {
    let site = Site::new();
    site.link.become_(Quality {
        round_trip: 20 * MS,
        loss: 0.05,
        ..Quality::default()
    });
    are_exact(&site.answers("k=lossy", 100, 10 * MS, None));
}

/// The requests in flight over a connection on which nothing passes any more fail together. They say no more of Redis than one.
#[test]
fn a_connection_that_is_cut_off_costs_its_requests_and_no_others() {
    let site = Site::new();
    site.link.become_(Quality {
        round_trip: 100 * MS,
        ..Quality::default()
    });
    assert_eq!(
        count(&site.answers("plenty=1", 20, 5 * MS, None), by_policy),
        0
    );
    site.link.cut_off();
    let lost = site.answers("k=cut", 40, 5 * MS, None);
    assert!(count(&lost, by_policy) > 0, "nothing passes");
    let after = site.answers("k=cut", 100, 5 * MS, None);
    assert_eq!(count(&after, by_policy), 0, "there is another connection");
    // What was sent over the connection that is cut off never came to Redis.
    let allowed =
        |answers: &[RateLimitResponse]| count(answers, |answer| answer.overall_code() == Code::Ok);
    assert_eq!(allowed(&lost) + allowed(&after), 30);
    assert_eq!(site.metric("ratekeeper_store_breaker_opened_total"), 0.0);
}

/// Redis is well, but further away than callers wait: no breaker opens, and all decisions fall back.
#[test]
fn decisions_that_fall_back_are_degraded_whatever_the_cause() {
    let mut site = Site::new();
    assert_eq!(site.metric("ratekeeper_degraded"), 0.0);
    site.link.become_(Quality {
        round_trip: 1_500 * MS,
        ..Quality::default()
    });
    eventually("it is degraded", || {
        let answers = site.answers("plenty=1", 10, 20 * MS, Some(500 * MS));
        assert_eq!(count(&answers, |answer| !by_policy(answer)), 0);
        site.metric("ratekeeper_degraded") == 1.0
    });
    assert_eq!(site.metric("ratekeeper_store_breaker_opened_total"), 0.0);
    site.link.become_(Quality::default());
    eventually("it is not", || {
        thread::sleep(100 * MS);
        site.metric("ratekeeper_degraded") == 0.0
    });
    site.server.wait_until_logged("redis answers in time again");
    site.server.signal("TERM");
    let (_, log) = site.server.ended();
    assert_eq!(
        log.matches("redis does not answer in time").count(),
        1,
        "{log}"
    );
    assert_eq!(
        log.matches("redis answers in time again").count(),
        1,
        "{log}"
    );
}
