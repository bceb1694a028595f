//! The arithmetic against an exact rational model, and the properties that follow from it.

mod model;

use num_bigint::BigInt;
use proptest::prelude::*;

use super::*;
use model::{Model, ratio};

const SECOND: Micros = 1_000_000;
const DAY: Micros = 86_400 * SECOND;
const YEAR: Micros = 365 * DAY;

/// Some day in 2026.
const NOW: Micros = 1_790_000_000 * SECOND;

fn bucket(rate: u32, period: Micros, burst: u32) -> Terms {
    Terms::token_bucket(rate, period, burst, burst)
}

/// A bucket as a store keeps it: absent while full, rewritten only when it must be.
#[derive(Debug, Default)]
struct Stored(Option<State>);

impl Stored {
    fn state(&self, terms: &Terms, now: Micros) -> State {
        self.0
            .map_or_else(|| State::full(terms, now), |state| state.at(terms, now))
    }

    /// Takes the hits if they fit or if `in_any_case`. Returns whether they fit, and the bucket afterwards.
    fn hit(&mut self, terms: &Terms, hits: i64, in_any_case: bool, now: Micros) -> (bool, State) {
        let before = self.state(terms, now);
        let fits = before.admits(terms, hits);
        let after = if fits || in_any_case || hits < 0 {
            before.after(terms, hits)
        } else {
            before
        };
        if after != before || self.0.is_some_and(|state| state.needs_rewrite(terms, now)) {
            self.0 = Some(after);
        }
        (fits, after)
    }
}

// --- The model ---

// --- Random limits and calls ---

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => 1..=20_u32,
        2 => 1..=100_000_u32,
        1 => any::<u32>(),
        1 => Just(1),
        1 => Just(u32::MAX),
        1 => Just(999_999_937),
    ]
}

fn period() -> impl Strategy<Value = Micros> {
    prop_oneof![
        Just(SECOND),
        Just(60 * SECOND),
        Just(3_600 * SECOND),
        Just(DAY),
        Just(7 * DAY),
        Just(30 * DAY),
        Just(YEAR),
        (1..=100_u64).prop_map(|years| years * YEAR),
        (1..=1_000_u64).prop_map(|seconds| seconds * SECOND),
        1..=MAX_PERIOD,
    ]
}

fn terms() -> impl Strategy<Value = Terms> {
    (number(), period(), number(), number(), 0..8).prop_map(|(rate, period, burst, debt, kind)| {
        match kind {
            0 => Terms::fixed_window(burst, period, debt),
            1 => Terms::token_bucket(0, period, 0, 0),
            _ => Terms::token_bucket(rate, period, burst, debt),
        }
    })
}

#[derive(Debug, Clone)]
struct Call {
    /// Change of the clock, microseconds.
    step: i64,
    /// The index of the limit that applies.
    terms: usize,
    hits: i64,
    in_any_case: bool,
}

fn call() -> impl Strategy<Value = Call> {
    let step = prop_oneof![
        3 => Just(0_i64),
        3 => 0..=3_i64,
        5 => 0..=2_000_000_i64,
        3 => 0..=86_400_000_000_i64,
        1 => 0..=10_000_000_000_000_i64,
        1 => -3..=-1_i64,
        1 => -86_400_000_000..=0_i64,
    ];
    let hits = prop_oneof![
        6 => 1..=5_i64,
        2 => Just(0_i64),
        3 => 1..=i64::from(u32::MAX),
        2 => -5..=-1_i64,
        1 => Just(crate::charge::MAX_HITS),
        1 => Just(-crate::charge::MAX_HITS),
    ];
    (
        step,
        prop_oneof![9 => Just(0_usize), 1 => 1..3_usize],
        hits,
        prop::bool::weighted(0.2),
    )
        .prop_map(|(step, terms, hits, in_any_case)| Call {
            step,
            terms,
            hits,
            in_any_case,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Every answer and every amount is that of the rational model, whatever the limits are, however
    /// the clock steps and the limits change.
    #[test]
    fn agrees_with_rational_numbers(
        limits in prop::collection::vec(terms(), 3),
        calls in prop::collection::vec(call(), 1..80),
    ) {
        let mut now = NOW;
        let mut stored = Stored::default();
        let mut model = Model { taken: ratio(0), at: now, terms: limits[0] };
        for call in calls {
            let terms = &limits[call.terms];
            now = now.saturating_add_signed(call.step).clamp(1, 1 << 52);
            let (mut here, keep) = model.at(terms, now);
            let fits = here.fits(call.hits);
            prop_assert_eq!(
                stored.state(terms, now).retry_in(terms, call.hits, now).map(u128::from),
                here.retry_in(call.hits, now).map(saturated)
            );
            let (admitted, after) = stored.hit(terms, call.hits, call.in_any_case, now);
            let before = here.taken.clone();
            if fits || call.in_any_case || call.hits < 0 {
                here.take(call.hits);
            }
            // A call that takes nothing stores nothing, not even the time that has passed.
            if keep || here.taken != before {
                model = here.clone();
            }
            prop_assert_eq!(admitted, fits);
            let left = here.free().floor().to_integer().max(0.into());
            prop_assert_eq!(BigInt::from(after.remaining(terms)), left);
            prop_assert_eq!(u128::from(after.full_in(now)), saturated(here.full_in(now)));
        }
    }

    /// Hits fit, and buckets are full, at the promised microsecond and not before.
    #[test]
    fn waiting_times_are_exact(limit in terms(), hits in 1..100_i64, taken in 0..200_i64) {
        let mut stored = Stored::default();
        stored.hit(&limit, taken, true, NOW);
        let state = stored.state(&limit, NOW);
        if let Some(wait @ 1..=YEAR) = state.retry_in(&limit, hits, NOW) {
            prop_assert!(!state.at(&limit, NOW + wait - 1).admits(&limit, hits));
            prop_assert!(state.at(&limit, NOW + wait).admits(&limit, hits));
        }
        if let wait @ 1..=YEAR = state.full_in(NOW) && state.is_charged() {
            prop_assert!(state.at(&limit, NOW + wait - 1).is_charged());
            prop_assert!(!state.at(&limit, NOW + wait).is_charged());
        }
    }

    /// A bucket gives exactly its capacity and its refill, however often it is charged.
    #[test]
    fn gives_capacity_and_refill(
        rate in 1..=2_000_u32,
        burst in 1..=500_u32,
        steps in prop::collection::vec(0..=3_000_000_u64, 1..200),
    ) {
        let limit = bucket(rate, SECOND, burst);
        let mut stored = Stored::default();
        let mut now = NOW;
        let mut given = 0_u64;
        let take_all = |stored: &mut Stored, now| {
            let left = stored.state(&limit, now).remaining(&limit);
            stored.hit(&limit, i64::from(left), false, now);
            u64::from(left)
        };
        for step in steps {
            given += take_all(&mut stored, now);
            // A part of a token may be refilled already; the bucket must not become full.
            now += step.min(u64::from(burst - 1) * SECOND / u64::from(rate));
        }
        given += take_all(&mut stored, now);
        let refill = (now - NOW) * u64::from(rate) / SECOND;
        prop_assert_eq!(given, u64::from(burst) + refill);
    }
}

fn saturated(micros: u128) -> u128 {
    micros.min(u128::from(Micros::MAX))
}

// --- Single cases ---

#[test]
fn a_bucket_starts_full_and_refills_token_by_token() {
    let limit = bucket(10, 60 * SECOND, 10);
    let mut stored = Stored::default();
    assert!(stored.hit(&limit, 10, false, NOW).0);
    assert!(!stored.hit(&limit, 1, false, NOW + 6 * SECOND - 1).0);
    assert!(stored.hit(&limit, 1, false, NOW + 6 * SECOND).0);
    assert!(!stored.hit(&limit, 1, false, NOW + 6 * SECOND).0);
}

#[test]
fn rates_faster_than_the_clock_are_exact() {
    let limit = bucket(u32::MAX, SECOND, u32::MAX);
    let mut stored = Stored::default();
    assert!(stored.hit(&limit, i64::from(u32::MAX), false, NOW).0);
    // 4,294 tokens and 967,295 millionths are refilled in each microsecond.
    assert_eq!(stored.state(&limit, NOW + 1).remaining(&limit), 4_294);
    assert_eq!(stored.state(&limit, NOW + 2).remaining(&limit), 8_589);
    assert_eq!(
        stored.state(&limit, NOW + SECOND - 1).remaining(&limit),
        u32::MAX - 4_295
    );
    assert_eq!(
        stored.state(&limit, NOW + SECOND).remaining(&limit),
        u32::MAX
    );
}

#[test]
fn once_a_year_with_the_largest_burst_is_exact() {
    let limit = bucket(1, YEAR, u32::MAX);
    let mut stored = Stored::default();
    assert!(stored.hit(&limit, i64::from(u32::MAX), false, NOW).0);
    assert!(!stored.hit(&limit, 1, false, NOW + YEAR - 1).0);
    assert!(stored.hit(&limit, 1, false, NOW + YEAR).0);
    let now = NOW + YEAR;
    assert_eq!(
        stored.state(&limit, now).retry_in(&limit, 2, now),
        Some(2 * YEAR)
    );
}

#[test]
fn a_denial_takes_nothing() {
    let limit = bucket(5, DAY, 5);
    let mut stored = Stored::default();
    assert!(stored.hit(&limit, 3, false, NOW).0);
    let (admitted, after) = stored.hit(&limit, 3, false, NOW);
    assert!(!admitted);
    assert_eq!(after.remaining(&limit), 2);
    assert!(stored.hit(&limit, 2, false, NOW).0);
}

#[test]
fn hits_above_the_capacity_never_pass() {
    let limit = bucket(5, DAY, 5);
    let state = State::full(&limit, NOW);
    assert!(!state.admits(&limit, 6));
    assert_eq!(state.retry_in(&limit, 6, NOW), None);
}

#[test]
fn a_limit_of_nothing_gives_nothing() {
    let limit = Terms::token_bucket(0, SECOND, 0, 0);
    let state = State::full(&limit, NOW);
    assert!(!state.admits(&limit, 0));
    assert!(!state.admits(&limit, 1));
    assert_eq!(state.retry_in(&limit, 1, NOW), None);
    assert!(!state.after(&limit, 5).is_charged());
}

#[test]
fn a_question_wants_a_whole_token() {
    let limit = bucket(1, 2 * SECOND, 1);
    let mut stored = Stored::default();
    assert!(stored.hit(&limit, 0, false, NOW).0);
    assert!(stored.0.is_none(), "asking stores nothing");
    stored.hit(&limit, 1, false, NOW);
    assert!(!stored.hit(&limit, 0, false, NOW + 2 * SECOND - 1).0);
    assert!(stored.hit(&limit, 0, false, NOW + 2 * SECOND).0);
}

#[test]
fn debt_is_bounded_and_paid_back_first() {
    let limit = Terms::token_bucket(1, SECOND, 10, 5);
    let mut stored = Stored::default();
    stored.hit(&limit, 1_000, true, NOW);
    let state = stored.state(&limit, NOW);
    assert_eq!(state.whole, 15);
    assert_eq!(state.remaining(&limit), 0);
    assert_eq!(state.retry_in(&limit, 0, NOW), Some(6 * SECOND));
}

#[test]
fn what_is_given_back_never_exceeds_the_capacity() {
    let limit = bucket(1, DAY, 10);
    let mut stored = Stored::default();
    stored.hit(&limit, -5, false, NOW);
    assert!(stored.0.is_none(), "giving back creates no bucket");
    stored.hit(&limit, 3, false, NOW);
    stored.hit(&limit, -5, false, NOW);
    assert_eq!(stored.state(&limit, NOW).remaining(&limit), 10);
}

#[test]
fn a_changed_limit_keeps_what_was_taken() {
    let mut stored = Stored::default();
    stored.hit(&bucket(100, DAY, 100), 40, false, NOW);
    assert_eq!(
        stored
            .state(&bucket(1_000, DAY, 1_000), NOW)
            .remaining(&bucket(1_000, DAY, 1_000)),
        960
    );
    assert_eq!(
        stored
            .state(&bucket(50, DAY, 50), NOW)
            .remaining(&bucket(50, DAY, 50)),
        10
    );
    assert_eq!(
        stored
            .state(&bucket(7, YEAR, 50), NOW)
            .remaining(&bucket(7, YEAR, 50)),
        10
    );
}

#[test]
fn a_lowered_limit_is_noticed_by_a_denial_too() {
    let (high, low) = (
        bucket(1_000, DAY, 1_000),
        Terms::token_bucket(10, SECOND, 10, 0),
    );
    let mut stored = Stored::default();
    stored.hit(&high, 1_000, false, NOW);
    assert!(!stored.hit(&low, 1, false, NOW).0);
    assert!(
        stored.hit(&low, 10, false, NOW + SECOND).0,
        "the lower limit refills from then on"
    );
}

#[test]
fn a_clock_that_steps_back_neither_opens_nor_freezes() {
    let limit = bucket(1, SECOND, 10);
    let mut stored = Stored::default();
    stored.hit(&limit, 10, false, NOW);
    let back = NOW - 5 * SECOND;
    assert!(!stored.hit(&limit, 1, false, back).0);
    assert_eq!(
        stored.state(&limit, back).retry_in(&limit, 1, back),
        Some(6 * SECOND)
    );
    assert!(
        !stored.hit(&limit, 1, false, NOW).0,
        "the time until then is not refilled twice"
    );
    assert!(stored.hit(&limit, 1, false, NOW + SECOND).0);
}

/// Found by `agrees_with_rational_numbers`: the time that the clock was ahead counted as waiting time.
#[test]
fn a_full_bucket_is_full_even_while_the_clock_is_behind() {
    let limit = bucket(1, SECOND, 5);
    let mut stored = Stored::default();
    stored.hit(&limit, 1, false, NOW);
    let (_, after) = stored.hit(&limit, -1, false, NOW - SECOND);
    assert_eq!(after.full_in(NOW - SECOND), 0);
}

/// Found by `agrees_with_rational_numbers`: the bucket refilled from the window's begin on.
#[test]
fn a_window_that_becomes_a_bucket_refills_from_then_on() {
    let (window, limit) = (Terms::fixed_window(10, DAY, 0), bucket(1, SECOND, 10));
    let noon = NOW - NOW % DAY + DAY / 2;
    let mut stored = Stored::default();
    stored.hit(&window, 10, false, noon);
    assert_eq!(stored.state(&limit, noon).remaining(&limit), 0);
    assert_eq!(
        stored.state(&limit, noon).retry_in(&limit, 1, noon),
        Some(SECOND)
    );
}

#[test]
fn windows_are_aligned_to_the_epoch() {
    let limit = Terms::fixed_window(3, 60 * SECOND, 0);
    let begin = NOW - NOW % (60 * SECOND);
    let mut stored = Stored::default();
    assert!(stored.hit(&limit, 3, false, begin + 59 * SECOND).0);
    let state = stored.state(&limit, begin + 59 * SECOND);
    assert!(!state.admits(&limit, 1));
    assert_eq!(state.retry_in(&limit, 1, begin + 59 * SECOND), Some(SECOND));
    assert!(stored.hit(&limit, 3, false, begin + 60 * SECOND).0);
}
