//! The commands of the binary that only talk to a server, and what all commands share.
//!
//! The commands are behind the feature `commands`, so that an image for the server alone can leave them out, with the
//! libraries that only they need.
//!
//! - `bench`: sends load to a server and measures it.
//! - `hit`: sends one request and prints the response.
//! - `top`: monitors a server.
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

// The server uses the same timer. Neither package depends on the other, so the file is compiled into both.
#[cfg(feature = "commands")]
#[path = "../../../src/timer/kernel_timer.rs"]
mod kernel_timer;

/// The outcome of a command, which `main` maps to an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The command succeeded. Exit code 0.
    Done,
    /// Errors were found in the input. Exit code 1.
    Mistakes,
    /// The two inputs differ. Exit code 1.
    Differ,
    /// The request was denied. Exit code 2.
    Denied,
    /// The arguments are wrong. Exit code 2, but 1 for `hit`, for which 2 means denied.
    Usage {
        /// Whether the command is `hit`.
        of_hit: bool,
    },
}
