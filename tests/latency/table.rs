//! What Redis decides at each distance, for docs/reliability.md: `tests/round-trips` prints the table on a machine that has nothing
//! else to do. Among the tests, a few cells show that no more is allowed than there is.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ratekeeper::service::pb::RateLimitRequest;
use ratekeeper::service::pb::rate_limit_response::Code;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tonic::Request;

use super::{MS, by_policy};
use crate::support::{Cluster, Link, Quality, Ratekeeper, Redis, ask, eventually};

/// Requests a second, and what the limit allows of them.
const ASKED: u32 = 250;
const RATE: f64 = 100.0;
const BURST: f64 = 100.0;

const RULES: &str = "
domain: d
descriptors:
  - {key: client, rate_limit: {unit: second, requests_per_unit: 100, burst: 100, hits: prepaid}}
  - key: both
    rate_limit:
      - {unit: second, requests_per_unit: 100, burst: 100, hits: prepaid}
      - {unit: day, requests_per_unit: 100000000, hits: prepaid}
  - {key: path, rate_limit: {unit: day, requests_per_unit: 100000000, hits: prepaid}}
  - {key: tenant, rate_limit: {unit: day, requests_per_unit: 100000000, hits: prepaid}}
";

/// Where the buckets are.
#[derive(Debug, Clone, Copy)]
enum Place {
    Single,
    PerSecond,
    Cluster,
}

impl Place {
    /// A request on the buckets of a cell, in all of the places.
    fn request(self, cell: usize) -> RateLimitRequest {
        let of_cell = |key: &str| format!("{key}={cell}");
        match self {
            Self::Single => ask("d", &[&of_cell("client")]),
            Self::PerSecond => ask("d", &[&of_cell("both")]),
            Self::Cluster => {
                let keys = ["client", "path", "tenant"].map(of_cell);
                ask("d", &[&keys[0], &keys[1], &keys[2]])
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single => "single",
            Self::PerSecond => "per second",
            Self::Cluster => "cluster",
        })
    }
}

/// What is asked, and how far away.
#[derive(Debug, Clone, Copy)]
struct Cell {
    number: usize,
    place: Place,
    round_trip: Duration,
    /// The `grpc-timeout` of the callers; `None`: they wait as long as Redis may take.
    timeout: Option<Duration>,
}

/// How long Redis may take.
const REDIS_TIMEOUT: Duration = Duration::from_millis(100);

impl Cell {
    /// Within what time there must be an answer.
    fn budget(&self) -> Duration {
        self.timeout
            .map_or(REDIS_TIMEOUT, |timeout| timeout * 4 / 5)
    }
}

/// What came of it.
#[derive(Debug, Default)]
struct Counts {
    asked: u32,
    by_redis: u32,
    by_policy: u32,
    /// Answers later than the budget and a millisecond, and calls that their callers gave up.
    late: u32,
    /// By Redis.
    allowed: u32,
    elapsed: Duration,
}

impl Counts {
    fn bound(&self) -> f64 {
        BURST + RATE * self.elapsed.as_secs_f64()
    }
}

/// A server, and the networks between it and its Redis.
struct Site {
    server: Ratekeeper,
    links: Vec<Link>,
    _redis: Vec<Redis>,
    _cluster: Option<Cluster>,
    runtime: Runtime,
}

impl Site {
    fn new(place: Place) -> Self {
        let mut redis = Vec::new();
        let mut cluster = None;
        let links: Vec<Link> = match place {
            Place::Single | Place::PerSecond => {
                let count = if matches!(place, Place::Single) { 1 } else { 2 };
                redis.extend((0..count).map(|_| Redis::start()));
                { redis.iter() }
                    .map(|redis| Link::start(redis.port(), Quality::default()))
                    .collect()
            }
            Place::Cluster => {
                let nodes = cluster.insert(Cluster::start());
                announced(nodes)
            }
        };
        let at = |link: &Link| format!("127.0.0.1:{}", link.port());
        let timeout = format!("{}ms", REDIS_TIMEOUT.as_millis());
        let mut environment = vec![
            ("REDIS_URL", at(&links[0])),
            ("REDIS_TIMEOUT", timeout.clone()),
            ("STORE_FAILURE_MODE", "deny".to_owned()),
            ("RESPONSE_DYNAMIC_METADATA", "true".to_owned()),
        ];
        match place {
            Place::Single => {}
            Place::PerSecond => environment.extend([
                ("REDIS_PERSECOND", "true".to_owned()),
                ("REDIS_PERSECOND_URL", at(&links[1])),
                ("REDIS_PERSECOND_TIMEOUT", timeout),
            ]),
            Place::Cluster => environment.push(("REDIS_TYPE", "cluster".to_owned())),
        }
        Self {
            server: Ratekeeper::start(RULES, environment),
            links,
            _redis: redis,
            _cluster: cluster,
            runtime: Runtime::new().unwrap(),
        }
    }

    fn become_(&self, round_trip: Duration) {
        for link in &self.links {
            link.become_(Quality {
                round_trip,
                ..Quality::default()
            });
        }
    }

    /// Asks what a cell says, for so long.
    fn fill(&self, cell: Cell, time: Duration) -> Counts {
        self.become_(Duration::ZERO);
        // Whatever the cell before it has left.
        eventually("Redis decides", || {
            let warm = cell.place.request(cell.number + 1_000_000);
            !by_policy(&self.server.ask(warm).unwrap())
        });
        self.become_(cell.round_trip);
        self.runtime.block_on(self.counts(cell, time))
    }

    async fn counts(&self, cell: Cell, time: Duration) -> Counts {
        let client = Arc::new(self.server.client().await);
        let begin = tokio::time::Instant::now();
        let mut calls = JoinSet::new();
        let mut counts = Counts::default();
        while begin.elapsed() < time {
            sleep_until(begin + Duration::from_secs(1) * counts.asked / ASKED).await;
            counts.asked += 1;
            let mut request = Request::new(cell.place.request(cell.number));
            if let Some(timeout) = cell.timeout {
                request.set_timeout(timeout);
            }
            let client = Arc::clone(&client);
            calls.spawn(async move {
                let sent = Instant::now();
                let answer = (*client).clone().should_rate_limit(request).await;
                (answer.ok().map(tonic::Response::into_inner), sent.elapsed())
            });
        }
        let answers = calls.join_all().await;
        counts.elapsed = begin.elapsed();
        for (answer, took) in answers {
            counts.late += u32::from(answer.is_none() || took > cell.budget() + MS);
            let Some(answer) = answer else { continue };
            if by_policy(&answer) {
                counts.by_policy += 1;
            } else {
                counts.by_redis += 1;
                counts.allowed += u32::from(answer.overall_code() == Code::Ok);
            }
        }
        counts
    }
}

/// Networks in front of the nodes of a cluster, which say that that is where they are.
fn announced(cluster: &Cluster) -> Vec<Link> {
    let nodes = cluster.ports().into_iter().enumerate();
    let links = nodes.map(|(node, port)| {
        let link = Link::start(port, Quality::default());
        let known: String = cluster.run(node, &["CLUSTER", "NODES"]);
        let bus = { known.lines() }.find_map(|line| {
            let (_, rest) = line.split_once(&format!(":{port}@"))?;
            let (bus, _) = rest.split_once([' ', ','])?;
            bus.parse().ok()
        });
        let announced: [(&str, u16); 2] = [
            ("cluster-announce-bus-port", bus.unwrap()),
            ("cluster-announce-port", link.port()),
        ];
        for (name, value) in announced {
            let value = value.to_string();
            let _: String = cluster.run(node, &["CONFIG", "SET", name, &value]);
        }
        link
    });
    let links: Vec<Link> = links.collect();
    eventually("all nodes know of it", || {
        (0..links.len()).all(|node| {
            let slots: String = cluster.run(node, &["CLUSTER", "NODES"]);
            { links.iter() }.all(|link| slots.contains(&format!(":{}@", link.port())))
        })
    });
    links
}

#[expect(clippy::print_stdout, reason = "for the table in docs/reliability.md")]
fn print(cell: Cell, counts: &Counts) {
    let share = |count: u32| 100.0 * f64::from(count) / f64::from(counts.asked);
    println!(
        "| {:.1} ms | {} ms | {} | {:.1} % | {:.1} % | {} | {:.1} % | {} |",
        cell.round_trip.as_secs_f64() * 1_000.0,
        cell.timeout.unwrap_or(REDIS_TIMEOUT).as_millis(),
        cell.place,
        share(counts.by_redis),
        share(counts.by_policy),
        counts.late,
        100.0 * f64::from(counts.allowed) / counts.bound(),
        (f64::from(counts.allowed) - counts.bound()).max(0.0),
    );
}

/// Fills the cells of a place, and checks of each that no more was allowed than there is.
fn fill(place: Place) {
    #[expect(clippy::disallowed_methods, reason = "a test has no command line")]
    let seconds = std::env::var("ROUND_TRIP_SECONDS").ok();
    let seconds: Option<u32> = seconds.map(|text| text.parse().unwrap());
    let round_trips: &[f64] = match seconds {
        Some(_) => &[
            0.2, 1.0, 3.0, 5.0, 7.0, 8.0, 10.0, 12.0, 14.0, 20.0, 30.0, 40.0, 60.0,
        ],
        None => &[3.0],
    };
    let time = seconds.map_or(500 * MS, |seconds| seconds * Duration::from_secs(1));
    let site = Site::new(place);
    let mut number = 0;
    for timeout in [Some(20 * MS), None] {
        for &round_trip in round_trips {
            number += 1;
            let cell = Cell {
                number,
                place,
                round_trip: MS.mul_f64(round_trip),
                timeout,
            };
            let counts = site.fill(cell, time);
            print(cell, &counts);
            assert!(
                f64::from(counts.allowed) <= counts.bound(),
                "{cell:?}: {counts:?}"
            );
            assert!(counts.by_redis + counts.by_policy + counts.late >= counts.asked);
        }
    }
}

#[test]
fn a_single_redis() {
    fill(Place::Single);
}

#[test]
fn a_redis_for_limits_of_a_second() {
    fill(Place::PerSecond);
}

#[test]
fn a_cluster() {
    fill(Place::Cluster);
}
