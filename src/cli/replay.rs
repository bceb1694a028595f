//! `ratekeeper replay`: replays recorded requests at their recorded times against one configuration or two, and
//! reports which are denied.
//!
//! [`input`] reads the lines ([`recorded`], [`access_log`]) in order of time; [`rehearsal`] runs the server's limiter
//! on a clock that shows the recorded times; [`tally`] and [`comparison`] count the verdicts; the report is written as
//! [`text`], [`json`] or [`html`]. Memory is bounded whatever the files contain.

mod access_log;
mod comparison;
mod frequent;
mod html;
mod input;
mod json;
mod options;
mod recorded;
mod rehearsal;
mod report;
mod series;
mod tally;
mod text;
mod timestamp;

use std::fs;
use std::io::Write as _;

use anyhow::Context as _;

use super::Outcome;
use super::output::{stderr, stdout};
use crate::limiter::{LimitError, Verdict};
use crate::rules::{LoadOptions, RuleSet};
use crate::source;
use crate::watch::Location;
use comparison::{Baseline, Comparison};
use input::Input;
pub(super) use options::Args;
use recorded::Recorded;
use rehearsal::Rehearsal;
use report::{Report, Side, Span};
use series::Axis;
use tally::Tally;

/// Replays the requests and prints the report.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    if let Some(path) = args.overwritten() {
        let path = path.display();
        writeln!(
            stderr(),
            "error: --html={path}: the report would overwrite an input file; write it to another file"
        )?;
        return Ok(Outcome::Usage { of_hit: false });
    }
    let mut sides = Vec::new();
    for location in args.locations() {
        match load(&location, args.load_options())? {
            Ok(rules) => sides.push(Play::new(args, &location, rules)),
            Err(sentence) => {
                writeln!(stderr(), "{sentence}")?;
                return Ok(Outcome::Mistakes);
            }
        }
    }
    let mut input = Input::open(&args.files, args.reading()?, args.broken())?;
    let report = play(&mut input, sides)?;
    anyhow::ensure!(report.requests > 0, no_request(&input));
    if let Some(path) = &args.html {
        fs::write(path, html::html(&report))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let printed = match args.json {
        true => format!("{:#}\n", json::json(&report)),
        false => text::text(&report),
    };
    stdout().write_all(printed.as_bytes())?;
    Ok(Outcome::Done)
}

/// Loads the rules; the inner error lists all errors in them.
fn load(location: &Location, options: LoadOptions) -> anyhow::Result<Result<RuleSet, String>> {
    let files = source::read(location)?;
    Ok(RuleSet::load(&files, options).map_err(|mistakes| mistakes.to_string()))
}

/// Returns the reason why no request was replayed.
fn no_request(input: &Input) -> String {
    let stats = &input.stats;
    if stats.lines == 0 {
        return "the files have no lines; record requests with RECORD_PATH".to_owned();
    }
    match &stats.first_skipped {
        Some(first) if stats.skipped == stats.lines => format!("no line could be read: {first}"),
        _ => format!(
            "none of {} lines has the fields of a descriptor; check the fields in --descriptor",
            stats.lines
        ),
    }
}

/// A configuration that requests are replayed against.
struct Play {
    name: String,
    rehearsal: Rehearsal,
    tally: Tally,
}

impl Play {
    fn new(args: &Args, location: &Location, rules: RuleSet) -> Self {
        Self {
            name: location.top().display().to_string(),
            tally: Tally::new(rules.rules().len()),
            rehearsal: Rehearsal::new(rules, args.limiter(), args.max_buckets()),
        }
    }
}

/// Replays all requests against all configurations, of which there are at most two.
fn play(input: &mut Input, mut sides: Vec<Play>) -> anyhow::Result<Report> {
    let mut axis = Axis::default();
    let (mut requests, mut span) = (0, None);
    let (mut with_recorded, mut with_second) = (Comparison::default(), Comparison::default());
    while let Some(next) = input.next()? {
        let recorded = &next.recorded;
        let verdicts = match decide(&sides, recorded) {
            Ok(verdicts) => verdicts,
            Err(error) => {
                input.reject_line(&input.place(&next), &error.to_string())?;
                continue;
            }
        };
        requests += 1;
        axis.reach(recorded.time);
        span = Some(Span::extended(span, recorded.time));
        for (side, verdict) in sides.iter_mut().zip(&verdicts) {
            side.tally.count(&axis, recorded, verdict);
        }
        with_recorded.compare(recorded, Baseline::Recorded, &verdicts[0]);
        if let [one, other] = &verdicts[..] {
            with_second.compare(recorded, Baseline::Replayed(one), other);
        }
    }
    let is_pair = sides.len() == 2;
    Ok(Report {
        requests,
        span: span.unwrap_or_default(),
        input: input.stats.clone(),
        axis,
        sides: sides.into_iter().map(Side::from).collect(),
        with_recorded: (with_recorded.compared() + with_recorded.not_compared > 0)
            .then_some(with_recorded),
        with_second: is_pair.then_some(with_second),
    })
}

/// Decides a request with each configuration.
fn decide(sides: &[Play], recorded: &Recorded) -> Result<Vec<Verdict>, LimitError> {
    sides
        .iter()
        .map(|side| side.rehearsal.play(recorded))
        .collect()
}

impl From<Play> for Side {
    fn from(play: Play) -> Self {
        let snapshot = play.rehearsal.rules();
        Self {
            name: play.name,
            rules: snapshot.rules.rules().to_vec(),
            dropped_buckets: play.rehearsal.dropped(),
            tally: play.tally,
        }
    }
}

#[cfg(test)]
mod tests;
