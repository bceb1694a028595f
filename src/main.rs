//! The command line. Only turns what a command came to into an exit code.

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
            cli::print_error(&error);
            ExitCode::from(1)
        }
    }
}
