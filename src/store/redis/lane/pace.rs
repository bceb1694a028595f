//! The time between the batches of a lane while several are in flight.
//!
//! Sending a request before the reply to the previous batch saves at most the time of the network. It costs a
//! smaller batch: more calls for Redis and for this process. With a near Redis, whose round trip is mostly work,
//! one batch is in flight at a time, as large as it becomes. Otherwise batches are sent a [`SPACING`] apart. If
//! they take longer than the network does, Redis or this process is busy, and the spacing grows, so that batches
//! become fewer and larger.

use std::time::Duration;

use tokio::time::Instant;

/// The shortest time between two batches to a Redis that is not near, and the longest that a request waits for
/// others while nothing is busy. At 1,000 requests per second, it saves few calls; at 10,000, three out of four.
const SPACING: Duration = Duration::from_micros(500);

/// The longest round trip to a near Redis. Waiting for its reply costs a request no more than a millisecond.
const NEAR: Duration = Duration::from_millis(1);

/// The longest time between two batches, and the time between two batches to a near Redis unless the reply arrives
/// earlier. It is several times the duration of a batch on a busy machine, and short enough for the deadlines of
/// callers when Redis has just moved away.
const MAX_SPACING: Duration = Duration::from_millis(4);

/// The time for one charge, in Redis and here, on slow machines. The rest of a round trip is the network and
/// waiting.
const WORK: Duration = Duration::from_micros(4);

/// The shortest round trip is remembered for this many round trips at least and twice as many at most. It is the
/// measure of the distance, because the others include waiting. On a machine that is short of processors, nearly
/// all of them do, and there batches must not become smaller.
const EPOCH: u32 = 128;

/// The weight of a round trip in the average is one of this number.
const WEIGHT: u32 = 8;

/// The distance to Redis, as recent round trips show it, and the time of the last batch.
#[derive(Debug)]
pub(super) struct Pace {
    sent: Instant,
    taken: u32,
    average: Duration,
    /// The shortest round trip of this epoch and of the previous one.
    shortest: [Duration; 2],
    between: Duration,
}

impl Default for Pace {
    /// Assumes that Redis is not near.
    fn default() -> Self {
        Self {
            sent: Instant::now(),
            taken: 0,
            average: Duration::ZERO,
            shortest: [Duration::MAX; 2],
            between: SPACING,
        }
    }
}

impl Pace {
    /// Records that a batch is sent.
    pub(super) fn sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// Records the duration of a batch with this number of charges.
    pub(super) fn took(&mut self, time: Duration, charges: usize) {
        let work = WORK.saturating_mul(u32::try_from(charges).unwrap_or(u32::MAX));
        let way = time.saturating_sub(work);
        self.average = match self.taken {
            0 => way,
            _ => (self.average * (WEIGHT - 1) + way) / WEIGHT,
        };
        if self.taken.is_multiple_of(EPOCH) {
            self.shortest = [way, self.shortest[0]];
        }
        self.shortest[0] = self.shortest[0].min(way);
        self.taken = self.taken.wrapping_add(1);
        let shortest = self.shortest[0].min(self.shortest[1]);
        let waiting = self.average.saturating_sub(shortest);
        self.between = match shortest <= NEAR {
            true => MAX_SPACING,
            // Half of the waiting time keeps this stable: waiting falls faster than the spacing rises.
            false => (waiting / 2).clamp(SPACING, MAX_SPACING),
        };
    }

    /// Returns when the next batch can be sent while others are in flight.
    pub(super) fn due(&self) -> Instant {
        self.sent + self.between
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn spacing(pace: &Pace) -> Duration {
        pace.due() - pace.sent
    }

    #[test]
    fn the_shortest_of_the_latest_round_trips_says_whether_redis_is_near() {
        let mut pace = Pace::default();
        assert_eq!(spacing(&pace), SPACING, "nothing is known");
        pace.took(7 * MS, 1);
        assert_eq!(spacing(&pace), SPACING);
        pace.took(MS / 2, 1);
        assert_eq!(spacing(&pace), MAX_SPACING);
        for _ in 0..EPOCH {
            pace.took(7 * MS, 1);
            assert_eq!(spacing(&pace), MAX_SPACING, "the others wait for something");
        }
        for _ in 0..EPOCH {
            pace.took(7 * MS, 1);
        }
        assert_eq!(spacing(&pace), SPACING, "it has moved away");
    }

    #[test]
    fn batches_that_wait_for_one_another_become_fewer() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.took(5 * MS, 1);
        }
        assert_eq!(spacing(&pace), SPACING);
        for _ in 0..50 {
            pace.took(8 * MS, 1);
        }
        let busy = spacing(&pace);
        assert!(busy > MS && busy < 2 * MS, "{busy:?}");
        for _ in 0..50 {
            pace.took(80 * MS, 1);
        }
        assert_eq!(spacing(&pace), MAX_SPACING, "no longer than that");
        for _ in 0..2 * EPOCH {
            pace.took(80 * MS, 1);
        }
        assert_eq!(spacing(&pace), SPACING, "that is where it is now");
    }

    #[test]
    fn work_is_no_distance() {
        let mut pace = Pace::default();
        pace.took(2 * MS, 1);
        assert_eq!(spacing(&pace), SPACING);
        pace.took(2 * MS, 256);
        assert_eq!(spacing(&pace), MAX_SPACING);
        pace.took(Duration::ZERO, usize::MAX);
        assert_eq!(spacing(&pace), MAX_SPACING);
    }
}
