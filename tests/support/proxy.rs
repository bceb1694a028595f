//! A TCP proxy that injects faults into responses: delay, hold, trickle, cut, corrupt.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// How the proxy treats the responses of the server behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// Forwards responses.
    Pass,
    /// Forwards responses after a delay.
    Delay(Duration),
    /// Holds responses until the treatment changes.
    Hold,
    /// Forwards one byte at a time, with a pause after each.
    Drip(Duration),
    /// Forwards half of a response, then closes the connection.
    Cut,
    /// Replaces responses by other bytes.
    Corrupt,
    /// Drops responses.
    End,
}

/// A running proxy; stopped when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    treatment: Arc<(Mutex<Treatment>, Condvar)>,
}

impl Proxy {
    /// Starts a proxy in front of a local port.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(behind: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let treatment = Arc::new((Mutex::new(Treatment::Pass), Condvar::new()));
        let shared = Arc::clone(&treatment);
        thread::spawn(move || {
            for client in listener.incoming() {
                // The last connection is made by `drop`, to end this loop.
                if *lock(&shared.0) == Treatment::End {
                    return;
                }
                let (Ok(client), Ok(server)) =
                    (client, TcpStream::connect((Ipv4Addr::LOCALHOST, behind)))
                else {
                    continue;
                };
                join(&client, &server, &shared);
            }
        });
        Self { port, treatment }
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes the treatment, also for responses that are held.
    pub fn treat(&self, treatment: Treatment) {
        *lock(&self.treatment.0) = treatment;
        self.treatment.1.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.treat(Treatment::End);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn lock(treatment: &Mutex<Treatment>) -> MutexGuard<'_, Treatment> {
    treatment.lock().unwrap()
}

/// Forwards data between two connections until one is closed.
fn join(client: &TcpStream, server: &TcpStream, treatment: &Arc<(Mutex<Treatment>, Condvar)>) {
    for stream in [client, server] {
        stream.set_nodelay(true).unwrap();
    }
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let treatment = Arc::clone(treatment);
    thread::spawn(move || {
        let mut bytes = [0; 16_384];
        while let Ok(count) = from.read(&mut bytes)
            && count > 0
            && pass(&mut to, &mut bytes[..count], &treatment).is_ok()
        {}
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}

fn pass(
    to: &mut TcpStream,
    bytes: &mut [u8],
    (treatment, changed): &(Mutex<Treatment>, Condvar),
) -> std::io::Result<()> {
    let now = {
        let held = |treatment: &mut Treatment| *treatment == Treatment::Hold;
        *changed.wait_while(lock(treatment), held).unwrap()
    };
    match now {
        Treatment::Pass | Treatment::Hold => to.write_all(bytes),
        Treatment::Delay(time) => {
            thread::sleep(time);
            to.write_all(bytes)
        }
        Treatment::Drip(time) => bytes.iter().try_for_each(|byte| {
            // A changed treatment also applies to the rest of a trickled response.
            if *lock(treatment) == now {
                thread::sleep(time);
            }
            to.write_all(&[*byte])
        }),
        Treatment::Cut => {
            to.write_all(&bytes[..bytes.len() / 2])?;
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
        Treatment::End => Err(std::io::ErrorKind::ConnectionReset.into()),
        Treatment::Corrupt => {
            for byte in bytes.iter_mut() {
                *byte ^= 0x55;
            }
            to.write_all(bytes)
        }
    }
}
