//! The places in the file system that an answer depended on.
//!
//! Reading rule files notes here every directory that it passed through and what it looked for
//! there. As long as nothing happens in these places, reading again gives the same answer: that is
//! what makes watching them enough, whatever was linked, missing or swapped.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Real paths (no symbolic link in them), and what matters at each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct WatchedPaths {
    places: BTreeMap<PathBuf, Interest>,
}

/// What matters at a place, besides the place itself.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Interest {
    /// Every entry: the directory was listed.
    Everything,
    /// The entries that were looked up, found or not. None when the place is a file.
    Names(BTreeSet<OsString>),
}

impl WatchedPaths {
    /// Notes that a directory was listed.
    pub(super) fn listed(&mut self, directory: &Path) {
        self.places
            .insert(directory.to_owned(), Interest::Everything);
    }

    /// Notes that a name was looked up in a directory.
    pub(super) fn looked_up(&mut self, directory: &Path, name: &OsStr) {
        if let Interest::Names(names) = self.at(directory) {
            names.insert(name.to_owned());
        }
    }

    /// Notes that a file was read. Its directory is not enough: a file that is mounted alone, or has
    /// another hard link, is written to without its directory hearing of it.
    pub(super) fn opened(&mut self, file: &Path) {
        self.at(file);
    }

    /// Whether something that happened to `path` can change the answer.
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

    /// Whether this path is one to watch.
    pub(super) fn contains(&self, path: &Path) -> bool {
        self.places.contains_key(path)
    }

    fn at(&mut self, path: &Path) -> &mut Interest {
        self.places
            .entry(path.to_owned())
            .or_insert_with(|| Interest::Names(BTreeSet::new()))
    }
}
