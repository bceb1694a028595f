//! Which buckets a full shard drops.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::bucket::Terms;

const DAY: Micros = 86_400_000_000;
const NOW: Micros = 20_000 * DAY;

/// Returns a bucket of a limit of 100 per `days` days, after `hits` hits.
fn charged(days: u64, hits: i64, now: Micros) -> State {
    let terms = Terms::token_bucket(100, days * DAY, 100, 0);
    State::full(&terms, now).after(&terms, hits)
}

/// Returns the number of buckets in a shard by limit.
fn by_limit(shard: &Shard) -> HashMap<u32, usize> {
    let mut counts = HashMap::new();
    for stored in shard.buckets.values() {
        *counts.entry(stored.limit).or_default() += 1;
    }
    counts
}

#[test]
fn a_flood_of_one_limit_takes_nothing_from_others() {
    let mut shard = Shard::new(4_096);
    // The victims' buckets are adjacent and are full soonest.
    for victim in 0..1_000 {
        shard.put(victim, 1, charged(1, 5, NOW), NOW);
    }
    for flood in 0..100_000 {
        shard.put(1_000_000 + flood, 2, charged(300, 1, NOW), NOW);
    }
    assert_eq!(by_limit(&shard), HashMap::from([(1, 1_000), (2, 3_096)]));
    // The victims' limit can grow to its share.
    for victim in 1_000..2_040 {
        shard.put(victim, 1, charged(1, 5, NOW), NOW);
        shard.put(2_000_000 + victim, 2, charged(300, 1, NOW), NOW);
    }
    let victims = (0..2_040).filter(|&victim| shard.get(victim).is_some());
    assert_eq!(victims.count(), 2_040);
    assert_eq!(shard.len(), 4_096);
}

#[test]
fn a_bucket_that_changes_its_limit_is_counted_under_the_new_one() {
    let mut shard = Shard::new(10);
    for bucket in 0..10 {
        shard.put(bucket, 1, charged(1, 5, NOW), NOW);
    }
    for bucket in 0..4 {
        shard.put(bucket, 2, charged(1, 6, NOW), NOW);
    }
    // A write without a limit keeps the limit.
    shard.put(5, 0, charged(1, 6, NOW), NOW);
    assert_eq!(
        (
            shard.limits.count(1),
            shard.limits.count(2),
            shard.limits.count(0)
        ),
        (6, 4, 0)
    );
    assert_eq!(by_limit(&shard), HashMap::from([(1, 6), (2, 4)]));
}

proptest! {
    /// The bound holds, the counts are right, and a bucket that is not full is dropped only if the shard is full, and only
    /// from a limit with the most buckets.
    #[test]
    fn only_the_largest_limit_makes_room(
        bound in 1..40_usize,
        writes in vec((0..60_u128, 1..6_u32, 1..101_i64, 0..DAY / 20), 1..400),
    ) {
        let (mut shard, mut now) = (Shard::new(bound), NOW);
        for (bucket, limit, hits, later) in writes {
            now += later;
            let hash = bucket * 6 + u128::from(limit);
            let before: HashMap<u128, StoredBucket> = shard.buckets.iter().map(|(hash, stored)| (*hash, *stored)).collect();
            let is_dropped = shard.put(hash, limit, charged(u64::from(limit), hits, now), now);
            prop_assert!(shard.len() <= bound);
            let gone = before.iter().filter(|(hash, stored)| {
                !stored.state().is_full(now) && !shard.buckets.contains_key(*hash)
            });
            let gone: Vec<u32> = gone.map(|(_, stored)| stored.limit).collect();
            prop_assert_eq!(gone.len(), usize::from(is_dropped));
            let counts = by_limit(&shard);
            for limit in 1..6 {
                prop_assert_eq!(shard.limits.count(limit), counts.get(&limit).copied().unwrap_or_default());
            }
            if let [from] = gone[..] {
                // The counts before the write: with the dropped bucket and without the new one.
                let count = |limit: u32| {
                    let added = usize::from(limit == from);
                    let new = usize::from(limit == shard.buckets[&hash].limit);
                    counts.get(&limit).copied().unwrap_or_default() + added - new
                };
                let largest = (1..6).map(count).max();
                prop_assert_eq!(Some(count(from)), largest);
            }
        }
    }
}
