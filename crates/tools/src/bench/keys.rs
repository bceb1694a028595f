//! The keys of requests: numbers below a bound, drawn from a distribution. The same seed gives the same keys.

use clap::ValueEnum;
use rand::RngExt as _;
use rand::distr::Distribution as _;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::Zipf;

/// Distribution of the requests over the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shape {
    /// All keys equally often
    Uniform,
    /// The n-th key in proportion to 1/n^exponent
    Zipf,
    /// Always the same key
    One,
}

/// Generator of key numbers.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    count: u64,
    draw: Draw,
}

#[derive(Debug, Clone)]
enum Draw {
    Uniform,
    Zipf(Zipf<f64>),
    One,
}

impl Keys {
    /// Keys below `count`, which must be at least 1. Only [`Shape::Zipf`] uses the exponent.
    ///
    /// # Errors
    /// If there is no such distribution.
    pub(super) fn new(count: u64, shape: Shape, exponent: f64) -> Result<Self, String> {
        let draw = match shape {
            Shape::Uniform => Draw::Uniform,
            Shape::One => Draw::One,
            // At an infinite exponent the sampler divides infinities.
            Shape::Zipf if exponent.is_finite() => Draw::Zipf(
                Zipf::new(count as f64, exponent)
                    .map_err(|error| format!("a Zipf exponent of {exponent}: {error}"))?,
            ),
            Shape::Zipf => return Err("the Zipf exponent must be a finite number".to_owned()),
        };
        Ok(Self { count, draw })
    }

    /// The largest number that can be drawn.
    pub(super) fn largest(&self) -> u64 {
        self.count - 1
    }

    /// Draws the next number.
    pub(super) fn next(&self, random: &mut Xoshiro256PlusPlus) -> u64 {
        match &self.draw {
            Draw::Uniform => random.random_range(0..self.count),
            Draw::Zipf(zipf) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "ranks are whole numbers from 1 to the count; the cast saturates"
                )]
                let rank = zipf.sample(random) as u64;
                // Rounding inside the sampler may give one more than the count.
                rank.clamp(1, self.count) - 1
            }
            Draw::One => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;

    use super::*;

    fn draw(keys: &Keys, seed: u64, times: usize) -> Vec<u64> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        (0..times).map(|_| keys.next(&mut random)).collect()
    }

    proptest! {
        #[test]
        fn numbers_are_below_the_count_and_the_same_for_the_same_seed(
            count in prop_oneof![1..20_u64, 1..u64::MAX],
            shape in prop_oneof![Just(Shape::Uniform), Just(Shape::Zipf), Just(Shape::One)],
            exponent in prop_oneof![Just(0.0), Just(1.0), 0.0..20.0],
            seed: u64,
        ) {
            let keys = Keys::new(count, shape, exponent).unwrap();
            let numbers = draw(&keys, seed, 50);
            prop_assert!(numbers.iter().all(|number| *number <= keys.largest()));
            prop_assert_eq!(&numbers, &draw(&keys, seed, 50));
        }
    }

    #[test]
    fn zipf_asks_for_low_numbers_in_proportion() {
        let numbers = draw(&Keys::new(1000, Shape::Zipf, 1.0).unwrap(), 7, 100_000);
        let share = |number| numbers.iter().filter(|n| **n == number).count() as f64 / 100_000.0;
        // 1/H(1000) with H(1000) = 7.4855; the standard deviation is below 0.0011.
        for (number, expected) in [(0, 0.1336), (1, 0.0668), (9, 0.01336)] {
            let found = share(number);
            assert!((found - expected).abs() < 0.005, "{number}: {found}");
        }
    }

    #[test]
    fn an_exponent_that_means_nothing_is_refused() {
        for exponent in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(Keys::new(10, Shape::Zipf, exponent).is_err(), "{exponent}");
        }
    }
}
