//! What is printed. Whoever closed the pipe has seen enough, as `head` does: what a command came to is the same.
//!
//! Everything that commands print goes through here, and control characters in it are escaped: names and values come
//! from clients, servers and files.

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

/// An output that escapes control characters, and takes in silence what nobody reads any more.
#[derive(Debug)]
pub struct Output<W>(W);

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // All that is printed is text; what is not could be half of a character.
        let text = String::from_utf8_lossy(bytes);
        let written = self.0.write_all(harmless(&text).as_bytes());
        unless_closed(written.map(|()| bytes.len()), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        unless_closed(self.0.flush(), ())
    }
}

/// A number of things: `1 file`, `2 files`.
pub fn counted(count: usize, thing: &str) -> String {
    match count {
        1 => format!("1 {thing}"),
        count => format!("{count} {thing}s"),
    }
}

/// What came of printing; of a pipe that is closed, this.
pub fn unless_closed<T>(printed: io::Result<T>, of_closed: T) -> io::Result<T> {
    match printed {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(of_closed),
        printed => printed,
    }
}
