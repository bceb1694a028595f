//! Runs commands of the binary.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// The output and the exit code of a command.
#[derive(Debug)]
pub struct Printed {
    /// The exit code.
    pub code: i32,
    /// The standard output.
    pub stdout: String,
    /// The standard error.
    pub stderr: String,
}

/// Runs `ratekeeper` with arguments and environment variables until it exits. It does not inherit the environment of the test.
///
/// # Panics
/// When a signal ends the process.
pub fn typed<'a>(
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    environment: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Printed {
    let output = Command::new(env!("CARGO_BIN_EXE_ratekeeper"))
        .env_clear()
        .envs(environment)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Printed {
        code: output.status.code().expect("no signal ended it"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
