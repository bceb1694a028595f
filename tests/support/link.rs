//! A TCP proxy that is a network: it takes time, not always the same, loses segments, and cuts connections off so that neither side
//! notices.
//!
//! What is sent while something else is under way does not wait for it, unlike in [`Proxy`](super::Proxy): that is the difference between a
//! network that is long and one that is slow.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

/// How a network treats what passes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quality {
    /// There and back.
    pub round_trip: Duration,
    /// How much longer each direction may take, by chance.
    pub jitter: Duration,
    /// The share of segments that are lost. What is lost is sent again after 200 ms, and what comes after it on the
    /// same connection waits for it.
    pub loss: f64,
}

/// When TCP sends again what was lost, at the earliest.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// A network in front of a port of this machine, until it is dropped.
#[derive(Debug)]
pub struct Link {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    quality: Quality,
    random: Xoshiro256PlusPlus,
    /// Connections of earlier generations pass nothing.
    generation: u64,
    is_over: bool,
}

impl Link {
    /// A network of this quality in front of a port.
    ///
    /// # Panics
    /// When there is no port for it.
    pub fn start(behind: u16, quality: Quality) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            quality,
            random: Xoshiro256PlusPlus::seed_from_u64(1),
            generation: 0,
            is_over: false,
        }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                // The last one is the link's own, which ends it.
                if lock(&shared).is_over {
                    return;
                }
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, behind));
                if let (Ok(client), Ok(server)) = (client, server) {
                    let generation = lock(&shared).generation;
                    pass(&client, &server, &shared, generation);
                    pass(&server, &client, &shared, generation);
                }
            }
        });
        Self { port, state }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, it is of this quality.
    pub fn become_(&self, quality: Quality) {
        lock(&self.state).quality = quality;
    }

    /// From now on, nothing passes on the connections that there are. Neither side notices. Others can be made.
    pub fn cut_off(&self) {
        lock(&self.state).generation += 1;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        lock(&self.state).is_over = true;
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap()
}

impl State {
    /// How long what is sent now takes.
    fn delay(&mut self) -> Duration {
        let Quality {
            round_trip,
            jitter,
            loss,
        } = self.quality;
        let lost = match self.random.random_bool(loss) {
            true => RETRANSMISSION,
            false => Duration::ZERO,
        };
        round_trip / 2 + jitter.mul_f64(self.random.random_range(0.0..1.0)) + lost
    }
}

/// Passes on what one connection sends to another one.
fn pass(from: &TcpStream, to: &TcpStream, state: &Arc<Mutex<State>>, generation: u64) {
    from.set_nodelay(true).unwrap();
    let (mut from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let (sent, under_way) = channel();
    let state = Arc::clone(state);
    thread::spawn(move || deliver(to, &under_way));
    thread::spawn(move || {
        let mut bytes = [0; 65_536];
        let mut due = Instant::now();
        while let Ok(count) = from.read(&mut bytes)
            && count > 0
        {
            let mut state = lock(&state);
            if state.is_over {
                break;
            }
            if state.generation != generation {
                continue;
            }
            due = due.max(Instant::now() + state.delay());
            drop(state);
            if sent.send((due, bytes[..count].to_vec())).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
    });
}

fn deliver(mut to: TcpStream, under_way: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, bytes)) = under_way.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
