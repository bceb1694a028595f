//! The most frequent texts, in bounded memory (Misra and Gries). Counts are exact while there is room for all texts, and
//! otherwise too low by at most a known error.

use std::collections::HashMap;

/// Number of texts that are kept when there is no room for all. With a million texts that occur equally often, counts are
/// too low by about fifty.
const KEPT: usize = 20_000;

/// Counts of the most frequent texts.
#[derive(Debug, Clone, Default)]
pub(super) struct Frequent {
    counts: HashMap<String, u64>,
    max_error: u64,
}

impl Frequent {
    /// Counts one occurrence of a text.
    pub(super) fn count(&mut self, text: &str) {
        if let Some(count) = self.counts.get_mut(text) {
            *count += 1;
            return;
        }
        self.counts.insert(text.to_owned(), 1);
        if self.counts.len() >= 2 * KEPT {
            self.drop_rare();
        }
    }

    /// Subtracts the median from all counts and removes the texts whose count reaches 0.
    fn drop_rare(&mut self) {
        let mut counts: Vec<u64> = self.counts.values().copied().collect();
        let (_, &mut median, _) = counts.select_nth_unstable_by(KEPT, |one, two| two.cmp(one));
        self.counts.retain(|_, count| {
            *count = count.saturating_sub(median);
            *count > 0
        });
        self.max_error += median;
    }

    /// The most frequent texts, in descending order of their counts.
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

    /// Maximum error: counts are too low by at most this, and never too high.
    pub(super) fn max_error(&self) -> u64 {
        self.max_error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_right_within_the_error() {
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
            count <= 10_000 && count + frequent.max_error() >= 10_000,
            "{count}"
        );
        assert!(frequent.max_error() > 0 && frequent.max_error() <= total / KEPT as u64);
        assert!(frequent.counts.len() < 2 * KEPT);
    }

    #[test]
    fn few_are_counted_exactly() {
        let mut frequent = Frequent::default();
        for text in ["b", "a", "b", "c"] {
            frequent.count(text);
        }
        assert_eq!(frequent.most(2), [("b", 2), ("a", 1)]);
        assert_eq!(frequent.max_error(), 0);
    }
}
