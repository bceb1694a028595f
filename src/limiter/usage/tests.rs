//! When a pattern is recognized, when it no longer is, and that counting loses nothing between threads.

use super::*;
use Call::{Ask, Refund, Report};
use Pattern::{Prepaid, Refunded, Reported};

/// Counts calls of one rule, each as a request that passes; the pattern that the last of them is decided by.
fn play(usage: &[Usage], calls: impl IntoIterator<Item = Call>) -> Pattern {
    let mut last = usage[0].counts().pattern;
    for call in calls {
        last = one(usage, call, true);
    }
    last
}

/// One call of the rule; the pattern that it is decided by.
fn one(usage: &[Usage], call: Call, passes: bool) -> Pattern {
    let uses = Uses::new([(0, call)].into_iter(), usage);
    uses.count(passes, usage, |_, _| {});
    uses.pattern(0)
}

fn fresh() -> [Usage; 1] {
    [Usage::default()]
}

fn times(count: usize, call: Call) -> impl Iterator<Item = Call> {
    std::iter::repeat_n(call, count)
}

#[test]
fn the_first_report_after_the_first_ask_is_recognized_already() {
    assert_eq!(play(&fresh(), [Ask]), Prepaid);
    assert_eq!(play(&fresh(), [Report]), Prepaid);
    assert_eq!(play(&fresh(), [Ask, Report]), Reported);
    assert_eq!(play(&fresh(), [Refund]), Prepaid);
    assert_eq!(play(&fresh(), [Report, Refund]), Refunded);
}

#[test]
fn what_is_looked_at_is_not_counted_yet() {
    let usage = fresh();
    play(&usage, [Ask]);
    for _ in 0..100 {
        let uses = Uses::new([(0, Report)].into_iter(), &usage);
        assert_eq!(uses.pattern(0), Reported);
    }
    assert_eq!(usage[0].counts().percents(), [100, 0, 0]);
}

#[test]
fn an_odd_call_among_many_changes_nothing() {
    for (usual, odd) in [
        (Ask, Report),
        (Report, Ask),
        (Report, Refund),
        (Ask, Refund),
    ] {
        for count in [20, 500, 5_000] {
            let usage = fresh();
            play(&usage, times(count, usual));
            assert_eq!(
                play(&usage, [odd]),
                Prepaid,
                "{odd:?} after {count} {usual:?}"
            );
        }
    }
}

#[test]
fn a_request_of_many_descriptors_is_one_call_of_a_kind() {
    let usage = fresh();
    play(&usage, times(100, Report));
    let uses = Uses::new(std::iter::repeat_n((0, Ask), 250), &usage);
    assert_eq!(uses.pattern(0), Prepaid);
    uses.count(true, &usage, |_, _| {});
    assert_eq!(usage[0].counts().total(), 101);
}

#[test]
fn a_substantial_part_is_recognized_after_much_traffic_too() {
    let usage = fresh();
    play(&usage, times(100_000, Ask));
    let pairs = |count| (0..count).flat_map(|_| [Ask, Report]);
    assert_eq!(play(&usage, pairs(150)), Reported);
    // And no client that asks often takes it away.
    assert_eq!(play(&usage, times(900, Ask)), Reported);
}

#[test]
fn denied_asks_do_not_count() {
    let usage = fresh();
    play(&usage, [Ask, Report]);
    for _ in 0..10_000 {
        one(&usage, Ask, false);
    }
    assert_eq!(usage[0].counts().percents(), [50, 50, 0]);
    assert_eq!(play(&usage, [Report]), Reported);
}

#[test]
fn asks_that_are_rarely_reported_do_not_end_it_and_none_for_long_do() {
    let usage = fresh();
    play(&usage, [Ask, Report]);
    let rarely = (0..50).flat_map(|_| times(100, Ask).chain([Report]));
    assert_eq!(play(&usage, rarely), Reported);
    assert_eq!(play(&usage, times(10_000, Ask)), Prepaid);
    assert_eq!(play(&usage, [Report]), Prepaid);
}

#[test]
fn a_pattern_that_was_recognized_by_mistake_is_forgotten() {
    for (odd, mistaken, usual, calls) in [
        (Ask, Reported, Report, 20),
        (Refund, Refunded, Report, 50),
        (Refund, Refunded, Ask, 50),
        (Report, Reported, Ask, 1_000),
    ] {
        let usage = fresh();
        assert_eq!(play(&usage, [usual, odd]), mistaken);
        assert_eq!(play(&usage, times(calls, usual)), Prepaid, "{odd:?}");
    }
}

#[test]
fn a_share_near_the_bound_does_not_swing() {
    let usage = fresh();
    // Asks are a tenth, give or take.
    let part = |reports| times(1, Ask).chain(times(reports, Report));
    play(&usage, [Ask]);
    play(&usage, part(9));
    let mut changes = 0;
    for round in 0..2_000 {
        for call in part(8 + round % 4) {
            let uses = Uses::new([(0, call)].into_iter(), &usage);
            uses.count(true, &usage, |_, _| changes += 1);
        }
    }
    assert!(changes <= 1, "{changes} changes");
}

#[test]
fn a_request_is_seen_as_a_whole() {
    // The end of a request with an estimate: what is given back, and the cost.
    let usage = [Usage::default(), Usage::default()];
    let uses = Uses::new([(0, Report)].into_iter(), &usage);
    uses.count(true, &usage, |_, _| {});
    let end = [(1, Ask), (0, Refund), (0, Report), (1, Report)];
    let uses = Uses::new(end.into_iter(), &usage);
    assert_eq!((uses.pattern(0), uses.pattern(1)), (Refunded, Reported));
    let mut changed = Vec::new();
    uses.count(true, &usage, |slot, counts| {
        changed.push((slot, counts.pattern))
    });
    assert_eq!(changed, [(0, Refunded), (1, Reported)]);
}

#[test]
fn what_only_one_kind_of_call_comes_to_is_only_read() {
    let usage = fresh();
    play(&usage, times(5_000, Ask));
    let before = usage[0].counts();
    play(&usage, times(10, Ask));
    assert_eq!(usage[0].counts(), before);
}

#[test]
fn threads_lose_no_call() {
    let usage = &fresh();
    std::thread::scope(|scope| {
        for call in [Ask, Report, Refund] {
            scope.spawn(move || play(usage, times(300, call)));
        }
    });
    assert_eq!(usage[0].counts().total(), 900);
}

#[test]
fn counts_survive_being_packed() {
    for (pattern, assumed) in [
        (Prepaid, None),
        (Reported, Some(Prepaid)),
        (Refunded, Some(Refunded)),
    ] {
        let counts = CallCounts {
            assumed,
            asks: u16::MAX,
            reports: 1,
            refunds: 999,
            pattern,
        };
        assert_eq!(unpacked(packed(counts)), counts);
    }
}

#[test]
fn hits_are_taken_by_pattern_and_call() {
    use Payment::{Postpaid as After, Prepaid as Before};
    for (pattern, expected) in [
        (Prepaid, [Before, Before, Before, Before]),
        (Reported, [Before, After, After, After]),
        (Refunded, [After, After, After, After]),
    ] {
        let calls = [Ask, Report, Refund, Call::Other];
        let payments = calls.map(|call| pattern.payment(call, 1));
        assert_eq!(payments, expected, "{pattern:?}");
        assert_eq!(pattern.payment(Ask, 0), Before);
    }
    assert_eq!(Prepaid.under(Hits::Postpaid), Reported);
    assert_eq!(Refunded.under(Hits::Postpaid), Refunded);
    assert_eq!(Refunded.under(Hits::Prepaid), Prepaid);
    assert_eq!(Reported.under(Hits::Auto), Reported);
}

#[test]
fn it_is_said_why() {
    let usage = fresh();
    let says = || usage[0].counts().to_string();
    assert_eq!(says(), "prepaid: no calls yet");
    play(&usage, times(12, Ask));
    assert_eq!(
        says(),
        "prepaid: asked, reported and given back in 100 % / 0 % / 0 % of the recent calls"
    );
    play(&usage, times(13, Report));
    assert_eq!(
        says(),
        "postpaid: asked and reported in 48 % / 52 % of the recent calls"
    );
    play(&usage, times(25, Refund));
    assert_eq!(
        says(),
        "postpaid: hits are given back in 50 % of the recent calls"
    );
}
