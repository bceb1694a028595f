//! The report of a measurement, as text and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::load::Load;
use super::measure::{CutShort, Measurement};
use super::process::{Usage, Watched};

/// Share of CPU time of its threads from which the client counts as the bottleneck.
const BUSY: f64 = 0.9;

/// Quantiles with their names in text and in JSON.
const QUANTILES: [(f64, &str, &str); 4] = [
    (0.5, "p50", "p50"),
    (0.9, "p90", "p90"),
    (0.99, "p99", "p99"),
    (0.999, "p99.9", "p999"),
];

/// A measurement with its load.
#[derive(Debug)]
pub(super) struct Report<'a> {
    /// The load that was sent.
    pub load: &'a Load,
    /// The watched processes.
    pub watched: &'a [Watched],
    /// The results.
    pub found: &'a Measurement,
}

impl Report<'_> {
    // --- Derived figures ---

    /// Decisions per second.
    pub(super) fn throughput(&self) -> f64 {
        ratio(
            self.found.tally.decisions() as f64,
            self.found.wall.as_secs_f64(),
        )
    }

    /// The latency at a quantile.
    pub(super) fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.found.tally.latency.value_at_quantile(quantile))
    }

    /// Number of calls of an open loop that were due but not sent, because the client fell behind.
    fn late(&self) -> u64 {
        let tally = &self.found.tally;
        let accounted = tally.sent() + tally.overflow;
        self.found.scheduled.unwrap_or(0).saturating_sub(accounted)
    }

    /// CPU time of a process per decision, in microseconds.
    fn cost(&self, usage: &Usage) -> f64 {
        ratio(usage.cpu * 1e6, self.throughput())
    }

    /// CPU time of all watched processes per decision, in microseconds.
    fn total_cost(&self) -> Option<f64> {
        let usages: Option<Vec<&Usage>> = self.found.processes.iter().map(Option::as_ref).collect();
        let usages = usages.filter(|usages| !usages.is_empty())?;
        Some(usages.into_iter().map(|usage| self.cost(usage)).sum())
    }

    /// Share of the time of its threads in which the client used a CPU.
    fn client_share(&self) -> Option<f64> {
        Some(self.found.client?.cpu / self.load.threads as f64)
    }

    /// Returns the reason why a step of a ramp failed, if it did.
    pub(super) fn shortcoming(&self, p99: Duration) -> Option<String> {
        let tally = &self.found.tally;
        if let Some((code, errors)) = tally.errors.iter().next() {
            Some(format!("{} errors {code}", errors.count))
        } else if tally.overflow > 0 {
            Some(format!("{} calls too many in flight", tally.overflow))
        } else if (self.late() + tally.unanswered) as f64 > self.tolerable(p99) {
            Some("responses fell behind".to_owned())
        } else {
            (self.quantile(0.99) > p99).then(|| "p99".to_owned())
        }
    }

    /// Acceptable number of calls without a response at the end: those of the last moment, and one in a hundred.
    fn tolerable(&self, p99: Duration) -> f64 {
        let scheduled = self.found.scheduled.unwrap_or(0) as f64;
        let rate = ratio(scheduled, self.found.wall.as_secs_f64());
        1.0 + rate * p99.as_secs_f64() + scheduled / 100.0
    }

    /// Warnings about the measurement.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let threads = self.load.threads;
        if let Some(share) = self.client_share().filter(|share| *share >= BUSY) {
            notes.push(format!(
                "The client used {:.0} % of its CPU time, so it can be the bottleneck, and latencies can be too high; \
                 try --threads {}.",
                share * 100.0,
                threads * 2
            ));
        }
        if self.late() > 0 {
            notes.push(format!(
                "{} calls were due and not sent, because the client fell behind; their latencies are missing.",
                self.late()
            ));
        }
        if self.found.tally.overflow > 0 {
            notes.push(format!(
                "{} calls were due and not sent, because too many were in flight (see --max-in-flight); their \
                 latencies are missing.",
                self.found.tally.overflow
            ));
        }
        match self.found.cut_short {
            Some(CutShort::Interrupted) => {
                notes.push("The measurement was interrupted.".to_owned())
            }
            Some(CutShort::Stalled) => {
                notes.push(
                    "The measurement ended early, because the server stopped responding."
                        .to_owned(),
                );
            }
            None => {}
        }
        for (watched, usage) in self.watched.iter().zip(&self.found.processes) {
            if usage.is_none() {
                notes.push(format!("Process {} ({}) ended.", watched.pid, watched.name));
            }
        }
        notes
    }

    // --- JSON ---

    /// Formats the report as JSON; `setup` describes the load.
    pub(super) fn to_json(&self, setup: Value) -> Value {
        let tally = &self.found.tally;
        let mut json = json!({
            "setup": setup,
            "wall_seconds": rounded(self.found.wall.as_secs_f64()),
            "decisions": tally.decisions(),
            "decisions_per_second": rounded(self.throughput()),
            "verdicts": { "OK": tally.ok, "OVER_LIMIT": tally.over_limit },
            "errors": tally.errors.iter().map(|(code, errors)| {
                let errors = json!({ "count": errors.count, "example": errors.example });
                ((*code).to_owned(), errors)
            }).collect::<Map<_, _>>(),
            "unanswered": tally.unanswered,
            "latency_us": times(&tally.latency),
            "processes": self.watched.iter().zip(&self.found.processes).map(|(watched, usage)| {
                let mut json = json!({ "name": watched.name, "pid": watched.pid });
                json["cpu_us_per_decision"] = usage.map(|usage| rounded(self.cost(&usage))).into();
                json["cpu_share"] = usage.map(|usage| rounded(usage.cpu)).into();
                json["memory_bytes"] = usage.map(|usage| usage.memory).into();
                json
            }).collect::<Vec<_>>(),
            "cpu_us_per_decision": self.total_cost().map(rounded),
            "client": {
                "cpu_us_per_decision": self.found.client.map(|usage| rounded(self.cost(&usage))),
                "cpu_share_per_thread": self.client_share().map(rounded),
                "is_bottleneck": self.client_share().is_some_and(|share| share >= BUSY),
            },
            "notes": self.notes(),
        });
        if let Some(scheduled) = self.found.scheduled {
            json["open_loop"] = json!({
                "scheduled": scheduled,
                "sent": tally.sent(),
                "not_sent_too_many_in_flight": tally.overflow,
                "not_sent_client_behind": self.late(),
                "send_delay_us": times(&tally.send_delay),
            });
        }
        json
    }

    // --- Text ---

    /// Formats the report as text; `setup` describes the load.
    pub(super) fn to_text(&self, setup: &str) -> String {
        let tally = &self.found.tally;
        let mut text = format!("{setup}\n");
        let mut line = |label: &str, value: String| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{label:<12}{value}");
        };
        line(
            "measured",
            format!("{:.3} s", self.found.wall.as_secs_f64()),
        );
        line(
            "decisions",
            format!(
                "{}, {:.0} per second: {} OK, {} OVER_LIMIT",
                tally.decisions(),
                self.throughput(),
                tally.ok,
                tally.over_limit
            ),
        );
        for (code, errors) in &tally.errors {
            line(
                "errors",
                format!("{} {code}: {}", errors.count, errors.example),
            );
        }
        line("latency", times_text(&tally.latency));
        if let Some(scheduled) = self.found.scheduled {
            let sent = tally.sent();
            line("schedule", format!("{sent} of {scheduled} calls sent"));
            line("sent late", times_text(&tally.send_delay));
        }
        line("unanswered", format!("{} at the end", tally.unanswered));
        for (watched, usage) in self.watched.iter().zip(&self.found.processes) {
            if let Some(usage) = usage {
                line(&watched.name, self.usage_text(usage));
            }
        }
        if let Some(cost) = self.total_cost().filter(|_| self.watched.len() > 1) {
            line("together", format!("{cost:.2} us CPU per decision"));
        }
        if let Some(client) = &self.found.client {
            line("client", self.usage_text(client));
        }
        for note in self.notes() {
            line("note", note);
        }
        text
    }

    fn usage_text(&self, usage: &Usage) -> String {
        format!(
            "{:.2} us CPU per decision, {:.0} % of a processor, {:.1} MiB",
            self.cost(usage),
            usage.cpu * 100.0,
            usage.memory as f64 / f64::from(1 << 20)
        )
    }
}

fn times(histogram: &Histogram<u64>) -> Value {
    let mut json = json!({});
    for (quantile, _, name) in QUANTILES {
        json[name] = thousandth(histogram.value_at_quantile(quantile)).into();
    }
    json["max"] = thousandth(histogram.max()).into();
    json["mean"] = rounded(histogram.mean() / 1000.0).into();
    json
}

fn times_text(histogram: &Histogram<u64>) -> String {
    let quantiles =
        QUANTILES.map(|(quantile, name, _)| (histogram.value_at_quantile(quantile), name));
    let times: Vec<String> = quantiles
        .into_iter()
        .chain([(histogram.max(), "max")])
        .map(|(nanos, name)| format!("{name} {:.3} ms", nanos as f64 / 1e6))
        .collect();
    times.join(", ")
}

/// Converts a duration to microseconds.
pub(super) fn micros(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1e6)
}

fn thousandth(number: u64) -> f64 {
    rounded(number as f64 / 1000.0)
}

/// Rounds to three decimals.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// Divides; the result is 0 if the divisor is 0.
fn ratio(number: f64, of: f64) -> f64 {
    if of > 0.0 { number / of } else { 0.0 }
}
