//! Load from two servers on a Redis behind a proxy, with one fault after another, drawn by a seed that is printed.
//!
//! A few faults among the tests; `tests/soak` goes on for ten minutes, or for as long as it is told.

use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

use crate::faults::{Call, Load, RECOVERY, Site, all, check_admitted, check_back, slowest};
use crate::support::Ratekeeper;

/// How long it goes on when nobody says.
const SECONDS: u64 = 12;

/// What a server may hold more in the end than after its first minute, or the first third of a short run.
const GROWTH: u64 = 16;

fn told(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test has no command line")]
    let told = std::env::var(name).ok();
    told.map_or(default, |text| text.parse().unwrap())
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "for docs/reliability.md, and to run it again"
)]
fn faults_one_after_another() {
    let seconds = told("SOAK_SECONDS", SECONDS);
    let seed = told("SOAK_SEED", 1);
    println!("SOAK_SEED={seed} SOAK_SECONDS={seconds}");
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut site = Site::new(true);
    let servers = site.servers();
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    let load = Load::start(&servers);
    let faults = all();
    let (mut lives, mut met) = (1.0, 0_u32);
    let mut early = Vec::new();
    while Instant::now() < end {
        let pause = |random: &mut Xoshiro256PlusPlus| {
            thread::sleep(Duration::from_millis(random.random_range(50..2_000)));
        };
        pause(&mut random);
        let fault = &faults[random.random_range(0..faults.len())];
        (fault.inject)(&mut site);
        pause(&mut random);
        (fault.lift)(&mut site);
        lives += if fault.forgets { 1.0 } else { 0.0 };
        met += 1;
        if early.is_empty() && begin.elapsed() > Duration::from_secs((seconds / 3).min(60)) {
            early = memory(&servers);
        }
    }
    let lifted = Instant::now();
    thread::sleep(RECOVERY + Duration::from_secs(1));
    let late = memory(&servers);
    let calls = load.end();
    let slowest = slowest(&calls);
    check_admitted("soak", &calls, lives, begin.elapsed());
    for (early, late) in early.iter().zip(&late) {
        assert!(
            late <= &(early + GROWTH),
            "memory grew from {early} to {late} MiB"
        );
    }
    check_back("soak", &calls, lifted);
    let by_policy = calls.iter().filter(|call| call.by_policy).count();
    let by_redis = |admitted| {
        let which = |call: &&Call| !call.by_policy && call.admitted == admitted;
        calls.iter().filter(which).count()
    };
    let (admitted, denied) = (by_redis(true), by_redis(false));
    assert_eq!(admitted + denied + by_policy, calls.len());
    println!(
        "{met} faults; sent {} = admitted {admitted} + denied {denied} + by policy {by_policy}; \
         slowest {:.1} ms; memory of the servers {early:?} MiB early, {late:?} MiB in the end",
        calls.len(),
        slowest.as_secs_f64() * 1_000.0
    );
    site.end(servers);
}

/// The memory that each server holds, in MiB.
fn memory(servers: &[Ratekeeper]) -> Vec<u64> {
    servers.iter().map(Ratekeeper::memory).collect()
}
