//! `ratekeeper check`: reads the configuration like the server and reports all errors.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::Outcome;
use super::options::Configuration;
use super::output::{counted, stderr, stdout};
use crate::rules::{Hits, Limits, LoadOptions, Rule, RuleSet};
use crate::source;
use crate::source::summarize;

/// Options of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code: 0 valid, 1 errors were found, 2 wrong options.")]
pub(super) struct Args {
    /// File or directory to check, instead of the configured one
    path: Option<PathBuf>,

    /// Count as errors what the server ignores with a warning, as envoyproxy/ratelimit ignores it: known keys in
    /// the wrong place, duplicate keys, further YAML documents
    #[arg(long)]
    strict: bool,

    #[command(flatten)]
    configuration: Configuration,
}

/// Prints a summary of the files, or all errors in them. Warnings are printed as well, and do not change the outcome.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let files = source::read(&args.configuration.location_or(args.path.as_ref()))?;
    let options = LoadOptions {
        strict: args.strict,
        ..args.configuration.load_options()
    };
    let rules = match RuleSet::load(&files, options) {
        Ok(rules) => rules,
        Err(mistakes) => {
            writeln!(stderr(), "{mistakes}")?;
            return Ok(Outcome::Mistakes);
        }
    };
    let warnings = [rules.warnings(), &rules.lints()].concat();
    if !warnings.is_empty() {
        for line in summarize(&warnings).to_string().lines() {
            writeln!(stderr(), "warning: {line}")?;
        }
    }
    let trying = rules.rules().iter();
    let trying = trying.filter(|rule| !rule.candidates.is_empty()).count();
    let trying = match trying {
        0 => String::new(),
        count => format!(", {count} of them with a candidate"),
    };
    writeln!(
        stdout(),
        "ok: {}, {}, {}{trying}{}",
        counted(files.len(), "file"),
        counted(rules.domains().len(), "domain"),
        counted(rules.rules().len(), "rule"),
        paid(rules.rules()),
    )?;
    Ok(Outcome::Done)
}

/// Counts the rules that are prepaid or postpaid, by their own `hits` or DEFAULT_HITS; the others are charged as they are used.
fn paid(rules: &[Arc<Rule>]) -> String {
    let with = |hits: Hits| {
        let is_so = |rule: &&Arc<Rule>| match &rule.limits {
            Limits::Limited(limits) => limits.iter().any(|limit| limit.hits == hits),
            Limits::Unlimited { .. } => false,
        };
        rules.iter().filter(is_so).count()
    };
    let counts = [
        ("prepaid", with(Hits::Prepaid)),
        ("postpaid", with(Hits::Postpaid)),
    ];
    let texts = counts.into_iter().filter(|(_, count)| *count > 0);
    texts
        .map(|(name, count)| format!(", {count} with hits: {name}"))
        .collect()
}
