//! Files that change while the server runs: configurations and certificates.
//!
//! [`Location::read`] reads files once. [`watch()`] reads them and returns their contents again after each change. Both
//! are bounded in bytes, entries and depth and open only regular files, so that no directory can hang the server or fill
//! its memory.

mod changes;
mod events;
mod poke;
mod resolve;
mod survey;
mod watched_paths;

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use changes::{Changes, watch};
pub use poke::Poke;

/// The most bytes that all files together may have. Real configurations have some thousands.
pub const MAX_BYTES: u64 = 64 << 20;

/// The most directory entries that are looked at. It also ends a walk through directories that
/// symbolic links multiply without being a loop.
pub const MAX_ENTRIES: usize = 10_000;

/// The most directories that a file may lie beneath the one that was named.
pub const MAX_DEPTH: usize = 32;

/// A text file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFile {
    /// The path as the location has it, so that users recognize it.
    pub name: String,
    /// The contents.
    pub text: String,
}

/// Which files are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// One file of any name; or a directory, whose `.yaml`, `.yml` and `.json` files are read, those
    /// of its subdirectories too. What begins with a dot is skipped.
    Path(PathBuf),
    /// All files beneath `root/sub_directory/app_directory`, whatever they are called, as
    /// envoyproxy/ratelimit reads them. What begins with two dots is skipped in any case: that is
    /// where Kubernetes keeps the files of a ConfigMap, which would otherwise be read twice.
    Runtime {
        /// `RUNTIME_ROOT`, often a symbolic link that a deployment swaps.
        root: PathBuf,
        /// `RUNTIME_SUBDIRECTORY`, relative to `root`.
        sub_directory: PathBuf,
        /// `RUNTIME_APPDIRECTORY`, relative to the former.
        app_directory: PathBuf,
        /// `RUNTIME_IGNOREDOTFILES`: whether what begins with one dot is skipped, too.
        ignore_dot_files: bool,
        /// `RUNTIME_WATCH_ROOT`. It changes nothing: a swap of the root and an edit beneath it are
        /// both seen, whichever of the two envoyproxy/ratelimit would have looked for.
        watch_root: bool,
    },
    /// Exactly these files, all of which must be there, such as a certificate and its key.
    Files(Vec<PathBuf>),
}

impl Location {
    /// Reads all files, sorted by name: the order of wildcards in merged files hangs on it.
    ///
    /// A directory without files is no error.
    ///
    /// # Errors
    /// When anything that should be read cannot be. There is no partial result.
    pub fn read(&self) -> Result<Vec<TextFile>, ReadError> {
        survey::survey(self).files
    }

    /// The file or directory in which reading begins.
    #[must_use]
    pub fn top(&self) -> PathBuf {
        match self {
            Self::Path(path) => path.clone(),
            Self::Files(paths) => paths.first().cloned().unwrap_or_default(),
            Self::Runtime {
                root,
                sub_directory,
                app_directory,
                ..
            } => below(&below(root, sub_directory), app_directory),
        }
    }

    /// Whether an entry of this name is passed over, file or directory.
    fn skips(&self, name: &OsStr) -> bool {
        let name = name.as_encoded_bytes();
        match self {
            Self::Path(_)
            | Self::Runtime {
                ignore_dot_files: true,
                ..
            } => name.starts_with(b"."),
            Self::Runtime { .. } => name.starts_with(b".."),
            Self::Files(_) => false,
        }
    }

    /// Whether a file of this name, found in a directory, is read.
    fn takes_file(&self, name: &OsStr) -> bool {
        match self {
            Self::Path(_) => Path::new(name).extension().is_some_and(|extension| {
                ["yaml", "yml", "json"]
                    .iter()
                    .any(|known| extension.eq_ignore_ascii_case(known))
            }),
            Self::Runtime { .. } | Self::Files(_) => true,
        }
    }
}

/// `part` beneath `root`, even when `part` is written with a leading slash.
fn below(root: &Path, part: &Path) -> PathBuf {
    root.join(part.strip_prefix("/").unwrap_or(part))
}

/// Why files could not be read. Paths are as the location was written where they can be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The location, or a directory on the way to it, is not there.
    #[error(
        "{} cannot be read because {} does not exist; create it, or name another place with --config or RUNTIME_ROOT",
        path.display(), missing.display()
    )]
    NotFound {
        /// What should have been read.
        path: PathBuf,
        /// The first part of it that is not there.
        missing: PathBuf,
    },
    /// A symbolic link leads to nothing.
    #[error(
        "{} cannot be read because a symbolic link leads to {}, which does not exist; restore it, or correct the link",
        path.display(), missing.display()
    )]
    DanglingLink {
        /// What should have been read.
        path: PathBuf,
        /// What is not there.
        missing: PathBuf,
    },
    /// Symbolic links lead in a circle.
    #[error("{} cannot be read because symbolic links lead in a circle there; remove one of them", path.display())]
    LinkLoop {
        /// Where the circle was noticed.
        path: PathBuf,
    },
    /// The location is a socket, a pipe or a device.
    #[error("{} is neither a file nor a directory; name a rule file, or a directory of them", path.display())]
    NotAFile {
        /// What it is called.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{} cannot be read: {cause}; check that the user whom this process runs as may read it", path.display())]
    Unreadable {
        /// What should have been read.
        path: PathBuf,
        /// What the operating system said.
        cause: String,
    },
    /// The text has a byte sequence that is not UTF-8.
    #[error("{} is not UTF-8 text at byte {offset}; save it as UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first byte that is wrong, counted from 0.
        offset: usize,
    },
    /// All files together are larger than [`MAX_BYTES`].
    #[error(
        "the rule files have more than {} MiB together, counted up to {}; check that nothing else lies among them",
        MAX_BYTES >> 20, path.display()
    )]
    TooLarge {
        /// The file that went past the limit.
        path: PathBuf,
    },
    /// There are more than [`MAX_ENTRIES`] directory entries.
    #[error(
        "there are more than {MAX_ENTRIES} files and directories among the rules, counted up to {}; name a directory that holds nothing else",
        path.display()
    )]
    TooMany {
        /// The directory that went past the limit.
        path: PathBuf,
    },
    /// A directory lies deeper than [`MAX_DEPTH`].
    #[error("{} lies more than {MAX_DEPTH} directories deep; name a directory that is nearer to the rules", path.display())]
    TooDeep {
        /// The directory that is too deep.
        path: PathBuf,
    },
    /// Nobody looks for changes any more.
    #[error("changes of {} are no longer noticed because the thread that watches it ended; restart to watch it again", path.display())]
    Unwatched {
        /// The location.
        path: PathBuf,
    },
}

impl ReadError {
    fn unreadable(path: &Path, cause: &io::Error) -> Self {
        Self::Unreadable {
            path: path.to_owned(),
            cause: cause.to_string(),
        }
    }
}

#[cfg(all(test, unix))]
mod tests;
