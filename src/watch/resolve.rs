//! Follows a path step by step, as the kernel does, and notes every directory on the way.
//!
//! [`std::fs::canonicalize`] would give the same file, but not the places at which a link could be
//! swapped, nor the one at which something that is missing would appear.

use std::ffi::OsString;
use std::fs::{self, FileType};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use super::watched_paths::WatchedPaths;

/// Symbolic links on the way to one file, as many as Linux follows.
const MAX_LINKS: usize = 40;

/// What a path leads to, under its real path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Directory(PathBuf),
    File(PathBuf),
    /// A socket, pipe or device, which must not be opened.
    Special,
}

/// Why a path leads to nothing.
#[derive(Debug)]
pub(super) enum Unresolved {
    Missing {
        /// The first part that is not there.
        missing: PathBuf,
        /// Whether a symbolic link led there.
        linked: bool,
    },
    Loop,
    Io {
        path: PathBuf,
        cause: io::Error,
    },
}

/// One step on the way.
enum Step {
    Root,
    Up,
    Down(OsString),
}

/// Follows `path` from the directory `start`, which must be a real path.
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
                // `here` has no links in it, so that this is its parent for the kernel, too.
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

/// What is at a path, a symbolic link not followed.
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

/// The steps that a symbolic link stands for.
fn target_of(link: &Path) -> Result<Vec<Step>, Unresolved> {
    match fs::read_link(link) {
        Ok(target) => Ok(steps(&target)),
        Err(cause) => Err(Unresolved::Io {
            path: link.to_owned(),
            cause,
        }),
    }
}

/// The steps of a path, the first one last.
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
