//! The contract: calls at certain times, and the decisions that every store makes.

use super::*;

pub(super) async fn a_bucket_gives_its_capacity_and_then_its_rate(mut subject: impl Subject) {
    let limit = Terms::token_bucket(10, 60 * SECOND, 5, 0);
    for left in (0..5).rev() {
        let outcome = one(&mut subject, START, charge("a", limit, 1)).await;
        assert_eq!((outcome.admitted, outcome.remaining), (true, left));
        assert_eq!(outcome.full_in, u64::from(5 - left) * 6 * SECOND);
    }
    let denied = one(&mut subject, START, charge("a", limit, 1)).await;
    assert_eq!(
        (denied.admitted, denied.retry_in),
        (false, Some(6 * SECOND))
    );
    assert!(
        !one(&mut subject, START + 6 * SECOND - 1, charge("a", limit, 1))
            .await
            .admitted
    );
    assert!(
        one(&mut subject, START + 6 * SECOND, charge("a", limit, 1))
            .await
            .admitted
    );
    assert!(
        !one(&mut subject, START + 6 * SECOND, charge("a", limit, 1))
            .await
            .admitted
    );
    let full = one(&mut subject, START + DAY, charge("a", limit, 0)).await;
    assert_eq!((full.remaining, full.full_in), (5, 0));
}

pub(super) async fn a_denied_request_takes_from_no_bucket(mut subject: impl Subject) {
    let (wide, narrow) = (daily(10), daily(1));
    let both = [charge("wide", wide, 1), charge("narrow", narrow, 1)];
    assert!(subject.decide(START, &both).await.admitted);
    let denied = subject.decide(START, &both).await;
    assert!(!denied.admitted);
    assert!(
        denied.outcomes[0].admitted,
        "what the charge would have got alone"
    );
    assert_eq!(denied.outcomes[0].remaining, 9, "nothing was taken");
    assert!(!denied.outcomes[1].admitted);
}

pub(super) async fn a_shadow_charge_never_vetoes(mut subject: impl Subject) {
    let shadow = Charge {
        part: Part::Shadow,
        ..charge("shadow", daily(1), 1)
    };
    let request = [shadow, charge("real", daily(3), 1)];
    assert!(subject.decide(START, &request).await.admitted);
    let over = subject.decide(START, &request).await;
    assert!(over.admitted && !over.outcomes[0].admitted);
    assert_eq!(
        (over.outcomes[0].remaining, over.outcomes[1].remaining),
        (0, 1)
    );
    assert!(subject.decide(START, &request).await.admitted);
    assert!(
        !subject.decide(START, &request).await.admitted,
        "the real one denies"
    );
}

pub(super) async fn quota_charges_veto_only_together(mut subject: impl Subject) {
    let quota = |key, group, limit| Charge {
        part: Part::Quota(group),
        ..charge(key, daily(limit), 1)
    };
    let request = [quota("one", 0, 1), quota("two", 1, 2)];
    assert!(subject.decide(START, &request).await.admitted);
    let second = subject.decide(START, &request).await;
    assert!(second.admitted && !second.outcomes[0].admitted);
    assert!(!subject.decide(START, &request).await.admitted);
    // The charges of one group stand and fall together.
    let group = [quota("narrow", 0, 1), quota("wide", 0, 5)];
    assert!(subject.decide(START, &group).await.admitted);
    let denied = subject.decide(START, &group).await;
    assert!(!denied.admitted && denied.outcomes[1].admitted);
    assert_eq!(denied.outcomes[1].remaining, 4);
    // A must vetoes whatever the quotas say.
    let mixed = [quota("open", 0, 9), charge("narrow", daily(1), 1)];
    assert!(!subject.decide(START, &mixed).await.admitted);
}

pub(super) async fn a_candidate_neither_vetoes_nor_changes_an_answer(mut subject: impl Subject) {
    let tried = |key, limit| candidate(0, 1, charge(key, daily(limit), 1));
    let request = [charge("real", daily(3), 1), tried("narrow", 1)];
    let fares = [[true, true], [true, false], [true, false], [false, false]];
    for (turn, expected) in fares.into_iter().enumerate() {
        let decision = subject.decide(START, &request).await;
        assert_eq!(decision.admitted, turn < 3);
        assert_eq!(
            decision
                .outcomes
                .iter()
                .map(|o| o.admitted)
                .collect::<Vec<_>>(),
            expected
        );
    }
}

pub(super) async fn reports_count_in_denied_requests_too(mut subject: impl Subject) {
    one(&mut subject, START, charge("spent", daily(1), 1)).await;
    one(&mut subject, START, charge("refunded", daily(9), 5)).await;
    let request = [
        charge("spent", daily(1), 1),
        postpaid("cost", daily(9), 4),
        charge("refunded", daily(9), -2),
        charge("prepaid", daily(9), 1),
    ];
    let decision = subject.decide(START, &request).await;
    assert!(!decision.admitted);
    let left: Vec<_> = decision
        .outcomes
        .iter()
        .map(|outcome| outcome.remaining)
        .collect();
    assert_eq!(left, [0, 5, 6, 9]);
}

pub(super) async fn questions_and_gifts_create_no_bucket(mut subject: impl Subject) {
    let limit = daily(3);
    for hits in [0, -2, 4] {
        one(&mut subject, START, charge("a", limit, hits)).await;
    }
    // Had a bucket been made, its clock would have stood at START.
    let earlier = one(&mut subject, START - DAY, charge("a", limit, 3)).await;
    assert!(earlier.admitted);
    assert_eq!(earlier.full_in, DAY);
    assert!(
        !one(&mut subject, START - DAY, charge("a", limit, 0))
            .await
            .admitted
    );
    let refund = one(&mut subject, START - DAY, charge("a", limit, -MAX_HITS)).await;
    assert_eq!((refund.remaining, refund.full_in), (3, 0));
}

pub(super) async fn debt_denies_until_it_is_paid(mut subject: impl Subject) {
    let limit = Terms::token_bucket(1, SECOND, 10, 20);
    assert!(
        one(&mut subject, START, postpaid("a", limit, 10))
            .await
            .admitted
    );
    let over = one(&mut subject, START, postpaid("a", limit, 1_000)).await;
    assert_eq!(
        (over.admitted, over.remaining, over.full_in),
        (false, 0, 30 * SECOND)
    );
    // The debt is bounded when it is taken, not when it is read.
    let later = START + 5 * SECOND;
    let question = one(&mut subject, later, charge("a", limit, 0)).await;
    assert_eq!(
        (question.admitted, question.retry_in),
        (false, Some(16 * SECOND))
    );
    assert!(
        !one(&mut subject, START + 21 * SECOND - 1, charge("a", limit, 0))
            .await
            .admitted
    );
    assert!(
        one(&mut subject, START + 21 * SECOND, charge("a", limit, 0))
            .await
            .admitted
    );
}

pub(super) async fn a_limit_that_changes_keeps_what_was_taken(mut subject: impl Subject) {
    one(&mut subject, START, charge("a", daily(100), 40)).await;
    let monthly = Terms::token_bucket(1_000, 30 * DAY, 1_000, 0);
    assert_eq!(
        one(&mut subject, START, charge("a", monthly, 0))
            .await
            .remaining,
        960
    );
    assert_eq!(
        one(&mut subject, START, charge("a", daily(50), 0))
            .await
            .remaining,
        10
    );
    let tiny = Terms::token_bucket(5, SECOND, 5, 0);
    let clamped = one(&mut subject, START, charge("a", tiny, 1)).await;
    assert_eq!(
        (clamped.admitted, clamped.retry_in),
        (false, Some(SECOND / 5))
    );
    assert!(
        one(&mut subject, START + SECOND, charge("a", tiny, 5))
            .await
            .admitted
    );
}

pub(super) async fn hits_that_never_pass_promise_nothing(mut subject: impl Subject) {
    let nothing = Terms::token_bucket(0, SECOND, 0, 0);
    for (limit, hits) in [
        (daily(5), 6),
        (nothing, 1),
        (nothing, 0),
        (daily(5), MAX_HITS),
    ] {
        let outcome = one(&mut subject, START, charge("a", limit, hits)).await;
        assert_eq!((outcome.admitted, outcome.retry_in), (false, None));
    }
}

pub(super) async fn windows_forget_at_their_end(mut subject: impl Subject) {
    let limit = Terms::fixed_window(3, DAY, 0);
    let late = START + DAY - SECOND;
    assert_eq!(
        one(&mut subject, late, charge("a", limit, 2)).await.full_in,
        SECOND
    );
    let denied = one(&mut subject, late, charge("a", limit, 2)).await;
    assert_eq!((denied.admitted, denied.remaining), (false, 1));
    assert_eq!(denied.retry_in, Some(SECOND));
    assert!(
        one(&mut subject, START + DAY, charge("a", limit, 3))
            .await
            .admitted
    );
}

pub(super) async fn a_full_bucket_is_forgotten_for_good(mut subject: impl Subject) {
    let limit = Terms::token_bucket(1, SECOND, 10, 0);
    // Once a charge of any kind has found the bucket full, it stays full after the clock has stepped back.
    for hits in [0, 1, 11, -1] {
        let key = format!("a{hits}");
        one(&mut subject, START, charge(&key, limit, 5)).await;
        one(&mut subject, START + 5 * SECOND, charge(&key, limit, hits)).await;
        let back = one(&mut subject, START + SECOND, charge(&key, limit, 0)).await;
        assert_eq!(
            back.remaining,
            if hits == 1 { 9 } else { 10 },
            "{hits} hits"
        );
    }
}

// A failover to another Redis steps the clock: it goes on from that one's.

pub(super) async fn a_clock_that_steps_back_freezes_no_longer_than_the_step(
    mut subject: impl Subject,
) {
    let limit = Terms::token_bucket(1, SECOND, 10, 0);
    for step in [1, SECOND, 3_600 * SECOND, DAY] {
        let key = format!("step{step}");
        one(&mut subject, START, charge(&key, limit, 10)).await;
        let behind = START - step;
        let denied = one(&mut subject, behind, charge(&key, limit, 1)).await;
        assert_eq!(
            (denied.admitted, denied.retry_in),
            (false, Some(step + SECOND))
        );
        assert!(
            !one(&mut subject, START, charge(&key, limit, 1))
                .await
                .admitted
        );
        let next = one(&mut subject, START + SECOND, charge(&key, limit, 1)).await;
        assert_eq!((next.admitted, next.remaining), (true, 0), "{step}");
    }
}

pub(super) async fn a_clock_that_steps_ahead_gives_no_more_than_the_step(
    mut subject: impl Subject,
) {
    let limit = Terms::token_bucket(1, SECOND, 10, 0);
    one(&mut subject, START, charge("a", limit, 10)).await;
    let ahead = START + 4 * SECOND;
    assert_eq!(
        one(&mut subject, ahead, charge("a", limit, 3))
            .await
            .remaining,
        1
    );
    // Back to what it was: the time of the step is not given again.
    for now in [START, START + SECOND, START + 4 * SECOND] {
        assert_eq!(
            one(&mut subject, now, charge("a", limit, 0))
                .await
                .remaining,
            1
        );
    }
    let after = one(&mut subject, START + 5 * SECOND, charge("a", limit, 0)).await;
    assert_eq!(after.remaining, 2);
}

pub(super) async fn what_is_taken_while_the_clock_is_behind_stays_taken(mut subject: impl Subject) {
    let limit = Terms::token_bucket(1, SECOND, 10, 0);
    one(&mut subject, START, charge("a", limit, 4)).await;
    for (behind, left) in [(60, 5), (40, 4), (50, 3), (1, 2), (0, 1)] {
        let now = START - behind * SECOND;
        let taken = one(&mut subject, now, charge("a", limit, 1)).await;
        assert_eq!((taken.admitted, taken.remaining), (true, left));
    }
    let after = one(&mut subject, START + 2 * SECOND, charge("a", limit, 0)).await;
    assert_eq!(after.remaining, 3);
}

pub(super) async fn a_window_outlives_a_step_by_no_more_than_itself(mut subject: impl Subject) {
    let limit = Terms::fixed_window(3, DAY, 0);
    one(&mut subject, START, charge("a", limit, 3)).await;
    // The window of before the step goes on until it ends by the new clock.
    for (behind, admitted) in [(SECOND, false), (2 * DAY, false)] {
        let outcome = one(&mut subject, START - behind, charge("a", limit, 1)).await;
        assert_eq!(
            (outcome.admitted, outcome.retry_in),
            (admitted, Some(DAY + behind))
        );
    }
    assert!(
        one(&mut subject, START + DAY, charge("a", limit, 3))
            .await
            .admitted
    );
}

pub(super) async fn every_unit_and_extreme_is_exact(mut subject: impl Subject) {
    let max = i64::from(u32::MAX);
    for (i, period) in [SECOND, 60 * SECOND, DAY, 7 * DAY, YEAR, 100 * YEAR]
        .into_iter()
        .enumerate()
    {
        for rate in [1, 7, 999_999_937, u32::MAX] {
            let limit = Terms::token_bucket(rate, period, u32::MAX, 0);
            let key = format!("{i}-{rate}");
            assert!(
                one(&mut subject, START, charge(&key, limit, max))
                    .await
                    .admitted
            );
            let wait = period.div_ceil(u64::from(rate));
            let early = one(&mut subject, START + wait - 1, charge(&key, limit, 0)).await;
            assert_eq!((early.admitted, early.retry_in), (false, Some(1)), "{key}");
            let now = one(&mut subject, START + wait, charge(&key, limit, 0)).await;
            assert!(now.admitted, "{key}");
            let whole = u64::from(now.remaining);
            assert_eq!(whole, wait * u64::from(rate) / period, "{key}");
        }
    }
}
