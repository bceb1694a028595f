//! A bucket in rational numbers, as the definition says, for the property tests.

use num_bigint::BigInt;
use num_rational::BigRational;

use crate::bucket::Terms;
use crate::time::Micros;

/// The same bucket in exact rational numbers.
#[derive(Debug, Clone)]
pub(super) struct Model {
    /// Tokens taken.
    pub(super) taken: BigRational,
    /// The instant it refers to.
    pub(super) at: Micros,
    /// The limit it was last charged under.
    pub(super) terms: Terms,
}

pub(super) fn ratio(n: impl Into<BigInt>) -> BigRational {
    BigRational::from_integer(n.into())
}

fn rate(terms: &Terms) -> BigRational {
    BigRational::new(terms.refill().into(), terms.period().into())
}

impl Model {
    /// The bucket at `now` under `terms`, and whether it must be stored even if nothing is taken.
    pub(super) fn at(&self, terms: &Terms, now: Micros) -> (Self, bool) {
        let mut next = self.clone();
        let old = self.terms;
        if now > self.at && !old.is_window() {
            next.taken = (&self.taken - rate(&old) * ratio(now - self.at)).max(ratio(0));
            next.at = now;
        }
        if now > self.at && old.is_window() && now / old.period() != self.at / old.period() {
            next.taken = ratio(0);
        }
        next.terms = *terms;
        if next.taken == ratio(0) {
            next.at = now;
            return (next, true);
        }
        let changed = (old.refill(), old.period()) != (terms.refill(), terms.period());
        if changed {
            // The fraction is converted to the new period and rounded up.
            let unit = ratio(terms.period());
            next.taken = (&next.taken * &unit).ceil() / unit;
            let begin = self.at - self.at % old.period();
            next.at = match (terms.is_window(), old.is_window()) {
                (true, _) => now,
                (false, true) => begin.max(now),
                (false, false) => next.at,
            };
        }
        let clamped = next.taken > ratio(terms.ceiling());
        next.taken = next.taken.min(ratio(terms.ceiling()));
        (next, changed || clamped)
    }

    pub(super) fn free(&self) -> BigRational {
        ratio(self.terms.capacity()) - &self.taken
    }

    pub(super) fn fits(&self, hits: i64) -> bool {
        hits < 0 || ratio(hits.max(1)) <= self.free()
    }

    pub(super) fn take(&mut self, hits: i64) {
        self.taken = (&self.taken + ratio(hits))
            .max(ratio(0))
            .min(ratio(self.terms.ceiling()));
    }

    /// Microseconds from `now` until `tokens` are refilled.
    pub(super) fn wait(&self, tokens: BigRational, now: Micros) -> u128 {
        let lag = u128::from(self.at.saturating_sub(now));
        if tokens <= ratio(0) {
            return lag;
        }
        lag + u128::try_from((tokens / rate(&self.terms)).ceil().to_integer()).unwrap()
    }

    pub(super) fn window_end(&self, now: Micros) -> u128 {
        let period = self.terms.period();
        u128::from((self.at / period + 1) * period - now)
    }

    pub(super) fn full_in(&self, now: Micros) -> u128 {
        match self.terms.is_window() {
            true => self.window_end(now),
            false if self.taken == ratio(0) => 0,
            false => self.wait(self.taken.clone(), now),
        }
    }

    pub(super) fn retry_in(&self, hits: i64, now: Micros) -> Option<u128> {
        if self.fits(hits) {
            return Some(0);
        }
        if ratio(hits.max(1)) > ratio(self.terms.capacity()) {
            return None;
        }
        Some(match self.terms.is_window() {
            true => self.window_end(now),
            false => self.wait(ratio(hits.max(1)) - self.free(), now),
        })
    }
}
