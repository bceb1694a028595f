//! Child processes that end with the test; a failing test prints their output.

use std::io::{BufRead, BufReader, Read};
use std::mem;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use super::TIMEOUT;

/// A running child process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    /// Lines of stdout and stderr; closed when the process has ended. The lock lets tests on several threads share a process.
    lines: Mutex<Receiver<String>>,
    /// The lines read so far.
    log: String,
}

/// A process that ended, or printed nothing in time, while a test waited for a line.
#[derive(Debug)]
pub struct Ended {
    /// The missing event and the output of the process.
    pub report: String,
}

impl Process {
    /// Starts a command; `name` is for failure messages.
    ///
    /// # Panics
    /// When the program is missing.
    pub fn start(name: &'static str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started ({error}): run tests/setup"));
        let (sender, lines) = channel();
        forward(
            child.stdout.take().expect("stdout is piped"),
            sender.clone(),
        );
        forward(child.stderr.take().expect("stderr is piped"), sender);
        Self {
            name,
            child,
            lines: Mutex::new(lines),
            log: String::new(),
        }
    }

    /// Waits for a line for which `read` returns a value, and returns the value.
    ///
    /// # Errors
    /// When the process ends first, or no such line is printed in time.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        mut read: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, Ended> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let reason = match self.next_line(deadline) {
                Ok(line) => match read(&line) {
                    Some(found) => return Ok(found),
                    None => continue,
                },
                Err(RecvTimeoutError::Disconnected) => "ended",
                Err(RecvTimeoutError::Timeout) => "is silent",
            };
            let report = format!("{} {reason} before {what}:\n{}", self.name, self.log);
            return Err(Ended { report });
        }
    }

    /// The lines that were read so far.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    /// When the process does not end.
    pub fn terminate(self) -> ExitStatus {
        self.signal("TERM");
        self.ended().0
    }

    /// Sends a signal, named as the shell names it.
    ///
    /// # Panics
    /// When the process has ended.
    pub fn signal(&self, signal: &str) {
        // The standard library sends only SIGKILL, and the program `kill` may not be installed; each shell has a builtin.
        let kill = format!("kill -{signal} {}", self.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(sent.success(), "{} has ended", self.name);
    }

    /// Waits for the end, and returns the status and the output.
    ///
    /// # Panics
    /// When the process does not end.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match self.next_line(deadline) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return (self.child.wait().unwrap(), mem::take(&mut self.log));
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{} does not end:\n{}", self.name, self.log)
                }
            }
        }
    }

    /// Waits for the end, and returns the output.
    ///
    /// # Panics
    /// When the process does not end, or fails.
    pub fn output(self) -> String {
        let name = self.name;
        let (status, printed) = self.ended();
        assert!(status.success(), "{name} failed, {status}");
        printed
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn next_line(&mut self, deadline: Instant) -> Result<String, RecvTimeoutError> {
        let lines = self.lines.get_mut().unwrap_or_else(PoisonError::into_inner);
        let line = lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))?;
        self.log.push_str(&line);
        self.log.push('\n');
        Ok(line)
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "a failed test is read by people")]
    fn drop(&mut self) {
        // Killing fails only when the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let lines = self.lines.get_mut().unwrap_or_else(PoisonError::into_inner);
            let rest: String = lines.iter().map(|line| line + "\n").collect();
            eprintln!("--- all that {} printed:\n{}{rest}---", self.name, self.log);
        }
    }
}

/// Kills processes when the test program ends, in whatever way. For processes in a static, which is never dropped.
#[derive(Debug)]
pub(super) struct Guard {
    /// A shell that waits until its standard input is closed, which happens when this program ends.
    _shell: Child,
}

impl Guard {
    /// Guards processes, given by their ids, and the directories to remove with them.
    pub(super) fn new<'a>(
        processes: impl Iterator<Item = u32>,
        directories: impl Iterator<Item = &'a Path>,
    ) -> Self {
        let ids: Vec<String> = processes.map(|id| id.to_string()).collect();
        let script = format!("read -r _; kill -9 {}; rm -rf \"$@\"", ids.join(" "));
        let shell = Command::new("sh")
            .args(["-c", &script, "sh"])
            .args(directories)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self { _shell: shell }
    }
}

/// Forwards lines until the stream ends, so that the process is never blocked by a full pipe.
fn forward(stream: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { break };
            // The receiver is dropped at the end of the test, just before the process is killed.
            let _ = lines.send(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
    });
}

/// Runs a command until it ends and returns its standard output.
///
/// # Panics
/// When the command fails; the message contains its output.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?} failed, {}:\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}
