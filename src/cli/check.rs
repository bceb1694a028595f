//! `ratekeeper check`: reads configuration as the server would, and reports all mistakes.

use std::io::Write as _;
use std::path::PathBuf;

use super::Outcome;
use super::options::Configuration;
use super::output::{stderr, stdout};
use crate::rules::RuleSet;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file or directory to check instead of the configured one
    path: Option<PathBuf>,
    #[command(flatten)]
    configuration: Configuration,
}

/// Prints what is in the files, or everything that is wrong with them.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let files = args.configuration.location_or(args.path.as_ref()).read()?;
    match RuleSet::load(&files, args.configuration.load_options()) {
        Ok(rules) => {
            let trying = rules.rules().iter();
            let trying = trying.filter(|rule| !rule.candidates.is_empty()).count();
            let trying = match trying {
                0 => String::new(),
                count => format!(", {count} of them with a candidate"),
            };
            writeln!(
                stdout(),
                "ok: {} files, {} domains, {} rules{trying}",
                files.len(),
                rules.domains().count(),
                rules.rules().len()
            )?;
            Ok(Outcome::Done)
        }
        Err(mistakes) => {
            writeln!(stderr(), "{mistakes}")?;
            Ok(Outcome::Mistakes)
        }
    }
}
