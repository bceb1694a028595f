//! The bound of the memory store, and which buckets it drops. The contract that it shares with Redis is tested by
//! `tests/stores.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::bucket::Terms;
use crate::key::{KeyFormat, LimitTag};
use crate::store::{Part, Payment};
use crate::time::Micros;

const SECOND: Micros = 1_000_000;

struct Subject {
    store: MemoryStore,
    now: Arc<AtomicU64>,
}

impl Subject {
    fn new(max_buckets: usize) -> Self {
        let now = Arc::new(AtomicU64::new(1_790_000_000 * SECOND));
        let clock = Arc::clone(&now);
        let clock: Clock = Arc::new(move || clock.load(Ordering::SeqCst));
        Self {
            store: MemoryStore::new(max_buckets, clock),
            now,
        }
    }

    fn wait(&self, time: Micros) {
        self.now.fetch_add(time, Ordering::SeqCst);
    }

    /// Charges a bucket of 100 tokens that is refilled by one each second, and returns the tokens that remain.
    fn hit(&self, name: &str, hits: i64) -> u32 {
        let keys = KeyFormat::new("");
        let tag = LimitTag {
            index: 0,
            is_window: false,
            override_period: None,
        };
        let charge = Charge {
            key: keys.key(&keys.stem(name, []), tag),
            terms: Terms::token_bucket(1, SECOND, 100, 0),
            hits,
            payment: Payment::Prepaid,
            part: Part::Must,
            on_failure: None,
        };
        self.store
            .decide_on(&[charge], |_| BucketBasis::Stored)
            .outcomes[0]
            .remaining
    }
}

#[test]
fn full_buckets_are_dropped() {
    let subject = Subject::new(1_000_000);
    for i in 0..1_000 {
        subject.hit(&format!("once-{i}"), 1);
    }
    assert_eq!(subject.store.buckets(), 1_000);
    subject.wait(SECOND);
    for i in 0..1_000 {
        subject.hit(&format!("later-{i}"), 1);
    }
    let most = 1_000 + 1_000 / 3 + subject.store.shards.len();
    assert!(
        subject.store.buckets() <= most,
        "{} buckets are stored",
        subject.store.buckets()
    );
}

#[test]
fn a_bucket_that_is_charged_again_is_kept() {
    let subject = Subject::new(100);
    subject.hit("a", 10);
    for _ in 0..50 {
        subject.wait(SECOND);
        subject.hit("a", 1);
        subject.hit("b", 1);
    }
    assert_eq!(subject.hit("a", 0), 90);
}

#[test]
fn a_full_store_drops_the_buckets_nearest_to_full() {
    let subject = Subject::new(10);
    for i in 0..10 {
        subject.hit(&format!("{i}"), 10 + i);
    }
    for i in 0..5 {
        subject.hit(&format!("new-{i}"), 50);
    }
    assert_eq!(subject.store.buckets(), 10);
    for i in 0..10 {
        let left = if i < 5 { 100 } else { 100 - 10 - i };
        assert_eq!(
            i64::from(subject.hit(&format!("{i}"), 0)),
            left,
            "bucket {i}"
        );
    }
}

#[test]
fn refunded_buckets_are_dropped() {
    let subject = Subject::new(1_000);
    for i in 0..10_000 {
        subject.hit("a", 1 + i % 50);
        subject.hit("a", -100);
    }
    assert_eq!(subject.store.buckets(), 0);
}

#[test]
fn more_buckets_than_the_bound_are_decided() {
    let subject = Subject::new(1);
    subject.hit("a", 1);
    subject.hit("b", 2);
    assert_eq!(subject.store.buckets(), 1);
    assert_eq!(subject.hit("b", 0), 98);
}
