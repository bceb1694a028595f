//! When a lane sends its next batch while others are in flight.
//!
//! What a request gains by being sent before the reply to the batch in front of it is at most the time that the network
//! takes. What it costs is a smaller batch: more calls for Redis and for us. So with a near Redis, whose round trip is mostly
//! work, one batch is in flight at a time, as large as it becomes. With one that is further away, batches are sent a
//! [`SPACING`] apart, however many of them are in flight. Where they take longer than the way, Redis or we are busy, and the
//! time between them grows, so that they become fewer and larger.

use std::time::Duration;

use tokio::time::Instant;

/// The least time between two batches to a Redis that is not near, and the most that a request waits for others while nothing is
/// busy. At 1,000 requests a second, it saves few calls, at 10,000 three of four.
const SPACING: Duration = Duration::from_micros(500);

/// The longest way to a Redis that is near, there and back. To wait for its reply costs a request no more than a
/// millisecond.
const NEAR: Duration = Duration::from_millis(1);

/// The most time between two batches, and the time between two to a near Redis unless the reply comes sooner. Several times as long as
/// batches take on a busy machine, and short enough for callers to get an answer when Redis has just moved away.
const MAX_SPACING: Duration = Duration::from_millis(4);

/// What Redis and we need for one charge, on slow machines. A round trip without it is the way, and what waiting there was.
const WORK: Duration = Duration::from_micros(4);

/// How many round trips the shortest one is remembered for, at least; at most, twice as many. It says how far away Redis is, as the others
/// waited for something else. On a machine that is short of processors, nearly all of them do, and there batches must not
/// become smaller.
const EPOCH: u32 = 128;

/// The weight of a round trip in the average is one of so many.
const WEIGHT: u32 = 8;

/// The distance to Redis, as the latest round trips show it, and when the last batch was sent.
#[derive(Debug)]
pub(super) struct Pace {
    sent: Instant,
    taken: u32,
    average: Duration,
    /// The shortest of this epoch and of the one before it.
    shortest: [Duration; 2],
    between: Duration,
}

impl Default for Pace {
    /// One that knows nothing yet, as if Redis were far away.
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
    /// A batch is sent.
    pub(super) fn sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// The reply to a batch with so many charges has come after this time.
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
            // Half of it is stable: the time that batches wait for one another falls faster than the time between
            // them rises.
            false => (waiting / 2).clamp(SPACING, MAX_SPACING),
        };
    }

    /// When the next batch may be sent while others are in flight.
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
