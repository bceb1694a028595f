//! Findings about rule files and about behavior.

use std::path::{Path, PathBuf};

use super::super::options::boolean;
use super::environment::Environment;
use super::finding::{Finding, Kind};
use crate::rules::{
    Algorithm, Difference, Hits, LoadOptions, Mistake, Position, RuleSet, SourceFile,
};
use crate::source;
use crate::watch::Location;

/// Differences in behavior that do not depend on the rules.
const BEHAVIOR: &[(&str, &str)] = &[
    (
        "denied hits",
        "they are not charged; envoyproxy/ratelimit counts them, so a client that keeps sending stays denied even after the \
         limit is raised",
    ),
    (
        "several descriptors in a request",
        "all are charged or none; envoyproxy/ratelimit counts each even if another one denies the request",
    ),
    (
        "hits_addend: 0",
        "it checks whether a whole token is left; envoyproxy/ratelimit denies only beyond the limit, so it allows one more",
    ),
    (
        "costs reported afterwards (apply_on_stream_done)",
        "a rule with checks and usage reports is detected (hits: auto), and reports are then always charged, into debt if \
         necessary; envoyproxy/ratelimit counts all hits. DEFAULT_HITS=postpaid sets this for all rules, such as those of \
         Envoy Gateway and Envoy AI Gateway",
    ),
    (
        "hits given back (is_negative_hits)",
        "hits of a denied request are charged until they are refunded, once refunds of the rule have been seen; \
         envoyproxy/ratelimit always counts them. Both refund the estimate of a client that disconnects",
    ),
    (
        "limit_remaining of a denied request",
        "the number of whole tokens that are left; in envoyproxy/ratelimit, 0",
    ),
    (
        "a request without a domain or descriptors",
        "INVALID_ARGUMENT with an explanation; in envoyproxy/ratelimit, UNKNOWN",
    ),
    (
        "counters",
        "they are not migrated: every bucket is full at the start. Redis keys have other names, so both servers can use \
         one Redis during the migration",
    ),
];

/// Reads the rule files at a path, or else at the location in the environment.
///
/// # Errors
/// A finding with the reason why they cannot be read.
pub(super) fn read(
    path: Option<&Path>,
    environment: &Environment,
) -> Result<Vec<SourceFile>, Finding> {
    if let Some(path) = path {
        let read = source::read(&Location::Path(path.to_owned()));
        let read =
            read.map_err(|error| Finding::new(Kind::ChangeFirst, "the rules", error.to_string()))?;
        if read.is_empty() {
            let what = format!(
                "there is no *.yaml, *.yml or *.json file in {}",
                path.display()
            );
            return Err(Finding::new(Kind::ChangeFirst, "the rules", what));
        }
        return Ok(read);
    }
    if let Some(finding) = of_management_server(environment) {
        return Err(finding);
    }
    let part = |name: &str, default: &str| PathBuf::from(environment.text(name).unwrap_or(default));
    let named = environment
        .text("CONFIG_PATH")
        .map(|path| Location::Path(path.into()));
    let location = named.unwrap_or_else(|| Location::Runtime {
        root: part("RUNTIME_ROOT", "/srv/runtime_data/current"),
        sub_directory: part("RUNTIME_SUBDIRECTORY", ""),
        app_directory: part("RUNTIME_APPDIRECTORY", "config"),
        ignore_dot_files: environment.is_on("RUNTIME_IGNOREDOTFILES"),
        watch_root: true,
    });
    source::read(&location).map_err(|error| {
        let what = format!("they were not checked: {error}. Set their path with --rules");
        Finding::new(Kind::ChangeFirst, "the rules", what)
    })
}

/// The finding about rules that a management server sends.
pub(super) fn of_management_server(environment: &Environment) -> Option<Finding> {
    let kind = environment.text("CONFIG_TYPE")?;
    (!kind.eq_ignore_ascii_case("file")).then(|| {
        let what =
            "they come from the management server, which receives every error in them (NACK)";
        Finding::new(Kind::Same, "the rules", what)
    })
}

/// Findings about rule files and about behavior.
pub(super) fn findings(files: &[SourceFile], environment: &Environment) -> Vec<Finding> {
    let algorithm = match environment.text("DEFAULT_ALGORITHM") {
        Some("fixed_window") => Algorithm::FixedWindow,
        _ => Algorithm::TokenBucket,
    };
    let merge = environment.text("MERGE_DOMAIN_CONFIG").map(boolean);
    let options = LoadOptions {
        default_algorithm: algorithm,
        default_hits: Hits::Auto,
        merge_domains: merge == Some(Ok(true)),
        strict: false,
    };
    let mut findings = Vec::new();
    match RuleSet::load(files, options) {
        Ok(rules) => {
            findings.extend(rules.differences().iter().map(of_difference));
            findings.extend(rules.warnings().iter().map(of_warning));
        }
        Err(mistakes) => findings.extend(mistakes.as_slice().iter().map(of_mistake)),
    }
    // Rules that were not read have limits as well.
    let named = findings.iter().any(|finding| finding.parity.is_some());
    if files.is_empty() && algorithm == Algorithm::TokenBucket && !named {
        findings.push(of_difference(&Difference::Buckets { limits: 0 }));
    }
    findings.extend(
        BEHAVIOR
            .iter()
            .map(|(about, what)| Finding::new(Kind::Differs, *about, *what)),
    );
    findings
}

fn of_difference(difference: &Difference) -> Finding {
    match difference {
        Difference::Buckets { limits } => {
            let what = match limits {
                0 => "limits are token buckets: they are refilled continuously, not all at once when a window ends, so the \
                      edge of a window does not allow twice the limit"
                    .to_owned(),
                _ => difference.to_string(),
            };
            Finding::new(Kind::Differs, "the algorithm", what)
                .with_parity("DEFAULT_ALGORITHM", "fixed_window")
        }
        Difference::Joined { .. } | Difference::Order { .. } => {
            Finding::new(Kind::Differs, "matching", difference.to_string())
        }
        Difference::Words { .. } => Finding::new(Kind::Differs, "rollback", difference.to_string()),
    }
}

fn of_warning(warning: &Mistake) -> Finding {
    let (place, what) = sentence(warning);
    let what = format!("{what}. envoyproxy/ratelimit ignores it as well");
    Finding::new(Kind::NoEffect, place, what)
}

fn of_mistake(mistake: &Mistake) -> Finding {
    let (place, what) = sentence(mistake);
    Finding::new(Kind::ChangeFirst, place, what)
}

/// Splits an error into its position and its text with advice.
fn sentence(mistake: &Mistake) -> (String, String) {
    let Mistake {
        file,
        position,
        what,
        advice,
    } = mistake;
    let place = match position {
        Position::Text { line, column } => format!("{file}:{line}:{column}"),
        Position::Value { path, .. } => format!("{file}: {path}"),
    };
    let mut text = what.clone();
    if !advice.is_empty() {
        text += &format!("; {advice}");
    }
    (place, text)
}
