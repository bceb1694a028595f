//! Tells what the rule files say, whenever that has changed.
//!
//! A thread of its own waits for events and reads: file systems can hang, and a runtime's workers
//! must not hang with them. It ends when its [`Changes`] are dropped.

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

/// Nothing is read before events have been absent for so long: a save is several of them.
const QUIET: Duration = Duration::from_millis(50);

/// Events that never pause put off reading no longer than this.
const MAX_DELAY: Duration = Duration::from_millis(300);

/// How often files are read again, at once, that change while they are read.
const MAX_WALKS: usize = 8;

/// Reading without being poked takes at most one part in so many of the time.
const IDLE_PARTS: u32 = 20;

/// What the files say, all of them.
type Files = Result<Vec<TextFile>, ReadError>;

/// Reads the files, and watches them from then on: no change after the first result is missed.
///
/// It blocks until they are read; meant for the start.
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
#[must_use = "what is watched is worth reading"]
pub fn watch(location: Location) -> (Files, Changes) {
    let (files, changes, thread) = begin(location, Events::new);
    if let Err(cause) = thread {
        // `Changes` tell the consumer; why it happened is known only here.
        error!(%cause, "the thread that watches files could not be started");
    }
    (files, changes)
}

/// What the files say, each time that this has become something else.
#[derive(Debug)]
pub struct Changes {
    location: Location,
    told: mpsc::Receiver<Files>,
    poke: Poke,
    over: bool,
}

impl Changes {
    /// Waits until the files say something else than was told last: other names, other text, or
    /// another reason why they cannot be read.
    ///
    /// Cancelling loses nothing. A consumer that is slow gets the changes in order.
    ///
    /// # Errors
    /// When the files cannot be read now. Waiting goes on afterwards; once they can be read again,
    /// they are told even if they say what they said before. [`ReadError::Unwatched`] is told at
    /// most once, and nothing follows it.
    pub async fn next(&mut self) -> Files {
        if let Some(files) = self.told.recv().await {
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

    /// What has the files read again now, whether or not anything seems to have happened to them.
    #[must_use]
    pub fn poke(&self) -> Poke {
        self.poke.clone()
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        // The thread must find the channel closed when it wakes. It is not waited for: it may be in
        // the middle of a read from a file system that hangs.
        self.told.close();
        self.poke.poke();
    }
}

/// The first result, what follows it, and the thread that both hang on.
type Begun = (Files, Changes, io::Result<JoinHandle<()>>);

fn begin(location: Location, events: impl FnOnce(Poke) -> Events) -> Begun {
    let (poke, pokes) = Poke::channel();
    let (tell, told) = mpsc::channel(1);
    let mut watch = Watch {
        location: location.clone(),
        events: events(poke.clone()),
        poke: poke.clone(),
        told: Fingerprint::default(),
        effort: Duration::ZERO,
    };
    let files = watch.settled();
    watch.told = fingerprint(&files);
    let thread = Builder::new()
        .name("files".to_owned())
        .spawn(move || watch.run(&pokes, &tell));
    let changes = Changes {
        location,
        told,
        poke,
        over: false,
    };
    (files, changes, thread)
}

/// The state of the thread.
struct Watch {
    location: Location,
    events: Events,
    poke: Poke,
    /// Of what was told last.
    told: Fingerprint,
    /// How long the last look took.
    effort: Duration,
}

impl Watch {
    fn run(mut self, pokes: &Receiver<()>, tell: &mpsc::Sender<Files>) {
        loop {
            self.rest(pokes);
            if tell.is_closed() {
                return;
            }
            let files = self.settled();
            let fingerprint = fingerprint(&files);
            if fingerprint == self.told {
                continue;
            }
            self.told = fingerprint;
            if tell.blocking_send(files).is_err() {
                return;
            }
        }
    }

    /// Waits until it is time to look.
    fn rest(&self, pokes: &Receiver<()>) {
        let patience = self.events.patience().max(self.effort * IDLE_PARTS);
        if pokes.recv_timeout(patience).is_err() {
            return;
        }
        let latest = Instant::now() + MAX_DELAY;
        while let Some(left) = latest.checked_duration_since(Instant::now()) {
            if pokes.recv_timeout(left.min(QUIET)).is_err() {
                return;
            }
        }
    }

    /// Watches, and reads what the files say.
    ///
    /// What is to be watched is known only after reading, yet what changes between reading and
    /// watching would go unnoticed. So it is read, watched and read again, until two readings in a
    /// row agree in text and places. The last of them began after all its places were watched: what
    /// changed before it is in the result, what changes later pokes. That also keeps the halves of
    /// two versions apart when files are exchanged meanwhile.
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
        // Files that never rest are told as they are, and looked at again soon.
        self.poke.poke();
        self.effort = start.elapsed();
        last.files
    }
}

fn is_same(one: &Survey, other: &Survey) -> bool {
    one.places == other.places && fingerprint(&one.files) == fingerprint(&other.files)
}

/// Stands for what the files say, so that their text need not be kept.
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
    async fn without_events_changes_are_noticed_all_the_same() {
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
    async fn a_thread_that_ended_is_told_once() {
        let (_, told) = mpsc::channel(1);
        let location = Location::Path("rules".into());
        let mut changes = Changes {
            location,
            told,
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
            _ = changes.next() => panic!("told twice"),
            () = std::future::ready(()) => {}
        }
    }
}
