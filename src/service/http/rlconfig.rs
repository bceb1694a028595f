//! The active rules in the format of envoyproxy/ratelimit's `/rlconfig`, which tools parse.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

use crate::limiter::Snapshot;
use crate::rules::{Algorithm, Hits, Limit, Limits, Rule, RuleSet};

/// The text of a configuration, shared by all clients that read it at the same time.
///
/// It can have many megabytes, and a slow client keeps it in memory until the response is sent.
#[derive(Debug, Default)]
pub(crate) struct RulesText(Mutex<Option<(Weak<Snapshot>, Weak<str>)>>);

impl RulesText {
    /// Returns a line for each limit of the active configuration; empty without a configuration.
    pub(crate) fn of(&self, active: Option<Arc<Snapshot>>) -> Bytes {
        let Some(active) = active else {
            return Bytes::new();
        };
        // Other readers wait, so that the text is not generated twice.
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = latest
            .as_ref()
            .filter(|(snapshot, _)| snapshot.as_ptr() == Arc::as_ptr(&active))
            .and_then(|(_, text)| text.upgrade());
        let text = shared.unwrap_or_else(|| {
            let text = Arc::<str>::from(rlconfig(&active.rules));
            *latest = Some((Arc::downgrade(&active), Arc::downgrade(&text)));
            text
        });
        Bytes::from_owner(SharedText(text))
    }
}

struct SharedText(Arc<str>);

impl AsRef<[u8]> for SharedText {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Returns a line for each limit, in the order of the files.
///
/// Extensions of ratekeeper follow the text that envoyproxy/ratelimit prints, and only where a limit differs from the
/// defaults. Algorithm and hits are printed where they differ from `DEFAULT_ALGORITHM` and `DEFAULT_HITS`, so that with
/// `fixed_window` the lines of an unchanged configuration are those of envoyproxy/ratelimit.
pub(super) fn rlconfig(rules: &RuleSet) -> String {
    let mut text = String::new();
    let defaults = (rules.default_algorithm(), rules.default_hits());
    for rule in rules.rules() {
        match &rule.limits {
            Limits::Unlimited { .. } => {
                line(&mut text, rule, "UNKNOWN", 0, &candidates(rule, defaults))
            }
            Limits::Limited(limits) => {
                for (i, limit) in limits.iter().enumerate() {
                    let candidates = match i + 1 == limits.len() {
                        true => candidates(rule, defaults),
                        false => String::new(),
                    };
                    line(
                        &mut text,
                        rule,
                        &unit(limit),
                        limit.requests_per_unit,
                        &(extensions(limit, defaults) + &candidates),
                    );
                }
            }
        }
    }
    text
}

fn line(text: &mut String, rule: &Rule, unit: &str, requests: u32, more: &str) {
    let Rule {
        path,
        shadow_mode,
        quota_mode,
        ..
    } = rule;
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{path}: unit={unit} requests_per_unit={requests}, shadow_mode: {shadow_mode}, quota_mode: {quota_mode}{more}"
    );
}

fn unit(limit: &Limit) -> String {
    limit.unit.name().to_ascii_uppercase()
}

/// Returns the candidate limits of a rule, for the end of its last line.
fn candidates(rule: &Rule, defaults: (Algorithm, Hits)) -> String {
    let candidates = rule.candidates.iter().map(|limit| {
        let (unit, requests) = (unit(limit), limit.requests_per_unit);
        let more = extensions(limit, defaults);
        format!(", candidate: (unit={unit} requests_per_unit={requests}{more})")
    });
    candidates.collect()
}

/// Returns the extensions of a limit that differ from the defaults.
fn extensions(limit: &Limit, (algorithm, hits): (Algorithm, Hits)) -> String {
    let mut text = String::new();
    let mut add = |name: &str, value: &dyn std::fmt::Display| {
        let _ = write!(text, ", {name}: {value}");
    };
    if limit.unit_multiplier > 1 {
        add("unit_multiplier", &limit.unit_multiplier);
    }
    if limit.burst != limit.requests_per_unit {
        add("burst", &limit.burst);
    }
    if limit.algorithm != algorithm {
        add("algorithm", &limit.algorithm.name());
    }
    if limit.hits != hits {
        add("hits", &limit.hits.name());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{LoadOptions, SourceFile};

    #[test]
    fn every_limit_is_a_line() {
        let text = "
domain: shop
descriptors:
  - key: client
    rate_limit: {unit: minute, requests_per_unit: 60, burst: 100}
  - key: path
    value: /a
    shadow_mode: true
    rate_limit: {unlimited: true}
    candidate: [{unit: day, requests_per_unit: 5, burst: 9}, {unit: hour, requests_per_unit: 2}]
  - key: path
    descriptors:
      - key: user
        quota_mode: true
        rate_limit:
          - {unit: second, requests_per_unit: 1}
          - {unit: day, unit_multiplier: 7, requests_per_unit: 9, algorithm: fixed_window}
";
        let file = SourceFile {
            name: "shop.yaml".to_owned(),
            text: text.to_owned(),
        };
        let rules = RuleSet::load(&[file], LoadOptions::default()).unwrap();
        assert_eq!(
            rlconfig(&rules).lines().collect::<Vec<_>>(),
            [
                "shop.client: unit=MINUTE requests_per_unit=60, shadow_mode: false, quota_mode: false, burst: 100",
                "shop.path_/a: unit=UNKNOWN requests_per_unit=0, shadow_mode: true, quota_mode: false, \
                 candidate: (unit=DAY requests_per_unit=5, burst: 9), candidate: (unit=HOUR requests_per_unit=2)",
                "shop.path.user: unit=SECOND requests_per_unit=1, shadow_mode: false, quota_mode: true",
                "shop.path.user: unit=DAY requests_per_unit=9, shadow_mode: false, quota_mode: true, \
                 unit_multiplier: 7, algorithm: fixed_window",
            ]
        );
        assert_eq!(rlconfig(&RuleSet::empty()), "");
    }

    #[test]
    fn with_fixed_windows_by_default_lines_are_those_of_envoyproxy_ratelimit() {
        let text = "
domain: shop
descriptors:
  - {key: client, rate_limit: {unit: minute, requests_per_unit: 60}}
  - {key: user, rate_limit: {unit: day, requests_per_unit: 9, algorithm: fixed_window}}
  - {key: burst, rate_limit: {unit: day, requests_per_unit: 9, algorithm: token_bucket}}
";
        let file = SourceFile {
            name: "shop.yaml".to_owned(),
            text: text.to_owned(),
        };
        let options = LoadOptions {
            default_algorithm: Algorithm::FixedWindow,
            ..LoadOptions::default()
        };
        let rules = RuleSet::load(&[file], options).unwrap();
        assert_eq!(
            rlconfig(&rules).lines().collect::<Vec<_>>(),
            [
                "shop.client: unit=MINUTE requests_per_unit=60, shadow_mode: false, quota_mode: false",
                "shop.user: unit=DAY requests_per_unit=9, shadow_mode: false, quota_mode: false",
                "shop.burst: unit=DAY requests_per_unit=9, shadow_mode: false, quota_mode: false, \
                 algorithm: token_bucket",
            ]
        );
    }
}
