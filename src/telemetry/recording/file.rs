//! The file itself: appended to in whole lines, replaced by a new one when it is full or gone.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Display, Path, PathBuf};

use thiserror::Error;

use super::RecordingSettings;

/// Who may read what clients sent: whom the server runs as.
const MODE: u32 = 0o600;

/// Why there can be no recording.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// It is no file.
    #[error("RECORD_PATH={}: this is {what}; name a file, such as {}", path.display(), path.join("requests.jsonl").display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It has something else in it.
    #[error("RECORD_PATH={}: there is something else in this file; name one for the recording alone", path.display())]
    NotARecording {
        /// What was named.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("RECORD_PATH={}: it cannot be written to: {cause}; name a file in a directory that the server may write to", path.display())]
    Unwritable {
        /// What was named.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// The operating system has no thread for it.
    #[error("the thread that writes the recording cannot be made: {0}")]
    Thread(io::Error),
}

/// Why lines were not written.
#[derive(Debug)]
pub(super) struct Failure {
    /// Those before that were.
    pub(super) lines_written: u64,
    pub(super) cause: io::Error,
}

/// Whether there can be a recording; makes the file.
///
/// # Errors
/// When there cannot.
pub fn check(settings: &RecordingSettings) -> Result<(), RecordingError> {
    RecordingFile::open(settings).map(drop)
}

/// A file of lines.
#[derive(Debug)]
pub(super) struct RecordingFile {
    path: PathBuf,
    /// Where what it had goes when it is full; what was there before is gone then.
    before: PathBuf,
    max_bytes: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
    /// Which file it is, whatever it is called meanwhile.
    identity: (u64, u64),
}

impl RecordingFile {
    pub(super) fn open(settings: &RecordingSettings) -> Result<Self, RecordingError> {
        let path = settings.path.clone();
        if let Ok(there) = fs::metadata(&path)
            && !there.is_file()
        {
            let what = match there.is_dir() {
                true => "a directory",
                false => "no file",
            };
            return Err(RecordingError::NotAFile { path, what });
        }
        if has_something_else(&path) {
            return Err(RecordingError::NotARecording { path });
        }
        let mut before = OsString::from(&path);
        before.push(".1");
        let open = match open(&path) {
            Ok(open) => Some(open),
            Err(cause) => return Err(RecordingError::Unwritable { path, cause }),
        };
        Ok(Self {
            before: before.into(),
            // Two files share it.
            max_bytes: settings.max_bytes / 2,
            path,
            open,
        })
    }

    pub(super) fn path(&self) -> Display<'_> {
        self.path.display()
    }

    /// Appends whole lines.
    pub(super) fn write(&mut self, all: &[u8]) -> Result<(), Failure> {
        let mut lines = all;
        while !lines.is_empty() {
            let failure = |cause| Failure {
                lines_written: count_lines(&all[..all.len() - lines.len()]),
                cause,
            };
            self.make_ready(first_line(lines)).map_err(failure)?;
            let open = self.open.as_mut().expect("it was made ready");
            let room = self.max_bytes.saturating_sub(open.bytes);
            let (piece, rest) = lines.split_at(whole_lines(lines, room));
            if let Err(cause) = open.append(piece) {
                self.open = None;
                return Err(failure(cause));
            }
            lines = rest;
        }
        Ok(())
    }

    /// Opens the file if it is not open, or no longer there, or has no room for so many bytes.
    fn make_ready(&mut self, bytes: usize) -> io::Result<()> {
        let there = fs::metadata(&self.path).ok().map(|there| identity(&there));
        if let Some(open) = &self.open
            && there == Some(open.identity)
        {
            if open.bytes == 0
                || open.bytes + u64::try_from(bytes).unwrap_or(u64::MAX) <= self.max_bytes
            {
                return Ok(());
            }
            fs::rename(&self.path, &self.before)?;
        }
        self.open = None;
        self.open = Some(open(&self.path)?);
        Ok(())
    }
}

impl Open {
    /// Appends all of it, or nothing.
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Err(cause) = self.file.write_all(lines) {
            // Half a line would be a broken one. Where that fails, the next to open it ends it.
            let _ = self.file.set_len(self.bytes);
            return Err(cause);
        }
        self.bytes += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        Ok(())
    }
}

/// Opens a file to append to, and ends its last line if that was never ended.
fn open(path: &Path) -> io::Result<Open> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(MODE)
        .open(path)?;
    let there = file.metadata()?;
    let mut bytes = there.len();
    if bytes > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            bytes += 1;
        }
    }
    Ok(Open {
        file,
        bytes,
        identity: identity(&there),
    })
}

/// Whether a file that is there begins otherwise than a recording.
fn has_something_else(path: &Path) -> bool {
    let mut first = [0; 1];
    let read = File::open(path).and_then(|mut file| file.read(&mut first));
    read.is_ok_and(|count| count > 0 && first != *b"{")
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// The length of the first line, its end included.
fn first_line(lines: &[u8]) -> usize {
    let end = lines.iter().position(|&byte| byte == b'\n');
    end.map_or(lines.len(), |end| end + 1)
}

/// The length of as many whole lines as fit, but at least one.
fn whole_lines(lines: &[u8], room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if lines.len() <= room {
        return lines.len();
    }
    let end = lines[..room].iter().rposition(|&byte| byte == b'\n');
    end.map_or_else(|| first_line(lines), |end| end + 1)
}

fn count_lines(lines: &[u8]) -> u64 {
    let count = lines.iter().filter(|&&byte| byte == b'\n').count();
    u64::try_from(count).unwrap_or(u64::MAX)
}
