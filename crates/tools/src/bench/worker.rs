//! One thread of the load, with its own connections, calls and counts. It shares no state with other threads.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use rand::SeedableRng as _;
use rand::rngs::Xoshiro256PlusPlus;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::Status;

use super::call::Answer;
use super::connection::{BACK_OFF, Connection};
use super::load::{Extent, Load, Pace, Part};
use super::schedule::Schedule;
use super::tally::{Interval, Tally};
use crate::kernel_timer::Timer;

/// Maximum number of calls of an open loop that are sent in a row before responses are read.
const BURST: u32 = 32;

/// Minimum time between two wake-ups of an open loop. At high rates, calls that are due in it are sent together and
/// slightly late, because a wake-up costs more than a call. Below 20,000 calls per second it has no effect.
const GRAIN: Duration = Duration::from_micros(50);

/// When the load starts, and when it is counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// Time of the first call.
    pub begin: Instant,
    /// Interval in which calls are counted.
    pub interval: Interval,
}

/// Channels between a thread of the load and the thread that started it.
#[derive(Debug)]
pub(super) struct Link {
    /// Receives the events of this thread.
    pub events: mpsc::UnboundedSender<Event>,
    /// Sends the start time, when all threads are connected.
    pub go: watch::Receiver<Option<Timing>>,
    /// Sends `true` to stop the thread.
    pub stop: watch::Receiver<bool>,
    /// Number of calls answered so far, over all threads.
    pub answered: Arc<AtomicU64>,
}

/// Event of a thread of the load.
#[derive(Debug)]
pub(super) enum Event {
    /// All connections of the thread are open.
    Ready,
    /// The thread has finished.
    Done(Box<Tally>),
    /// The thread has failed.
    Failed(anyhow::Error),
}

/// State that the calls of a thread share.
struct Worker {
    load: Arc<Load>,
    part: Part,
    timing: Timing,
    connections: Vec<Connection>,
    random: RefCell<Xoshiro256PlusPlus>,
    tally: RefCell<Tally>,
    in_flight: Cell<usize>,
    /// Number of calls of an open loop that were sent.
    turn: Cell<usize>,
    answered: Arc<AtomicU64>,
}

/// Sends this thread's part of the load.
pub(super) async fn run(load: Arc<Load>, part: Part, link: Link) {
    let events = link.events.clone();
    let last = match work(load, part, link).await {
        Ok(tally) => Event::Done(Box::new(tally)),
        Err(error) => Event::Failed(error),
    };
    // If the receiver is gone, the run has already failed.
    let _ = events.send(last);
}

async fn work(load: Arc<Load>, part: Part, mut link: Link) -> anyhow::Result<Tally> {
    let mut keepers = JoinSet::new();
    let connections = connect(&load, part, &mut keepers).await?;
    link.events.send(Event::Ready)?;
    let timing = link.go.wait_for(Option::is_some).await?;
    let timing = timing.context("the start time was sent")?;
    let seed = load.seed.wrapping_add(part.index as u64);
    let worker = Rc::new(Worker {
        load,
        part,
        timing,
        connections,
        random: RefCell::new(Xoshiro256PlusPlus::seed_from_u64(seed)),
        tally: RefCell::new(Tally::new()),
        in_flight: Cell::new(0),
        turn: Cell::new(0),
        answered: link.answered,
    });
    tokio::select! {
        result = worker.drive() => result?,
        () = passed(timing.interval.end) => {}
        _ = link.stop.changed() => {}
    }
    let mut tally = worker.tally.borrow().clone();
    tally.unanswered += worker.in_flight.get() as u64;
    Ok(tally)
}

async fn connect(
    load: &Load,
    part: Part,
    keepers: &mut JoinSet<()>,
) -> anyhow::Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for _ in 0..part.share(load.connections) {
        let (connection, keeper) = Connection::open(&load.address).await?;
        keepers.spawn_local(keeper);
        connections.push(connection);
    }
    Ok(connections)
}

/// Waits until a time, or forever without one.
pub(super) async fn passed(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

impl Worker {
    async fn drive(self: &Rc<Self>) -> anyhow::Result<()> {
        match self.load.pace {
            Pace::Closed { streams } => self.closed(self.part.share(streams)).await,
            Pace::Open { rate, in_flight } => {
                self.open(Schedule::new(rate), self.part.share(in_flight))
                    .await
            }
        }
    }

    // --- Closed loop ---

    async fn closed(self: &Rc<Self>, streams: usize) -> anyhow::Result<()> {
        let calls = match self.load.extent {
            Extent::Time { .. } => u64::MAX,
            Extent::Requests(total) => self.part.numbers_below(total),
        };
        sleep_until(self.timing.begin).await;
        let left = Rc::new(Cell::new(calls));
        let mut tasks = JoinSet::new();
        for stream in 0..streams {
            tasks.spawn_local(Rc::clone(self).stream(stream, Rc::clone(&left)));
        }
        while let Some(task) = tasks.join_next().await {
            task?;
        }
        Ok(())
    }

    /// Makes one call after the other until none is left or the interval ends.
    async fn stream(self: Rc<Self>, stream: usize, left: Rc<Cell<u64>>) {
        let end = self.timing.interval.end;
        while left.get() > 0 && end.is_none_or(|end| Instant::now() < end) {
            left.set(left.get() - 1);
            self.in_flight.set(self.in_flight.get() + 1);
            if self.call(stream, Instant::now()).await.is_err() {
                // Without a connection, calls fail immediately and would be repeated in a busy loop.
                sleep(BACK_OFF).await;
            }
        }
    }

    // --- Open loop ---

    async fn open(self: &Rc<Self>, schedule: Schedule, bound: usize) -> anyhow::Result<()> {
        let total = match self.load.extent {
            Extent::Time { warm_up, duration } => schedule.before(warm_up + duration),
            Extent::Requests(total) => total,
        };
        let timer = Timer::new()?;
        let mut calls = JoinSet::new();
        let mut woke = self.timing.begin;
        let mut in_a_row = 0;
        for number in (self.part.index as u64..total).step_by(self.part.of) {
            let due = self.timing.begin + schedule.at(number);
            if Instant::now() < due {
                timer.sleep_until(due.max(woke + GRAIN)).await?;
                woke = Instant::now();
                in_a_row = 0;
            } else if in_a_row == BURST {
                yield_now().await;
                in_a_row = 0;
            }
            in_a_row += 1;
            self.send(&mut calls, bound, due);
            while let Some(ended) = calls.try_join_next() {
                ended?;
            }
        }
        while let Some(ended) = calls.join_next().await {
            ended?;
        }
        Ok(())
    }

    /// Sends a call that is due, unless too many are in flight.
    fn send(self: &Rc<Self>, calls: &mut JoinSet<()>, bound: usize, due: Instant) {
        let counts = self.timing.interval.contains(due);
        if self.in_flight.get() >= bound {
            self.tally.borrow_mut().overflow += u64::from(counts);
            return;
        }
        if counts {
            self.tally.borrow_mut().record_sent(due.elapsed());
        }
        let worker = Rc::clone(self);
        // Calls are spread over the connections, as Envoy spreads calls over its threads.
        let stream = self.turn.replace(self.turn.get().wrapping_add(1));
        self.in_flight.set(self.in_flight.get() + 1);
        calls.spawn_local(async move {
            // The result is counted, and the schedule does not depend on it.
            let _ = worker.call(stream, due).await;
        });
    }

    // --- Both ---

    /// Makes a call that was due or sent at `then`, and already counts as in flight.
    async fn call(&self, stream: usize, then: Instant) -> Result<(), Lost> {
        let message = self
            .load
            .template
            .fill(|| self.load.keys.next(&mut self.random.borrow_mut()));
        let answer = match self.connections[stream % self.connections.len()].sender() {
            Ok(sender) => self.load.caller.call(sender, message).await,
            Err(reason) => Answer::Lost(Status::unavailable(reason)),
        };
        let now = Instant::now();
        self.in_flight.set(self.in_flight.get() - 1);
        let result = match answer {
            Answer::Lost(_) => Err(Lost),
            Answer::Verdict(_) | Answer::Refused(_) => Ok(()),
        };
        if result.is_ok() {
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        let interval = self.timing.interval;
        if interval.contains(now) {
            self.tally.borrow_mut().record(then, now, answer);
        } else if now > interval.start {
            self.tally.borrow_mut().unanswered += 1;
        }
        result
    }
}

/// The connection was lost or unavailable.
#[derive(Debug, Clone, Copy)]
struct Lost;
