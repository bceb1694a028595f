//! Real sentinels, and a master that is replaced: by order, by death, and behind our back.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use ratekeeper::service::pb::rate_limit_service_client::RateLimitServiceClient;
use tokio::runtime::Runtime;

use crate::redis_login::RIGHTS;
use crate::support::sentinel::{Manner, NAME, Sentinel, Watched};
use crate::support::{Authority, Ratekeeper, Redis, ask, check, eventually, free_port};

const RULES: &str = "
domain: d
descriptors:
  - {key: k, rate_limit: {unit: hour, requests_per_unit: 10}}
  - {key: much, rate_limit: {unit: year, requests_per_unit: 1000000}}
";

fn server(watched: &Watched, more: &[(&'static str, &str)]) -> Ratekeeper {
    let environment = [
        ("REDIS_TYPE", "sentinel".to_owned()),
        ("REDIS_URL", watched.url()),
        ("REDIS_TIMEOUT", "1s".to_owned()),
        ("STORE_FAILURE_MODE", "error".to_owned()),
    ];
    let more = more.iter().map(|&(name, value)| (name, value.to_owned()));
    Ratekeeper::start(RULES, environment.into_iter().chain(more))
}

fn run<T: redis::FromRedisValue>(redis: &Redis, words: &[&str]) -> T {
    Runtime::new().unwrap().block_on(redis.run(words))
}

fn decides(server: &Ratekeeper) -> bool {
    server.ask(ask("d", &["k=1 x0"])).is_ok()
}

/// How many tokens are gone from the bucket of `much=x` on a server; `None` when it has none.
fn gone(redis: &Redis) -> Option<u64> {
    let bucket: Option<Vec<u8>> = run(redis, &["GET", "rk:d|much=x"]);
    let whole = f64::from_le_bytes(bucket?[8..16].try_into().unwrap());
    whole.to_string().parse().ok()
}

/// Callers that ask for `much=x` again and again, and what they were told.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    admitted: AtomicU64,
    failed: AtomicU64,
}

impl Load {
    async fn call(&self, server: SocketAddr) {
        let client = RateLimitServiceClient::connect(format!("http://{server}"));
        let mut client = client.await.unwrap();
        while !self.stop.load(Ordering::SeqCst) {
            let count = match client.should_rate_limit(ask("d", &["much=x"])).await {
                Ok(_) => &self.admitted,
                Err(_) => &self.failed,
            };
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Stops a load when it is dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Puts a load on a server while something happens to its Redis; then it must decide again. Returns how many
/// were admitted, and how many were not decided.
fn under_load(server: &Ratekeeper, happens: impl FnOnce()) -> (u64, u64) {
    let (load, server) = (Load::default(), server.address());
    thread::scope(|scope| {
        // Also when something does not come about: the scope waits for its threads.
        let stop = Stop(&load.stop);
        let calls = scope.spawn(|| {
            Runtime::new().unwrap().block_on(async {
                tokio::join!(
                    load.call(server),
                    load.call(server),
                    load.call(server),
                    load.call(server)
                );
            });
        });
        let admitted = || load.admitted.load(Ordering::SeqCst);
        eventually("there is load", || admitted() > 100);
        happens();
        let before = admitted();
        eventually("the load is admitted again", || admitted() > before + 100);
        drop(stop);
        calls.join().unwrap();
    });
    let counts = [&load.admitted, &load.failed];
    let [admitted, failed] = counts.map(|count| count.load(Ordering::SeqCst));
    (admitted, failed)
}

#[test]
fn the_master_is_found_and_a_failover_followed() {
    let watched = Watched::start(&Manner::default());
    let server = server(&watched, &[]);
    check(&server, "found", ask("d", &["k=1"]), "OK: OK 9 of 10/hour");
    assert_eq!(
        run::<Vec<String>>(&watched.first, &["KEYS", "rk:d|*"]),
        ["rk:d|k=1"]
    );
    let (admitted, failed) = under_load(&server, || {
        watched.sentinels[0].run::<()>(&["SENTINEL", "FAILOVER", NAME]);
        watched.named(watched.second.port());
    });
    // Nothing was sent twice: no more is gone than was asked for.
    let gone = gone(&watched.second).unwrap();
    assert!(
        gone <= admitted + failed,
        "{gone} are gone, {admitted} admitted, {failed} failed"
    );
    // What the old one took after the new one stopped listening to it is lost: that is Redis's replication.
    // From now on, all is with the new one.
    let gone = || self::gone(&watched.second).unwrap();
    eventually("the new one is charged", || {
        let before = gone();
        server.ask(ask("d", &["much=x"])).unwrap();
        gone() == before + 1
    });
}

/// As docs/reliability.md says how to do it.
#[test]
fn a_failover_after_writes_were_paused_loses_nothing() {
    let watched = Watched::start(&Manner::default());
    let server = server(&watched, &[]);
    let (admitted, failed) = under_load(&server, || {
        run::<()>(&watched.first, &["CLIENT", "PAUSE", "20000", "WRITE"]);
        eventually("the replica has all that was written", || {
            gone(&watched.first) == gone(&watched.second)
        });
        watched.sentinels[0].run::<()>(&["SENTINEL", "FAILOVER", NAME]);
        watched.named(watched.second.port());
    });
    let gone = gone(&watched.second).unwrap();
    assert!(
        gone <= admitted + failed,
        "{gone} are gone, {admitted} admitted, {failed} failed"
    );
    // A token comes back every half a minute.
    assert!(
        gone + 10 >= admitted,
        "{gone} are gone, {admitted} admitted, {failed} failed"
    );
}

#[test]
fn a_master_that_dies_is_replaced() {
    let watched = Watched::start(&Manner::default());
    let server = server(&watched, &[]);
    let second = watched.second.port();
    let Watched {
        first,
        second: replica,
        sentinels,
    } = watched;
    let watched = Watched {
        first: replica,
        second: Redis::start(),
        sentinels,
    };
    let (admitted, failed) = under_load(&server, || {
        // By SIGKILL.
        drop(first);
        watched.named(second);
    });
    let gone = gone(&watched.first).unwrap();
    assert!(
        gone <= admitted + failed,
        "{gone} are gone, {admitted} admitted, {failed} failed"
    );
}

#[test]
fn a_master_that_was_cut_off_is_left_while_it_still_answers() {
    let watched = Watched::start(&Manner::default());
    let server = server(&watched, &[]);
    check(&server, "first", ask("d", &["k=1"]), "OK: OK 9 of 10/hour");
    // As on the other side of a split network: the old one stays a master, and the sentinels watch another.
    run::<()>(&watched.second, &["REPLICAOF", "NO", "ONE"]);
    watched.watch(watched.second.port());
    run::<()>(&watched.second, &["FLUSHALL"]);
    eventually("the new one is used", || {
        server.ask(ask("d", &["k=2"])).unwrap();
        !run::<Vec<String>>(&watched.second, &["KEYS", "rk:d|k=2"]).is_empty()
    });
}

#[test]
fn a_demoted_master_is_left_at_once() {
    let watched = Watched::start(&Manner::default());
    // Nobody looks in the meantime: it must be READONLY that does it.
    let server = server(&watched, &[("WORKER_THREADS", "1")]);
    check(&server, "first", ask("d", &["k=1"]), "OK: OK 9 of 10/hour");
    let sentinels = &watched.sentinels;
    for sentinel in sentinels {
        sentinel.run::<()>(&["SENTINEL", "REMOVE", NAME]);
    }
    run::<()>(&watched.second, &["REPLICAOF", "NO", "ONE"]);
    let port = watched.second.port().to_string();
    for sentinel in sentinels {
        sentinel.run::<()>(&["SENTINEL", "MONITOR", NAME, "127.0.0.1", &port, "2"]);
    }
    run::<()>(&watched.first, &["REPLICAOF", "127.0.0.1", &port]);
    // The very request that hears READONLY is decided by the new master.
    check(&server, "second", ask("d", &["k=3"]), "OK: OK 9 of 10/hour");
    assert_eq!(
        run::<Vec<String>>(&watched.second, &["KEYS", "rk:d|k=3"]).len(),
        1
    );
}

#[test]
fn one_sentinel_that_answers_is_enough() {
    let watched = Watched::start(&Manner::default());
    // One that was never there, one that hangs, one that was there and is gone.
    watched.sentinels[0].pause();
    let url = watched.url().replacen(',', ",127.0.0.1:1,", 1);
    let mut watched = watched;
    drop(watched.sentinels.remove(1));
    let server = server(&watched, &[("REDIS_URL", &url)]);
    eventually("it decides", || decides(&server));
}

#[test]
fn sentinels_that_know_no_such_master_are_quoted() {
    let watched = Watched::start(&Manner::default());
    let url = watched.url().replacen(NAME, "shoq", 1);
    let server = server(&watched, &[("REDIS_URL", &url)]);
    let failure = server.ask(ask("d", &["k=1"])).unwrap_err();
    assert!(
        failure.message().contains("unknown master shoq"),
        "{failure}"
    );
}

#[test]
fn sentinels_have_a_password_of_their_own() {
    let manner = Manner {
        servers: [
            "--requirepass",
            "hush-server",
            "--masterauth",
            "hush-server",
        ]
        .map(str::to_owned)
        .to_vec(),
        sentinels: format!("requirepass hush-sentinel\nsentinel auth-pass {NAME} hush-server"),
    };
    let watched = Watched::start(&manner);
    let login = [
        ("REDIS_AUTH", "hush-server"),
        ("REDIS_SENTINEL_AUTH", "hush-sentinel"),
    ];
    let first = server(&watched, &login);
    check(&first, "both", ask("d", &["k=1"]), "OK: OK 9 of 10/hour");
    for wrong in [
        [
            ("REDIS_AUTH", "hush-server"),
            ("REDIS_SENTINEL_AUTH", "hush-wrong"),
        ],
        [
            ("REDIS_AUTH", "hush-wrong"),
            ("REDIS_SENTINEL_AUTH", "hush-sentinel"),
        ],
    ] {
        let server = server(&watched, &[&wrong[..], &[("LOG_LEVEL", "trace")]].concat());
        let failure = server.ask(ask("d", &["k=1"])).unwrap_err();
        assert!(!failure.message().contains("hush"), "{failure}");
        server.signal("TERM");
        let (_, log) = server.ended();
        assert!(!log.contains("hush"), "{log}");
    }
}

#[test]
fn sentinels_and_servers_speak_tls() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let authority = Authority::new("ours");
    authority.write(directory.path().join("ca.crt").as_path());
    authority.sign(directory.path(), "all", &["localhost", "127.0.0.1"]);
    let files = [
        ("--tls-cert-file", path("all.crt")),
        ("--tls-key-file", path("all.key")),
        ("--tls-ca-cert-file", path("ca.crt")),
    ];
    let line = |(name, path): &(&str, String)| format!("{} {path}\n", name.trim_matches('-'));
    let lines: String = files.iter().map(line).collect();
    // Both listen without TLS, too, for the test itself.
    let (port, of_sentinel) = (free_port().to_string(), free_port());
    let mut arguments = vec!["--tls-auth-clients", "no", "--tls-port", &port];
    arguments.extend(files.iter().flat_map(|(name, path)| [*name, path.as_str()]));
    let redis = Redis::start_with(&arguments);
    let more = format!("tls-port {of_sentinel}\ntls-auth-clients no\ntls-replication yes\n{lines}");
    let sentinel = Sentinel::start(port.parse().unwrap(), &more);
    let server = |url: &str, authority: &str| {
        let environment = [
            ("REDIS_TYPE", "sentinel"),
            ("REDIS_URL", url),
            ("REDIS_TLS", "true"),
            ("REDIS_TLS_CACERT", authority),
            ("REDIS_TIMEOUT", "3s"),
            ("STORE_FAILURE_MODE", "error"),
        ];
        Ratekeeper::start(
            RULES,
            environment.map(|(name, value)| (name, value.to_owned())),
        )
    };
    let url = format!("{NAME},localhost:{of_sentinel}");
    let trusting = server(&url, &path("ca.crt"));
    check(&trusting, "tls", ask("d", &["k=1"]), "OK: OK 9 of 10/hour");
    assert_eq!(
        run::<Vec<String>>(&redis, &["KEYS", "rk:d|*"]),
        ["rk:d|k=1"]
    );
    // To one that does not know the authority, or speaks plaintext, the master is not told.
    Authority::new("other").write(directory.path().join("other.crt").as_path());
    let plain = format!("{NAME},localhost:{}", sentinel.port);
    for (url, authority) in [(&url, "other.crt"), (&plain, "ca.crt")] {
        let server = server(url, &path(authority));
        let failure = server.ask(ask("d", &["k=1"])).unwrap_err();
        assert!(failure.message().contains("TLS"), "{failure}");
    }
}

#[test]
fn with_sentinels_one_right_more_is_enough() {
    let watched = Watched::start(&Manner::default());
    let rights = format!("{RIGHTS} +role");
    let user = ["ACL", "SETUSER", "ratekeeper", "on", ">hush"];
    let words: Vec<&str> = user.into_iter().chain(rights.split(' ')).collect();
    run::<()>(&watched.first, &words);
    let server = server(&watched, &[("REDIS_AUTH", "ratekeeper:hush")]);
    check(&server, "master", ask("d", &["k=1"]), "OK: OK 9 of 10/hour");
    let refused: Vec<redis::Value> = run(&watched.first, &["ACL", "LOG"]);
    assert!(refused.is_empty(), "{refused:?}");
}
