//! What is printed. Whoever closed the pipe has seen enough, as `head` does: what a command came to is the same.

use std::io::{self, ErrorKind, Stderr, Stdout, Write};

/// Standard output.
pub(super) fn stdout() -> Output<Stdout> {
    Output(io::stdout())
}

/// Standard error.
pub(super) fn stderr() -> Output<Stderr> {
    Output(io::stderr())
}

/// An output that takes in silence what nobody reads any more.
#[derive(Debug)]
pub(super) struct Output<W>(W);

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        unless_closed(self.0.write(bytes), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        unless_closed(self.0.flush(), ())
    }
}

/// What came of printing; of a pipe that is closed, this.
pub(super) fn unless_closed<T>(printed: io::Result<T>, of_closed: T) -> io::Result<T> {
    match printed {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(of_closed),
        printed => printed,
    }
}
