//! The command line. Only turns what a command came to into an exit code.

use std::io::Write as _;
use std::process::ExitCode;

use mimalloc::MiMalloc;
use ratekeeper::cli::{self, Outcome};

/// A request is some twenty small pieces of memory, which this allocator hands out with less work.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match cli::run(std::env::args_os()) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Mistakes | Outcome::Differ | Outcome::Usage { of_hit: true }) => {
            ExitCode::from(1)
        }
        Ok(Outcome::Denied | Outcome::Usage { of_hit: false }) => ExitCode::from(2),
        Err(error) => {
            // A log may not exist yet. When this cannot be written, there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(1)
        }
    }
}
