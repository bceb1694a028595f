//! Reads the lines of all files as requests in order of their times.
//!
//! Servers and proxies write lines nearly in order. So some lines of each file are read ahead, and the earliest of them
//! comes next; files are merged the same way. A request that is further out of order is replayed late and counted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use super::access_log::AccessLog;
use super::recorded::Recorded;
use crate::limiter::Code;
use crate::telemetry::recording;
use crate::time::Micros;

/// Number of requests that are read ahead over all files: about 100 MB, and some seconds of a busy server.
const AHEAD: usize = 200_000;

/// Maximum length of a line, in bytes; a longer one is not a log line.
const MAX_LINE: u64 = recording::MAX_LINE as u64;

/// Name of standard input on the command line.
const STDIN: &str = "-";

/// Format of the lines.
#[derive(Debug)]
pub(super) enum Reading {
    /// A recording of a server.
    Recording,
    /// An access log of Envoy.
    AccessLog(AccessLog),
}

/// How to treat lines that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BrokenLines {
    /// Stop with an error.
    Fail,
    /// Skip and count them.
    Skip,
}

/// The requests of all files, in order of time.
pub(super) struct Input {
    sources: Vec<Source>,
    reading: Reading,
    broken: BrokenLines,
    pub(super) stats: InputStats,
    /// Time of the latest request so far.
    latest: Micros,
}

/// Counts of lines and of problems with them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct InputStats {
    /// Number of lines that were read.
    pub(super) lines: u64,
    /// Number of lines that could not be read.
    pub(super) skipped: u64,
    /// The error in the first skipped line.
    pub(super) first_skipped: Option<String>,
    /// Number of lines without a request.
    pub(super) without_request: u64,
    /// Number of requests that were replayed after a later one.
    pub(super) late: u64,
}

struct Source {
    name: String,
    lines: Box<dyn BufRead>,
    line: u64,
    is_read: bool,
    /// Requests read ahead; the earliest is on top.
    ahead: BinaryHeap<Reverse<Next>>,
}

/// A request and its position in the input.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) recorded: Recorded,
    source: usize,
    line: u64,
}

impl Next {
    /// Key of the order. The true order of requests with the same timestamp is unknown. With queries first, then allowed
    /// requests, then denied ones, each can get its recorded answer.
    fn order(&self) -> (Micros, u8, usize, u64) {
        let recorded = &self.recorded;
        let descriptors = &recorded.request.descriptors;
        let rank = match recorded.answer.map(|answer| answer.code) {
            Some(Code::OverLimit) => 2,
            Some(Code::Ok)
                if descriptors
                    .iter()
                    .all(|descriptor| recorded.request.hits(descriptor) == 0) =>
            {
                0
            }
            _ => 1,
        };
        (recorded.time, rank, self.source, self.line)
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Next {}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl Input {
    /// Opens the files.
    pub(super) fn open(
        paths: &[PathBuf],
        reading: Reading,
        broken: BrokenLines,
    ) -> anyhow::Result<Self> {
        let is_stdin = |path: &&PathBuf| path.as_os_str() == STDIN;
        anyhow::ensure!(
            paths.iter().filter(is_stdin).count() < 2,
            "standard input (-) can be read only once; remove the second -"
        );
        let sources = paths.iter().map(|path| Source::open(path));
        Ok(Self {
            sources: sources.collect::<Result<_, _>>()?,
            reading,
            broken,
            stats: InputStats::default(),
            latest: 0,
        })
    }

    /// Returns the next request, or `None` at the end of all files.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Next>> {
        let room = (AHEAD / self.sources.len()).max(1);
        for index in 0..self.sources.len() {
            while !self.sources[index].is_read && self.sources[index].ahead.len() < room {
                self.read_line(index)?;
            }
        }
        let first = self
            .sources
            .iter_mut()
            .filter(|source| !source.ahead.is_empty())
            .max_by(|one, two| one.ahead.peek().cmp(&two.ahead.peek()));
        let Some(Reverse(next)) = first.and_then(|source| source.ahead.pop()) else {
            return Ok(None);
        };
        if next.recorded.time < self.latest {
            self.stats.late += 1;
        }
        self.latest = self.latest.max(next.recorded.time);
        Ok(Some(next))
    }

    /// Position of a request, as `file:line`.
    pub(super) fn place(&self, next: &Next) -> String {
        format!("{}:{}", self.sources[next.source].name, next.line)
    }

    /// Counts a line that cannot be replayed.
    ///
    /// # Errors
    /// Unless such lines are skipped.
    pub(super) fn reject_line(&mut self, place: &str, why: &str) -> anyhow::Result<()> {
        let sentence = format!("{place}: {why}");
        anyhow::ensure!(
            self.broken == BrokenLines::Skip,
            "{sentence} (--skip-broken skips such lines)"
        );
        self.stats.skipped += 1;
        self.stats.first_skipped.get_or_insert(sentence);
        Ok(())
    }

    fn read_line(&mut self, index: usize) -> anyhow::Result<()> {
        let source = &mut self.sources[index];
        let Some(text) = source.next_line()? else {
            source.is_read = true;
            return Ok(());
        };
        let line = source.line;
        let read = match text {
            Ok(text) if text.trim().is_empty() => return Ok(()),
            Ok(text) => {
                self.stats.lines += 1;
                match &self.reading {
                    Reading::Recording => Recorded::read(text.trim_end()).map(Some),
                    Reading::AccessLog(log) => log.read(text.trim_end_matches(['\r', '\n'])),
                }
            }
            Err(why) => Err(why),
        };
        match read {
            Ok(Some(recorded)) => source.ahead.push(Reverse(Next {
                recorded,
                source: index,
                line,
            })),
            Ok(None) => self.stats.without_request += 1,
            Err(why) => {
                let place = format!("{}:{line}", source.name);
                self.reject_line(&place, &why)?;
            }
        }
        Ok(())
    }
}

impl Source {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let lines: Box<dyn BufRead> = if path.as_os_str() == STDIN {
            Box::new(io::stdin().lock())
        } else {
            let cannot = |error| {
                anyhow::anyhow!(
                    "{name} cannot be read: {error}; name a file, or - for standard input"
                )
            };
            let file = File::open(path).map_err(cannot)?;
            anyhow::ensure!(
                !file.metadata()?.is_dir(),
                "{name} is a directory; name the files in it"
            );
            Box::new(BufReader::with_capacity(1 << 18, file))
        };
        Ok(Self {
            name,
            lines,
            line: 0,
            is_read: false,
            ahead: BinaryHeap::new(),
        })
    }

    /// Returns the next line, the error in it, or `None` at the end.
    fn next_line(&mut self) -> anyhow::Result<Option<Result<String, String>>> {
        let cannot = |error| anyhow::anyhow!("{} cannot be read: {error}", self.name);
        if self.line == 0
            && self
                .lines
                .fill_buf()
                .map_err(cannot)?
                .starts_with(b"\x1f\x8b")
        {
            anyhow::bail!(
                "{name} is compressed; decompress it first: gunzip -c {name} | ratekeeper replay ... -",
                name = self.name
            );
        }
        let mut bytes = Vec::new();
        let read = self
            .lines
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut bytes);
        let read = u64::try_from(read.map_err(cannot)?).unwrap_or(u64::MAX);
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        if read == MAX_LINE && !bytes.ends_with(b"\n") {
            anyhow::bail!(
                "{}:{}: the line has more than {} MiB; this is not a log of requests",
                self.name,
                self.line,
                MAX_LINE >> 20
            );
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to() + 1;
            format!("the line is not UTF-8 at byte {at}; save it as UTF-8")
        });
        Ok(Some(text))
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input")
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
