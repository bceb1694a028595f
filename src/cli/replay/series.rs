//! Counts over time in a bounded number of spans: spans become longer when there are too many.

use std::collections::BTreeMap;

use crate::time::Micros;

/// Maximum number of spans.
const MOST: u64 = 200;

/// Possible lengths of spans, in seconds; each is a multiple of the one before.
const LENGTHS: [u64; 19] = [
    1,
    5,
    10,
    30,
    60,
    300,
    600,
    1_800,
    3_600,
    7_200,
    14_400,
    43_200,
    86_400,
    604_800,
    2_419_200,
    24_192_000,
    241_920_000,
    2_419_200_000,
    24_192_000_000,
];

/// The time axis that all series share.
#[derive(Debug, Default, Clone)]
pub(super) struct Axis {
    length: usize,
    /// The first and the last second.
    ends: Option<(u64, u64)>,
}

impl Axis {
    /// Extends the axis to a time.
    pub(super) fn reach(&mut self, time: Micros) {
        let second = time / 1_000_000;
        let (first, last) = self.ends.unwrap_or((second, second));
        let (first, last) = (first.min(second), last.max(second));
        self.ends = Some((first, last));
        while self.length + 1 < LENGTHS.len()
            && last / self.seconds() - first / self.seconds() >= MOST
        {
            self.length += 1;
        }
    }

    /// Length of a span, in seconds.
    pub(super) fn seconds(&self) -> u64 {
        LENGTHS[self.length]
    }

    /// Starts of all spans, in seconds since 1970.
    pub(super) fn spans(&self) -> impl Iterator<Item = u64> + use<> {
        let seconds = self.seconds();
        let ends = self
            .ends
            .map(|(first, last)| (first / seconds)..=(last / seconds));
        ends.into_iter().flatten().map(move |span| span * seconds)
    }
}

/// Counts of admitted and denied requests over time.
#[derive(Debug, Default, Clone)]
pub(super) struct Series {
    length: usize,
    /// By start of the span, in seconds since 1970.
    spans: BTreeMap<u64, [u64; 2]>,
}

impl Series {
    /// Counts a verdict at a time that is on the axis.
    pub(super) fn count(&mut self, axis: &Axis, time: Micros, is_denied: bool) {
        if self.length != axis.length {
            self.length = axis.length;
            let spans = std::mem::take(&mut self.spans);
            for (begin, counts) in spans {
                let span = self
                    .spans
                    .entry(begin - begin % axis.seconds())
                    .or_default();
                span[0] += counts[0];
                span[1] += counts[1];
            }
        }
        let second = time / 1_000_000;
        let span = self
            .spans
            .entry(second - second % axis.seconds())
            .or_default();
        span[usize::from(is_denied)] += 1;
    }

    /// Counts of admitted and denied requests in each span of the axis.
    pub(super) fn all(&self, axis: &Axis) -> Vec<[u64; 2]> {
        let seconds = axis.seconds();
        let mut counts: BTreeMap<u64, [u64; 2]> = BTreeMap::new();
        for (begin, [admitted, denied]) in &self.spans {
            let span = counts.entry(begin - begin % seconds).or_default();
            span[0] += admitted;
            span[1] += denied;
        }
        let spans = axis.spans();
        spans
            .map(|span| counts.get(&span).copied().unwrap_or_default())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_when_spans_grow_and_there_are_never_too_many() {
        let mut axis = Axis::default();
        let mut series = Series::default();
        let mut counted = 0;
        for time in (0..40).map(|power| 1_790_000_000_000_000 + (1_u64 << power) * 1_000) {
            for is_denied in [true, false, false] {
                axis.reach(time);
                series.count(&axis, time, is_denied);
                counted += 1;
            }
            let all = series.all(&axis);
            assert!(all.len() as u64 <= MOST + 1, "{}", all.len());
            assert_eq!(all.iter().flatten().sum::<u64>(), counted);
            assert_eq!(all.iter().map(|span| span[1]).sum::<u64>(), counted / 3);
        }
        assert!(axis.seconds() > 1);
    }

    #[test]
    fn each_length_is_a_multiple_of_the_one_before() {
        for pair in LENGTHS.windows(2) {
            assert_eq!(pair[1] % pair[0], 0, "{pair:?}");
        }
    }

    #[test]
    fn the_whole_of_time_is_not_too_long() {
        let mut axis = Axis::default();
        axis.reach(0);
        axis.reach(100_000_000_000_000_000);
        assert!(axis.spans().count() as u64 <= MOST + 1);
    }
}
