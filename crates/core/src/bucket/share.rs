//! Shares of a limit, for instances that decide alone although the limit is for all of them.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{MAX_PERIOD, Terms, gcd};

/// A fraction above 0 and up to 1, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u32);

const WHOLE: u32 = 1_000_000;

/// The error for text that is not a [`Share`].
#[derive(Debug, Error, PartialEq, Eq)]
#[error("write a number above 0 and up to 1 with at most 6 decimals, such as 0.25")]
pub struct NoShare;

impl Share {
    /// The whole limit.
    pub const WHOLE: Self = Self(WHOLE);

    fn of(self, tokens: u64) -> u64 {
        let part = u128::from(tokens) * u128::from(self.0) / u128::from(WHOLE);
        u64::try_from(part).expect("a share of a u64 is a u64")
    }
}

impl FromStr for Share {
    type Err = NoShare;

    /// Reads a decimal fraction, exactly.
    fn from_str(text: &str) -> Result<Self, NoShare> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = [whole, decimals].concat();
        let is_number = !whole.is_empty() && (1..=6).contains(&decimals.len());
        if !is_number || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NoShare);
        }
        let millionths: u32 = format!("{whole}{decimals:0<6}")
            .parse()
            .map_err(|_| NoShare)?;
        match millionths {
            1..=WHOLE => Ok(Self(millionths)),
            _ => Err(NoShare),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (f64::from(self.0) / f64::from(WHOLE)).fmt(f)
    }
}

impl Terms {
    /// Returns a share of the limit: of its capacity, its rate and its debt.
    ///
    /// The capacity is rounded down, but a capacity of at least one stays at least one: a limit of one would otherwise deny
    /// everything. The rate is exact if a u32 of tokens in at most 100 years can express it. Otherwise it is rounded down,
    /// to at least one token in 100 years.
    #[must_use]
    pub fn shared(self, share: Share) -> Self {
        if share == Share::WHOLE {
            return self;
        }
        let capacity = u64::from(self.capacity);
        let debt = share.of(self.ceiling - capacity);
        let capacity = share.of(capacity).max(capacity.min(1));
        let (refill, period) = match self.refill {
            0 => (0, self.period),
            refill => rate(u64::from(refill) * u64::from(share.0), self.period),
        };
        Self {
            refill,
            period,
            capacity: u32::try_from(capacity).expect("a share of a u32 is a u32"),
            ceiling: capacity + debt,
        }
    }
}

/// Returns the refill and the period of `tokens` tokens in `millionths` millionths of a microsecond.
fn rate(tokens: u64, millionths: u64) -> (u32, u64) {
    // Reduced in two steps so that nothing exceeds 64 bits: first the period, then the factor of a million.
    let common = gcd(tokens, millionths);
    let (tokens, period) = (tokens / common, millionths / common);
    let common = gcd(tokens, u64::from(WHOLE));
    let tokens = tokens / common;
    let period = u128::from(period) * u128::from(u64::from(WHOLE) / common);
    let excess = |number: u128, bound: u64| number.div_ceil(u128::from(bound));
    let by = excess(u128::from(tokens), u64::from(u32::MAX)).max(excess(period, MAX_PERIOD));
    match u32::try_from(u128::from(tokens) / by).expect("divided to fit") {
        0 => (1, MAX_PERIOD),
        refill => (
            refill,
            u64::try_from(period.div_ceil(by)).expect("divided to fit"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn share(text: &str) -> Share {
        text.parse().unwrap()
    }

    #[test]
    fn shares_are_read_exactly() {
        for (text, expected) in [
            ("1", Ok(WHOLE)),
            ("1.0", Ok(WHOLE)),
            ("0.25", Ok(250_000)),
            ("0.000001", Ok(1)),
            ("00.5", Ok(500_000)),
            ("0", Err(NoShare)),
            ("0.0", Err(NoShare)),
            ("1.000001", Err(NoShare)),
            ("2", Err(NoShare)),
            ("0.0000001", Err(NoShare)),
            ("-0.5", Err(NoShare)),
            ("+0.5", Err(NoShare)),
            (".5", Err(NoShare)),
            ("1.", Err(NoShare)),
            ("0.5.5", Err(NoShare)),
            ("50%", Err(NoShare)),
            ("", Err(NoShare)),
            ("9999999999999", Err(NoShare)),
        ] {
            assert_eq!(
                text.parse::<Share>().map(|share| share.0),
                expected,
                "{text:?}"
            );
        }
        assert_eq!(share("0.25").to_string(), "0.25");
        assert_eq!(Share::WHOLE.to_string(), "1");
    }

    #[test]
    fn capacity_rate_and_debt_are_reduced() {
        let limit = Terms::token_bucket(100, 60 * SECOND, 50, 30);
        assert_eq!(limit.shared(Share::WHOLE), limit);
        assert_eq!(
            limit.shared(share("0.25")),
            Terms::token_bucket(25, 60 * SECOND, 12, 7)
        );
        assert_eq!(
            Terms::fixed_window(10, SECOND, 5).shared(share("0.5")),
            Terms::fixed_window(5, SECOND, 2)
        );
    }

    #[test]
    fn one_token_stays_one_and_none_stays_none() {
        let tiny = share("0.000001");
        let one = Terms::token_bucket(1, SECOND, 1, 0).shared(tiny);
        assert_eq!(
            (one.capacity(), one.refill(), one.period()),
            (1, 1, SECOND * SECOND)
        );
        let none = Terms::token_bucket(0, SECOND, 0, 0);
        assert_eq!(none.shared(tiny), none);
        assert_eq!(Terms::fixed_window(1, SECOND, 0).shared(tiny).capacity(), 1);
    }

    #[test]
    fn extremes_fit_and_never_become_more() {
        for rate in [1, 7, 999_999_937, u32::MAX] {
            for period in [SECOND, 86_400 * SECOND, MAX_PERIOD] {
                for text in ["0.000001", "0.333333", "0.999999"] {
                    let limit = Terms::token_bucket(rate, period, u32::MAX, u32::MAX);
                    let shared = limit.shared(share(text));
                    assert!(shared.refill() >= 1 && (1..=MAX_PERIOD).contains(&shared.period()));
                    // refill / period <= share * rate / period, except for the smallest rate.
                    let left = u128::from(shared.refill()) * u128::from(period) * u128::from(WHOLE);
                    let right =
                        u128::from(rate) * u128::from(share(text).0) * u128::from(shared.period());
                    let is_least = (shared.refill(), shared.period()) == (1, MAX_PERIOD);
                    assert!(left <= right || is_least, "{rate} in {period} us, {text}");
                }
            }
        }
    }
}
