//! Three servers on one Redis, and more clients than the limits allow: together they admit what one
//! bucket holds and what flows into it, no more and hardly less.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Runtime;
use tokio::time::{Duration, Instant};

use ratekeeper::service::pb::RateLimitRequest;
use ratekeeper::service::pb::rate_limit_response::Code;

use crate::support::{Ratekeeper, Redis, ask};

const RATE: u64 = 500;
const BURST: u64 = 1_000;

const RULES: &str = "
domain: fleet
descriptors:
  - key: hot
    rate_limit: {unit: second, requests_per_unit: 500, burst: 1000}
  - key: plenty
    rate_limit: {unit: year, requests_per_unit: 4000000000}
  - key: scarce
    rate_limit: {unit: year, requests_per_unit: 700}
";

/// How long the flood lasts.
const FLOOD: Duration = Duration::from_secs(3);

/// What a flood came to.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) admitted: u64,
    pub(crate) denied: u64,
}

fn fleet(redis: &Redis) -> Vec<Ratekeeper> {
    let environment = || {
        [
            ("REDIS_URL", redis.url()),
            ("REDIS_TIMEOUT", "10s".to_owned()),
        ]
    };
    (0..3)
        .map(|_| Ratekeeper::start(RULES, environment()))
        .collect()
}

/// Sends a request again and again, from eight callers at each server, until the time is over.
pub(crate) async fn flood(servers: &[Ratekeeper], request: &RateLimitRequest) -> Counts {
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = Vec::new();
    for caller in 0..8 * servers.len() {
        let mut client = servers[caller % servers.len()].client().await;
        let (request, stop) = (request.clone(), Arc::clone(&stop));
        callers.push(tokio::spawn(async move {
            let mut counts = Counts::default();
            while !stop.load(Ordering::Relaxed) {
                let response = client.should_rate_limit(request.clone()).await.unwrap();
                counts.sent += 1;
                match response.into_inner().overall_code() {
                    Code::Ok => counts.admitted += 1,
                    Code::OverLimit => counts.denied += 1,
                    Code::Unknown => {}
                }
            }
            counts
        }));
    }
    tokio::time::sleep_until(Instant::now() + FLOOD).await;
    stop.store(true, Ordering::Relaxed);
    let mut all = Counts::default();
    for caller in callers {
        let counts = caller.await.unwrap();
        all.sent += counts.sent;
        all.admitted += counts.admitted;
        all.denied += counts.denied;
    }
    all
}

/// Redis's own clock, in microseconds.
async fn time(redis: &Redis) -> u64 {
    let (seconds, micros): (u64, u64) = redis.run(&["TIME"]).await;
    seconds * 1_000_000 + micros
}

#[test]
fn a_flood_gets_capacity_and_inflow() {
    let redis = Redis::start();
    let servers = fleet(&redis);
    Runtime::new().unwrap().block_on(async {
        let begin = time(&redis).await;
        let counts = flood(&servers, &ask("fleet", &["hot=x"])).await;
        let passed = time(&redis).await - begin;
        let most = BURST + RATE * passed / 1_000_000;
        assert_eq!(counts.admitted + counts.denied, counts.sent);
        assert!(counts.admitted <= most, "{counts:?}, at most {most}");
        // Only where more was asked for than there was does it say anything.
        assert!(counts.denied > 0, "{counts:?}");
        assert!(
            100 * counts.admitted >= 97 * most,
            "{counts:?}, at most {most}"
        );
    });
}

#[test]
fn a_request_takes_from_all_of_its_buckets_or_from_none() {
    let redis = Redis::start();
    let servers = fleet(&redis);
    Runtime::new().unwrap().block_on(async {
        let counts = flood(&servers, &ask("fleet", &["plenty=x", "scarce=x"])).await;
        assert_eq!(counts.admitted, 700, "{counts:?}");
        let response = servers[0].client().await;
        let left = { response }
            .should_rate_limit(ask("fleet", &["plenty=x x0"]))
            .await
            .unwrap()
            .into_inner()
            .statuses[0]
            .limit_remaining;
        // 127 tokens a second come back, so that in a minute it would be full again.
        assert!(left >= 4_000_000_000 - 700, "{left}");
    });
}
