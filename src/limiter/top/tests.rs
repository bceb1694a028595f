//! The counters against exact counting. What is told of them over HTTP is tested from outside.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::bucket::Terms;
use crate::key::{BucketKey, KeyFormat, LimitTag, Segment};
use crate::limiter::request::{Descriptor, Entry};
use crate::store::{Basis, Cause, Outcome, Part, Payment};

fn key(bucket: u8) -> BucketKey {
    let keys = KeyFormat::new("rk:");
    let tag = LimitTag {
        index: 0,
        is_window: false,
        override_period: None,
    };
    let value = bucket.to_string();
    keys.key(
        &keys.stem("d", [(&b"k"[..], Segment::Value(value.as_bytes()))]),
        tag,
    )
}

/// A request on a bucket for so many hits.
#[derive(Debug, Clone, Copy)]
struct Ask {
    bucket: u8,
    hits: u16,
    admitted: bool,
}

fn ask() -> impl Strategy<Value = Ask> {
    // Few buckets are asked for often, many seldom.
    let bucket = prop_oneof![3 => 0..4_u8, 2 => 0..30_u8, 1 => any::<u8>()];
    let hits = prop_oneof![4 => Just(1), 1 => 0..200_u16];
    (bucket, hits, any::<bool>()).prop_map(|(bucket, hits, admitted)| Ask {
        bucket,
        hits,
        admitted,
    })
}

/// What is noted in a thread, so many seconds after what was noted before.
type Noted = (usize, u64, Ask);

fn noted() -> impl Strategy<Value = Noted> {
    let pause = prop_oneof![20 => Just(0_u64), 4 => 0..15_u64, 1 => 0..400_u64];
    (0..2_usize, pause, ask())
}

/// Notes a request as a limiter does, at a time of our own.
fn note(both: &mut Both, ask: Ask, now: u64) {
    let hash = key(ask.bucket).hash();
    let name = |counted: &mut Counted| counted.name(key(ask.bucket).as_str(), "d.k");
    let hits = u64::from(ask.hits);
    if hits > 0 {
        both.hits.live(now).add(hash, hits, name);
    }
    if !ask.admitted {
        both.denied.live(now).add(hash, hits.max(1), name);
    }
}

/// Whether what is told of a window is as right as it says. `begin` is when the window begins.
fn check(sum: &Sum, exact: &HashMap<u128, u64>, bound: u64) -> Result<(), TestCaseError> {
    prop_assert_eq!(sum.total, exact.values().sum::<u64>());
    prop_assert!(sum.error <= bound, "{} > {bound}", sum.error);
    for (hash, &count) in exact {
        match sum.buckets.get(hash) {
            Some((told, _)) => {
                prop_assert!(count <= told + sum.lack, "{count} > {told} + {}", sum.lack);
                prop_assert!(told + sum.lack <= count + sum.error);
            }
            None => prop_assert!(count <= sum.lack),
        }
    }
    for (hash, (told, counted)) in &sum.buckets {
        let count = exact.get(hash).copied().unwrap_or_default();
        prop_assert!(told + sum.lack <= count + sum.error);
        prop_assert!(counted.key.starts_with("rk:d|k="));
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_count_is_wrong_by_more_than_is_said(size in 1..40_usize, stream in vec(noted(), 1..400)) {
        let new = || Both {
            hits: Sliding::new(size),
            denied: Sliding::new(size),
            would_deny: Sliding::new(size),
        };
        let threads = [new(), new()].map(|both| Arc::new(Mutex::new(both)));
        let mut now = 0;
        let mut times = Vec::new();
        for &(thread, pause, ask) in &stream {
            now += pause;
            note(&mut lock(&threads[thread]), ask, now);
            times.push((now, ask));
        }
        let inner = Inner { size, started: Instant::now(), threads: Mutex::new(threads.to_vec()) };
        for (window, slack) in [(Window::Minute, 1), (Window::Hour, 3)] {
            let begin = now - window.seconds(now);
            let of = |weight: fn(&Ask) -> u64| {
                let mut exact: HashMap<u128, u64> = HashMap::new();
                let within = times.iter().filter(|(time, _)| *time >= begin);
                for (_, ask) in within.filter(|(_, ask)| weight(ask) > 0) {
                    *exact.entry(key(ask.bucket).hash()).or_default() += weight(ask);
                }
                exact
            };
            let [hits, denied, _] = inner.sums(window, now);
            for (sum, exact) in [
                (hits, of(|ask| u64::from(ask.hits))),
                (denied, of(|ask| if ask.admitted { 0 } else { u64::from(ask.hits).max(1) })),
            ] {
                let total: u64 = exact.values().sum();
                check(&sum, &exact, slack * total / size as u64)?;
            }
        }
    }
}

#[test]
fn few_buckets_are_counted_exactly_and_forgotten_after_their_time() {
    let mut both = Both {
        hits: Sliding::new(8),
        denied: Sliding::new(8),
        would_deny: Sliding::new(3),
    };
    let ask = |bucket| Ask {
        bucket,
        hits: 3,
        admitted: false,
    };
    for second in 0..7_200 {
        note(&mut both, ask(u8::try_from(second / 900).unwrap()), second);
    }
    for (window, now, expected) in [
        (Window::Minute, 7_199, vec![70 * 3]),
        (Window::Minute, 7_259, vec![10 * 3]),
        (Window::Minute, 7_270, vec![]),
        (Window::Hour, 7_299, vec![900 * 3; 4]),
        (Window::Hour, 10_799, vec![300 * 3]),
        (Window::Hour, 11_100, vec![]),
    ] {
        let sum = Sum::of(&both.hits.parts(window, now));
        let mut counts: Vec<u64> = sum.buckets.values().map(|(count, _)| *count).collect();
        counts.sort_unstable();
        assert_eq!((sum.error, counts), (0, expected), "{window:?} {now}");
    }
}

fn request(value: &str) -> Request {
    let descriptor = |entries: &[(&str, &str)]| Descriptor {
        entries: entries
            .iter()
            .map(|(key, value)| Entry {
                key: (*key).into(),
                value: (*value).into(),
            })
            .collect(),
        ..Descriptor::default()
    };
    Request {
        domain: "shop".into(),
        descriptors: vec![
            descriptor(&[("client", value)]),
            descriptor(&[("path", "/cart"), ("user", "7")]),
        ],
        hits_addend: 0,
    }
}

#[test]
fn the_last_denial_is_told_with_its_request() {
    let top = Top::new(4);
    let noter = top.noter();
    let charge = Charge {
        key: key(1),
        terms: Terms::fixed_window(1, 1, 0),
        hits: 2,
        payment: Payment::Prepaid,
        part: Part::Must,
        on_failure: None,
    };
    for at in [5, 7] {
        let outcome = Outcome {
            admitted: false,
            remaining: 0,
            retry_in: None,
            full_in: 0,
            state: crate::bucket::State::full(&charge.terms, at),
            decided: at,
            basis: Basis::Bucket,
        };
        let decision = Decision {
            admitted: false,
            outcomes: vec![outcome],
            cause: Cause::Buckets,
        };
        let request = request(&format!("alice{at}"));
        let noted = Decided {
            charges: std::slice::from_ref(&charge),
            decision: &decision,
            is_shadow: false,
        };
        noter.note(&noted, &request, |_| Some("d.k"));
    }
    let expected = Denial {
        at: 7,
        hits: 2,
        request: "shop client=alice7; path=/cart,user=7".to_owned(),
    };
    assert_eq!(top.last_denied(key(1).hash()), Some(expected.clone()));
    assert_eq!(top.last_denied(key(2).hash()), None);
    let hot = top.hot(Window::Minute, 10).unwrap();
    assert_eq!((hot.total_hits, hot.total_denied, hot.error), (4, 4, 0));
    assert_eq!(hot.denied, hot.hottest);
    assert_eq!(hot.denied[0].last, Some(expected));
    assert_eq!((hot.denied[0].hits, hot.denied[0].denied), (Some(4), 4));
    assert_eq!(Top::new(0).hot(Window::Hour, 10), None);
}

#[test]
fn what_shadow_mode_lets_pass_is_no_denial() {
    let top = Top::new(4);
    let noter = top.noter();
    // The bucket of a rule in shadow mode, and one that denies where the server is not in that mode.
    for (bucket, part, is_shadow) in [
        (1, Part::Shadow, false),
        (2, Part::Must, true),
        (2, Part::Must, false),
    ] {
        let charge = Charge {
            key: key(bucket),
            terms: Terms::fixed_window(1, 1, 0),
            hits: 3,
            payment: Payment::Prepaid,
            part,
            on_failure: None,
        };
        let outcome = Outcome {
            admitted: false,
            remaining: 0,
            retry_in: None,
            full_in: 0,
            state: crate::bucket::State::full(&charge.terms, 5),
            decided: 5,
            basis: Basis::Bucket,
        };
        let decision = Decision {
            admitted: part == Part::Shadow,
            outcomes: vec![outcome],
            cause: Cause::Buckets,
        };
        let noted = Decided {
            charges: std::slice::from_ref(&charge),
            decision: &decision,
            is_shadow,
        };
        noter.note(&noted, &request("alice"), |_| Some("d.k"));
    }
    let hot = top.hot(Window::Minute, 10).unwrap();
    let totals = (hot.total_hits, hot.total_denied, hot.total_would_deny);
    assert_eq!(totals, (9, 3, 6));
    let counts = |list: &[HotBucket]| {
        let mut counts: Vec<_> = list
            .iter()
            .map(|bucket| (bucket.key.clone(), bucket.denied, bucket.would_deny))
            .collect();
        counts.sort_unstable();
        counts
    };
    let [one, two] = [1, 2].map(|bucket| key(bucket).as_str().to_owned());
    let both = [(one, 0, 3), (two.clone(), 3, 3)];
    assert_eq!(counts(&hot.denied), [(two, 3, 3)]);
    assert_eq!(counts(&hot.would_deny), both);
    assert_eq!(counts(&hot.hottest), both);
    assert_eq!(top.last_denied(key(1).hash()), None);
    assert!(top.last_denied(key(2).hash()).is_some());
}

#[test]
fn what_clients_send_is_cut_between_characters() {
    for length in 0..400 {
        let mut text = String::new();
        request(&"é".repeat(length)).show(MAX_REQUEST, &mut text);
        assert!(text.len() <= MAX_REQUEST + 3, "{text}");
        assert_eq!(
            text.ends_with("..."),
            31 + 2 * length > MAX_REQUEST,
            "{text}"
        );
    }
}
