//! What occurs most, in bounded memory (Misra and Gries): exact as long as there is room for all, and otherwise too
//! low by no more than it says.

use std::collections::HashMap;

/// How many are kept when there is no room for all. With a million different ones that occur equally often, counts are too low
/// by some fifty.
const KEPT: usize = 20_000;

/// Counts of texts.
#[derive(Debug, Clone, Default)]
pub(super) struct Frequent {
    counts: HashMap<String, u64>,
    too_low_by: u64,
}

impl Frequent {
    /// Counts one more.
    pub(super) fn count(&mut self, text: &str) {
        if let Some(count) = self.counts.get_mut(text) {
            *count += 1;
            return;
        }
        self.counts.insert(text.to_owned(), 1);
        if self.counts.len() >= 2 * KEPT {
            self.forget_the_rare();
        }
    }

    /// Takes from all what those have that are too many.
    fn forget_the_rare(&mut self) {
        let mut counts: Vec<u64> = self.counts.values().copied().collect();
        let (_, &mut median, _) = counts.select_nth_unstable_by(KEPT, |one, two| two.cmp(one));
        self.counts.retain(|_, count| {
            *count = count.saturating_sub(median);
            *count > 0
        });
        self.too_low_by += median;
    }

    /// Those that occur most, most first.
    pub(super) fn most(&self, count: usize) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self
            .counts
            .iter()
            .map(|(text, &count)| (text.as_str(), count))
            .collect();
        all.sort_unstable_by(|one, two| (two.1, one.0).cmp(&(one.1, two.0)));
        all.truncate(count);
        all
    }

    /// No count is too low by more than this; none is too high.
    pub(super) fn too_low_by(&self) -> u64 {
        self.too_low_by
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_right_within_the_error_that_is_told() {
        let mut frequent = Frequent::default();
        let mut total = 0;
        for round in 0..100_000_u64 {
            frequent.count(&format!("rare {round}"));
            total += 1;
            if round % 10 == 0 {
                frequent.count("often");
                total += 1;
            }
        }
        let most = frequent.most(1);
        let (text, count) = most[0];
        assert_eq!(text, "often");
        assert!(
            count <= 10_000 && count + frequent.too_low_by() >= 10_000,
            "{count}"
        );
        assert!(frequent.too_low_by() > 0 && frequent.too_low_by() <= total / KEPT as u64);
        assert!(frequent.counts.len() < 2 * KEPT);
    }

    #[test]
    fn few_are_counted_exactly() {
        let mut frequent = Frequent::default();
        for text in ["b", "a", "b", "c"] {
            frequent.count(text);
        }
        assert_eq!(frequent.most(2), [("b", 2), ("a", 1)]);
        assert_eq!(frequent.too_low_by(), 0);
    }
}
