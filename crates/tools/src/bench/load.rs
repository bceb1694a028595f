//! The load: what is sent, how fast, and for how long.

use std::num::NonZeroU64;
use std::time::Duration;

use super::call::Caller;
use super::keys::Keys;
use super::requests::Template;

/// A load that is ready to be sent.
#[derive(Debug, Clone)]
pub(super) struct Load {
    /// The server, as `host:port`.
    pub address: String,
    /// Headers and deadline of the calls.
    pub caller: Caller,
    /// Message of the calls.
    pub template: Template,
    /// Keys in the messages.
    pub keys: Keys,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Number of HTTP/2 connections over all threads.
    pub connections: usize,
    /// Number of threads, each with its own connections.
    pub threads: usize,
    /// When calls are sent.
    pub pace: Pace,
    /// When the load ends.
    pub extent: Extent,
}

/// When calls are sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// Each call when the one before it was answered.
    Closed {
        /// Number of calls in flight over all threads.
        streams: usize,
    },
    /// On a fixed schedule, whether or not earlier calls were answered.
    Open {
        /// Calls per second.
        rate: NonZeroU64,
        /// Maximum number of calls in flight over all threads; further calls are counted and not sent.
        in_flight: usize,
    },
}

/// When a load ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extent {
    /// After a time.
    Time {
        /// Time at the start that is not counted.
        warm_up: Duration,
        /// Time that is counted.
        duration: Duration,
    },
    /// After this number of calls, all of which are counted.
    Requests(u64),
}

/// One of several equal parts of a load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// Index of the part, from 0.
    pub index: usize,
    /// Number of parts.
    pub of: usize,
}

impl Part {
    /// Number of things out of `total` in this part.
    pub(super) fn share(self, total: usize) -> usize {
        total / self.of + usize::from(self.index < total % self.of)
    }

    /// Number of the numbers below `total` in this part, if part i has i, i + parts, i + 2 parts and so on.
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
