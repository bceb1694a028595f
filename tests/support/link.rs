//! A TCP proxy that simulates a network: latency, jitter, lost segments, and connections that break without a signal to either side.
//!
//! Data does not wait for data sent before it, unlike in [`Proxy`](super::Proxy): this proxy has latency, the other one has little
//! bandwidth.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

/// The properties of a simulated network.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quality {
    /// The round-trip time without jitter.
    pub round_trip: Duration,
    /// The maximum of the random time added in each direction.
    pub jitter: Duration,
    /// The share of segments that are lost. A lost segment arrives 200 ms late, and later data on the same connection waits for
    /// it.
    pub loss: f64,
}

/// The minimum retransmission timeout of TCP.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// A simulated network in front of a local port.
#[derive(Debug)]
pub struct Link {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    quality: Quality,
    random: Xoshiro256PlusPlus,
    /// Connections of earlier generations are broken.
    generation: u64,
    is_over: bool,
}

impl Link {
    /// Starts a network in front of a port.
    ///
    /// # Panics
    /// When no port is free.
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
                // The last connection is made by `drop`, to end this loop.
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

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes the properties of the network.
    pub fn become_(&self, quality: Quality) {
        lock(&self.state).quality = quality;
    }

    /// Breaks all existing connections without a signal to either side. New connections work.
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
    /// The latency of data that is sent now.
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

/// Forwards data from one connection to another one.
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
