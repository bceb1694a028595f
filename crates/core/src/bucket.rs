//! The arithmetic of one limit: how many tokens a bucket has left at a given time, whether hits fit, and when they will.
//!
//! The arithmetic is exact. A bucket stores the number of tokens *taken* from it, as whole tokens and a fraction whose
//! denominator is the refill period in microseconds. Refills, hits and changes of the limit are integer operations on that
//! pair. One operation rounds: a fraction that is converted to a limit with another period is rounded up, so that the
//! bucket never has more tokens than before.
//!
//! The Lua script of the Redis store does the same arithmetic on the same numbers. This module reads no clock and does no
//! I/O.

mod share;

pub use share::{NoShare, Share};

use crate::time::Micros;

/// The longest period that a limit may have: 100 years of 365 days, in microseconds.
///
/// Twice this number still fits the 53 bits of precision of Lua's numbers.
pub const MAX_PERIOD: Micros = 100 * 365 * 86_400 * 1_000_000;

// --- Terms ---

/// A limit in the numbers that the arithmetic needs: `refill` tokens every `period` microseconds, up to a capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Terms {
    /// Tokens that are refilled in a period, in lowest terms with it. 0 for a fixed window, which is reset when its period
    /// ends.
    refill: u32,
    /// Length of the period in microseconds, within 1..=[`MAX_PERIOD`].
    period: Micros,
    /// Tokens in a full bucket.
    capacity: u32,
    /// Maximum number of tokens taken: the capacity plus the largest debt of postpaid hits.
    ceiling: u64,
}

impl Terms {
    /// Returns the terms of a token bucket: `capacity` tokens, refilled continuously at `rate` tokens every `period`
    /// microseconds.
    ///
    /// # Panics
    /// If `period` is not within 1..=[`MAX_PERIOD`].
    #[must_use]
    pub fn token_bucket(rate: u32, period: Micros, capacity: u32, max_debt: u32) -> Self {
        if rate == 0 {
            // A bucket that is never refilled admits nothing: the same as a window of no hits.
            return Self::fixed_window(0, period, 0);
        }
        let divisor = gcd(u64::from(rate), period);
        let refill = u64::from(rate) / divisor;
        Self {
            refill: u32::try_from(refill).expect("a divisor of a u32 is a u32"),
            ..Self::checked(period, capacity, max_debt)
        }
        .with_period(period / divisor)
    }

    /// Returns the terms of a fixed window of `limit` hits, `period` microseconds long and aligned to the Unix epoch.
    ///
    /// # Panics
    /// If `period` is not within 1..=[`MAX_PERIOD`].
    #[must_use]
    pub fn fixed_window(limit: u32, period: Micros, max_debt: u32) -> Self {
        Self::checked(period, limit, max_debt)
    }

    fn checked(period: Micros, capacity: u32, max_debt: u32) -> Self {
        assert!(
            (1..=MAX_PERIOD).contains(&period),
            "a period is 1 us to 100 years"
        );
        Self {
            refill: 0,
            period,
            capacity,
            ceiling: u64::from(capacity) + u64::from(max_debt),
        }
    }

    fn with_period(self, period: Micros) -> Self {
        Self { period, ..self }
    }

    /// Tokens that are refilled every [`period`](Self::period); 0 for a fixed window.
    #[must_use]
    pub fn refill(&self) -> u32 {
        self.refill
    }

    /// Length of the period in microseconds, in lowest terms with [`refill`](Self::refill).
    #[must_use]
    pub fn period(&self) -> Micros {
        self.period
    }

    /// Tokens in a full bucket.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Maximum number of tokens taken: the capacity plus the largest debt.
    #[must_use]
    pub fn ceiling(&self) -> u64 {
        self.ceiling
    }

    fn is_window(&self) -> bool {
        self.refill == 0
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

// --- State ---

/// The state of a bucket: `whole + part / period` tokens are taken at the instant `at`.
///
/// `refill` and `period` are those of the limit at the last charge. They show that the limit has changed since, and the
/// time before the change is refilled at the old rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// The instant that the other fields refer to. For a fixed window, its begin.
    pub at: Micros,
    /// Whole tokens taken.
    pub whole: u64,
    /// The fraction of a token taken, in `1/period` tokens; less than `period`.
    pub part: u64,
    /// [`Terms::refill`] at the last charge.
    pub refill: u32,
    /// [`Terms::period`] at the last charge.
    pub period: Micros,
}

impl State {
    /// Returns a full bucket, from which nothing is taken. A bucket that does not exist is in this state.
    #[must_use]
    pub fn full(terms: &Terms, now: Micros) -> Self {
        Self {
            at: if terms.is_window() {
                now - now % terms.period
            } else {
                now
            },
            whole: 0,
            part: 0,
            refill: terms.refill,
            period: terms.period,
        }
    }

    /// Returns a bucket without a token left and without debt.
    #[must_use]
    pub fn empty(terms: &Terms, now: Micros) -> Self {
        Self {
            whole: u64::from(terms.capacity),
            ..Self::full(terms, now)
        }
    }

    /// Returns the bucket at `now` under `terms`: refilled at the rate of the last charge, then converted if the limit has
    /// changed.
    ///
    /// If the clock has stepped back, nothing is refilled and the later instant is kept, so that no time is refilled twice.
    #[must_use]
    pub fn at(self, terms: &Terms, now: Micros) -> Self {
        let refilled = self.refilled(now);
        if refilled.is_charged() {
            refilled.converted(terms, now).clamped(terms)
        } else {
            // A store may delete a full bucket, so both must give the same result.
            Self::full(terms, now)
        }
    }

    /// Whether the bucket must be written although nothing was taken.
    ///
    /// That is so if the limit has changed, or if the bucket is full again: its old state must not return when the clock
    /// steps back.
    #[must_use]
    pub fn needs_rewrite(self, terms: &Terms, now: Micros) -> bool {
        let refilled = self.refilled(now);
        if refilled.is_charged() {
            refilled.converted(terms, now).clamped(terms) != refilled
        } else {
            self.is_charged()
        }
    }

    /// Whether tokens are taken from the bucket.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        self.whole > 0 || self.part > 0
    }

    /// Whether the bucket is full at `now` and may be deleted. Cheaper than [`full_at`](Self::full_at).
    #[must_use]
    pub fn is_full(&self, now: Micros) -> bool {
        let passed = now.saturating_sub(self.at);
        if !self.is_charged() {
            now >= self.at
        } else if self.refill == 0 {
            passed >= self.period
        } else {
            u128::from(passed) * u128::from(self.refill) >= self.taken()
        }
    }

    /// The instant from which the bucket is full and may be deleted if nothing more is taken; at most [`Micros::MAX`].
    #[must_use]
    pub fn full_at(&self) -> Micros {
        if !self.is_charged() {
            self.at
        } else if self.refill == 0 {
            self.at + self.period
        } else {
            self.at
                .saturating_add(micros(self.taken().div_ceil(u128::from(self.refill))))
        }
    }

    /// What is taken, in `1/period` tokens.
    fn taken(&self) -> u128 {
        u128::from(self.whole) * u128::from(self.period) + u128::from(self.part)
    }

    /// The bucket after the refill until `now`, at the rate of the last charge.
    fn refilled(self, now: Micros) -> Self {
        if now <= self.at {
            return self;
        }
        if self.refill == 0 {
            let begin = now - now % self.period;
            return if begin > self.at {
                Self {
                    at: begin,
                    whole: 0,
                    part: 0,
                    ..self
                }
            } else {
                self
            };
        }
        let refill = u128::from(now - self.at) * u128::from(self.refill);
        let taken = self.taken().saturating_sub(refill);
        let (whole, part) = split(taken, self.period);
        Self {
            at: now,
            whole,
            part,
            ..self
        }
    }

    /// The bucket under other terms, with the same tokens taken.
    fn converted(self, terms: &Terms, now: Micros) -> Self {
        if (self.refill, self.period) == (terms.refill, terms.period) {
            return self;
        }
        let part =
            (u128::from(self.part) * u128::from(terms.period)).div_ceil(u128::from(self.period));
        let (carry, part) = split(part, terms.period);
        Self {
            at: if terms.is_window() {
                State::full(terms, now).at
            } else {
                // `at` of a window is its begin. A token bucket must not be refilled for the time since then.
                self.at.max(now)
            },
            whole: self.whole + carry,
            part,
            refill: terms.refill,
            period: terms.period,
        }
    }

    /// The bucket with at most the terms' ceiling taken.
    fn clamped(self, terms: &Terms) -> Self {
        if self.whole < terms.ceiling {
            return self;
        }
        Self {
            whole: terms.ceiling,
            part: 0,
            ..self
        }
    }

    // --- Hits ---

    /// Whether `hits` fit into the tokens that are left. Zero hits need a whole token without taking it. Negative hits
    /// always fit.
    #[must_use]
    pub fn admits(&self, terms: &Terms, hits: i64) -> bool {
        hits < 0 || self.used() + need(hits) <= u64::from(terms.capacity)
    }

    /// Returns the bucket after `hits` are taken or, if negative, given back, whether they fit or not. The bucket is never
    /// more than full and never deeper in debt than the limit allows.
    #[must_use]
    pub fn after(self, terms: &Terms, hits: i64) -> Self {
        if hits >= 0 {
            let whole = self.whole.saturating_add(hits.unsigned_abs());
            return Self { whole, ..self }.clamped(terms);
        }
        match self.whole.checked_sub(hits.unsigned_abs()) {
            Some(whole) => Self { whole, ..self },
            None => Self {
                whole: 0,
                part: 0,
                ..self
            },
        }
    }

    /// Returns the bucket after `hits` are given back that a denied request had taken when [`at`](Self::at) was `taken_at`.
    ///
    /// If they had not been taken, the bucket might have been full since, and its refill lost. The refill since `taken_at`
    /// is therefore subtracted: the bucket may get too little back, but never too much. A window that has ended since then
    /// gets nothing back.
    #[must_use]
    pub fn given_back(self, terms: &Terms, hits: u64, taken_at: Micros) -> Self {
        if terms.is_window() {
            return match self.at == taken_at {
                true => self.less(u128::from(hits) * u128::from(self.period)),
                false => self,
            };
        }
        let refill = u128::from(self.at.saturating_sub(taken_at)) * u128::from(self.refill);
        self.less((u128::from(hits) * u128::from(self.period)).saturating_sub(refill))
    }

    /// The bucket with `back` less taken, in `1/period` tokens.
    fn less(self, back: u128) -> Self {
        let (whole, part) = split(self.taken().saturating_sub(back), self.period);
        Self {
            whole,
            part,
            ..self
        }
    }

    /// Number of tokens taken, rounded up.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.whole + u64::from(self.part > 0)
    }

    /// Number of whole tokens left.
    #[must_use]
    pub fn remaining(&self, terms: &Terms) -> u32 {
        u32::try_from(u64::from(terms.capacity).saturating_sub(self.used()))
            .expect("at most the capacity is left, which is a u32")
    }

    /// Microseconds from `now` until the bucket is full, or the window ends, if nothing more is taken. Saturates at
    /// [`Micros::MAX`].
    #[must_use]
    pub fn full_in(&self, now: Micros) -> Micros {
        if self.refill == 0 {
            self.at.saturating_add(self.period).saturating_sub(now)
        } else if self.is_charged() {
            self.wait(self.taken(), now)
        } else {
            0
        }
    }

    /// Microseconds from `now` until `hits` fit if nothing more is taken: 0 if they fit now, `None` if they never will.
    /// Saturates at [`Micros::MAX`].
    #[must_use]
    pub fn retry_in(&self, terms: &Terms, hits: i64, now: Micros) -> Option<Micros> {
        if self.admits(terms, hits) {
            return Some(0);
        }
        let spare = u64::from(terms.capacity).checked_sub(need(hits))?;
        if self.refill == 0 {
            return Some(self.full_in(now));
        }
        let excess = self.taken() - u128::from(spare) * u128::from(self.period);
        Some(self.wait(excess, now))
    }

    /// Microseconds from `now` until `taken`, in `1/period` tokens, is refilled.
    fn wait(&self, taken: u128, now: Micros) -> Micros {
        let refill = micros(taken.div_ceil(u128::from(self.refill)));
        self.at.saturating_sub(now).saturating_add(refill)
    }
}

/// The number of tokens that must be left so that `hits`, which are not negative, fit.
fn need(hits: i64) -> u64 {
    hits.unsigned_abs().max(1)
}

/// Returns `n / period` and the remainder.
fn split(n: u128, period: Micros) -> (u64, u64) {
    let period = u128::from(period);
    (micros(n / period), micros(n % period))
}

fn micros(n: u128) -> Micros {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
