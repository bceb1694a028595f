//! The paths that the result of reading depends on.
//!
//! Reading files records every directory that it passes through and the names that it looks up there. If nothing happens at
//! these paths, reading again gives the same result. Watching them is therefore sufficient, also for links, missing files and
//! replaced directories.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Real paths, without symbolic links, and the relevant entries at each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct WatchedPaths {
    places: BTreeMap<PathBuf, Interest>,
}

/// The relevant entries at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Interest {
    /// All entries, because the directory was listed.
    Everything,
    /// The names that were looked up, whether they exist or not. Empty for a file.
    Names(BTreeSet<OsString>),
}

impl WatchedPaths {
    /// Records that a directory was listed.
    pub(super) fn listed(&mut self, directory: &Path) {
        self.places
            .insert(directory.to_owned(), Interest::Everything);
    }

    /// Records that a name was looked up in a directory.
    pub(super) fn looked_up(&mut self, directory: &Path, name: &OsStr) {
        if let Interest::Names(names) = self.at(directory) {
            names.insert(name.to_owned());
        }
    }

    /// Records that a file was read.
    ///
    /// Watching its directory is not sufficient: changes of a file that is mounted alone, or through another hard link, cause
    /// no event there.
    pub(super) fn opened(&mut self, file: &Path) {
        self.at(file);
    }

    /// Whether an event at `path` can change the result.
    pub(super) fn depend_on(&self, path: &Path) -> bool {
        let Some((directory, name)) = path.parent().zip(path.file_name()) else {
            return self.places.contains_key(path);
        };
        self.places.contains_key(path)
            || match self.places.get(directory) {
                Some(Interest::Everything) => true,
                Some(Interest::Names(names)) => names.contains(name),
                None => false,
            }
    }

    /// The paths to watch.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.places.keys().map(PathBuf::as_path)
    }

    /// Whether this path is to be watched.
    pub(super) fn contains(&self, path: &Path) -> bool {
        self.places.contains_key(path)
    }

    fn at(&mut self, path: &Path) -> &mut Interest {
        self.places
            .entry(path.to_owned())
            .or_insert_with(|| Interest::Names(BTreeSet::new()))
    }
}
