//! Compares two verdicts on each request: which requests change, by which rules, and for which descriptors.

use std::collections::BTreeMap;

use super::frequent::Frequent;
use super::recorded::Recorded;
use super::tally::{Count, Denied, add_first, descriptor_text};
use crate::limiter::{Code, Verdict};

/// Maximum number of different rule changes that are counted.
const MAX_RULE_CHANGES: usize = 1_000;

/// Name of a limit that a request brings itself, in the place of a rule.
const REQUEST_LIMIT: &str = "a limit in the request";

/// The verdict that another one is compared with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Baseline<'a> {
    /// The recorded answer.
    Recorded,
    /// The verdict of another configuration.
    Replayed(&'a Verdict),
}

/// The differences between two verdicts, counted over all requests.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Requests that are admitted both times.
    pub(super) admitted: u64,
    /// Requests that are denied both times.
    pub(super) denied: u64,
    /// Requests that were admitted before and are denied now.
    pub(super) newly_denied: u64,
    /// Requests that were denied before and are admitted now.
    pub(super) newly_admitted: u64,
    /// Requests without a comparable answer, because the failure policy decided them.
    pub(super) not_compared: u64,
    /// Descriptors with another verdict, even if the request as a whole has the same.
    pub(super) changed_descriptors: u64,
    /// Changes by the rule that denies now or denied before.
    pub(super) rules: BTreeMap<String, Change>,
    /// The descriptors that are newly denied first, each once.
    pub(super) first: Vec<Denied>,
    /// Descriptors that are newly denied.
    pub(super) most_denied: Frequent,
    /// Descriptors that are newly admitted.
    pub(super) most_admitted: Frequent,
    /// Number of descriptors that match another rule.
    pub(super) rule_changes: BTreeMap<RuleChange, u64>,
}

/// The changes of one rule.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Change {
    pub(super) newly_denied: Count,
    pub(super) newly_admitted: Count,
}

/// The rules that a descriptor matches before and now; `None` means no rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RuleChange {
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
}

/// The verdict on one descriptor.
#[derive(Debug, Clone, Copy)]
struct DescriptorVerdict<'a> {
    code: Code,
    rule: Option<&'a str>,
}

/// The two verdicts on a request.
struct Pair<'a> {
    recorded: &'a Recorded,
    baseline: Baseline<'a>,
    after: &'a Verdict,
    /// Whether the request as a whole has the same verdict both times.
    is_same: bool,
}

impl Comparison {
    /// Compares the verdicts on a request.
    pub(super) fn compare(&mut self, recorded: &Recorded, baseline: Baseline<'_>, after: &Verdict) {
        let before = match (baseline, recorded.answer) {
            (Baseline::Replayed(verdict), _) => verdict.code,
            (Baseline::Recorded, None) => return,
            (Baseline::Recorded, Some(answer)) if answer.is_fallback => {
                self.not_compared += 1;
                return;
            }
            (Baseline::Recorded, Some(answer)) => answer.code,
        };
        match (before, after.code) {
            (Code::Ok, Code::Ok) => self.admitted += 1,
            (Code::OverLimit, Code::OverLimit) => self.denied += 1,
            (Code::Ok, Code::OverLimit) => self.newly_denied += 1,
            (Code::OverLimit, Code::Ok) => self.newly_admitted += 1,
        }
        let pair = Pair {
            recorded,
            baseline,
            after,
            is_same: before == after.code,
        };
        for index in 0..after.statuses.len() {
            self.compare_descriptor(&pair, index);
        }
    }

    fn compare_descriptor(&mut self, pair: &Pair<'_>, index: usize) {
        let (before, after) = (pair.before(index), pair.after(index));
        if before.rule != after.rule {
            self.count_rule_change(before.rule, after.rule);
        }
        if before.code != after.code {
            self.count_change(pair.recorded, index, before, after);
        }
    }

    fn count_rule_change(&mut self, from: Option<&str>, to: Option<&str>) {
        let change = RuleChange {
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        };
        if self.rule_changes.len() < MAX_RULE_CHANGES || self.rule_changes.contains_key(&change) {
            *self.rule_changes.entry(change).or_default() += 1;
        }
    }

    fn count_change(
        &mut self,
        recorded: &Recorded,
        index: usize,
        before: DescriptorVerdict<'_>,
        after: DescriptorVerdict<'_>,
    ) {
        self.changed_descriptors += 1;
        let request = &recorded.request;
        let descriptor = &request.descriptors[index];
        let (hits, text) = (
            request.hits(descriptor),
            descriptor_text(request, descriptor),
        );
        let is_denied = after.code == Code::OverLimit;
        let denying = if is_denied { after.rule } else { before.rule };
        let name = denying.unwrap_or(REQUEST_LIMIT);
        let change = self.rules.entry(name.to_owned()).or_default();
        if is_denied {
            change.newly_denied.add(hits);
            self.most_denied.count(&text);
            add_first(&mut self.first, &text, || Denied {
                time: recorded.time,
                descriptor: text.clone(),
                rule: denying.map(str::to_owned),
            });
        } else {
            change.newly_admitted.add(hits);
            self.most_admitted.count(&text);
        }
    }

    /// Number of requests with another verdict.
    pub(super) fn changed(&self) -> u64 {
        self.newly_denied + self.newly_admitted
    }

    /// Number of requests that were compared.
    pub(super) fn compared(&self) -> u64 {
        self.admitted + self.denied + self.changed()
    }
}

impl<'a> Pair<'a> {
    fn after(&self, index: usize) -> DescriptorVerdict<'a> {
        verdict_on(self.after, index)
    }

    fn before(&self, index: usize) -> DescriptorVerdict<'a> {
        match self.baseline {
            Baseline::Replayed(verdict) => verdict_on(verdict, index),
            // A recording has no rules, so the rule counts as unchanged.
            Baseline::Recorded => DescriptorVerdict {
                code: self.recorded_code(index),
                ..self.after(index)
            },
        }
    }

    /// The recorded verdict on a descriptor.
    ///
    /// Some inputs have the verdict on the whole request alone. Then, if that verdict changes, every descriptor with a
    /// limit counts as changed: the one that denies now did not deny before, and any of them may have denied before.
    fn recorded_code(&self, index: usize) -> Code {
        let status = &self.after.statuses[index];
        if self.recorded.answer.is_some_and(|answer| answer.tells_each) {
            return self.recorded.marks[index].code;
        }
        if self.is_same || status.limit.is_none() {
            return status.code;
        }
        match self.after.code {
            Code::OverLimit => Code::Ok,
            Code::Ok => Code::OverLimit,
        }
    }
}

fn verdict_on(verdict: &Verdict, index: usize) -> DescriptorVerdict<'_> {
    let status = &verdict.statuses[index];
    DescriptorVerdict {
        code: status.code,
        rule: verdict.rule(status).map(|rule| rule.path.as_str()),
    }
}
