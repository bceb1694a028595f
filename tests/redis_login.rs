//! Who may log in to Redis, with what, and what they may do there.

use std::fs;

use tokio::runtime::Runtime;

use crate::support::{Ratekeeper, Redis, ask, check, eventually};

const RULES: &str = "
domain: d
descriptors: [{key: k, rate_limit: {unit: hour, requests_per_unit: 10}}]
";

/// The rights that docs/redis.md names, and all that is needed.
pub(crate) const RIGHTS: &str = "~rk:* -@all +evalsha +script|load +time +mget +set +setrange +del";

fn environment(redis: &Redis) -> Vec<(&'static str, String)> {
    vec![
        ("REDIS_URL", redis.url()),
        ("REDIS_TIMEOUT", "10s".to_owned()),
        ("STORE_FAILURE_MODE", "error".to_owned()),
    ]
}

fn run<T: redis::FromRedisValue>(redis: &Redis, words: &[&str]) -> T {
    Runtime::new().unwrap().block_on(redis.run(words))
}

#[test]
fn the_rights_of_the_readme_are_enough() {
    let page = include_str!("../docs/redis.md");
    let line = format!("user ratekeeper on >password {RIGHTS}");
    assert!(page.contains(&line), "docs/redis.md does not have: {line}");
    let redis = Redis::start();
    let rights: Vec<&str> = RIGHTS.split(' ').collect();
    let user = ["ACL", "SETUSER", "ratekeeper", "on", ">hush"];
    run::<()>(&redis, &[&user[..], &rights[..]].concat());
    let login = ("REDIS_AUTH", "ratekeeper:hush".to_owned());
    let server = Ratekeeper::start(RULES, environment(&redis).into_iter().chain([login]));
    // Everything that the script does: a new bucket, one that changes, one that is full again; and others
    // by the letter.
    check(&server, "new", ask("d", &["k=1"]), "OK: OK 9 of 10/hour");
    check(&server, "again", ask("d", &["k=1"]), "OK: OK 8 of 10/hour");
    check(
        &server,
        "back",
        ask("d", &["k=1 x-10"]),
        "OK: OK 10 of 10/hour",
    );
    check(
        &server,
        "two",
        ask("d", &["k=1", "k=2"]),
        "OK: OK 9 of 10/hour | OK 9 of 10/hour",
    );
    run::<()>(&redis, &["SCRIPT", "FLUSH"]);
    check(&server, "loaded", ask("d", &["k=1"]), "OK: OK 8 of 10/hour");
    let refused: Vec<redis::Value> = run(&redis, &["ACL", "LOG"]);
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn a_password_in_a_file_may_change() {
    let redis = Redis::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    fs::write(&file, "hush-1\n").unwrap();
    run::<()>(&redis, &["CONFIG", "SET", "requirepass", "hush-1"]);
    let login = ("REDIS_AUTH_FILE", file.display().to_string());
    let environment = environment(&redis).into_iter().chain([login]);
    let server = Ratekeeper::start(RULES, environment);
    check(&server, "before", ask("d", &["k=1"]), "OK: OK 9 of 10/hour");
    for (life, left) in [(2, 8), (3, 7)] {
        let (old, new) = (format!("hush-{}", life - 1), format!("hush-{life}"));
        let client = redis::Client::open(format!("redis://:{old}@{}", redis.url())).unwrap();
        let mut admin = client.get_connection().unwrap();
        // First the file, then Redis, which forgets who is logged in.
        fs::write(&file, format!("default:{new}")).unwrap();
        redis::cmd("CONFIG")
            .arg(&["SET", "requirepass", &new])
            .exec(&mut admin)
            .unwrap();
        redis::cmd("CLIENT")
            .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
            .exec(&mut admin)
            .unwrap();
        let expected = format!("OK: OK {left} of 10/hour");
        check(&server, "after", ask("d", &["k=1"]), &expected);
    }
    server.signal("TERM");
    let (_, log) = server.ended();
    assert!(!log.contains("hush"), "{log}");
}

#[test]
fn a_file_that_comes_late_is_told_and_read_again() {
    let redis = Redis::start_with(&["--requirepass", "hush"]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    fs::write(&file, "wrong").unwrap();
    let more = [
        ("REDIS_AUTH_FILE", file.display().to_string()),
        ("REDIS_TIMEOUT", "500ms".to_owned()),
    ];
    let server = Ratekeeper::start(RULES, environment(&redis).into_iter().chain(more));
    let failure = server.ask(ask("d", &["k=1"])).unwrap_err();
    assert!(failure.message().contains("WRONGPASS"), "{failure}");
    fs::remove_file(&file).unwrap();
    eventually("it says that the file is not there", || {
        let failure = server.ask(ask("d", &["k=1"])).unwrap_err();
        failure.message().contains("password file")
    });
    fs::write(&file, "hush").unwrap();
    eventually("it decides", || server.ask(ask("d", &["k=1"])).is_ok());
}

#[test]
fn what_redis_quotes_of_the_login_is_not_repeated() {
    let arguments = [
        &["--rename-command", "HELLO", ""][..],
        &["--rename-command", "AUTH", "", "--requirepass", "hush"],
    ];
    let redis = Redis::start_with(&arguments.concat());
    let login = ("REDIS_AUTH", "hush".to_owned());
    let mut server = Ratekeeper::start(RULES, environment(&redis).into_iter().chain([login]));
    let failure = server.ask(ask("d", &["k=1"])).unwrap_err();
    assert!(
        failure.message().contains("a command of the login"),
        "{failure}"
    );
    assert!(!failure.message().contains("hush"), "{failure}");
    server.wait_for_log("redis unavailable");
    server.signal("TERM");
    let (_, log) = server.ended();
    assert!(!log.contains("hush"), "{log}");
}

#[test]
fn a_user_in_the_address_goes_with_a_password_elsewhere() {
    let redis = Redis::start();
    let rights: Vec<&str> = RIGHTS.split(' ').collect();
    let user = ["ACL", "SETUSER", "ratekeeper", "on", ">hush"];
    run::<()>(&redis, &[&user[..], &rights[..]].concat());
    // Who logs in as nobody else may do nothing.
    run::<()>(
        &redis,
        &["ACL", "SETUSER", "default", "-@all", "+acl", "+hello"],
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    fs::write(&file, "hush").unwrap();
    let file = file.display().to_string();
    let (address, as_user) = (redis.url(), format!("redis://ratekeeper@{}", redis.url()));
    for (life, url, option, value) in [
        (1, as_user.clone(), "REDIS_AUTH", "hush"),
        (2, as_user.clone(), "REDIS_AUTH_FILE", &file),
        (3, as_user, "REDIS_AUTH", "ratekeeper:hush"),
        (
            4,
            format!("redis://{address}?username=ratekeeper"),
            "REDIS_AUTH",
            "hush",
        ),
        (
            5,
            format!("redis://{address}?username=ratekeeper&password=hush"),
            "REDIS_TIMEOUT",
            "9s",
        ),
    ] {
        let login = [("REDIS_URL", url.clone()), (option, value.to_owned())];
        let server = Ratekeeper::start(RULES, environment(&redis).into_iter().chain(login));
        let expected = format!("OK: OK {} of 10/hour", 10 - life);
        check(&server, &url, ask("d", &["k=1"]), &expected);
    }
}

#[test]
fn the_database_of_the_address_is_the_one_that_is_used() {
    let redis = Redis::start();
    let address = redis.url();
    for (database, url) in [
        (3, format!("redis://{address}/3")),
        (4, format!("redis://{address}?db=4")),
        (5, format!("unix://{}?db=5", redis.socket().display())),
    ] {
        let login = [("REDIS_URL", url.clone())];
        let server = Ratekeeper::start(RULES, environment(&redis).into_iter().chain(login));
        check(&server, &url, ask("d", &["k=1"]), "OK: OK 9 of 10/hour");
        let keyspace: String = run(&redis, &["INFO", "keyspace"]);
        assert!(keyspace.contains(&format!("db{database}:")), "{keyspace}");
        assert!(!keyspace.contains("db0:"), "{keyspace}");
    }
}

/// Redis 7 says of a right that the script lacks what has no code of its own, and only once the script writes.
#[test]
fn a_right_that_the_script_lacks_is_found_at_the_start() {
    let redis = Redis::start();
    let rights: Vec<&str> = RIGHTS.split(' ').filter(|right| *right != "+set").collect();
    let user = ["ACL", "SETUSER", "ratekeeper", "on", ">hush"];
    run::<()>(&redis, &[&user[..], &rights[..]].concat());
    let login = ("REDIS_AUTH", "ratekeeper:hush".to_owned());
    let mut server = Ratekeeper::start(RULES, environment(&redis).into_iter().chain([login]));
    server.wait_for_log("\"Rights\" in docs/redis.md");
}
