//! The command line. Only turns what a command came to into an exit code.

use std::process::ExitCode;

use ratekeeper::cli::{self, Outcome};

fn main() -> ExitCode {
    match cli::run(std::env::args_os()) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Mistakes | Outcome::Usage { of_hit: true }) => ExitCode::from(1),
        Ok(Outcome::Denied | Outcome::Usage { of_hit: false }) => ExitCode::from(2),
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
