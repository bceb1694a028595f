//! `ratekeeper replay`: plays recorded requests, in the time that they were at, against one configuration or two, and
//! says who would have been denied.
//!
//! [`input`] reads lines ([`recorded`], [`access_log`]) in order; [`rehearsal`] is the limiter of the server on a
//! clock that shows the recorded times; [`tally`] and [`comparison`] count what it says; the report is told as
//! [`text`], [`json`] or [`html`]. Memory is bounded whatever the files say.

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
mod when;

use std::fs;
use std::io::Write as _;

use anyhow::Context as _;

use super::Outcome;
use super::output::{stderr, stdout};
use crate::limiter::{LimitError, Verdict};
use crate::rules::{LoadOptions, RuleSet};
use crate::source;
use crate::watch::Location;
use comparison::{Before, Comparison};
use input::Input;
pub(super) use options::Args;
use recorded::Recorded;
use rehearsal::Rehearsal;
use report::{Report, Side};
use series::Axis;
use tally::Tally;

/// Plays and reports.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    if let Some(path) = args.overwritten() {
        let path = path.display();
        writeln!(
            stderr(),
            "error: --html={path}: this is what is to be read; name another file"
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
    anyhow::ensure!(report.requests > 0, nothing(&input));
    if let Some(path) = &args.html {
        fs::write(path, html::html(&report))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let told = match args.json {
        true => format!("{:#}\n", json::json(&report)),
        false => text::text(&report),
    };
    stdout().write_all(told.as_bytes())?;
    Ok(Outcome::Done)
}

/// The rules, or all that is wrong with them.
fn load(location: &Location, options: LoadOptions) -> anyhow::Result<Result<RuleSet, String>> {
    let files = source::read(location)?;
    Ok(RuleSet::load(&files, options).map_err(|mistakes| mistakes.to_string()))
}

/// Why there is nothing to report.
fn nothing(input: &Input) -> String {
    let told = &input.told;
    if told.lines == 0 {
        return "there are no lines; record some with RECORD_PATH".to_owned();
    }
    match &told.first_skipped {
        Some(first) if told.skipped == told.lines => format!("no line could be read: {first}"),
        _ => format!(
            "none of {} lines makes a request; check the fields that --descriptor names",
            told.lines
        ),
    }
}

/// A configuration as it is played.
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

/// Plays all requests against all configurations, at most two.
fn play(input: &mut Input, mut sides: Vec<Play>) -> anyhow::Result<Report> {
    let mut axis = Axis::default();
    let (mut requests, mut span) = (0, None);
    let (mut with_answered, mut with_other) = (Comparison::default(), Comparison::default());
    while let Some(next) = input.next()? {
        let recorded = &next.recorded;
        let verdicts = match decide(&sides, recorded) {
            Ok(verdicts) => verdicts,
            Err(error) => {
                input.cannot(&input.place(&next), &error.to_string())?;
                continue;
            }
        };
        requests += 1;
        axis.reach(recorded.time);
        let (first, last) = span.unwrap_or((recorded.time, recorded.time));
        span = Some((recorded.time.min(first), recorded.time.max(last)));
        for (side, verdict) in sides.iter_mut().zip(&verdicts) {
            side.tally.count(&axis, recorded, verdict);
        }
        with_answered.compare(recorded, Before::Answered, &verdicts[0]);
        if let [one, other] = &verdicts[..] {
            with_other.compare(recorded, Before::Given(one), other);
        }
    }
    let is_pair = sides.len() == 2;
    Ok(Report {
        requests,
        span: span.unwrap_or_default(),
        told: input.told.clone(),
        axis,
        sides: sides.into_iter().map(Side::from).collect(),
        with_answered: (with_answered.compared() + with_answered.not_compared > 0)
            .then_some(with_answered),
        with_other: is_pair.then_some(with_other),
    })
}

/// What each configuration says of a request.
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
