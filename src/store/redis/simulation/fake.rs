//! A Redis that exists in the test alone, on the runtime's clock: it speaks the protocol over pipes, decides as
//! the script does, and fails as its seed says.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the numbers are those that the batch packed"
)]

use std::collections::HashMap;
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bb8_redis::redis::Script;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, ReadHalf,
    WriteHalf,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::super::SCRIPT;
use super::super::batch::CANDIDATE_SHIFT;
use crate::bucket::{State, Terms};
use crate::key::BucketKey;
use crate::store::{Charge, Decision, Part, Payment, settle};
use crate::time::Micros;

/// Some time in 2026.
const START: Micros = 1_790_000_000_000_000;

/// The Redis; clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct FakeRedis(Arc<Mutex<World>>);

#[derive(Debug)]
struct World {
    random: Xoshiro256PlusPlus,
    start: Instant,
    /// How likely a command meets with a fault.
    trouble: f64,
    /// How long a command takes to get here, and a reply to get back.
    distance: Duration,
    /// The most microseconds that a command takes here.
    work: u64,
    /// When something went wrong.
    disturbances: Vec<Instant>,
    knows_script: bool,
    buckets: HashMap<String, State>,
    /// The keys that requests may use.
    keys: HashMap<String, BucketKey>,
    /// How often it was started; connections are of one life.
    life: watch::Sender<u32>,
    is_down: bool,
    /// Until when nothing is done.
    stalled: Instant,
    /// What it says instead of doing anything.
    refusal: Option<&'static str>,
    executed: Vec<Executed>,
    /// What happened when, told when the history fails.
    events: Vec<(Duration, String)>,
}

impl Drop for World {
    #[expect(clippy::print_stderr, reason = "a failed test is read by people")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (when, what) in &self.events {
                eprintln!("{when:?} {what}");
            }
        }
    }
}

/// A request that was decided here.
#[derive(Debug, Clone)]
pub(super) struct Executed {
    pub(super) charges: Vec<Charge>,
    pub(super) decision: Decision,
}

/// What becomes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    RequestLost,
    ReplyLost,
    ClosedBefore,
    ClosedAfter,
    Garbled,
}

impl FakeRedis {
    pub(super) fn new(
        seed: u64,
        trouble: f64,
        distance: Duration,
        keys: impl Iterator<Item = BucketKey>,
    ) -> Self {
        Self(Arc::new(Mutex::new(World {
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            start: Instant::now(),
            trouble,
            distance,
            work: 2_000,
            disturbances: Vec::new(),
            knows_script: false,
            buckets: HashMap::new(),
            keys: keys.map(|key| (key.as_str().to_owned(), key)).collect(),
            life: watch::Sender::new(0),
            is_down: false,
            stalled: Instant::now(),
            refusal: None,
            executed: Vec::new(),
            events: Vec::new(),
        })))
    }

    /// It takes no time for a command.
    pub(super) fn is_fast(&self) {
        self.world().work = 0;
    }

    /// Its time.
    pub(super) fn now(&self) -> Micros {
        self.world().now()
    }

    /// Writes down what happens.
    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        let mut world = self.world();
        let when = world.start.elapsed();
        world.events.push((when, what()));
    }

    /// What it has decided so far, in order.
    pub(super) fn executed(&self) -> Vec<Executed> {
        self.world().executed.clone()
    }

    /// Whether something went wrong in this time.
    pub(super) fn is_disturbed(&self, time: RangeInclusive<Instant>) -> bool {
        let disturbances = &self.world().disturbances;
        disturbances.iter().any(|when| time.contains(when))
    }

    pub(super) fn lives(&self) -> u32 {
        *self.world().life.borrow() + 1
    }

    // --- What is done to it ---

    pub(super) fn crash(&self) {
        let mut world = self.world();
        world.life.send_modify(|life| *life += 1);
        world.is_down = true;
        world.knows_script = false;
        world.buckets.clear();
    }

    pub(super) fn restart(&self) {
        self.world().is_down = false;
    }

    pub(super) fn flush_script(&self) {
        self.world().knows_script = false;
    }

    pub(super) fn stall(&self, time: Duration) {
        let mut world = self.world();
        world.disturbed();
        world.stalled = Instant::now() + time;
    }

    pub(super) fn refuse(&self, refusal: Option<&'static str>) {
        self.world().refusal = refusal;
    }

    /// From now on, it does everything right.
    pub(super) fn calm(&self) {
        let mut world = self.world();
        world.trouble = 0.0;
        world.is_down = false;
        world.refusal = None;
        world.stalled = Instant::now();
    }

    // --- How it is spoken to ---

    /// The client's end of a new connection.
    pub(super) fn connect(&self) -> io::Result<DuplexStream> {
        let is_down = self.world().is_down;
        self.note(|| format!("connect, down: {is_down}"));
        if is_down {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let mut life = self.world().life.subscribe();
        life.mark_unchanged();
        let serving = serve(self.clone(), theirs);
        // It ends with the runtime, with the connection, or with this life of Redis.
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = life.changed() => {}
                () = serving => {}
            }
        });
        Ok(ours)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }
}

/// Serves a connection until it is closed. Commands that are on their way do not wait for one another's replies.
async fn serve(redis: FakeRedis, stream: DuplexStream) {
    let distance = redis.world().distance;
    let (reader, writer) = tokio::io::split(stream);
    let (arriving, arrived) = mpsc::unbounded_channel();
    let (leaving, left) = mpsc::unbounded_channel();
    let arrive = async move {
        let mut reader = BufReader::new(reader);
        while let Some(words) = read(&mut reader).await {
            if arriving.send((Instant::now() + distance, words)).is_err() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = leave(left, writer) => {}
        () = arrive => {}
        () = execute(redis, distance, arrived, leaving) => {}
    }
}

type Words = Vec<Vec<u8>>;

/// Executes the commands of a connection one after the other.
async fn execute(
    redis: FakeRedis,
    distance: Duration,
    mut arrived: mpsc::UnboundedReceiver<(Instant, Words)>,
    leaving: mpsc::UnboundedSender<(Instant, Option<Vec<u8>>)>,
) {
    while let Some((arrival, words)) = arrived.recv().await {
        sleep_until(arrival).await;
        let (fate, delay, stalled) = redis.world().fate();
        redis.note(|| {
            let command = String::from_utf8_lossy(&words[0]);
            format!("{command}: {fate:?} after {delay:?}, not before {stalled:?}")
        });
        sleep(delay).await;
        sleep_until(stalled).await;
        let reply = {
            let mut world = redis.world();
            match fate {
                Fate::ClosedBefore | Fate::RequestLost => None,
                Fate::Garbled => Some(b"?what\r\n".to_vec()),
                _ => Some(world.answer(&words)),
            }
        };
        let leaves = match (fate, reply) {
            (Fate::Answered | Fate::Garbled, Some(reply)) => Some(reply),
            (Fate::ClosedBefore | Fate::ClosedAfter, _) => None,
            // Nothing more is heard of this connection.
            _ => return std::future::pending().await,
        };
        if leaving.send((Instant::now() + distance, leaves)).is_err() {
            return;
        }
    }
    std::future::pending().await
}

/// Sends the replies of a connection, until there is none, which closes it.
async fn leave(
    mut left: mpsc::UnboundedReceiver<(Instant, Option<Vec<u8>>)>,
    mut writer: WriteHalf<DuplexStream>,
) {
    while let Some((departure, reply)) = left.recv().await {
        sleep_until(departure).await;
        let Some(reply) = reply else { return };
        if writer.write_all(&reply).await.is_err() {
            return;
        }
    }
}

/// The next command.
async fn read(stream: &mut BufReader<ReadHalf<DuplexStream>>) -> Option<Vec<Vec<u8>>> {
    let count = number(stream, b'*').await?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let length = number(stream, b'$').await?;
        let mut word = vec![0; length + 2];
        stream.read_exact(&mut word).await.ok()?;
        word.truncate(length);
        words.push(word);
    }
    Some(words)
}

async fn number(stream: &mut BufReader<ReadHalf<DuplexStream>>, mark: u8) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let line = line.strip_prefix(char::from(mark))?;
    line.trim_end().parse().ok()
}

impl World {
    fn now(&self) -> Micros {
        START + u64::try_from(self.start.elapsed().as_micros()).unwrap()
    }

    /// What becomes of a command, after how long, and not before when.
    fn fate(&mut self) -> (Fate, Duration, Instant) {
        let is_trouble = self.random.random_bool(self.trouble);
        let micros = match is_trouble {
            false => self.random.random_range(0..=self.work),
            true => self.random.random_range(0..200_000),
        };
        let fate = match self.random.random_range(0..8) {
            0 if is_trouble => Fate::RequestLost,
            1 if is_trouble => Fate::ReplyLost,
            2 if is_trouble => Fate::ClosedBefore,
            3 if is_trouble => Fate::ClosedAfter,
            4 if is_trouble => Fate::Garbled,
            _ => Fate::Answered,
        };
        if is_trouble {
            self.disturbed();
        }
        (fate, Duration::from_micros(micros), self.stalled)
    }

    fn disturbed(&mut self) {
        self.disturbances.push(Instant::now());
    }

    fn answer(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        let is_call = words[0] == b"EVALSHA";
        if is_call && (self.refusal.is_some() || !self.knows_script) {
            self.disturbed();
        }
        match (words[0].as_slice(), self.refusal) {
            (b"HELLO", _) => b"%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n".to_vec(),
            (b"PING", _) => b"+PONG\r\n".to_vec(),
            (b"CLIENT", _) => b"+OK\r\n".to_vec(),
            (_, Some(refusal)) => format!("-{refusal}\r\n").into_bytes(),
            (b"SCRIPT", _) => {
                self.knows_script = true;
                format!("+{}\r\n", Script::new(SCRIPT).get_hash()).into_bytes()
            }
            (b"EVAL", _) => {
                self.knows_script = true;
                self.evaluate(words)
            }
            (b"EVALSHA", _) if !self.knows_script => b"-NOSCRIPT No matching script\r\n".to_vec(),
            (b"EVALSHA", _) => self.evaluate(words),
            (other, _) => panic!("{:?}", String::from_utf8_lossy(other)),
        }
    }

    /// Decides a batch, as the script does.
    fn evaluate(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        let text = |word: &Vec<u8>| String::from_utf8(word.clone()).unwrap();
        let count: usize = text(&words[2]).parse().unwrap();
        let keys: Vec<String> = words[3..3 + count].iter().map(text).collect();
        let mut reply = format!("*{}\r\n", count + 1).into_bytes();
        for key in &keys {
            match self.buckets.get(key) {
                None => reply.extend(b"_\r\n"),
                Some(state) => {
                    reply.extend(b"$40\r\n");
                    for number in [
                        state.at,
                        state.whole,
                        state.part,
                        state.refill.into(),
                        state.period,
                    ] {
                        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
                        reply.extend((number as f64).to_le_bytes());
                    }
                    reply.extend(b"\r\n");
                }
            }
        }
        let now = self.now();
        for (times, charges) in self.requests(&keys, &words[3 + count], &words[4 + count]) {
            for _ in 0..times {
                self.decide(&charges, now);
            }
        }
        reply.extend(format!(":{now}\r\n").into_bytes());
        reply
    }

    fn decide(&mut self, charges: &[Charge], now: Micros) {
        let stored = |i: usize| self.buckets.get(charges[i].key.as_str()).copied();
        let settled = settle(charges, stored, now);
        for (i, charge) in charges.iter().enumerate() {
            if settled.is_changed[i] {
                let state = settled.decision.outcomes[i].state;
                self.buckets.insert(charge.key.as_str().to_owned(), state);
            }
        }
        self.executed.push(Executed {
            charges: charges.to_vec(),
            decision: settled.decision,
        });
    }

    /// What a batch asks, in the order in which it is decided.
    fn requests(&self, keys: &[String], runs: &[u8], others: &[u8]) -> Vec<(u64, Vec<Charge>)> {
        let mut requests = Vec::new();
        let mut runs = Numbers(runs);
        let mut key = 0;
        while let Some(length) = runs.next() {
            let times = runs.whole();
            let charge = self.charge(&keys[key], 1.0, &mut runs);
            for _ in 0..length as u64 {
                let charge = Charge {
                    key: self.keys[&keys[key]].clone(),
                    ..charge.clone()
                };
                requests.push((times, vec![charge]));
                key += 1;
            }
        }
        let mut others = Numbers(others);
        while let Some(times) = others.next() {
            let charges = (0..others.whole())
                .map(|_| {
                    let place = others.whole() as usize - 1;
                    let part = others.next().unwrap();
                    self.charge(&keys[place], part, &mut others)
                })
                .collect();
            requests.push((times as u64, charges));
        }
        requests
    }

    fn charge(&self, key: &str, part: f64, numbers: &mut Numbers<'_>) -> Charge {
        let hits = numbers.next().unwrap() as i64;
        let payment = match numbers.whole() {
            0 => Payment::Prepaid,
            _ => Payment::Postpaid,
        };
        let capacity = numbers.whole() as u32;
        let debt = numbers.whole() as u32 - capacity;
        let refill = numbers.whole() as u32;
        Charge {
            key: self.keys[key].clone(),
            terms: Terms::token_bucket(refill, numbers.whole(), capacity, debt),
            hits,
            payment,
            part: match part {
                0.0 => Part::Shadow,
                1.0 => Part::Must,
                group if group > 0.0 => Part::Quota(group as u32 - 2),
                candidate => {
                    let (from, to) = (-candidate / CANDIDATE_SHIFT, -candidate % CANDIDATE_SHIFT);
                    Part::Candidate {
                        from: from as u32,
                        to: to as u32 - 1,
                    }
                }
            },
            on_failure: None,
        }
    }
}

/// Little-endian doubles.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> Option<f64> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(f64::from_le_bytes(*number))
    }

    fn whole(&mut self) -> u64 {
        self.next().unwrap() as u64
    }
}
