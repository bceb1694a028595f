//! Resolves a path step by step, as the kernel does, and records every directory that it passes through.
//!
//! [`std::fs::canonicalize`] returns the same file, but neither the directories of the links, which can be replaced, nor the
//! directory in which a missing file would appear.

use std::ffi::OsString;
use std::fs::{self, FileType};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use super::watched_paths::WatchedPaths;

/// Maximum number of symbolic links in a path, as in Linux.
const MAX_LINKS: usize = 40;

/// The target of a path, with its real path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Directory(PathBuf),
    File(PathBuf),
    /// A socket, pipe or device, which must not be opened.
    Special,
}

/// Why a path has no target.
#[derive(Debug)]
pub(super) enum Unresolved {
    Missing {
        /// The first part that does not exist.
        missing: PathBuf,
        /// Whether the part is below a symbolic link.
        linked: bool,
    },
    Loop,
    Io {
        path: PathBuf,
        cause: io::Error,
    },
}

/// One step of a path.
enum Step {
    Root,
    Up,
    Down(OsString),
}

/// Resolves `path` from the directory `start`, which must be a real path.
pub(super) fn resolve(
    start: &Path,
    path: &Path,
    places: &mut WatchedPaths,
) -> Result<Found, Unresolved> {
    let mut here = start.to_owned();
    let mut ahead = steps(path);
    let mut links = 0;
    while let Some(step) = ahead.pop() {
        match step {
            Step::Root => here = PathBuf::from("/"),
            Step::Up => {
                // `here` contains no links, so this is its parent.
                here.pop();
            }
            Step::Down(name) => {
                places.looked_up(&here, &name);
                here.push(name);
                let kind = kind_of(&here, links > 0)?;
                if kind.is_symlink() {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Unresolved::Loop);
                    }
                    ahead.extend(target_of(&here)?);
                    here.pop();
                }
            }
        }
    }
    let kind = kind_of(&here, links > 0)?;
    Ok(match (kind.is_dir(), kind.is_file()) {
        (true, _) => Found::Directory(here),
        (_, true) => Found::File(here),
        _ => Found::Special,
    })
}

/// Returns the type of a file, without following a symbolic link.
fn kind_of(path: &Path, linked: bool) -> Result<FileType, Unresolved> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.file_type()),
        Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(Unresolved::Missing {
                missing: path.to_owned(),
                linked,
            })
        }
        Err(cause) => Err(Unresolved::Io {
            path: path.to_owned(),
            cause,
        }),
    }
}

/// Returns the steps of a symbolic link's target.
fn target_of(link: &Path) -> Result<Vec<Step>, Unresolved> {
    match fs::read_link(link) {
        Ok(target) => Ok(steps(&target)),
        Err(cause) => Err(Unresolved::Io {
            path: link.to_owned(),
            cause,
        }),
    }
}

/// Returns the steps of a path in reverse order.
fn steps(path: &Path) -> Vec<Step> {
    let mut steps: Vec<Step> = path
        .components()
        .filter_map(|component| match component {
            Component::RootDir => Some(Step::Root),
            Component::ParentDir => Some(Step::Up),
            Component::Normal(name) => Some(Step::Down(name.to_owned())),
            Component::CurDir | Component::Prefix(_) => None,
        })
        .collect();
    steps.reverse();
    steps
}
