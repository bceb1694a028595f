//! `ratekeeper diff`: describes the effect of a configuration change.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::Outcome;
use super::options::Reading;
use super::output::{stderr, stdout};
use crate::rules::{Change, RuleSet};
use crate::source;
use crate::watch::Location;

/// Options of the command.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code: 0 no difference in behavior, 1 differences, 2 the configurations cannot be compared.\n\n\
    Try:  ratekeeper diff deployed.yaml envoy/ratelimit.yaml\n      \
          ratekeeper replay --config deployed.yaml --against envoy/ratelimit.yaml requests.jsonl"
)]
pub(super) struct Args {
    /// Old configuration: a file or a directory
    old: PathBuf,

    /// New configuration: a file or a directory
    new: PathBuf,

    #[command(flatten)]
    reading: Reading,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints one sentence for each change.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (old, new) = match (args.load(&args.old), args.load(&args.new)) {
        (Ok(old), Ok(new)) => (old, new),
        (old, new) => {
            for error in [old.err(), new.err()].into_iter().flatten() {
                writeln!(stderr(), "error: {error:#}")?;
            }
            return Ok(Outcome::Usage { of_hit: false });
        }
    };
    let changes = old.changes(&new);
    let text = match args.json {
        true => format!(
            "{:#}\n",
            json!({"changes": changes.iter().map(to_json).collect::<Vec<_>>()})
        ),
        false => to_text(&changes),
    };
    if let Err(error) = stdout().write_all(text.as_bytes()) {
        writeln!(stderr(), "error: cannot write the changes: {error}")?;
        return Ok(Outcome::Usage { of_hit: false });
    }
    Ok(match changes.is_empty() {
        true => Outcome::Done,
        false => Outcome::Differ,
    })
}

impl Args {
    fn load(&self, path: &Path) -> anyhow::Result<RuleSet> {
        let files = source::read(&Location::Path(path.to_owned()))?;
        RuleSet::load(&files, self.reading.load_options())
            .map_err(|mistakes| anyhow::anyhow!("{mistakes}"))
            .with_context(|| format!("{} has errors", path.display()))
    }
}

fn to_text(changes: &[Change]) -> String {
    match changes {
        [] => "no difference in behavior\n".to_owned(),
        changes => changes.iter().map(|change| format!("{change}\n")).collect(),
    }
}

fn to_json(change: &Change) -> Value {
    json!({
        "kind": change.kind.name(),
        "path": change.path,
        "at": change.at,
        "before": change.before,
        "after": change.after,
        "buckets": change.buckets.map(|buckets| buckets.name()),
        "text": change.text,
    })
}
