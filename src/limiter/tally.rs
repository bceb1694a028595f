//! What the metrics of rules count: the hits of each descriptor, split at its limit as in envoyproxy/ratelimit.
//!
//! There, the count of a window goes up whatever comes of it. Here, what was taken from a bucket stands for
//! the count, and hits that are denied are split as if they had been taken.

use std::mem;
use std::sync::{Arc, OnceLock};

use super::names;
use super::plan::{Applied, Limited};
use super::request::{Descriptor, Request};
use crate::rules::Match;
use crate::store::{Cause, Decision, Outcome, Payment};
use crate::telemetry::metrics::{Hits, Metrics, OTHER, Recorder, Series, Tried};

/// The counters of a rule, found when it is first met.
#[derive(Debug, Default)]
pub(super) struct RuleSeries {
    known: OnceLock<Known>,
    /// What it counted by itself under the configuration before.
    before: Option<Arc<Series>>,
}

/// Where the hits of a rule are counted.
#[derive(Debug)]
struct Known {
    /// All of them.
    sum: Arc<Series>,
    told: As,
}

/// How they are told as metrics.
#[derive(Debug)]
enum As {
    /// As the sum.
    Sum,
    /// Together with those of other rules, for want of room.
    Other(Arc<Series>),
    /// Apart, by what requests send.
    ByValue,
}

impl RuleSeries {
    /// The counters of the same rule under the next configuration.
    pub(super) fn next(&self) -> Self {
        let by_itself = self
            .known
            .get()
            .filter(|known| !matches!(known.told, As::Sum));
        let sum = by_itself.map(|known| &known.sum).or(self.before.as_ref());
        Self {
            known: OnceLock::new(),
            before: sum.cloned(),
        }
    }

    fn get(&self, tally: &Tally<'_>, found: &Match<'_>) -> &Known {
        self.known.get_or_init(|| {
            let by_itself = || match &self.before {
                Some(before) => Arc::clone(before),
                None => tally.recorder.untold_series(&found.rule.path),
            };
            let Some(name) = names::fixed(&tally.request.domain, found, tally.recorder.dots())
            else {
                return Known {
                    sum: by_itself(),
                    told: As::ByValue,
                };
            };
            let series = tally.recorder.series(&name);
            match series.name() == OTHER {
                true => Known {
                    sum: by_itself(),
                    told: As::Other(series),
                },
                false => Known {
                    sum: series,
                    told: As::Sum,
                },
            }
        })
    }

    /// What counts all hits of the rule, if there were any. One that was not met under this configuration may have
    /// been under another, which metrics go on telling.
    pub(super) fn found(
        &self,
        metrics: &Metrics,
        domain: &str,
        found: &Match<'_>,
    ) -> Option<Arc<Series>> {
        if let Some(known) = self.known.get() {
            return Some(Arc::clone(&known.sum));
        }
        match names::fixed(domain, found, metrics.dots()) {
            Some(name) => metrics.series(&name),
            None => self.before.clone(),
        }
    }
}

/// Counts what a decision means for the rules that it was about.
pub(super) struct Tally<'a> {
    pub(super) recorder: &'a Recorder,
    /// By the ids of rules.
    pub(super) series: &'a [RuleSeries],
    pub(super) request: &'a Request,
    pub(super) decision: &'a Decision,
    /// The server lets every request pass.
    pub(super) is_shadow: bool,
}

impl Tally<'_> {
    /// Counts the hits of a descriptor, by the limit that tells most.
    pub(super) fn count(
        &self,
        descriptor: &Descriptor,
        limited: &Limited<'_>,
        (applied, outcome): (&Applied<'_>, &Outcome),
    ) {
        let is_taken =
            applied.payment == Payment::Postpaid || (self.decision.admitted && outcome.admitted);
        let hits = Asked {
            hits: self.request.hits(descriptor),
            limit: applied.limit.capacity(),
            used: outcome.state.used(),
            is_taken,
            is_admitted: outcome.admitted,
        };
        let mut hits = hits.split(|limit| self.recorder.near(limit));
        if limited.is_shadow {
            hits.shadow = hits.over;
        }
        if limited.is_shadow || self.is_shadow {
            hits.would_deny = mem::take(&mut hits.denied);
        }
        if self.decision.cause == Cause::RememberedDenial {
            hits.remembered = hits.over;
        }
        let Some(found) = limited.matched() else {
            let dots = self.recorder.dots();
            let name = names::of_override(&self.request.domain, descriptor, dots);
            return self.recorder.count(&self.recorder.series(&name), &hits);
        };
        self.of_rule(descriptor, &found, |series| {
            self.recorder.count(series, &hits);
        });
    }

    /// Counts the hits of a descriptor by what the candidates of its rule would have said.
    pub(super) fn count_candidate(
        &self,
        descriptor: &Descriptor,
        found: &Match<'_>,
        would_admit: bool,
    ) {
        // What is given back was asked for before.
        let hits = u64::try_from(self.request.hits(descriptor)).unwrap_or_default();
        let tried = match would_admit {
            true => Tried {
                would_admit: hits,
                would_deny: 0,
            },
            false => Tried {
                would_admit: 0,
                would_deny: hits,
            },
        };
        self.of_rule(descriptor, found, |series| {
            self.recorder.count_candidate(series, &tried);
        });
    }

    /// Counts with the series of the rule that a descriptor met.
    fn of_rule(&self, descriptor: &Descriptor, found: &Match<'_>, count: impl Fn(&Series)) {
        let known = self.series[found.rule.id].get(self, found);
        count(&known.sum);
        match &known.told {
            As::Sum => {}
            As::Other(series) => count(series),
            As::ByValue => {
                let dots = self.recorder.dots();
                let name = names::of_rule(&self.request.domain, descriptor, found, dots);
                count(&self.recorder.series(&name));
            }
        }
    }
}

/// What was asked of a bucket, and what came of it.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// Negative: given back.
    hits: i64,
    limit: u32,
    /// Tokens taken from the bucket, afterwards.
    used: u64,
    /// Whether the hits are among them.
    is_taken: bool,
    is_admitted: bool,
}

impl Asked {
    /// Splits the hits at the limit, and at where hits begin to be near it.
    fn split(self, near: impl Fn(u32) -> u64) -> Hits {
        let hits = self.hits.unsigned_abs();
        if self.hits < 0 {
            return Hits {
                given_back: hits,
                ..Hits::default()
            };
        }
        let before = if self.is_taken {
            self.used.saturating_sub(hits)
        } else {
            self.used
        };
        let after = before.saturating_add(hits);
        let (near, limit) = (near(self.limit), u64::from(self.limit));
        if self.is_admitted {
            return Hits {
                within: hits,
                near: after.saturating_sub(near.max(before)),
                ..Hits::default()
            };
        }
        let over = after.saturating_sub(limit.max(before));
        if over == 0 {
            // It was not the limit that denied them, but what stands in for it while the store fails.
            return Hits {
                denied: hits,
                over: hits,
                ..Hits::default()
            };
        }
        Hits {
            denied: hits,
            over,
            near: limit.saturating_sub(near.max(before)),
            ..Hits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the reference: the limit, its count before and after, the hits; what is over, near, within.
    #[test]
    fn hits_are_split_as_in_the_reference() {
        for (limit, before, after, expected) in [
            (10, 4, 5, [0, 0, 1]),
            (10, 10, 11, [1, 0, 0]),
            (15, 10, 11, [0, 0, 1]),
            (15, 12, 13, [0, 1, 1]),
            (15, 15, 16, [1, 0, 0]),
            (20, 2, 5, [0, 0, 3]),
            (8, 5, 7, [0, 1, 2]),
            (20, 16, 19, [0, 3, 3]),
            (20, 19, 22, [2, 1, 0]),
            (20, 15, 22, [2, 4, 0]),
            (10, 27, 30, [3, 0, 0]),
            (10, 11, 11, [0, 0, 0]),
            (0, 0, 1, [1, 0, 0]),
        ] {
            let hits = after - before;
            for is_taken in [true, false] {
                let asked = Asked {
                    hits,
                    limit,
                    used: u64::try_from(if is_taken { after } else { before }).unwrap(),
                    is_taken,
                    is_admitted: after <= i64::from(limit),
                };
                let split = asked.split(|limit| u64::from(limit) * 4 / 5);
                let row = format!("{limit}: {before} -> {after}, taken: {is_taken}");
                assert_eq!([split.over, split.near, split.within], expected, "{row}");
                assert_eq!(split.total(), hits.unsigned_abs(), "{row}");
            }
        }
    }

    #[test]
    fn what_is_given_back_is_no_hit() {
        let asked = Asked {
            hits: -3,
            limit: 10,
            used: 4,
            is_taken: true,
            is_admitted: true,
        };
        let split = asked.split(|_| 8);
        assert_eq!((split.given_back, split.total()), (3, 0));
    }
}
