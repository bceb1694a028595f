//! `/configuration`: the active configuration with its text.

use std::collections::BTreeMap;

use super::server_view::{ServerView, count};
use super::types::{self, Configuration, File};
use crate::limiter::Snapshot;
use crate::service::http::rlconfig::rlconfig;
use crate::source::Rejected;

pub(super) fn configuration(view: &ServerView) -> Configuration {
    let record = view.history.record();
    let snapshot = view.rules.snapshot();
    Configuration {
        version: record.accepted.map(|accepted| accepted.version),
        origin: view.source.origin.clone(),
        files: snapshot.as_deref().map(files).unwrap_or_default(),
        text: snapshot
            .as_ref()
            .map(|snapshot| rlconfig(&snapshot.rules))
            .unwrap_or_default(),
        rejected: record.rejected.map(rejected),
    }
}

/// Returns the files in alphabetical order, including those without rules.
fn files(snapshot: &Snapshot) -> Vec<File> {
    let mut files: BTreeMap<&str, usize> = BTreeMap::new();
    for file in snapshot.rules.domains().flat_map(|domain| domain.files()) {
        files.entry(file).or_default();
    }
    for rule in snapshot.rules.rules() {
        *files.entry(&rule.file).or_default() += 1;
    }
    let files = files.into_iter();
    files
        .map(|(name, rules)| File {
            name: name.to_owned(),
            rules: count(rules),
        })
        .collect()
}

pub(super) fn rejected(rejected: Rejected) -> types::Rejected {
    types::Rejected {
        at_us: rejected.at,
        mistakes: rejected.summary.mistakes,
        more: count(rejected.summary.more),
    }
}
