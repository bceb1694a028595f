//! What the errors of Redis mean.

use bb8_redis::redis::{Value, parse_redis_value};

use super::*;
use crate::store::FailureKind;

/// What the driver makes of a line of Redis.
pub(super) fn error(line: &str) -> RedisError {
    match parse_redis_value(format!("-{line}\r\n").as_bytes()) {
        Ok(Value::ServerError(error)) => error.into(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_can_never_run_the_script_counts_and_says_what_is_needed() {
    for (line, kind, hint) in [
        (
            "ERR Error running script (call to f_5d): @user_script:96: @user_script: 96: Write commands not allowed \
             after non deterministic commands. Call redis.replicate_commands() at the start of your script",
            FailureKind::Unfit,
            "Redis 5.0 or newer",
        ),
        (
            "ERR unknown command 'EVALSHA', with args beginning with: '5d'",
            FailureKind::Unfit,
            "that runs scripts",
        ),
    ] {
        let failure = classify_standalone("there".to_owned(), &error(line));
        assert_eq!(failure.kind(), kind, "{line}");
        assert!(failure.to_string().contains(hint), "{line}: {failure}");
    }
}

#[test]
fn what_serves_nobody_counts_and_what_is_about_one_call_does_not() {
    for (line, kind, hint) in [
        ("READONLY You can't write", FailureKind::Unfit, ""),
        (
            "NOPERM this user has no permissions to run the 'evalsha' command",
            FailureKind::Unfit,
            "docs/redis.md",
        ),
        (
            "ERR The user executing the script can't run this command or subcommand script: 5d, on @user_script:1.",
            FailureKind::Unfit,
            "docs/redis.md",
        ),
        (
            "ERR Error running script (call to f_5d): @user_script:1: -NOPERM this user",
            FailureKind::Unfit,
            "docs/redis.md",
        ),
        (
            "MOVED 1 10.0.0.1:6379",
            FailureKind::Unfit,
            "REDIS_TYPE=cluster",
        ),
        (
            "CROSSSLOT Keys in request",
            FailureKind::Unfit,
            "REDIS_TYPE=cluster",
        ),
        (
            "CLUSTERDOWN The cluster",
            FailureKind::Unfit,
            "REDIS_TYPE=cluster",
        ),
        (
            "ERR user_script:7: attempt to index",
            FailureKind::Refused,
            "",
        ),
    ] {
        let failure = classify_standalone("there".to_owned(), &error(line));
        assert_eq!(failure.kind(), kind, "{line}");
        assert!(failure.to_string().contains(hint), "{line}: {failure}");
    }
    // In a cluster, they are about where a slot is.
    let moved = failure("there".to_owned(), &error("MOVED 1 10.0.0.1:6379"));
    assert_eq!(moved.kind(), FailureKind::Refused);
    let down = failure(
        "there".to_owned(),
        &error("CLUSTERDOWN The cluster is down"),
    );
    assert_eq!(down.kind(), FailureKind::Unfit);
    assert!(!down.to_string().contains("REDIS_TYPE"), "{down}");
    assert!(is_cluster_error(&down), "{down}");
    let not_served = error("CLUSTERDOWN Hash slot not served");
    let not_served = failure("there".to_owned(), &not_served);
    assert_eq!(not_served.kind(), FailureKind::Refused, "{not_served}");
}
