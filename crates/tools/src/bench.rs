//! `ratekeeper bench`: sends load to a server and measures its latency, throughput and CPU time.
//!
//! It works with any server of Envoy's RateLimitService. It avoids common mistakes of load generators: an open loop
//! sends on a schedule that slow responses do not delay, and measures from when a call was due; the warm-up is not
//! counted; calls that were not sent or not answered are reported; and so is whether the client was the bottleneck.

mod call;
mod connection;
mod keys;
mod load;
mod measure;
mod options;
mod process;
mod progress;
mod ramp;
mod report;
mod requests;
mod schedule;
mod tally;
mod worker;

use std::io::{self, Write as _};
use std::num::NonZeroU64;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Outcome;
use crate::output::stdout;
use load::{Load, Pace};
use measure::{CutShort, Interrupt, Measurement, measure};
pub use options::Args;
use ramp::Ramp;
use report::Report;

const AFTER_HELP: &str = "Exit code: 0 measured, 1 the server made no decision, 2 wrong options.\n\n\
    Try:  ratekeeper bench --domain shop\n      \
          ratekeeper bench --domain shop --rate 20000 --process server=$(pidof ratekeeper)\n      \
          ratekeeper bench --domain shop --ramp --p99 2ms";

const AFTER_LONG_HELP: &str = "\
The fields of --json; times are in microseconds (_us), CPU shares are of one processor:
  setup                  options of this run
  wall_seconds           measured time, without the warm-up
  decisions              calls that were answered with a verdict in that time
  decisions_per_second
  verdicts               OK, OVER_LIMIT
  errors                 by gRPC code: count, example (message of the first one)
  unanswered             calls that were in flight at the end
  latency_us             p50 p90 p99 p999 max mean, of all calls that were answered or exceeded the
                         deadline; closed loop: since they were sent, open loop: since they were due
  open_loop              scheduled, sent, not_sent_too_many_in_flight, not_sent_client_behind,
                         send_delay_us (time from when calls were due until they were sent)
  processes              name, pid, cpu_us_per_decision, cpu_share, memory_bytes; null if it ended
  cpu_us_per_decision    of these processes together
  client                 cpu_us_per_decision, cpu_share_per_thread, is_bottleneck
  notes                  warnings about the measurement
  ramp                   only with --ramp: p99_us, highest_rate, steps (rate, p99_us, shortcoming);
                         the other fields then describe the step with the highest rate

CPU times are read from /proc/PID/stat, in steps of 10 ms.

Exit code: 0 measured, 1 the server made no decision, 2 wrong options.";

/// Runs the measurement and prints the report.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let load = args.load()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let interrupt = pin!(tokio::signal::ctrl_c());
        match args.ramp() {
            None => once(args, load, interrupt).await,
            Some(p99) => search(args, load, p99, interrupt).await,
        }
    })
}

async fn once(args: &Args, load: Load, interrupt: Interrupt<'_>) -> anyhow::Result<Outcome> {
    let load = Arc::new(load);
    let found = measure(&load, &args.processes, interrupt).await?;
    let report = report(args, &load, &found);
    if args.json {
        writeln!(stdout(), "{:#}", report.to_json(args.to_json(&load)))?;
    } else {
        write!(stdout(), "{}", report.to_text(&args.to_text(&load)))?;
    }
    anyhow::ensure!(found.tally.decisions() > 0, "{}", no_decision(&found));
    Ok(Outcome::Done)
}

fn report<'a>(args: &'a Args, load: &'a Load, found: &'a Measurement) -> Report<'a> {
    Report {
        load,
        watched: &args.processes,
        found,
    }
}

fn no_decision(found: &Measurement) -> String {
    match found
        .tally
        .errors
        .iter()
        .max_by_key(|(_, errors)| errors.count)
    {
        None => "the server sent no response".to_owned(),
        Some((code, errors)) => format!(
            "the server made no decision: {} calls failed, such as {code}: {}",
            found.tally.failures(),
            errors.example
        ),
    }
}

// --- The highest rate ---

/// The result of one rate.
struct Step {
    rate: NonZeroU64,
    p99: Duration,
    shortcoming: Option<String>,
}

async fn search(
    args: &Args,
    load: Load,
    p99: Duration,
    mut interrupt: Interrupt<'_>,
) -> anyhow::Result<Outcome> {
    let Pace::Open { rate, in_flight } = load.pace else {
        anyhow::bail!("a ramp requires an open loop");
    };
    let mut ramp = Ramp::new(rate);
    let mut steps = Vec::new();
    let mut best = None;
    while let Some(rate) = ramp.rate() {
        let pace = Pace::Open { rate, in_flight };
        let load = Arc::new(Load {
            pace,
            ..load.clone()
        });
        let found = measure(&load, &args.processes, interrupt.as_mut()).await?;
        if found.cut_short == Some(CutShort::Interrupted) {
            break;
        }
        let report = report(args, &load, &found);
        let step = Step {
            rate,
            p99: report.quantile(0.99),
            shortcoming: report.shortcoming(p99),
        };
        if !args.json {
            write!(stdout(), "{}", step.to_text())?;
        }
        if step.shortcoming.is_none() {
            ramp.passed();
            best = Some((load, found));
        } else {
            ramp.failed();
        }
        steps.push(step);
    }
    let Some((load, found)) = best else {
        anyhow::bail!(no_rate(&steps, p99));
    };
    conclude(args, &report(args, &load, &found), p99, &steps)?;
    Ok(Outcome::Done)
}

fn conclude(args: &Args, best: &Report<'_>, p99: Duration, steps: &[Step]) -> io::Result<()> {
    let highest = match best.load.pace {
        Pace::Open { rate, .. } => Some(rate.get()),
        Pace::Closed { .. } => None,
    };
    if args.json {
        let mut json = best.to_json(args.to_json(best.load));
        json["ramp"] = json!({
            "p99_us": report::micros(p99),
            "highest_rate": highest,
            "steps": steps.iter().map(Step::to_json).collect::<Vec<_>>(),
        });
        writeln!(stdout(), "{json:#}")
    } else {
        let setup = args.to_text(best.load);
        writeln!(
            stdout(),
            "Highest rate with a p99 below {p99:?}:\n{}",
            best.to_text(&setup).trim_end()
        )
    }
}

fn no_rate(steps: &[Step], p99: Duration) -> String {
    match steps.iter().min_by_key(|step| step.rate) {
        None => "interrupted before anything was measured".to_owned(),
        Some(lowest) => format!(
            "no rate has a p99 below {p99:?}; at {} per second: {}",
            lowest.rate,
            lowest.shortcoming.as_deref().unwrap_or_default()
        ),
    }
}

impl Step {
    fn to_json(&self) -> Value {
        json!({
            "rate": self.rate,
            "p99_us": report::micros(self.p99),
            "shortcoming": self.shortcoming,
        })
    }

    fn to_text(&self) -> String {
        let verdict = match &self.shortcoming {
            None => "good".to_owned(),
            Some(shortcoming) => format!("not good: {shortcoming}"),
        };
        let p99 = self.p99.as_secs_f64() * 1e3;
        format!("{:>9} per second: p99 {p99:.3} ms, {verdict}\n", self.rate)
    }
}
