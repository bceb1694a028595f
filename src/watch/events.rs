//! File events of the operating system, if it provides them.
//!
//! An event only means that files may have changed; the receiver reads them again. [`Events::interval`] is the time after which
//! files must be read without an event.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tracing::warn;

use super::Poke;
use super::watched_paths::WatchedPaths;

/// Interval of reading without events: twice within the second that a reload may take.
const POLL: Duration = Duration::from_millis(500);

/// Interval of reading with events. Network file systems, and directories that are shared with a virtual machine, report no
/// events for changes by other machines.
const CHECK: Duration = Duration::from_secs(30);

/// Watches paths and requests reading when an event arrives.
pub(super) struct Events {
    /// `None` if the operating system provides no events.
    watcher: Option<RecommendedWatcher>,
    /// The watched paths, shared with the event handler, which ignores events of other files in `/` or `/tmp`.
    places: Arc<Mutex<WatchedPaths>>,
    /// Whether a path could not be watched.
    blind: bool,
    /// Whether a warning has been logged.
    warned: bool,
}

impl Events {
    /// Returns events without watched paths.
    pub(super) fn new(poke: Poke) -> Self {
        let mut events = Self::without_events();
        let places = Arc::clone(&events.places);
        match notify::recommended_watcher(move |event| {
            if matters(&event, &lock(&places)) {
                poke.poke();
            }
        }) {
            Ok(watcher) => events.watcher = Some(watcher),
            Err(cause) => events.give_up(&cause),
        }
        events
    }

    /// Returns events that never arrive.
    pub(super) fn without_events() -> Self {
        Self {
            watcher: None,
            places: Arc::default(),
            blind: false,
            warned: false,
        }
    }

    /// Watches exactly these paths from now on.
    ///
    /// All paths are watched again each time: a path may name another directory than before, even with the same inode number,
    /// and the old watch would report nothing. For an unchanged path, this costs a system call and loses no event.
    pub(super) fn watch(&mut self, places: &WatchedPaths) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let before = std::mem::replace(&mut *lock(&self.places), places.clone());
        for path in before.paths().filter(|path| !places.contains(path)) {
            // It fails if the path does not exist any more; its watch has ended then.
            let _ = watcher.unwatch(path);
        }
        self.blind = false;
        for path in places.paths() {
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {}
                // Its parent is watched and causes an event.
                Err(cause) if is_gone(&cause) => {}
                Err(cause) if matches!(cause.kind, notify::ErrorKind::MaxFilesWatch) => {
                    self.give_up(&cause);
                    return;
                }
                Err(cause) => {
                    self.blind = true;
                    warn_of_place(&mut self.warned, path, &cause);
                }
            }
        }
    }

    /// Time after which files must be read without an event.
    pub(super) fn interval(&self) -> Duration {
        if self.watcher.is_none() || self.blind {
            POLL
        } else {
            CHECK
        }
    }

    fn give_up(&mut self, cause: &notify::Error) {
        self.watcher = None;
        if !std::mem::replace(&mut self.warned, true) {
            warn!(
                error = %cause,
                interval = ?POLL,
                "file events unavailable, reading files periodically; \
                 raise fs.inotify.max_user_instances and fs.inotify.max_user_watches on this machine"
            );
        }
    }
}

/// Logs once that a path cannot be watched.
fn warn_of_place(warned: &mut bool, path: &Path, cause: &notify::Error) {
    if !std::mem::replace(warned, true) {
        warn!(
            path = %path.display(),
            error = %cause,
            interval = ?POLL,
            "path cannot be watched, reading files periodically; let the user of this process read it"
        );
    }
}

fn is_gone(cause: &notify::Error) -> bool {
    match &cause.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(cause) => {
            matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        }
        _ => false,
    }
}

/// Whether an event can mean that files have changed. Events of reading do not, or each reading would cause the next.
fn matters(event: &notify::Result<Event>, places: &WatchedPaths) -> bool {
    let Ok(event) = event else {
        return true;
    };
    let read_only = match event.kind {
        EventKind::Access(kind) => kind != AccessKind::Close(AccessMode::Write),
        _ => false,
    };
    let ours = || event.paths.iter().any(|path| places.depend_on(path));
    event.need_rescan() || (!read_only && ours())
}

/// Locks the paths. They are replaced as a whole, so that a panic cannot leave them inconsistent.
fn lock(places: &Mutex<WatchedPaths>) -> MutexGuard<'_, WatchedPaths> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, Flag, ModifyKind};

    use super::*;

    #[test]
    fn only_events_of_watched_paths_matter() {
        let mut places = WatchedPaths::default();
        places.listed(Path::new("/etc/rules"));
        places.opened(Path::new("/etc/rules/a.yaml"));
        places.looked_up(Path::new("/etc"), "rules".as_ref());
        places.looked_up(Path::new("/"), "etc".as_ref());
        let create = EventKind::Create(CreateKind::File);
        let modify = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let open = EventKind::Access(AccessKind::Open(AccessMode::Any));
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        for (kind, path, expected) in [
            (create, "/etc/rules/b", true),
            (create, "/etc/rules", true),
            (create, "/etc/passwd", false),
            (create, "/tmp", false),
            (create, "/etc/rules/b/c", false),
            (modify, "/etc/rules/a.yaml", true),
            (closed, "/etc/rules/a.yaml", true),
            (open, "/etc/rules/a.yaml", false),
            (open, "/etc/rules", false),
        ] {
            let event = Event::new(kind).add_path(path.into());
            assert_eq!(matters(&Ok(event), &places), expected, "{kind:?} {path}");
        }
        let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert!(matters(&Ok(overflow), &places));
        assert!(matters(&Err(notify::Error::generic("lost")), &places));
    }
}
