//! The file of a recording: lines that threads hand over, written by a thread of its own.
//!
//! Whoever has a line appends it to a buffer that nobody else appends to, and goes on: no request waits for a disk. The
//! buffers are bounded; what does not fit is dropped and counted. What the lines say is the matter of whoever
//! makes them.

mod file;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use file::RecordingFile;

pub use file::{RecordingError, check};

/// The most bytes that wait in a buffer: some ten thousand requests, a tenth of a second of what a thread decides.
const MAX_WAITING: usize = 2 << 20;

/// The most bytes of a line. Longer ones are dropped: `replay` reads no longer ones either.
pub const MAX_LINE: usize = 4 << 20;

/// The most bytes that must be written before a recording counts as mended.
const MAX_OWED: usize = 64 << 10;

/// How long lines gather before they are written together.
const PAUSE: Duration = Duration::from_millis(20);

/// The longest that writing the rest may take once the server has stopped.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingSettings {
    /// The file. What it has already stays.
    pub path: PathBuf,
    /// The most bytes of the file and of the one before it together.
    pub max_bytes: u64,
}

/// A recording that goes on; [`end`](Self::end) writes the rest.
#[derive(Debug)]
pub struct Recording {
    shared: Arc<Shared>,
    ended: oneshot::Receiver<()>,
}

/// What threads get their [`Lines`] from.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Shared>);

/// What a thread hands its lines to.
#[derive(Debug, Clone)]
pub struct Lines {
    buffer: Arc<Mutex<Buffer>>,
    shared: Arc<Shared>,
}

/// How many lines there were, for metrics.
#[derive(Debug, Clone)]
pub struct Counts(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    buffers: Mutex<Vec<Arc<Mutex<Buffer>>>>,
    /// The writer is about to look at the buffers.
    is_woken: AtomicBool,
    wake: SyncSender<()>,
    is_over: AtomicBool,
    written: AtomicU64,
    /// There was no room for them.
    dropped: AtomicU64,
    /// They could not be written.
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    lines: u64,
}

impl Recording {
    /// Begins to record.
    ///
    /// # Errors
    /// When the file cannot be written to, or there is no thread for it.
    pub fn start(settings: &RecordingSettings) -> Result<Self, RecordingError> {
        let file = RecordingFile::open(settings)?;
        let (wake, woken) = mpsc::sync_channel(1);
        let shared = Arc::new(Shared {
            buffers: Mutex::default(),
            is_woken: AtomicBool::new(false),
            wake,
            is_over: AtomicBool::new(false),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let (end, ended) = oneshot::channel();
        let mut writer = Writer {
            file,
            shared: Arc::clone(&shared),
            spare: Buffer::default(),
            owed: None,
            has_told_of_dropped: false,
        };
        thread::Builder::new()
            .name("recording".to_owned())
            .spawn(move || {
                writer.run(&woken);
                // Nobody waits any more when the server was told to stop at once.
                let _ = end.send(());
            })
            .map_err(RecordingError::Thread)?;
        Ok(Self { shared, ended })
    }

    /// What threads get what they hand their lines to from.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// How many lines there were.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts(Arc::clone(&self.shared))
    }

    /// Writes the rest; takes five seconds at most.
    pub async fn end(self) {
        self.shared.is_over.store(true, Ordering::Release);
        // A wake that waits already does as well.
        let _ = self.shared.wake.try_send(());
        if tokio::time::timeout(PATIENCE, self.ended).await.is_err() {
            tracing::warn!("the end of the recording could not be written in {PATIENCE:?}");
        }
    }
}

impl Handle {
    /// What a thread hands its lines to.
    #[must_use]
    pub fn lines(&self) -> Lines {
        let buffer = Arc::default();
        lock(&self.0.buffers).push(Arc::clone(&buffer));
        Lines {
            buffer,
            shared: Arc::clone(&self.0),
        }
    }
}

impl Counts {
    /// Lines that were written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// Lines that were not, because they came too fast or could not be written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed) + self.0.failed.load(Ordering::Relaxed)
    }
}

impl Lines {
    /// Hands over a line, which `encode` appends with its end.
    pub fn push(&self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut buffer = lock(&self.buffer);
        if buffer.bytes.len() >= MAX_WAITING {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let begin = buffer.bytes.len();
        encode(&mut buffer.bytes);
        if buffer.bytes.len() - begin >= MAX_LINE {
            buffer.bytes.truncate(begin);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        buffer.lines += 1;
        drop(buffer);
        // Looking first keeps the line of the cache shared while the writer is busy.
        if !self.shared.is_woken.load(Ordering::Relaxed)
            && !self.shared.is_woken.swap(true, Ordering::AcqRel)
        {
            let _ = self.shared.wake.try_send(());
        }
    }
}

/// What the thread does.
struct Writer {
    file: RecordingFile,
    shared: Arc<Shared>,
    /// Changes places with the buffers, so that their memory is used again.
    spare: Buffer,
    /// What could not be written, in bytes, until as much could be: where a disk is nearly full, little still
    /// fits now and then, which is not worth a line in the log.
    owed: Option<usize>,
    has_told_of_dropped: bool,
}

impl Writer {
    fn run(&mut self, woken: &Receiver<()>) {
        while woken.recv().is_ok() {
            let is_over = self.shared.is_over.load(Ordering::Acquire);
            if !is_over {
                thread::sleep(PAUSE);
            }
            // Before the buffers are looked at, so that what comes behind wakes again.
            self.shared.is_woken.store(false, Ordering::Release);
            self.write_all();
            if is_over {
                return;
            }
        }
    }

    fn write_all(&mut self) {
        let buffers = lock(&self.shared.buffers).clone();
        for buffer in buffers {
            std::mem::swap(&mut *lock(&buffer), &mut self.spare);
            if self.spare.lines > 0 {
                self.write_spare();
            }
            self.spare.bytes.clear();
            self.spare.lines = 0;
        }
        if !self.has_told_of_dropped && self.shared.dropped.load(Ordering::Relaxed) > 0 {
            self.has_told_of_dropped = true;
            tracing::warn!(
                "requests come faster than they can be recorded, and some are not; \
                 ratekeeper_recorded_requests_total counts them, RECORD_SHARE records fewer"
            );
        }
    }

    fn write_spare(&mut self) {
        match self.file.write(&self.spare.bytes) {
            Ok(()) => {
                self.shared
                    .written
                    .fetch_add(self.spare.lines, Ordering::Relaxed);
                self.owed = self.owed.and_then(|owed| {
                    let left = owed.checked_sub(self.spare.bytes.len());
                    let left = left.filter(|&left| left > 0);
                    if left.is_none() {
                        tracing::warn!(path = %self.file.path(), "requests are recorded again");
                    }
                    left
                });
            }
            Err(failure) => {
                let lost = self.spare.lines.saturating_sub(failure.lines_written);
                self.shared
                    .written
                    .fetch_add(failure.lines_written, Ordering::Relaxed);
                self.shared.failed.fetch_add(lost, Ordering::Relaxed);
                let bytes = self.spare.bytes.len().min(MAX_OWED);
                if self.owed.replace(bytes).is_none() {
                    tracing::error!(
                        path = %self.file.path(),
                        error = %failure.cause,
                        "requests cannot be recorded, which costs none of them; this is tried again"
                    );
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // At worst, a line is broken.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
