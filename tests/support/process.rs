//! Child processes that never outlive the test, and whose output a failing test shows.

use std::io::{BufRead, BufReader, Read};
use std::mem;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use super::PATIENCE;

/// A running child process; killed when dropped, so also when the test panics.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    /// What it prints, on stdout and stderr, line by line; closed when it has ended.
    /// Behind a lock only so that tests on several threads may share a process.
    lines: Mutex<Receiver<String>>,
    /// The lines read so far.
    log: String,
}

/// A process that ended, or said nothing in time, while something was awaited from it.
#[derive(Debug)]
pub struct Ended {
    /// What did not happen, and all that the process printed.
    pub report: String,
}

impl Process {
    /// Starts a command; `name` is for failure messages.
    ///
    /// # Panics
    /// When there is no such program.
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

    /// Waits for a line from which something can be read, and returns that.
    ///
    /// # Errors
    /// When the process ends first, or the line does not come.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        mut read: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, Ended> {
        let deadline = Instant::now() + PATIENCE;
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
        // The signal goes by way of the shell: the standard library sends none but SIGKILL, and
        // Debian's kill program is in a package that need not be installed.
        let kill = format!("kill -{signal} {}", self.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(sent.success(), "{} has ended", self.name);
    }

    /// Waits for the end, and returns all that it printed, too.
    ///
    /// # Panics
    /// When the process does not end.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
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

    /// Waits for the end, and returns all that the process printed.
    ///
    /// # Panics
    /// When it does not end, or fails.
    pub fn output(self) -> String {
        let name = self.name;
        let (status, printed) = self.ended();
        assert!(status.success(), "{name} failed, {status}");
        printed
    }

    /// The number of the process.
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
        // Fails only when the process has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let lines = self.lines.get_mut().unwrap_or_else(PoisonError::into_inner);
            let rest: String = lines.iter().map(|line| line + "\n").collect();
            eprintln!("--- all that {} printed:\n{}{rest}---", self.name, self.log);
        }
    }
}

/// Kills processes that live in a static, which is never dropped, when the test program ends, however it ends.
#[derive(Debug)]
pub(super) struct Guard {
    /// The shell reads from it until it is closed with this program.
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

/// Passes lines on until the stream ends, so that the process never waits for a reader.
fn forward(stream: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { break };
            // The receiver is gone when the test is over; the process is about to be killed.
            let _ = lines.send(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
    });
}

/// Runs a command to its end and returns what it printed on stdout.
///
/// # Panics
/// When it fails; the message has all that it printed.
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
