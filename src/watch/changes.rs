//! Reads files again when they change.
//!
//! A separate thread waits for events and reads, because file systems can hang and the runtime's workers must not. The
//! thread ends when its [`Changes`] are dropped.

use std::future::pending;
use std::io;
use std::sync::mpsc::Receiver;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tracing::error;

use super::events::Events;
use super::survey::{Survey, survey};
use super::{Location, Poke, ReadError, TextFile};

/// Files are read when no event has arrived for this time, because saving a file causes several events.
const QUIET: Duration = Duration::from_millis(50);

/// Maximum delay of reading while events keep arriving.
const MAX_DELAY: Duration = Duration::from_millis(300);

/// Maximum number of immediate attempts to read files that change while they are read.
const MAX_WALKS: usize = 8;

/// Reading without events takes at most one part in this many of the time.
const IDLE_PARTS: u32 = 20;

/// The contents of all files.
type Files = Result<Vec<TextFile>, ReadError>;

/// Reads the files and starts to watch them. No change after the first result is missed.
///
/// It blocks until the files are read, so it must be called at the start.
///
/// # Examples
/// ```
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// use ratekeeper::watch::{Location, watch};
///
/// let directory = tempfile::tempdir()?;
/// let file = directory.path().join("rules.yaml");
/// let (files, mut changes) = watch(Location::Path(file.clone()));
/// assert!(files.is_err(), "it does not exist yet");
///
/// std::fs::write(file, "domain: shop")?;
/// let files = changes.next().await?;
/// assert_eq!(files[0].text, "domain: shop");
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the first result and the changes are for the caller"]
pub fn watch(location: Location) -> (Files, Changes) {
    let (files, changes, thread) = begin(location, Events::new);
    if let Err(cause) = thread {
        // The receiver of changes gets an error without this cause.
        error!(error = %cause, "thread that watches files could not be started");
    }
    (files, changes)
}

/// Changes of the files.
#[derive(Debug)]
pub struct Changes {
    location: Location,
    files: mpsc::Receiver<Files>,
    poke: Poke,
    over: bool,
}

impl Changes {
    /// Waits until the files differ from the last result in names, in contents or in the error, and returns them.
    ///
    /// It is cancel-safe. A slow caller gets the changes in order.
    ///
    /// # Errors
    /// If the files cannot be read. Watching continues, and the files are returned once they can be read again, even if they
    /// are unchanged. [`ReadError::Unwatched`] is returned at most once, and nothing follows it.
    pub async fn next(&mut self) -> Files {
        if let Some(files) = self.files.recv().await {
            return files;
        }
        if !self.over {
            self.over = true;
            return Err(ReadError::Unwatched {
                path: self.location.top(),
            });
        }
        pending().await
    }

    /// Returns a handle that requests reading the files again without an event.
    #[must_use]
    pub fn poke(&self) -> Poke {
        self.poke.clone()
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        // The thread must find the channel closed when it wakes. It is not joined, because it may be reading from a file
        // system that hangs.
        self.files.close();
        self.poke.poke();
    }
}

/// The first result, the changes after it, and the thread that detects them.
type Begun = (Files, Changes, io::Result<JoinHandle<()>>);

fn begin(location: Location, events: impl FnOnce(Poke) -> Events) -> Begun {
    let (poke, pokes) = Poke::channel();
    let (sender, receiver) = mpsc::channel(1);
    let mut watch = Watch {
        location: location.clone(),
        events: events(poke.clone()),
        poke: poke.clone(),
        last: Fingerprint::default(),
        effort: Duration::ZERO,
    };
    let files = watch.settled();
    watch.last = fingerprint(&files);
    let thread = Builder::new()
        .name("files".to_owned())
        .spawn(move || watch.run(&pokes, &sender));
    let changes = Changes {
        location,
        files: receiver,
        poke,
        over: false,
    };
    (files, changes, thread)
}

/// The state of the watching thread.
struct Watch {
    location: Location,
    events: Events,
    poke: Poke,
    /// The fingerprint of the last result.
    last: Fingerprint,
    /// Duration of the last reading.
    effort: Duration,
}

impl Watch {
    fn run(mut self, pokes: &Receiver<()>, sender: &mpsc::Sender<Files>) {
        loop {
            self.rest(pokes);
            if sender.is_closed() {
                return;
            }
            let files = self.settled();
            let fingerprint = fingerprint(&files);
            if fingerprint == self.last {
                continue;
            }
            self.last = fingerprint;
            if sender.blocking_send(files).is_err() {
                return;
            }
        }
    }

    /// Waits until the files must be read.
    fn rest(&self, pokes: &Receiver<()>) {
        let interval = self.events.interval().max(self.effort * IDLE_PARTS);
        if pokes.recv_timeout(interval).is_err() {
            return;
        }
        let latest = Instant::now() + MAX_DELAY;
        while let Some(left) = latest.checked_duration_since(Instant::now()) {
            if pokes.recv_timeout(left.min(QUIET)).is_err() {
                return;
            }
        }
    }

    /// Watches the files and reads them.
    ///
    /// The paths to watch are known only after reading, and changes between reading and watching would be missed. The files
    /// are therefore read, watched and read again until two successive readings agree in contents and paths. The last one
    /// began after all its paths were watched: earlier changes are in the result, and later ones cause an event. This also
    /// prevents a mixture of two versions if files are replaced during reading.
    fn settled(&mut self) -> Files {
        let start = Instant::now();
        let mut last = survey(&self.location);
        for _ in 1..MAX_WALKS {
            self.events.watch(&last.places);
            let again = survey(&self.location);
            let agree = is_same(&last, &again);
            last = again;
            if agree {
                self.effort = start.elapsed();
                return last.files;
            }
        }
        // Files that keep changing are returned as they are and read again soon.
        self.poke.poke();
        self.effort = start.elapsed();
        last.files
    }
}

fn is_same(one: &Survey, other: &Survey) -> bool {
    one.places == other.places && fingerprint(&one.files) == fingerprint(&other.files)
}

/// A hash of the files, so that their contents need not be kept.
type Fingerprint = [u8; 32];

fn fingerprint(files: &Files) -> Fingerprint {
    let mut hash = Sha256::new();
    // Lengths keep (`a`, `bc`) and (`ab`, `c`) apart; the first byte keeps errors and files apart.
    let mut add = |text: &str| {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    };
    match files {
        Ok(files) => {
            add("files");
            for file in files {
                add(&file.name);
                add(&file.text);
            }
        }
        Err(error) => {
            add("error");
            add(&error.to_string());
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn changes_are_detected_without_events() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        let (files, mut changes, _) =
            begin(Location::Path(file.clone()), |_| Events::without_events());
        assert!(files.is_err());
        fs::write(dir.path().join("new"), "1").unwrap();
        fs::rename(dir.path().join("new"), file).unwrap();
        assert_eq!(changes.next().await.unwrap()[0].text, "1");
    }

    #[test]
    fn the_thread_ends_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let (_, changes, thread) = begin(Location::Path(dir.path().to_owned()), Events::new);
        drop(changes);
        thread.unwrap().join().unwrap();
    }

    #[tokio::test]
    async fn a_thread_that_ended_is_reported_once() {
        let (_, files) = mpsc::channel(1);
        let location = Location::Path("rules".into());
        let mut changes = Changes {
            location,
            files,
            poke: Poke::channel().0,
            over: false,
        };
        let error = changes.next().await.unwrap_err();
        assert_eq!(
            error,
            ReadError::Unwatched {
                path: "rules".into()
            }
        );
        tokio::select! {
            biased;
            _ = changes.next() => panic!("reported twice"),
            () = std::future::ready(()) => {}
        }
    }
}
