//! What becomes of the rule files, and of requests.

use std::path::{Path, PathBuf};

use super::super::options::boolean;
use super::environment::Environment;
use super::finding::{Finding, Kind};
use crate::rules::{
    Algorithm, Difference, Hits, LoadOptions, Mistake, Position, RuleSet, SourceFile,
};
use crate::source;
use crate::watch::Location;

/// What the two do otherwise, whatever the rules; and what to set to have it as it was.
const BEHAVIOUR: &[(&str, &str)] = &[
    (
        "denied hits",
        "they take nothing; there, they count, so that who goes on asking stays denied in a raised limit, too",
    ),
    (
        "several descriptors in a request",
        "they are admitted together or not at all; there, each is counted even if another denies",
    ),
    (
        "hits_addend: 0",
        "it asks whether a whole token is left; there, it is over only beyond the limit, so one more passes",
    ),
    (
        "costs reported afterwards (apply_on_stream_done)",
        "a rule that is asked and reported is recognized (hits: auto), and reports are then taken in any case, into debt; \
         there, all hits always count. DEFAULT_HITS=postpaid says so for all rules, such as those of Envoy Gateway and \
         Envoy AI Gateway; docs/costs.md",
    ),
    (
        "hits given back (is_negative_hits)",
        "hits of a denied request are taken until they are given back, once a rule is seen to give hits back; there, \
         they always count. An estimate of a client that hangs up is given back in both",
    ),
    (
        "limit_remaining of a denied request",
        "the whole tokens that are left; there, 0",
    ),
    (
        "a request without a domain or descriptors",
        "INVALID_ARGUMENT with a sentence; there, UNKNOWN",
    ),
    (
        "counters",
        "they are not taken over: every bucket is full at the start, and Redis keys are called otherwise, so both \
         can use one Redis while you move",
    ),
];

/// The rule files that were named, or those where the environment says.
///
/// # Errors
/// A finding that says why there are none.
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
        let what = format!("they were not checked: {error}. Name them with --rules");
        Finding::new(Kind::ChangeFirst, "the rules", what)
    })
}

/// What is said of rules that a management server sends.
pub(super) fn of_management_server(environment: &Environment) -> Option<Finding> {
    let kind = environment.text("CONFIG_TYPE")?;
    (!kind.eq_ignore_ascii_case("file")).then(|| {
        let what = "they come from the management server, which hears of every mistake (NACK)";
        Finding::new(Kind::Same, "the rules", what)
    })
}

/// The findings of rule files and of what requests will see.
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
    // Rules that are not here to be read have limits, too.
    let named = findings.iter().any(|finding| finding.parity.is_some());
    if files.is_empty() && algorithm == Algorithm::TokenBucket && !named {
        findings.push(of_difference(&Difference::Buckets { limits: 0 }));
    }
    findings.extend(
        BEHAVIOUR
            .iter()
            .map(|(about, what)| Finding::new(Kind::Differs, *about, *what)),
    );
    findings
}

fn of_difference(difference: &Difference) -> Finding {
    match difference {
        Difference::Buckets { limits } => {
            let what = match limits {
                0 => "limits are token buckets here: what was taken comes back evenly, not all at once when a window \
                      ends, and no edge of a window lets twice as much pass"
                    .to_owned(),
                _ => difference.to_string(),
            };
            Finding::new(Kind::Differs, "the algorithm", what)
                .with_parity("DEFAULT_ALGORITHM", "fixed_window")
        }
        Difference::Joined { .. } | Difference::Order { .. } => {
            Finding::new(Kind::Differs, "matching", difference.to_string())
        }
        Difference::Words { .. } => {
            Finding::new(Kind::Differs, "the way back", difference.to_string())
        }
    }
}

fn of_warning(warning: &Mistake) -> Finding {
    let (place, what) = sentence(warning);
    let what = format!("{what}. envoyproxy/ratelimit ignores it, too");
    Finding::new(Kind::NoEffect, place, what)
}

fn of_mistake(mistake: &Mistake) -> Finding {
    let (place, what) = sentence(mistake);
    Finding::new(Kind::ChangeFirst, place, what)
}

/// The place of a mistake, and what is wrong and to do.
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
