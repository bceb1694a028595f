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

/// Maximum size of all files together in bytes. Real configurations have some thousands.
pub const MAX_BYTES: u64 = 64 << 20;

/// Maximum number of directory entries that are read. It also bounds directories that symbolic links multiply without a loop.
pub const MAX_ENTRIES: usize = 10_000;

/// Maximum depth of directories below the configured one.
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
    /// One file of any name, or a directory, whose `.yaml`, `.yml` and `.json` files are read, also in subdirectories. Names
    /// that begin with a dot are skipped.
    Path(PathBuf),
    /// All files below `root/sub_directory/app_directory`, with any name, as envoyproxy/ratelimit reads them. Names that begin
    /// with two dots are always skipped: Kubernetes stores the files of a ConfigMap there, which would otherwise be read
    /// twice.
    Runtime {
        /// `RUNTIME_ROOT`, often a symbolic link that a deployment replaces.
        root: PathBuf,
        /// `RUNTIME_SUBDIRECTORY`, relative to `root`.
        sub_directory: PathBuf,
        /// `RUNTIME_APPDIRECTORY`, relative to `sub_directory`.
        app_directory: PathBuf,
        /// `RUNTIME_IGNOREDOTFILES`: whether names that begin with one dot are skipped, too.
        ignore_dot_files: bool,
        /// `RUNTIME_WATCH_ROOT`. It has no effect: both a replaced root and a change below it are detected.
        watch_root: bool,
    },
    /// Exactly these files, all of which must exist, such as a certificate and its key.
    Files(Vec<PathBuf>),
}

impl Location {
    /// Reads all files, sorted by name. The order of patterns in merged files depends on it.
    ///
    /// A directory without files is no error.
    ///
    /// # Errors
    /// If anything cannot be read. There is no partial result.
    pub fn read(&self) -> Result<Vec<TextFile>, ReadError> {
        survey::survey(self).files
    }

    /// The file or directory at which reading begins.
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

    /// Whether files and directories with this name are skipped.
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

    /// Whether a file with this name in a directory is read.
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

/// Returns `part` below `root`, also if `part` begins with a slash.
fn below(root: &Path, part: &Path) -> PathBuf {
    root.join(part.strip_prefix("/").unwrap_or(part))
}

/// Why files could not be read. Paths are as configured where possible.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The location, or a directory above it, does not exist.
    #[error(
        "{} cannot be read because {} does not exist; create it, or name another place with --config or RUNTIME_ROOT",
        path.display(), missing.display()
    )]
    NotFound {
        /// The path that could not be read.
        path: PathBuf,
        /// The first part of the path that does not exist.
        missing: PathBuf,
    },
    /// A symbolic link has no target.
    #[error(
        "{} cannot be read because a symbolic link leads to {}, which does not exist; restore it, or correct the link",
        path.display(), missing.display()
    )]
    DanglingLink {
        /// The path that could not be read.
        path: PathBuf,
        /// The target that does not exist.
        missing: PathBuf,
    },
    /// Symbolic links form a loop.
    #[error("{} cannot be read because symbolic links form a loop there; remove one of them", path.display())]
    LinkLoop {
        /// The path at which the loop was detected.
        path: PathBuf,
    },
    /// The location is a socket, a pipe or a device.
    #[error("{} is neither a file nor a directory; name a rule file, or a directory of them", path.display())]
    NotAFile {
        /// The path of the location.
        path: PathBuf,
    },
    /// The operating system reported an error.
    #[error("{} cannot be read: {cause}; check that the user of this process is allowed to read it", path.display())]
    Unreadable {
        /// The path that could not be read.
        path: PathBuf,
        /// The error of the operating system.
        cause: String,
    },
    /// A file is not UTF-8.
    #[error("{} is not UTF-8 text at byte {offset}; save it as UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The offset of the first invalid byte.
        offset: usize,
    },
    /// All files together are larger than [`MAX_BYTES`].
    #[error(
        "the rule files have more than {} MiB together, counted up to {}; check that the directory holds nothing else",
        MAX_BYTES >> 20, path.display()
    )]
    TooLarge {
        /// The file that exceeded the limit.
        path: PathBuf,
    },
    /// There are more than [`MAX_ENTRIES`] directory entries.
    #[error(
        "there are more than {MAX_ENTRIES} files and directories among the rules, counted up to {}; name a directory that holds nothing else",
        path.display()
    )]
    TooMany {
        /// The directory that exceeded the limit.
        path: PathBuf,
    },
    /// A directory is deeper than [`MAX_DEPTH`].
    #[error("{} is more than {MAX_DEPTH} directories deep; name a directory that is nearer to the rules", path.display())]
    TooDeep {
        /// The directory that is too deep.
        path: PathBuf,
    },
    /// The watching thread has ended.
    #[error("changes of {} are no longer detected because the thread that watches it has ended; restart to watch it again", path.display())]
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
