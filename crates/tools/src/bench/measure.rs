//! A measurement: starts the threads, reads CPU times at the start and end of the interval, and adds up the results.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{self, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval_at};

use super::load::{Extent, Load, Pace, Part};
use super::process::{Snapshot, Usage, Watched};
use super::progress::Progress;
use super::schedule::Schedule;
use super::tally::{Interval, Tally};
use super::worker::{self, Event, Link, Timing, passed};

/// Time between the signal to start and the first call, so that all threads start together.
const HEAD_START: Duration = Duration::from_millis(5);

/// Interval of progress checks.
const LOOK: Duration = Duration::from_millis(250);

/// Time without a response, plus the deadline of a call, after which a run with a fixed number of requests ends early.
const STALLED: Duration = Duration::from_secs(3);

/// The results of a measurement.
#[derive(Debug)]
pub(super) struct Measurement {
    /// Counts and latencies.
    pub tally: Tally,
    /// Measured time.
    pub wall: Duration,
    /// Number of calls of an open loop that were due in that time.
    pub scheduled: Option<u64>,
    /// Usage of the watched processes, in the order of the options; `None` for one that ended.
    pub processes: Vec<Option<Usage>>,
    /// Usage of this process; `None` without `/proc`.
    pub client: Option<Usage>,
    /// Reason for an early end.
    pub cut_short: Option<CutShort>,
}

/// Reason for an early end of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CutShort {
    /// Ctrl-C.
    Interrupted,
    /// The server stopped responding.
    Stalled,
}

/// Completes when the user presses Ctrl-C.
pub(super) type Interrupt<'a> = Pin<&'a mut dyn Future<Output = io::Result<()>>>;

/// Sends a load to the server and measures.
///
/// # Errors
/// If the server cannot be reached, a watched process does not exist, or the run is interrupted before anything is counted.
pub(super) async fn measure(
    load: &Arc<Load>,
    watched: &[Watched],
    interrupt: Interrupt<'_>,
) -> anyhow::Result<Measurement> {
    let mut run = Run::start(load, interrupt)?;
    run.connected().await?;
    let timing = timing(load.extent);
    run.begin(timing);
    if run.wait_until(Some(timing.interval.start)).await?.is_some() {
        anyhow::bail!("interrupted before anything was measured");
    }
    let before = Snapshot::take(watched);
    // A process that cannot be read at the start is a wrong option. One that ends later is reported.
    for (watched, reading) in watched.iter().zip(&before.processes) {
        if reading.is_none() {
            watched.read()?;
        }
    }
    let cut_short = run.wait_until(timing.interval.end).await?;
    let after = Snapshot::take(watched);
    let tally = run.stop().await?;

    let Timing { begin, interval } = timing;
    let end = match (load.extent, cut_short) {
        (_, Some(_)) => after.at,
        (Extent::Time { .. }, None) => interval.end.unwrap_or(after.at),
        (Extent::Requests(_), None) => tally.last.unwrap_or(after.at),
    };
    let (processes, client) = Snapshot::between(&before, &after);
    Ok(Measurement {
        tally,
        wall: end - interval.start,
        scheduled: scheduled(load, interval.start - begin, end - begin, cut_short),
        processes,
        client,
        cut_short,
    })
}

fn timing(extent: Extent) -> Timing {
    let begin = Instant::now() + HEAD_START;
    let interval = match extent {
        Extent::Requests(_) => Interval {
            start: begin,
            end: None,
        },
        Extent::Time { warm_up, duration } => Interval {
            start: begin + warm_up,
            end: Some(begin + warm_up + duration),
        },
    };
    Timing { begin, interval }
}

/// Number of calls of an open loop that were due between two times after the start.
fn scheduled(load: &Load, from: Duration, to: Duration, cut: Option<CutShort>) -> Option<u64> {
    let Pace::Open { rate, .. } = load.pace else {
        return None;
    };
    let schedule = Schedule::new(rate);
    Some(match (load.extent, cut) {
        (Extent::Requests(all), None) => all,
        (Extent::Requests(all), Some(_)) => schedule.before(to).min(all),
        (Extent::Time { .. }, _) => schedule.before(to) - schedule.before(from),
    })
}

// --- The threads ---

/// The running threads of a load.
struct Run<'a> {
    load: &'a Load,
    threads: Vec<JoinHandle<()>>,
    events: mpsc::UnboundedReceiver<Event>,
    go: watch::Sender<Option<Timing>>,
    stop: watch::Sender<bool>,
    tallies: Vec<Tally>,
    progress: Progress,
    interrupt: Interrupt<'a>,
}

impl<'a> Run<'a> {
    fn start(load: &'a Arc<Load>, interrupt: Interrupt<'a>) -> anyhow::Result<Self> {
        let (sender, events) = mpsc::unbounded_channel();
        let answered = Arc::new(AtomicU64::new(0));
        let mut run = Self {
            load,
            threads: Vec::new(),
            events,
            go: watch::channel(None).0,
            stop: watch::channel(false).0,
            tallies: Vec::new(),
            progress: Progress::new(Arc::clone(&answered)),
            interrupt,
        };
        for index in 0..load.threads {
            let part = Part {
                index,
                of: load.threads,
            };
            let link = Link {
                events: sender.clone(),
                go: run.go.subscribe(),
                stop: run.stop.subscribe(),
                answered: Arc::clone(&answered),
            };
            run.threads.push(spawn(Arc::clone(load), part, link)?);
        }
        Ok(run)
    }

    async fn connected(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.load.threads {
            tokio::select! {
                event = self.events.recv() => self.take(event)?,
                _ = &mut self.interrupt => anyhow::bail!("interrupted before anything was sent"),
            }
        }
        Ok(())
    }

    fn begin(&mut self, timing: Timing) {
        self.progress.begin();
        self.go.send_replace(Some(timing));
    }

    /// Waits until a time, even if all threads finish earlier; without a time, waits until they finish.
    async fn wait_until(&mut self, then: Option<Instant>) -> anyhow::Result<Option<CutShort>> {
        let patience = STALLED + self.load.caller.deadline().unwrap_or_default();
        let mut look = interval_at(Instant::now() + LOOK, LOOK);
        while then.is_some() || self.is_on() {
            tokio::select! {
                () = passed(then) => break,
                event = self.events.recv(), if self.is_on() => self.take(event)?,
                _ = &mut self.interrupt => return Ok(Some(CutShort::Interrupted)),
                _ = look.tick() => {
                    let silence = self.progress.look(then)?;
                    if then.is_none() && silence > patience {
                        return Ok(Some(CutShort::Stalled));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether any thread is still running.
    fn is_on(&self) -> bool {
        self.tallies.len() < self.threads.len()
    }

    async fn stop(mut self) -> anyhow::Result<Tally> {
        self.stop.send_replace(true);
        while self.is_on() {
            let event = self.events.recv().await;
            self.take(event)?;
        }
        let mut sum = Tally::new();
        for tally in &self.tallies {
            sum.merge(tally)?;
        }
        Ok(sum)
    }

    fn take(&mut self, event: Option<Event>) -> anyhow::Result<()> {
        match event.context("a thread of the load stopped unexpectedly")? {
            Event::Ready => {}
            Event::Done(tally) => self.tallies.push(*tally),
            Event::Failed(error) => return Err(error),
        }
        Ok(())
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        // Ends the threads that still wait for the start.
        self.go = watch::channel(None).0;
        for thread in self.threads.drain(..) {
            // A panic has already been printed, and that tally is missing.
            let _ = thread.join();
        }
    }
}

fn spawn(load: Arc<Load>, part: Part, link: Link) -> anyhow::Result<JoinHandle<()>> {
    let runtime = move || {
        runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
    };
    let thread = move || match runtime() {
        Ok(runtime) => runtime.block_on(worker::run(load, part, link)),
        Err(error) => {
            // If the receiver is gone, the run has already failed.
            let _ = link.events.send(Event::Failed(error.into()));
        }
    };
    thread::Builder::new()
        .name(format!("bench-{}", part.index))
        .spawn(thread)
        .context("cannot start a thread")
}
