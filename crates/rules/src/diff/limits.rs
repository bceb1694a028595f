//! Changes of the limits and the settings of a rule that is in both configurations.

use super::super::limit::{Algorithm, Limit};
use super::super::rule::{Limits, Rule};
use super::super::spelling::shown;
use super::change::{Buckets, Change, Kind};
use super::matched::named;
use super::measure::{all, measure, one};

/// A rule before and after the change.
pub(super) struct Before<'t> {
    pub(super) old: &'t Rule,
    pub(super) new: &'t Rule,
    /// Whether the same values share buckets.
    pub(super) is_shared_alike: bool,
    /// Whether metrics show the same values.
    pub(super) shows_alike: bool,
}

impl Before<'_> {
    /// Adds all changes.
    pub(super) fn changes(&self, changes: &mut Vec<Change>) {
        match (&self.old.limits, &self.new.limits) {
            (Limits::Limited(old), Limits::Limited(new)) => self.limits(old, new, changes),
            (Limits::Unlimited { .. }, Limits::Limited(_)) => changes.push(self.change(
                Kind::Unlimited,
                Some(Buckets::Reset),
                format!("was unlimited and is limited to {}", all(self.new)),
            )),
            (Limits::Limited(_), Limits::Unlimited { .. }) => changes.push(self.change(
                Kind::Unlimited,
                Some(Buckets::Left),
                format!("had {} and is unlimited", all(self.old)),
            )),
            (
                Limits::Unlimited { name, replaces },
                Limits::Unlimited {
                    name: n,
                    replaces: r,
                },
            ) => {
                changes.extend(self.names(
                    ("", name.as_str(), replaces.as_slice()),
                    (n.as_str(), r.as_slice()),
                ));
            }
        }
        changes.extend(self.candidates());
        changes.extend(self.words());
    }

    fn change(&self, kind: Kind, buckets: Option<Buckets>, what: String) -> Change {
        Change {
            before: Some(all(self.old)),
            after: Some(all(self.new)),
            buckets,
            text: format!("rule {} {what}", named(self.new)),
            ..Change::of(kind, self.new)
        }
    }

    // --- Limits ---

    fn limits(&self, old: &[Limit], new: &[Limit], changes: &mut Vec<Change>) {
        let is_of_several = old.len().max(new.len()) > 1;
        if is_reordered(old, new) {
            changes.push(self.change(
                Kind::Order,
                Some(Buckets::Kept),
                format!(
                    "has its limits in another order ({}): each continues with the buckets of the limit that had its position",
                    all(self.new)
                ),
            ));
            return;
        }
        for (index, (old, new)) in old.iter().zip(new).enumerate() {
            let which = match is_of_several {
                true => format!("limit {} ", index + 1),
                false => String::new(),
            };
            changes.extend(self.limit(&which, old, new));
            changes.extend(self.names(
                (which.as_str(), old.name.as_str(), old.replaces.as_slice()),
                (new.name.as_str(), new.replaces.as_slice()),
            ));
        }
        for limit in new.iter().skip(old.len()) {
            let what = format!("has one limit more, {}", one(limit));
            changes.push(self.change(Kind::LimitAdded, Some(Buckets::Reset), what));
        }
        for limit in old.iter().skip(new.len()) {
            let what = format!("no longer has the limit {}", one(limit));
            changes.push(self.change(Kind::LimitRemoved, Some(Buckets::Left), what));
        }
    }

    fn limit(&self, which: &str, old: &Limit, new: &Limit) -> Vec<Change> {
        let mut changes = Vec::new();
        let of = |kind, buckets, what| Change {
            before: Some(one(old)),
            after: Some(one(new)),
            ..self.change(kind, buckets, what)
        };
        if old.algorithm != new.algorithm {
            let how = match new.algorithm {
                Algorithm::FixedWindow => "is a fixed window and no longer a token bucket",
                Algorithm::TokenBucket => "is a token bucket and no longer a fixed window",
            };
            let what = format!("{which}{how} (from {} to {})", one(old), one(new));
            changes.push(of(Kind::Algorithm, Some(Buckets::Reset), what));
        } else if let Some((kind, how)) = measure(old, new) {
            let buckets = match new.capacity() < old.capacity() {
                true => Buckets::Clamped,
                false => Buckets::Kept,
            };
            changes.push(of(kind, Some(buckets), format!("{which}{how}")));
        }
        let hits = |limit: &Limit| limit.hits.name();
        if old.hits != new.hits {
            let what = format!(
                "{which}changes how hits are taken (from {} to {})",
                hits(old),
                hits(new)
            );
            changes.push(of(Kind::Hits, None, what));
        }
        // The default of max_debt is the burst, whose change is reported.
        let debt = |limit: &Limit| (limit.max_debt, limit.max_debt == limit.burst);
        if old.max_debt != new.max_debt && !(debt(old).1 && debt(new).1) {
            let what = format!(
                "{which}lets debt grow to {} instead of {}",
                new.max_debt, old.max_debt
            );
            changes.push(of(Kind::Hits, None, what));
        }
        changes
    }

    fn names(
        &self,
        (which, name, replaces): (&str, &str, &[String]),
        (new_name, new_replaces): (&str, &[String]),
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        let quoted = |name: &str| match name {
            "" => "no name".to_owned(),
            name => format!("the name {:?}", shown(name)),
        };
        if name != new_name {
            let what = format!(
                "{which}has {} instead of {}",
                quoted(new_name),
                quoted(name)
            );
            changes.push(self.change(Kind::Name, None, what));
        }
        if replaces != new_replaces {
            let list = |names: &[String]| match names {
                [] => "nothing".to_owned(),
                names => names
                    .iter()
                    .map(|name| shown(name))
                    .collect::<Vec<_>>()
                    .join(", "),
            };
            let what = format!(
                "{which}replaces {} instead of {}",
                list(new_replaces),
                list(replaces)
            );
            changes.push(self.change(Kind::Name, None, what));
        }
        changes
    }

    /// Adds changes of the candidates.
    fn candidates(&self) -> Option<Change> {
        let candidates = |rule: &Rule| match &rule.candidates[..] {
            [] => "nothing".to_owned(),
            candidates => candidates.iter().map(one).collect::<Vec<_>>().join(" and "),
        };
        let (old, new) = (candidates(self.old), candidates(self.new));
        let what = format!("tries {new} as a candidate (before: {old}), which denies nothing");
        let differs = self.old.candidates != self.new.candidates;
        differs.then(|| self.change(Kind::Candidate, None, what))
    }

    // --- Settings ---

    fn words(&self) -> Vec<Change> {
        let (old, new) = (self.old, self.new);
        let otherwise = |differs: bool, kind, buckets, what: &str| {
            differs.then(|| self.change(kind, buckets, what.to_owned()))
        };
        let shadow = match new.shadow_mode {
            true => "is in shadow mode: it counts and no longer denies",
            false => "is no longer in shadow mode: it denies",
        };
        let quota = match new.quota_mode {
            true => "is a quota: it denies only together with all other quotas of a request",
            false => "is no longer a quota: it denies alone",
        };
        let share =
            "has other share_threshold settings at or above it: other values share a bucket";
        let policy = |rule: &Rule| {
            rule.on_store_failure
                .map_or("the server's", |policy| policy.name())
        };
        let (before, after) = (policy(old), policy(new));
        let failure = format!("changes its failure policy (from {before} to {after})");
        let metrics = "has another name in metrics (detailed_metric, value_to_metric)";
        let shows_otherwise = old.detailed_metric != new.detailed_metric || !self.shows_alike;
        let reset = Some(Buckets::Reset);
        [
            otherwise(
                old.shadow_mode != new.shadow_mode,
                Kind::Shadow,
                None,
                shadow,
            ),
            otherwise(old.quota_mode != new.quota_mode, Kind::Quota, None, quota),
            otherwise(!self.is_shared_alike, Kind::Share, reset, share),
            otherwise(before != after, Kind::StoreFailure, None, &failure),
            otherwise(shows_otherwise, Kind::Metrics, None, metrics),
            otherwise(
                old.metadata != new.metadata,
                Kind::Metadata,
                None,
                "returns other metadata",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Whether both lists contain the same limits in another order.
fn is_reordered(old: &[Limit], new: &[Limit]) -> bool {
    let has_all = old.iter().all(|limit| new.contains(limit));
    old.len() == new.len() && old != new && has_all && new.iter().all(|limit| old.contains(limit))
}
