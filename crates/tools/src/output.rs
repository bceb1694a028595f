//! Standard output and standard error of the commands.
//!
//! Control characters are escaped, because names and values come from clients, servers and files. A closed pipe, such as
//! one to `head`, is not an error and does not change the outcome.

use std::io::{self, ErrorKind, Stderr, Stdout, Write};

use crate::harmless::harmless;

/// Standard output.
pub fn stdout() -> Output<Stdout> {
    Output(io::stdout())
}

/// Standard error.
pub fn stderr() -> Output<Stderr> {
    Output(io::stderr())
}

/// An output that escapes control characters and ignores a closed pipe.
#[derive(Debug)]
pub struct Output<W>(W);

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Commands print text only; an invalid sequence could be a part of a character.
        let text = String::from_utf8_lossy(bytes);
        let written = self.0.write_all(harmless(&text).as_bytes());
        unless_closed(written.map(|()| bytes.len()), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        unless_closed(self.0.flush(), ())
    }
}

/// Formats a count with its noun: `1 file`, `2 files`.
pub fn counted(count: usize, thing: &str) -> String {
    match count {
        1 => format!("1 {thing}"),
        count => format!("{count} {thing}s"),
    }
}

/// Replaces the error of a closed pipe with a value.
pub fn unless_closed<T>(printed: io::Result<T>, of_closed: T) -> io::Result<T> {
    match printed {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(of_closed),
        printed => printed,
    }
}
