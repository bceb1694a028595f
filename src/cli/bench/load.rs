//! What is sent, how fast, and for how long.

use std::num::NonZeroU64;
use std::time::Duration;

use super::call::Caller;
use super::keys::Keys;
use super::requests::Template;

/// A load, ready to be put on a server.
#[derive(Debug, Clone)]
pub(super) struct Load {
    /// The server, as `host:port`.
    pub address: String,
    /// How calls are made.
    pub caller: Caller,
    /// What they say.
    pub template: Template,
    /// What they are about.
    pub keys: Keys,
    /// Where the random numbers begin.
    pub seed: u64,
    /// HTTP/2 connections, over all threads.
    pub connections: usize,
    /// Threads, each with connections of its own.
    pub threads: usize,
    /// When calls are sent.
    pub pace: Pace,
    /// When it ends.
    pub extent: Extent,
}

/// When calls are sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// Each when the one before it was answered.
    Closed {
        /// Calls in flight, over all threads.
        streams: usize,
    },
    /// At fixed times, whether or not others were answered.
    Open {
        /// Calls per second.
        rate: NonZeroU64,
        /// The most calls in flight, over all threads; further ones are counted and not sent.
        in_flight: usize,
    },
}

/// When it ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extent {
    /// After a time.
    Time {
        /// What comes before and does not count.
        warm_up: Duration,
        /// What counts.
        duration: Duration,
    },
    /// After so many calls, all of which count.
    Requests(u64),
}

/// One of several equal parts, numbered from 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// Which one.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}

impl Part {
    /// How many of `total` things it has.
    pub(super) fn share(self, total: usize) -> usize {
        total / self.of + usize::from(self.index < total % self.of)
    }

    /// How many of the numbers below `total` it has, when part i has i, i + parts, i + 2 parts...
    pub(super) fn numbers_below(self, total: u64) -> u64 {
        total
            .saturating_sub(self.index as u64)
            .div_ceil(self.of as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_make_up_the_whole(total in 0..1000_usize, of in 1..20_usize) {
            let parts = || (0..of).map(|index| Part { index, of });
            prop_assert_eq!(parts().map(|part| part.share(total)).sum::<usize>(), total);
            for part in parts() {
                let numbers = (part.index..total).step_by(of).count();
                prop_assert_eq!(part.numbers_below(total as u64), numbers as u64);
                prop_assert_eq!(part.share(total), numbers);
            }
        }
    }
}
