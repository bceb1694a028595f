//! Redis fails in the middle of load from two servers. Whatever it does, every call has its answer in time, nobody
//! is admitted beyond what Redis and the stated share of each server's own buckets hold, nothing is left behind, and
//! Redis decides again soon after it can.
//!
//! Each prints a line of figures; docs/reliability.md has them in a table (`cargo test --test tests faults --
//! --nocapture --test-threads 1`).

mod run;

use run::Run;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ratekeeper::service::pb::rate_limit_response::Code;
use ratekeeper::service::pb::{RateLimitRequest, RateLimitResponse};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::Request;

use crate::support::{Proxy, Ratekeeper, Redis, TIMEOUT, Treatment, ask, eventually};

/// How long a server may wait for Redis.
const REDIS_TIMEOUT: Duration = Duration::from_millis(100);

/// What a busy machine may add to it before the answer is here.
const SLACK: Duration = Duration::from_secs(2);

/// Within what time after its return Redis decides again, on a machine that may be busy.
pub(crate) const RECOVERY: Duration = Duration::from_millis(2_500);

const SERVERS: usize = 2;
const CALLERS: usize = 4;
const POOL: u64 = 4;

/// Of the bucket that everybody asks for.
const RATE: f64 = 50.0;
const BURST: f64 = 100.0;
const SHARE: f64 = 0.5;

const RULES: &str = "
domain: d
descriptors:
  - {key: hot, rate_limit: {unit: second, requests_per_unit: 50, burst: 100}}
  - {key: client, rate_limit: {unit: hour, requests_per_unit: 1000000}}
";

/// Redis, and what may be in front of it.
pub(crate) struct Site {
    port: u16,
    redis: Option<Redis>,
    proxy: Option<Proxy>,
    runtime: Runtime,
}

/// A fault.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) inject: fn(&mut Site),
    pub(crate) lift: fn(&mut Site),
    /// Some requests are decided by policy meanwhile.
    bites: bool,
    /// Redis forgets its buckets.
    pub(crate) forgets: bool,
    /// Redis is behind the proxy.
    by_proxy: bool,
}

/// One call and its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) server: usize,
    pub(crate) sent: Instant,
    pub(crate) took: Duration,
    pub(crate) is_hot: bool,
    pub(crate) admitted: bool,
    pub(crate) by_policy: bool,
}

impl Site {
    pub(crate) fn new(is_behind_proxy: bool) -> Self {
        let redis = Redis::start();
        Self {
            port: redis.port(),
            proxy: is_behind_proxy.then(|| Proxy::start(redis.port())),
            redis: Some(redis),
            runtime: Runtime::new().unwrap(),
        }
    }

    pub(crate) fn servers(&self) -> Vec<Ratekeeper> {
        (0..SERVERS).map(|_| self.server()).collect()
    }

    fn server(&self) -> Ratekeeper {
        let port = self.proxy.as_ref().map_or(self.port, Proxy::port);
        let environment = [
            ("REDIS_URL", format!("127.0.0.1:{port}")),
            ("REDIS_POOL_SIZE", POOL.to_string()),
            ("REDIS_TIMEOUT", "100ms".to_owned()),
            ("LOCAL_FALLBACK_SHARE", SHARE.to_string()),
            ("RESPONSE_DYNAMIC_METADATA", "true".to_owned()),
        ];
        Ratekeeper::start(RULES, environment)
    }

    fn run(&self, words: &[&str]) {
        let redis = self.redis.as_ref().unwrap();
        self.runtime.block_on(redis.run::<redis::Value>(words));
    }

    fn treat(&self, treatment: Treatment) {
        self.proxy.as_ref().unwrap().treat(treatment);
    }

    /// Ends the servers, once it is clear that they hold no more connections than they may.
    pub(crate) fn end(&self, servers: Vec<Ratekeeper>) {
        // Each server has its connections, and one for its probes; the test has one.
        let bound = SERVERS as u64 * (POOL + 1) + 1;
        eventually("connections are no more than the pools hold", || {
            self.connections() <= bound
        });
        for server in servers {
            server.signal("TERM");
            let (status, log) = server.ended();
            assert_eq!(status.code(), Some(0), "{log}");
            assert!(!log.contains("panicked"), "{log}");
        }
        eventually("no connection is left", || self.connections() == 1);
    }

    /// Connections of the servers, and of whoever asks.
    fn connections(&self) -> u64 {
        let redis = self.redis.as_ref().unwrap();
        let list: String = self.runtime.block_on(redis.run(&["CLIENT", "LIST"]));
        list.lines().count() as u64
    }
}

/// Calls a server again and again until it is to stop.
async fn call(
    server: usize,
    address: std::net::SocketAddr,
    stop: Arc<AtomicBool>,
    caller: usize,
) -> Vec<Call> {
    use ratekeeper::service::pb::rate_limit_service_client::RateLimitServiceClient;
    let url = format!("http://{address}");
    let mut client = RateLimitServiceClient::connect(url).await.unwrap();
    let mut calls = Vec::new();
    let mut number = caller;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let own = format!("client={}", number % 50);
        let (is_hot, message): (bool, RateLimitRequest) = match number % 3 {
            0 => (true, ask("d", &["hot=1"])),
            1 => (false, ask("d", &[&own])),
            _ => (true, ask("d", &["hot=1", &own])),
        };
        let sent = Instant::now();
        let answer = client.should_rate_limit(Request::new(message)).await;
        let answer = answer.expect("policy local always decides").into_inner();
        calls.push(Call {
            server,
            sent,
            took: sent.elapsed(),
            is_hot,
            admitted: answer.overall_code() == Code::Ok,
            by_policy: by_policy(&answer),
        });
        // A load, not a flood: callers leave the machine to those that they call.
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    calls
}

fn by_policy(answer: &RateLimitResponse) -> bool {
    let metadata = answer.dynamic_metadata.as_ref().unwrap();
    metadata.fields.contains_key("onStoreFailure")
}

/// Callers of servers.
pub(crate) struct Load {
    runtime: Runtime,
    stop: Arc<AtomicBool>,
    callers: JoinSet<Vec<Call>>,
}

impl Load {
    pub(crate) fn start(servers: &[Ratekeeper]) -> Self {
        let runtime = Runtime::new().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for (number, server) in servers.iter().enumerate() {
            for caller in 0..CALLERS {
                let calls = call(number, server.address(), Arc::clone(&stop), caller);
                callers.spawn_on(calls, runtime.handle());
            }
        }
        Self {
            runtime,
            stop,
            callers,
        }
    }

    /// Ends it, once each caller has its last answer.
    pub(crate) fn end(self) -> Vec<Call> {
        self.stop.store(true, Ordering::Relaxed);
        let calls = self.runtime.block_on(self.callers.join_all());
        calls.into_iter().flatten().collect()
    }
}

/// Lives through a fault and checks what must be so.
fn endure(fault: &Fault) {
    let mut site = Site::new(fault.by_proxy);
    let servers = site.servers();
    let begin = Instant::now();
    let load = Load::start(&servers);
    thread::sleep(Duration::from_millis(700));
    let injected = Instant::now();
    (fault.inject)(&mut site);
    thread::sleep(Duration::from_millis(1_500));
    (fault.lift)(&mut site);
    let lifted = Instant::now();
    thread::sleep(RECOVERY + Duration::from_secs(1));
    let run = Run {
        fault,
        calls: load.end(),
        begin,
        injected,
        lifted,
    };
    run.check();
    site.end(servers);
    print(&run);
}

/// Nobody was admitted beyond what the bucket that all ask for held in its lives, and beyond the share of it that each
/// server had of its own.
pub(crate) fn check_admitted(name: &str, calls: &[Call], lives: f64, passed: Duration) {
    let flow = RATE * passed.as_secs_f64();
    let admitted = |which: &dyn Fn(&Call) -> bool| {
        let hot = |call: &&Call| call.is_hot && call.admitted && which(call);
        f64::from(u32::try_from(calls.iter().filter(hot).count()).unwrap())
    };
    // What Redis admitted in a reply that nobody heard is not among these, so they are no more.
    let by_redis = admitted(&|call| !call.by_policy);
    assert!(
        by_redis <= lives * BURST + flow,
        "{name}: {by_redis} in {passed:?}"
    );
    for server in 0..SERVERS {
        let local = admitted(&|call| call.by_policy && call.server == server);
        assert!(
            local <= SHARE * (BURST + flow),
            "{name}: {local} in {passed:?}"
        );
    }
}

/// Redis decides again. Not each time: on a busy machine, it may not have its turn in time.
pub(crate) fn check_back(name: &str, calls: &[Call], lifted: Instant) {
    let mut after = calls.iter().filter(|call| call.sent > lifted + RECOVERY);
    assert!(after.any(|call| !call.by_policy), "{name}: all by policy");
}

/// The longest that a caller waited; never longer than a server may wait for Redis, and somewhat.
pub(crate) fn slowest(calls: &[Call]) -> Duration {
    let slowest = calls.iter().map(|call| call.took).max().unwrap();
    assert!(slowest <= REDIS_TIMEOUT + SLACK, "{slowest:?}");
    slowest
}

#[expect(clippy::print_stdout, reason = "for the table in docs/reliability.md")]
fn print(run: &Run<'_>) {
    println!("{run}");
}

/// A test for each.
macro_rules! faults {
    ($($name:ident: $fault:expr),+ $(,)?) => {
        /// All of them.
        pub(crate) fn all() -> Vec<Fault> {
            vec![$($fault),+]
        }

        $(
            #[test]
            fn $name() {
                endure(&$fault);
            }
        )+
    };
}

/// One that shows, and after which Redis knows its buckets.
const PLAIN: Fault = Fault {
    name: "",
    inject: |_| {},
    lift: |_| {},
    bites: true,
    forgets: false,
    by_proxy: false,
};

/// One of the proxy's.
const BY_PROXY: Fault = Fault {
    by_proxy: true,
    lift: |site| site.treat(Treatment::Pass),
    ..PLAIN
};

faults! {
    killed_and_started_empty: Fault {
        name: "kill -9, started again empty",
        inject: |site| site.redis = None,
        lift: |site| {
            let deadline = Instant::now() + TIMEOUT;
            while site.redis.is_none() && Instant::now() < deadline {
                site.redis = Redis::start_on(site.port, &[]);
            }
        },
        forgets: true,
        ..PLAIN
    },
    stopped: Fault {
        name: "SIGSTOP, then SIGCONT",
        inject: |site| site.redis.as_ref().unwrap().pause(),
        lift: |site| site.redis.as_ref().unwrap().resume(),
        ..PLAIN
    },
    script_forgotten: Fault {
        name: "SCRIPT FLUSH",
        inject: |site| site.run(&["SCRIPT", "FLUSH"]),
        bites: false,
        ..PLAIN
    },
    buckets_forgotten: Fault {
        name: "FLUSHALL",
        inject: |site| site.run(&["FLUSHALL"]),
        bites: false,
        forgets: true,
        ..PLAIN
    },
    full: Fault {
        name: "OOM: maxmemory, noeviction",
        inject: |site| site.run(&["CONFIG", "SET", "maxmemory", "1"]),
        lift: |site| site.run(&["CONFIG", "SET", "maxmemory", "0"]),
        ..PLAIN
    },
    demoted: Fault {
        name: "READONLY: became a replica",
        inject: |site| site.run(&["REPLICAOF", "127.0.0.1", "1"]),
        lift: |site| site.run(&["REPLICAOF", "NO", "ONE"]),
        ..PLAIN
    },
    without_master: Fault {
        name: "MASTERDOWN: a replica without its master",
        inject: |site| {
            site.run(&["CONFIG", "SET", "replica-serve-stale-data", "no"]);
            site.run(&["REPLICAOF", "127.0.0.1", "1"]);
        },
        lift: |site| site.run(&["REPLICAOF", "NO", "ONE"]),
        ..PLAIN
    },
    locked: Fault {
        name: "NOAUTH: connections closed, password set",
        inject: |site| {
            // Connections that are logged in stay so.
            site.run(&["CONFIG", "SET", "requirepass", "another"]);
            let url = format!("redis://:another@127.0.0.1:{}", site.port);
            let client = redis::Client::open(url).unwrap();
            let kill = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal"]).to_owned();
            kill.exec(&mut client.get_connection().unwrap()).unwrap();
        },
        lift: |site| {
            let url = format!("redis://:another@127.0.0.1:{}", site.port);
            let client = redis::Client::open(url).unwrap();
            let unlock = redis::cmd("CONFIG").arg(&["SET", "requirepass", ""]).to_owned();
            unlock.exec(&mut client.get_connection().unwrap()).unwrap();
        },
        ..PLAIN
    },
    busy: Fault {
        name: "BUSY: another's script that does not end",
        inject: |site| {
            site.run(&["CONFIG", "SET", "busy-reply-threshold", "10"]);
            let client = redis::Client::open(format!("redis://127.0.0.1:{}", site.port)).unwrap();
            thread::spawn(move || {
                let endless = redis::cmd("EVAL").arg(&["while true do end", "0"]).to_owned();
                // It ends by being killed.
                let _ = endless.exec(&mut client.get_connection().unwrap());
            });
        },
        lift: |site| site.run(&["SCRIPT", "KILL"]),
        ..PLAIN
    },
    delayed: Fault {
        name: "every reply 300 ms late",
        inject: |site| site.treat(Treatment::Delay(Duration::from_millis(300))),
        ..BY_PROXY
    },
    somewhat_delayed: Fault {
        name: "every reply 20 ms late",
        inject: |site| site.treat(Treatment::Delay(Duration::from_millis(20))),
        bites: false,
        ..BY_PROXY
    },
    held: Fault {
        name: "no reply, connections open",
        inject: |site| site.treat(Treatment::Hold),
        ..BY_PROXY
    },
    dripped: Fault {
        name: "replies byte by byte, 5 ms apart",
        inject: |site| site.treat(Treatment::Drip(Duration::from_millis(5))),
        ..BY_PROXY
    },
    cut: Fault {
        name: "connections closed half-way through a reply",
        inject: |site| site.treat(Treatment::Cut),
        ..BY_PROXY
    },
    corrupted: Fault {
        name: "garbage in place of replies",
        inject: |site| site.treat(Treatment::Corrupt),
        ..BY_PROXY
    },
}
