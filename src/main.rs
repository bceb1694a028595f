//! Entry point: runs the command and maps its outcome to an exit code.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use ratekeeper::cli::{self, Outcome};

/// Each request makes about twenty small allocations, which mimalloc serves with less CPU time.
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
