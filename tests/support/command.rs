//! The commands of the binary, as somebody types them.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// What a command printed, and its exit code.
#[derive(Debug)]
pub struct Printed {
    /// The exit code.
    pub code: i32,
    /// What it printed for programs.
    pub stdout: String,
    /// What it printed for people.
    pub stderr: String,
}

/// Runs `ratekeeper` to its end with these arguments and environment variables, and none of the
/// variables around the test.
///
/// # Panics
/// When it is killed.
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
        code: output.status.code().expect("nobody kills it"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
