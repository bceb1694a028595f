//! A TCP proxy that treats what passes badly: it delays, holds back, drips, cuts and corrupts.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// What becomes of what the server behind the proxy answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It passes.
    Pass,
    /// It passes so much later.
    Delay(Duration),
    /// It waits until it may pass.
    Hold,
    /// It passes byte by byte, so far apart.
    Drip(Duration),
    /// Half of it passes, then the connection is closed.
    Cut,
    /// Other bytes pass in its place.
    Corrupt,
    /// Nothing passes any more.
    End,
}

/// A proxy on a port of its own, until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    treatment: Arc<(Mutex<Treatment>, Condvar)>,
}

impl Proxy {
    /// A proxy in front of a port of this machine.
    ///
    /// # Panics
    /// When there is no port for it.
    pub fn start(behind: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let treatment = Arc::new((Mutex::new(Treatment::Pass), Condvar::new()));
        let shared = Arc::clone(&treatment);
        thread::spawn(move || {
            for client in listener.incoming() {
                // The last one is the proxy's own, which ends it.
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

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Treats everything like this from now on, and what was held back, too.
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

/// Passes on what two connections say, until one is closed.
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
            // What has begun to drip flows as soon as it may.
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
