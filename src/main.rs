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
        // Whoever read the output has seen enough, as `head` does.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(
                clippy::print_stderr,
                reason = "a log may not exist yet, and a person reads this"
            )]
            {
                eprintln!("error: {error:#}");
            }
            ExitCode::from(1)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
