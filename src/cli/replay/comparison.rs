//! Two verdicts on each request, held against each other: which requests fare otherwise, by which rule, and whose.

use std::collections::BTreeMap;

use super::frequent::Frequent;
use super::recorded::Recorded;
use super::tally::{Count, Denied, note_first, typed};
use crate::limiter::{Code, Verdict};

/// The most pairs of rules that are told apart.
const MOST_MOVES: usize = 1_000;

/// The verdict to compare with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Before<'a> {
    /// What was answered when it was recorded.
    Answered,
    /// What another configuration gives.
    Given(&'a Verdict),
}

/// What fares otherwise.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Requests that pass both times.
    pub(super) admitted: u64,
    /// Requests that are denied both times.
    pub(super) denied: u64,
    /// Requests that passed before, and are denied now.
    pub(super) newly_denied: u64,
    /// Requests that were denied before, and pass now.
    pub(super) newly_admitted: u64,
    /// Requests of which is not known what the store would have answered.
    pub(super) not_compared: u64,
    /// Descriptors whose own limits say otherwise, though the request may fare the same.
    pub(super) changed_descriptors: u64,
    /// By the rule that denies, or denied.
    pub(super) rules: BTreeMap<String, Change>,
    /// The first who are denied now, each once.
    pub(super) first: Vec<Denied>,
    /// Descriptors that are denied now.
    pub(super) most_denied: Frequent,
    /// Descriptors that are no longer denied.
    pub(super) most_admitted: Frequent,
    /// How many descriptors meet another rule, from and to; `None` is no rule.
    pub(super) moves: BTreeMap<(Option<String>, Option<String>), u64>,
}

/// What a rule does otherwise.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Change {
    pub(super) newly_denied: Count,
    pub(super) newly_admitted: Count,
}

impl Comparison {
    /// Compares the verdicts on a request.
    pub(super) fn compare(&mut self, recorded: &Recorded, before: Before<'_>, after: &Verdict) {
        let code = match (before, recorded.answer) {
            (Before::Given(verdict), _) => verdict.code,
            (Before::Answered, None) => return,
            (Before::Answered, Some(answer)) if answer.is_fallback => {
                self.not_compared += 1;
                return;
            }
            (Before::Answered, Some(answer)) => answer.code,
        };
        match (code, after.code) {
            (Code::Ok, Code::Ok) => self.admitted += 1,
            (Code::OverLimit, Code::OverLimit) => self.denied += 1,
            (Code::Ok, Code::OverLimit) => self.newly_denied += 1,
            (Code::OverLimit, Code::Ok) => self.newly_admitted += 1,
        }
        let is_same = code == after.code;
        for index in 0..after.statuses.len() {
            self.compare_descriptor(recorded, index, (before, is_same), after);
        }
    }

    fn compare_descriptor(
        &mut self,
        recorded: &Recorded,
        index: usize,
        (before, is_same): (Before<'_>, bool),
        after: &Verdict,
    ) {
        let status = &after.statuses[index];
        let tells_each = recorded.answer.is_some_and(|answer| answer.tells_each);
        let code = match before {
            Before::Given(verdict) => verdict.statuses[index].code,
            Before::Answered if tells_each => recorded.marks[index].code,
            // Only the whole is known: what denies now did not, and what has a limit may have.
            Before::Answered if is_same || status.limit.is_none() => status.code,
            Before::Answered => match after.code {
                Code::OverLimit => Code::Ok,
                Code::Ok => Code::OverLimit,
            },
        };
        let rule = after.rule(status).map(|rule| rule.path.as_str());
        let other = match before {
            Before::Given(verdict) => verdict
                .rule(&verdict.statuses[index])
                .map(|rule| rule.path.as_str()),
            Before::Answered => rule,
        };
        if rule != other {
            let pair = (other.map(str::to_owned), rule.map(str::to_owned));
            if self.moves.len() < MOST_MOVES || self.moves.contains_key(&pair) {
                *self.moves.entry(pair).or_default() += 1;
            }
        }
        if code == status.code {
            return;
        }
        self.changed_descriptors += 1;
        let request = &recorded.request;
        let descriptor = &request.descriptors[index];
        let (hits, text) = (request.hits(descriptor), typed(request, descriptor));
        let is_denied = status.code == Code::OverLimit;
        let told = if is_denied { rule } else { other };
        let name = told.unwrap_or("a limit of the request's own");
        let change = self.rules.entry(name.to_owned()).or_default();
        if is_denied {
            change.newly_denied.add(hits);
            self.most_denied.count(&text);
            note_first(&mut self.first, &text, || Denied {
                time: recorded.time,
                descriptor: text.clone(),
                rule: told.map(str::to_owned),
            });
        } else {
            change.newly_admitted.add(hits);
            self.most_admitted.count(&text);
        }
    }

    /// Requests that fare otherwise.
    pub(super) fn changed(&self) -> u64 {
        self.newly_denied + self.newly_admitted
    }

    /// Requests that were compared.
    pub(super) fn compared(&self) -> u64 {
        self.admitted + self.denied + self.changed()
    }
}
