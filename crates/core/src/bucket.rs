//! The arithmetic of one limit, given the time: how much is taken, whether hits fit, and when they
//! would.
//!
//! Everything is exact. A bucket holds the number of tokens *taken* from it, as whole tokens and a
//! fraction whose denominator is the refill period in microseconds; time passing, hits and limit
//! changes are integer operations on that pair, so nothing is ever rounded away or created. The one
//! rounding there is (a fraction carried over to a limit with another period) goes up, against
//! the caller.
//!
//! The Lua script of the Redis store does the same arithmetic on the same numbers; this module reads
//! no clock and does no I/O.

mod share;

pub use share::{NoShare, Share};

pub use crate::time::Micros;

/// The longest period that a limit may have: 100 years of 365 days, in microseconds.
///
/// Twice this still fits the 53 bits that the script's numbers have.
pub const MAX_PERIOD: Micros = 100 * 365 * 86_400 * 1_000_000;

// --- Terms ---

/// A limit as the arithmetic needs it: `drip` tokens come back every `period` microseconds, up to a
/// capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Terms {
    /// Tokens that come back in a period, in lowest terms with it; 0 means that the bucket is a
    /// window, which forgets everything when its period ends.
    drip: u32,
    /// Microseconds; 1..=[`MAX_PERIOD`].
    period: Micros,
    /// Tokens in a full bucket.
    capacity: u32,
    /// The most that can be taken: the capacity and the debt that postpaid hits may run up.
    ceiling: u64,
}

impl Terms {
    /// A bucket of `capacity` tokens that refills continuously, `rate` tokens every `period`
    /// microseconds.
    ///
    /// # Panics
    /// When `period` is not within 1..=[`MAX_PERIOD`].
    #[must_use]
    pub fn token_bucket(rate: u32, period: Micros, capacity: u32, max_debt: u32) -> Self {
        if rate == 0 {
            // Nothing ever comes back, so nothing is ever given: a window of no hits.
            return Self::fixed_window(0, period, 0);
        }
        let divisor = gcd(u64::from(rate), period);
        let drip = u64::from(rate) / divisor;
        Self {
            drip: u32::try_from(drip).expect("a divisor of a u32 is a u32"),
            ..Self::checked(period, capacity, max_debt)
        }
        .with_period(period / divisor)
    }

    /// A window of `limit` hits, aligned to the Unix epoch, `period` microseconds long.
    ///
    /// # Panics
    /// When `period` is not within 1..=[`MAX_PERIOD`].
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
            drip: 0,
            period,
            capacity,
            ceiling: u64::from(capacity) + u64::from(max_debt),
        }
    }

    fn with_period(self, period: Micros) -> Self {
        Self { period, ..self }
    }

    /// Tokens that come back every [`period`](Self::period); 0 for a window.
    #[must_use]
    pub fn drip(&self) -> u32 {
        self.drip
    }

    /// Microseconds, in lowest terms with [`drip`](Self::drip).
    #[must_use]
    pub fn period(&self) -> Micros {
        self.period
    }

    /// Tokens in a full bucket.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The most that can be taken: the capacity and the largest debt.
    #[must_use]
    pub fn ceiling(&self) -> u64 {
        self.ceiling
    }

    fn is_window(&self) -> bool {
        self.drip == 0
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

// --- State ---

/// What is taken from a bucket at an instant: `whole + part / period` tokens.
///
/// `drip` and `period` are those of the limit that it was last charged under, so that a changed
/// limit can be noticed and the time before the change be refilled at the old rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// The instant that the rest refers to. A window's begin.
    pub at: Micros,
    /// Whole tokens taken.
    pub whole: u64,
    /// The fraction of a token taken, in `1/period` tokens; less than `period`.
    pub part: u64,
    /// [`Terms::drip`] at the last charge.
    pub drip: u32,
    /// [`Terms::period`] at the last charge.
    pub period: Micros,
}

impl State {
    /// A full bucket: nothing is taken. A bucket that does not exist is in this state.
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
            drip: terms.drip,
            period: terms.period,
        }
    }

    /// A bucket with nothing left, and no debt.
    #[must_use]
    pub fn empty(terms: &Terms, now: Micros) -> Self {
        Self {
            whole: u64::from(terms.capacity),
            ..Self::full(terms, now)
        }
    }

    /// The bucket at `now` under `terms`: refilled at the rate it was charged under, then
    /// carried over if the limit has changed.
    ///
    /// A clock that stepped back refills nothing and keeps the later instant, so that the time until
    /// then is not refilled twice.
    #[must_use]
    pub fn at(self, terms: &Terms, now: Micros) -> Self {
        let refilled = self.refilled(now);
        if refilled.is_charged() {
            refilled.carried_over(terms, now).clamped(terms)
        } else {
            // Exactly as if it had been forgotten, which a store is free to do from here on.
            Self::full(terms, now)
        }
    }

    /// True when the bucket must be written even though nothing was taken, because
    /// [`at`](Self::at) did more than let time pass: the limit is another one, or lower, or the bucket
    /// is full and to be forgotten (lest a clock that steps back bring it up again).
    #[must_use]
    pub fn needs_healing(self, terms: &Terms, now: Micros) -> bool {
        let refilled = self.refilled(now);
        if refilled.is_charged() {
            refilled.carried_over(terms, now).clamped(terms) != refilled
        } else {
            self.is_charged()
        }
    }

    /// True unless the bucket is full.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        self.whole > 0 || self.part > 0
    }

    /// True when the bucket is full again at `now` and may be forgotten. Cheaper than asking for
    /// [`full_at`](Self::full_at).
    #[must_use]
    pub fn is_full(&self, now: Micros) -> bool {
        let passed = now.saturating_sub(self.at);
        if !self.is_charged() {
            now >= self.at
        } else if self.drip == 0 {
            passed >= self.period
        } else {
            u128::from(passed) * u128::from(self.drip) >= self.taken()
        }
    }

    /// The instant from which the bucket is full again and may be forgotten, if nothing
    /// more is taken; at most [`Micros::MAX`].
    #[must_use]
    pub fn full_at(&self) -> Micros {
        if !self.is_charged() {
            self.at
        } else if self.drip == 0 {
            self.at + self.period
        } else {
            self.at
                .saturating_add(micros(self.taken().div_ceil(u128::from(self.drip))))
        }
    }

    /// Taken, in `1/period` tokens.
    fn taken(&self) -> u128 {
        u128::from(self.whole) * u128::from(self.period) + u128::from(self.part)
    }

    fn refilled(self, now: Micros) -> Self {
        if now <= self.at {
            return self;
        }
        if self.drip == 0 {
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
        let refill = u128::from(now - self.at) * u128::from(self.drip);
        let taken = self.taken().saturating_sub(refill);
        let (whole, part) = split(taken, self.period);
        Self {
            at: now,
            whole,
            part,
            ..self
        }
    }

    fn carried_over(self, terms: &Terms, now: Micros) -> Self {
        if (self.drip, self.period) == (terms.drip, terms.period) {
            return self;
        }
        let part =
            (u128::from(self.part) * u128::from(terms.period)).div_ceil(u128::from(self.period));
        let (carry, part) = split(part, terms.period);
        Self {
            at: if terms.is_window() {
                State::full(terms, now).at
            } else {
                // A window stands at its begin, and what it forgot until now is forgotten.
                self.at.max(now)
            },
            whole: self.whole + carry,
            part,
            drip: terms.drip,
            period: terms.period,
        }
    }

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

    /// Whether `hits` fit into what is left. No hits at all ask for a whole token without taking
    /// it; negative ones always fit.
    #[must_use]
    pub fn admits(&self, terms: &Terms, hits: i64) -> bool {
        hits < 0 || self.used() + need(hits) <= u64::from(terms.capacity)
    }

    /// The bucket after `hits`, taken or (negative) given back, whether they fit or not: never
    /// more than full, never deeper in debt than the limit allows.
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

    /// The bucket after `hits` are given back that were taken in vain, when its
    /// [`at`](Self::at) was `taken_at`.
    ///
    /// Without them, what has come back since may have found the bucket full and been lost. So that much less
    /// is given back: too little rather than too much. Hits of a window that has ended are forgotten already.
    #[must_use]
    pub fn given_back(self, terms: &Terms, hits: u64, taken_at: Micros) -> Self {
        if terms.is_window() {
            return match self.at == taken_at {
                true => self.less(u128::from(hits) * u128::from(self.period)),
                false => self,
            };
        }
        let refill = u128::from(self.at.saturating_sub(taken_at)) * u128::from(self.drip);
        self.less((u128::from(hits) * u128::from(self.period)).saturating_sub(refill))
    }

    /// The bucket with so much less taken, in `1/period` tokens.
    fn less(self, back: u128) -> Self {
        let (whole, part) = split(self.taken().saturating_sub(back), self.period);
        Self {
            whole,
            part,
            ..self
        }
    }

    /// Tokens taken, a part of one counting as one.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.whole + u64::from(self.part > 0)
    }

    /// Whole tokens left.
    #[must_use]
    pub fn remaining(&self, terms: &Terms) -> u32 {
        u32::try_from(u64::from(terms.capacity).saturating_sub(self.used()))
            .expect("no more is left than the capacity, a u32")
    }

    /// Microseconds from `now` until the bucket is full (a window: until it ends), if
    /// nothing more is taken; saturates at [`Micros::MAX`].
    #[must_use]
    pub fn full_in(&self, now: Micros) -> Micros {
        if self.drip == 0 {
            self.at.saturating_add(self.period).saturating_sub(now)
        } else if self.is_charged() {
            self.wait(self.taken(), now)
        } else {
            0
        }
    }

    /// Microseconds from `now` until `hits` would fit, if nothing more is taken; 0 when they
    /// do, `None` when they never will; saturates at [`Micros::MAX`].
    #[must_use]
    pub fn retry_in(&self, terms: &Terms, hits: i64, now: Micros) -> Option<Micros> {
        if self.admits(terms, hits) {
            return Some(0);
        }
        let spare = u64::from(terms.capacity).checked_sub(need(hits))?;
        if self.drip == 0 {
            return Some(self.full_in(now));
        }
        let excess = self.taken() - u128::from(spare) * u128::from(self.period);
        Some(self.wait(excess, now))
    }

    /// Microseconds from `now` until so much, in `1/period` tokens, has come back.
    fn wait(&self, taken: u128, now: Micros) -> Micros {
        let refill = micros(taken.div_ceil(u128::from(self.drip)));
        self.at.saturating_sub(now).saturating_add(refill)
    }
}

/// The tokens that must be left for `hits` (not negative) to fit.
fn need(hits: i64) -> u64 {
    hits.unsigned_abs().max(1)
}

/// `n / period` as whole and part.
fn split(n: u128, period: Micros) -> (u64, u64) {
    let period = u128::from(period);
    (micros(n / period), micros(n % period))
}

fn micros(n: u128) -> Micros {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
