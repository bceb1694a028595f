//! Slots that move and nodes that fail, under load.

use std::time::Instant;

use super::{Load, TOKENS, descriptors, fleet, left, requests, server, server_with, slot_of};
use crate::support::{Cluster, ask, check, eventually};

#[test]
fn a_slot_on_its_way_is_decided_wherever_its_buckets_are() {
    let cluster = Cluster::start();
    let server = server(&cluster);
    // Descriptors of one slot.
    let slot = slot_of("two", "0");
    let same: Vec<String> = (0..)
        .map(|i: u32| i.to_string())
        .filter(|i| slot_of("two", i) == slot)
        .take(4)
        .collect();
    let two = |value: &str| ask("c", &[&format!("two={value}")]);
    check(
        &server,
        "at the owner",
        two(&same[0]),
        "OK: OK 399 of 400/year",
    );
    check(
        &server,
        "at the owner",
        two(&same[1]),
        "OK: OK 399 of 400/year",
    );
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    cluster.begin_migration(slot, to);
    check(
        &server,
        "not moved yet",
        two(&same[0]),
        "OK: OK 398 of 400/year",
    );
    check(
        &server,
        "new, so at the other one",
        two(&same[2]),
        "OK: OK 399 of 400/year",
    );
    check(
        &server,
        "and again",
        two(&same[2]),
        "OK: OK 398 of 400/year",
    );
    // One of the two buckets moves.
    let keys: Vec<String> = cluster.run(from, &["KEYS", &format!("*two={}*", same[1])]);
    assert_eq!(keys.len(), 2, "{keys:?}");
    let port = cluster.ports()[to].to_string();
    cluster.run::<()>(
        from,
        &["MIGRATE", "127.0.0.1", &port, &keys[0], "0", "5000"],
    );
    check(
        &server,
        "one bucket here, one there",
        two(&same[1]),
        "OK: OK 398 of 400/year",
    );
    cluster.move_keys(slot, from, to);
    check(
        &server,
        "all moved, but not the slot",
        two(&same[0]),
        "OK: OK 397 of 400/year",
    );
    cluster.end_migration(slot, to);
    for (value, left) in [
        (&same[0], 396),
        (&same[1], 397),
        (&same[2], 397),
        (&same[3], 399),
    ] {
        check(
            &server,
            "at the new owner",
            two(value),
            &format!("OK: OK {left} of 400/year"),
        );
    }
    assert_eq!(cluster.owner(slot), to);
}

#[test]
fn resharding_under_load_loses_and_gains_nothing() {
    let cluster = Cluster::start();
    let servers = fleet(&cluster);
    let (one, two) = (descriptors("one", 80), descriptors("two", 80));
    let keys: Vec<String> = one.into_iter().chain(two).collect();
    let load = Load::start(&servers, requests(&keys));
    let slots: std::collections::BTreeSet<u16> = keys
        .iter()
        .filter_map(|descriptor| descriptor.split_once('='))
        .map(|(key, value)| slot_of(key, value))
        .collect();
    for (i, &slot) in slots.iter().enumerate() {
        let to = (cluster.owner(slot) + 1 + i % 2) % 3;
        cluster.migrate(slot, to);
    }
    let counts = load.stop();
    assert_eq!(counts.failed, 0, "{counts:?}");
    assert!(
        counts.denied < counts.admitted,
        "the load was there all the time: {counts:?}"
    );
    assert_eq!(
        counts.admitted + left(&servers[0], &keys),
        160 * TOKENS,
        "{counts:?}"
    );
}

#[test]
#[expect(clippy::print_stdout, reason = "for the table in docs/reliability.md")]
fn a_lost_master_is_replaced_by_its_replica_under_load() {
    let mut cluster = Cluster::start();
    let servers: Vec<_> = (0..3)
        .map(|_| server_with(&cluster, [("REDIS_TIMEOUT", "100ms".to_owned())]))
        .collect();
    let keys = descriptors("one", 120);
    let of_lost = keys
        .iter()
        .position(|key| cluster.owner(slot_of("one", &key[4..])) == 0);
    let of_lost = &keys[of_lost.expect("some key is there")];
    let load = Load::start(&servers, requests(&keys));
    eventually("the master has buckets", || {
        cluster.run::<u64>(0, &["DBSIZE"]) > 20
    });
    cluster.kill(0);
    cluster.wait_for_promotion(3);
    let whole = Instant::now();
    for server in &servers {
        eventually("it decides again", || {
            server.ask(ask("c", &[of_lost])).is_ok()
        });
    }
    let recovered = whole.elapsed();
    let counts = load.stop();
    // Redis replicates asynchronously: what a master had not passed on when it died is admitted again.
    let total = counts.admitted + left(&servers[0], &keys);
    let (most, lost) = (120 * TOKENS, total.saturating_sub(120 * TOKENS));
    println!("recovered {recovered:?} after the cluster; {lost} hits lost; {counts:?}");
    assert!(lost <= 3 * 128, "{total} of {most}: {counts:?}");
    assert!(recovered.as_secs() < 5, "{recovered:?} after the cluster");
    // After its restart it is a replica, which redirects clients.
    cluster.restart(0);
    cluster.wait_until_whole();
    assert!(servers[0].ask(ask("c", &[of_lost])).is_ok());
}

#[test]
fn a_node_that_comes_back_empty_is_used_again() {
    let mut cluster = Cluster::start();
    let server = server(&cluster);
    let value = (0..)
        .map(|i: u32| i.to_string())
        .find(|i| cluster.owner(slot_of("one", i)) == 1);
    let request = || ask("c", &[&format!("one={}", value.as_ref().unwrap())]);
    check(&server, "before", request(), "OK: OK 399 of 400/year");
    // Without its replica, no node takes its place.
    cluster.kill(4);
    cluster.kill(1);
    cluster.restart(1);
    eventually("it decides again", || server.ask(request()).is_ok());
}
