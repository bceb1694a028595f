//! Watches places through the operating system, or admits that it cannot.
//!
//! It says only that something may have happened, never what; whoever is poked looks for himself.
//! Where events cannot be had, [`Events::patience`] tells how often to look without being poked.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tracing::warn;

use super::Poke;
use super::watched_paths::WatchedPaths;

/// How often to look where events cannot be had: twice within the second that a reload may take.
const POLL: Duration = Duration::from_millis(500);

/// How often to look all the same. Network file systems, and directories that are shared with a
/// virtual machine, report nothing of what others write.
const CHECK: Duration = Duration::from_secs(30);

/// Watches places and pokes.
pub(super) struct Events {
    /// `None` when the operating system gives no watches.
    watcher: Option<RecommendedWatcher>,
    /// What is watched, shared with the event handler: most events in `/` or `/tmp` are not about us.
    places: Arc<Mutex<WatchedPaths>>,
    /// Whether a place could not be watched.
    blind: bool,
    /// Whether the log knows that events cannot be had.
    warned: bool,
}

impl Events {
    /// A events that watches nothing yet.
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

    /// A events that never pokes.
    pub(super) fn without_events() -> Self {
        Self {
            watcher: None,
            places: Arc::default(),
            blind: false,
            warned: false,
        }
    }

    /// Watches exactly these places from now on.
    ///
    /// Every place is watched anew, each time. A path may name another directory than before, under
    /// the same inode number even, and then the old watch is worth nothing; for one that has not
    /// changed this costs a system call and loses no event.
    pub(super) fn watch(&mut self, places: &WatchedPaths) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let before = std::mem::replace(&mut *lock(&self.places), places.clone());
        for path in before.paths().filter(|path| !places.contains(path)) {
            // It fails when the place is gone, and its watch with it.
            let _ = watcher.unwatch(path);
        }
        self.blind = false;
        for path in places.paths() {
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {}
                // Its parent is watched already, and pokes.
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

    /// How long to wait for a poke before looking without one.
    pub(super) fn patience(&self) -> Duration {
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
                %cause,
                "file events cannot be had, so files are read every {} ms instead; \
                 raise fs.inotify.max_user_instances and fs.inotify.max_user_watches on this machine",
                POLL.as_millis()
            );
        }
    }
}

/// Says once that a place cannot be watched.
fn warn_of_place(warned: &mut bool, path: &Path, cause: &notify::Error) {
    if !std::mem::replace(warned, true) {
        warn!(
            path = %path.display(),
            %cause,
            "something on the way to the files cannot be watched, so they are read every {} ms \
             as well; let the user whom this process runs as read it",
            POLL.as_millis()
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

/// Whether an event can mean other rules. Reading is none of them, or every look would cause the next.
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

/// What is under the lock is replaced whole, so that a panic elsewhere cannot have left it half done.
fn lock(places: &Mutex<WatchedPaths>) -> MutexGuard<'_, WatchedPaths> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, Flag, ModifyKind};

    use super::*;

    #[test]
    fn only_what_can_mean_other_rules_pokes() {
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
