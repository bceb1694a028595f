//! Reads all files of a location, and records the paths that the result depends on.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::resolve::{Found, Unresolved, resolve};
use super::watched_paths::WatchedPaths;
use super::{Location, MAX_BYTES, MAX_DEPTH, MAX_ENTRIES, ReadError, TextFile};

/// The result of a walk.
#[derive(Debug)]
pub(super) struct Survey {
    /// All files sorted by name, or the first error in the order of names.
    pub(super) files: Result<Vec<TextFile>, ReadError>,
    /// The paths that the result depends on; complete even after an error.
    pub(super) places: WatchedPaths,
}

/// Reads all files of a location.
pub(super) fn survey(location: &Location) -> Survey {
    let mut walk = Walk {
        location,
        places: WatchedPaths::default(),
        files: Vec::new(),
        bytes: 0,
        entries: 0,
        open: Vec::new(),
    };
    let files = walk.all().map(|()| {
        walk.files.sort_by(|a, b| a.name.cmp(&b.name));
        walk.files
    });
    Survey {
        files,
        places: walk.places,
    }
}

/// The state of a walk.
struct Walk<'a> {
    location: &'a Location,
    places: WatchedPaths,
    files: Vec<TextFile>,
    /// Bytes read so far.
    bytes: u64,
    /// Directory entries seen so far.
    entries: usize,
    /// The real paths of the directories that the walk is in, outermost first.
    open: Vec<PathBuf>,
}

impl Walk<'_> {
    fn all(&mut self) -> Result<(), ReadError> {
        match self.location {
            Location::Files(paths) => paths.iter().try_for_each(|path| self.only(path)),
            Location::Path(_) | Location::Runtime { .. } => self.top(),
        }
    }

    /// Reads a file that is configured by its path.
    fn only(&mut self, shown: &Path) -> Result<(), ReadError> {
        match self.named(shown)? {
            Found::File(real) => self.file(shown, &real),
            Found::Directory(_) | Found::Special => Err(ReadError::NotAFile {
                path: shown.to_owned(),
            }),
        }
    }

    fn top(&mut self) -> Result<(), ReadError> {
        let shown = self.location.top();
        match self.named(&shown)? {
            Found::Directory(real) => self.directory(&shown, real),
            Found::File(real) => self.file(&shown, &real),
            Found::Special => Err(ReadError::NotAFile { path: shown }),
        }
    }

    /// Resolves a configured path.
    fn named(&mut self, shown: &Path) -> Result<Found, ReadError> {
        let start =
            std::env::current_dir().map_err(|cause| ReadError::unreadable(shown, &cause))?;
        // A relative path also depends on the path of the working directory.
        let path = start.join(shown);
        match resolve(Path::new("/"), &path, &mut self.places) {
            Ok(found) => Ok(found),
            Err(Unresolved::Missing {
                missing,
                linked: false,
            }) => Err(ReadError::NotFound {
                path: shown.to_owned(),
                missing,
            }),
            Err(unresolved) => Err(mistake(shown, unresolved)),
        }
    }

    fn directory(&mut self, shown: &Path, real: PathBuf) -> Result<(), ReadError> {
        if self.open.contains(&real) {
            return Err(ReadError::LinkLoop {
                path: shown.to_owned(),
            });
        }
        if self.open.len() > MAX_DEPTH {
            return Err(ReadError::TooDeep {
                path: shown.to_owned(),
            });
        }
        self.places.listed(&real);
        let names = self.names(shown, &real)?;
        self.open.push(real.clone());
        for name in names {
            self.entry(shown, &real, name)?;
        }
        self.open.pop();
        Ok(())
    }

    /// The entries of a directory, sorted so that the same of several errors is always reported.
    fn names(&mut self, shown: &Path, real: &Path) -> Result<Vec<OsString>, ReadError> {
        let unreadable = |cause: io::Error| ReadError::unreadable(shown, &cause);
        let mut names = Vec::new();
        for entry in fs::read_dir(real).map_err(unreadable)? {
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(ReadError::TooMany {
                    path: shown.to_owned(),
                });
            }
            let name = entry.map_err(unreadable)?.file_name();
            if !self.location.skips(&name) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn entry(
        &mut self,
        parent: &Path,
        real_parent: &Path,
        name: OsString,
    ) -> Result<(), ReadError> {
        let shown = parent.join(&name);
        match resolve(real_parent, Path::new(&name), &mut self.places) {
            Ok(Found::Directory(real)) => self.directory(&shown, real),
            Ok(Found::File(real)) if self.location.takes_file(&name) => self.file(&shown, &real),
            Ok(Found::File(_) | Found::Special) => Ok(()),
            // It was removed since the directory was listed, as editors do with temporary files.
            Err(Unresolved::Missing { linked: false, .. }) => Ok(()),
            Err(unresolved) => Err(mistake(&shown, unresolved)),
        }
    }

    fn file(&mut self, shown: &Path, real: &Path) -> Result<(), ReadError> {
        self.places.opened(real);
        let left = MAX_BYTES - self.bytes;
        let mut bytes = Vec::new();
        File::open(real)
            // One byte more than allowed shows whether the file is too large.
            .and_then(|file| file.take(left + 1).read_to_end(&mut bytes))
            .map_err(|cause| ReadError::unreadable(shown, &cause))?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if length > left {
            return Err(ReadError::TooLarge {
                path: shown.to_owned(),
            });
        }
        self.bytes += length;
        let text = String::from_utf8(bytes).map_err(|error| ReadError::NotUtf8 {
            path: shown.to_owned(),
            offset: error.utf8_error().valid_up_to(),
        })?;
        self.files.push(TextFile {
            name: shown.display().to_string(),
            text,
        });
        Ok(())
    }
}

/// Returns the error for a path without a target.
fn mistake(shown: &Path, unresolved: Unresolved) -> ReadError {
    let path = shown.to_owned();
    match unresolved {
        Unresolved::Missing { missing, .. } => ReadError::DanglingLink { path, missing },
        Unresolved::Loop => ReadError::LinkLoop { path },
        Unresolved::Io { path, cause } => ReadError::unreadable(&path, &cause),
    }
}
