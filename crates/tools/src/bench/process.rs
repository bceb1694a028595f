//! CPU time and memory of processes, as the kernel accounts them.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

/// A process to watch, written as `NAME=PID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watched {
    /// Name in the report.
    pub name: String,
    /// Process ID.
    pub pid: i32,
}

impl FromStr for Watched {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .and_then(|(name, pid)| {
                let pid = pid.parse().ok().filter(|pid| *pid > 0)?;
                let name = name.to_owned();
                Some(Self { name, pid })
            })
            .ok_or_else(|| "write NAME=PID, such as server=4711".to_owned())
    }
}

/// CPU time and memory of a process at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// CPU time, user and system, of all its threads; in steps of 10 ms.
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub memory: u64,
}

impl Watched {
    /// This process.
    pub(super) fn ourselves() -> Self {
        Self {
            name: "client".to_owned(),
            // Process ids are positive and have at most 22 bits.
            pid: i32::try_from(std::process::id()).unwrap_or_default(),
        }
    }

    /// Reads CPU time and memory.
    ///
    /// # Errors
    /// If the process does not exist.
    pub(super) fn read(&self) -> anyhow::Result<Reading> {
        read(self.pid).with_context(|| format!("cannot read process {} ({})", self.pid, self.name))
    }
}

#[cfg(target_os = "linux")]
fn read(pid: i32) -> anyhow::Result<Reading> {
    let stat = procfs::process::Process::new(pid)?.stat()?;
    let ticks = stat.utime + stat.stime;
    Ok(Reading {
        cpu: Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64),
        memory: stat.rss * procfs::page_size(),
    })
}

#[cfg(not(target_os = "linux"))]
fn read(_pid: i32) -> anyhow::Result<Reading> {
    anyhow::bail!("CPU times are read from /proc, which exists on Linux only; leave out --process")
}

// --- Between two moments ---

/// Usage of a process between two moments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    /// CPU time per wall-clock time: 1 is one processor.
    pub cpu: f64,
    /// Resident memory at the end, in bytes.
    pub memory: u64,
}

/// Readings of all processes at a moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Time of the readings.
    pub at: Instant,
    /// Readings of the watched processes; `None` for one that cannot be read.
    pub processes: Vec<Option<Reading>>,
    /// This process.
    client: Option<Reading>,
}

impl Snapshot {
    /// Reads all processes.
    pub(super) fn take(watched: &[Watched]) -> Self {
        Self {
            at: Instant::now(),
            processes: watched.iter().map(|one| one.read().ok()).collect(),
            client: Watched::ourselves().read().ok(),
        }
    }

    /// Usage between two moments: of the watched processes, and of this one.
    pub(super) fn between(before: &Self, after: &Self) -> (Vec<Option<Usage>>, Option<Usage>) {
        let time = (after.at - before.at).as_secs_f64();
        let usage = |(before, after): (&Option<Reading>, &Option<Reading>)| {
            let (before, after) = (before.as_ref()?, after.as_ref()?);
            Some(Usage {
                cpu: after.cpu.saturating_sub(before.cpu).as_secs_f64() / time,
                memory: after.memory,
            })
        };
        let processes = before.processes.iter().zip(&after.processes);
        (
            processes.map(usage).collect(),
            usage((&before.client, &after.client)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_process_ids_are_typed_together() {
        let server = Watched {
            name: "server".to_owned(),
            pid: 42,
        };
        assert_eq!("server=42".parse(), Ok(server));
        for text in [
            "",
            "42",
            "server=",
            "=42",
            "server=x",
            "server=-1",
            "server=0",
        ] {
            assert!(text.parse::<Watched>().is_err(), "{text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn work_increases_the_cpu_time() {
        let ourselves = Watched::ourselves();
        let before = ourselves.read().unwrap();
        assert!(before.memory > 100_000);
        // Ends when the CPU time increases.
        while ourselves.read().unwrap().cpu == before.cpu {}
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let watched = "redis=2147483647".parse::<Watched>().unwrap();
        let error = watched.read().unwrap_err().to_string();
        assert!(error.contains("2147483647 (redis)"), "{error}");
    }
}
