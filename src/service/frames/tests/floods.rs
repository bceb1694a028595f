//! Budgets of control frames and resets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::floods::Flood;
use super::super::scanner::FrameScanner;
use super::{HEADER_BYTES, frame};
use crate::clock::Clock;

/// A connection with a clock that the test advances.
struct Connection {
    scanner: FrameScanner,
    now: Arc<AtomicU64>,
    clock: Clock,
    stream: u32,
}

impl Connection {
    fn new() -> Self {
        let now = Arc::new(AtomicU64::new(1_000_000));
        let shown = Arc::clone(&now);
        let clock: Clock = Arc::new(move || shown.load(Ordering::Relaxed));
        Self {
            scanner: FrameScanner::new(HEADER_BYTES, &clock),
            now,
            clock,
            stream: 1,
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Flood> {
        let scanned = self.scanner.scan(bytes, &self.clock)?;
        assert_eq!(scanned.passed, bytes.len());
        Ok(())
    }

    /// Sends a call without its message, and returns its stream.
    fn begin(&mut self) -> u32 {
        let stream = self.stream;
        self.stream += 2;
        let headers = frame(1, 4, stream, &[0x83, 0x84, 0x86, 0xbe]);
        self.send(&headers).unwrap();
        stream
    }

    /// Sends a complete call, and returns its stream.
    fn call(&mut self) -> u32 {
        let stream = self.begin();
        self.send(&frame(0, 1, stream, &[0; 60])).unwrap();
        stream
    }

    fn later(&mut self, micros: u64) {
        self.now.fetch_add(micros, Ordering::Relaxed);
    }
}

fn ping() -> Vec<u8> {
    frame(6, 0, 0, &[0; 8])
}

/// Frames of each kind that carry no request.
fn idle() -> [(&'static str, Vec<u8>); 9] {
    [
        ("PING", ping()),
        ("SETTINGS", frame(4, 0, 0, &[])),
        ("SETTINGS that acknowledge", frame(4, 1, 0, &[])),
        ("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 0, 7])),
        ("WINDOW_UPDATE", frame(8, 0, 0, &[0, 0, 0, 1])),
        ("an unknown kind", frame(0xbe, 0, 0, &[1; 20])),
        ("empty DATA", frame(0, 0, 1, &[])),
        ("CONTINUATION", frame(9, 0, 1, &[])),
        ("HEADERS of an old stream", frame(1, 4, 1, &[])),
    ]
}

#[test]
fn a_flood_of_any_control_frame_is_cut_off() {
    for (kind, bytes) in idle() {
        let mut connection = Connection::new();
        connection.call();
        let mut sent = 0;
        // A thousand each second, for a minute.
        let flood = loop {
            connection.later(1_000);
            match connection.send(&bytes) {
                Ok(()) => sent += 1,
                Err(flood) => break flood,
            }
            assert!(sent < 60_000, "{kind}");
        };
        assert_eq!(flood, Flood::ControlFrames, "{kind}");
        assert!(sent >= 1_000, "{kind}: {sent}");
    }
}

#[test]
fn ordinary_clients_do_not_flood() {
    // Only keepalive, a hundred times a second for an hour.
    let mut silent = Connection::new();
    for _ in 0..360_000 {
        silent.later(10_000);
        silent.send(&ping()).unwrap();
    }
    // A client that estimates bandwidth and updates its windows at each response.
    let mut busy = Connection::new();
    for _ in 0..100_000 {
        let stream = busy.call();
        let update = |stream| frame(8, 0, stream, &[0, 0, 0, 60]);
        let bytes = [
            ping(),
            update(0),
            update(stream),
            update(0),
            frame(6, 1, 0, &[0; 8]),
        ];
        busy.send(&bytes.concat()).unwrap();
    }
    // A message of four megabytes in frames of 1 kB, which are no control frames.
    let mut large = Connection::new();
    let stream = large.call();
    for _ in 0..4_096 {
        large.send(&frame(0, 0, stream, &[0; 1_024])).unwrap();
    }
    assert!(
        large
            .scanner
            .scan(&ping().repeat(9_000), &large.clock)
            .is_ok()
    );
}

#[test]
fn resets_after_a_stall_are_no_flood_and_those_of_an_attack_are() {
    let reset = |stream| frame(3, 0, stream, &[0, 0, 0, 8]);
    // All calls during a stall of six seconds, at 5,000 calls a second.
    let mut stalled = Connection::new();
    for _ in 0..10 {
        for _ in 0..30_000 {
            let stream = stalled.call();
            stalled.send(&reset(stream)).unwrap();
        }
        stalled.later(60_000_000);
    }
    // Every second call.
    let mut hedging = Connection::new();
    for _ in 0..200_000 {
        hedging.call();
        let stream = hedging.call();
        hedging.send(&reset(stream)).unwrap();
    }
    // Complete calls that clients of Envoy cancel, 20,000 a second.
    let mut cancelled = Connection::new();
    for _ in 0..200_000 {
        cancelled.later(50);
        let stream = cancelled.call();
        cancelled.send(&reset(stream)).unwrap();
    }
    // 20,000 calls a second, all of which are reset before they are complete.
    let mut attacker = Connection::new();
    let mut sent = 0;
    let flood = loop {
        attacker.later(50);
        let stream = attacker.begin();
        match attacker.send(&reset(stream)) {
            Ok(()) => sent += 1,
            Err(flood) => break flood,
        }
        assert!(sent < 200_000);
    };
    assert_eq!(flood, Flood::Resets);
    assert!(sent > 50_000, "{sent}");
}
