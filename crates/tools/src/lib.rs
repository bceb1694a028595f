//! The commands of the binary that only talk to a server, and what all commands share.
//!
//! The commands are behind the feature `commands`, so that an image for the server alone can leave them out, with the
//! libraries that only they need.
//!
//! - `bench`: puts a load on a server and measures it.
//! - `hit`: sends one request and prints the verdict.
//! - `top`: shows what a server does.
//! - [`output`]: standard output, with control characters escaped.
//! - [`values`]: parsers of option values.

#[cfg(feature = "commands")]
pub mod bench;
pub mod harmless;
#[cfg(feature = "commands")]
pub mod hit;
pub mod output;
#[cfg(feature = "commands")]
pub mod top;
pub mod values;

// The server has deadlines by the same timers. Neither package is below the other, so the file is compiled in both.
#[cfg(feature = "commands")]
#[path = "../../../src/timer/kernel_timer.rs"]
mod kernel_timer;

/// What a command came to, for `main` to make an exit code of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did what was asked. Exit code 0.
    Done,
    /// The answer is no: mistakes were found. Exit code 1.
    Mistakes,
    /// Two things differ. Exit code 1.
    Differ,
    /// The request was denied. Exit code 2.
    Denied,
    /// What was typed makes no sense. Exit code 2, but 1 for `hit`, where 2 means denied.
    Usage {
        /// Whether it was `hit` that was typed.
        of_hit: bool,
    },
}
