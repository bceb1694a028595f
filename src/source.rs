//! Sources of the configuration: files, or an xDS management server.
//!
//! A source returns each configuration, at the start and after each change, as an [`Offer`]. The caller decides whether it
//! becomes active and reports that with [`Source::report`].

mod history;
mod mistake_summary;
pub mod xds;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::rules::{LoadOptions, Mistake, RuleSet, SourceFile};
use crate::watch::{Changes, Location, Poke, ReadError, TextFile, watch};

pub use history::{Accepted, History, Record, Rejected};
pub use mistake_summary::MistakeSummary;

/// Number of hexadecimal digits of the version of files.
const VERSION_DIGITS: usize = 12;

/// The origin of the configuration.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Files.
    Files(Location),
    /// An xDS management server.
    Xds(Box<xds::Settings>),
}

/// A source of configurations.
#[derive(Debug)]
pub enum Source {
    /// Files.
    Files {
        /// The result of reading the files at the start, until it is taken.
        first: Option<Result<Vec<TextFile>, ReadError>>,
        /// The later changes of the files.
        changes: Changes,
    },
    /// An xDS management server.
    Xds(Box<xds::Client>),
}

/// A whole configuration from a source.
#[derive(Debug)]
pub enum Offer {
    /// The contents of files, or why they cannot be read.
    Files(Result<Vec<TextFile>, ReadError>),
    /// A response of a management server.
    Xds(xds::Update),
}

/// Why a configuration is rejected.
#[derive(Debug, Clone, Error)]
pub enum Rejection {
    /// The files cannot be read.
    #[error("{0}")]
    Unreadable(#[from] ReadError),
    /// The configuration has mistakes.
    #[error("{0}")]
    Mistakes(MistakeSummary),
}

impl Rejection {
    /// Returns a summary of the mistakes.
    #[must_use]
    pub fn summary(&self) -> MistakeSummary {
        match self {
            Self::Unreadable(error) => MistakeSummary::new([error.to_string()]),
            Self::Mistakes(mistakes) => mistakes.clone(),
        }
    }
}

/// Returns a summary of mistakes or warnings.
#[must_use]
pub fn summarize(mistakes: &[Mistake]) -> MistakeSummary {
    MistakeSummary::new(mistakes.iter().map(ToString::to_string))
}

impl Source {
    /// Opens a source. Reads files immediately, but does not wait for a management server.
    #[must_use]
    pub fn open(origin: Origin) -> Self {
        match origin {
            Origin::Files(location) => {
                let (first, changes) = watch(location);
                Self::Files {
                    first: Some(first),
                    changes,
                }
            }
            Origin::Xds(settings) => Self::Xds(Box::new(xds::Client::new(*settings))),
        }
    }

    /// Takes the configuration that is available without waiting, after opening.
    pub fn take_first(&mut self) -> Option<Offer> {
        match self {
            Self::Files { first, .. } => first.take().map(Offer::Files),
            Self::Xds(_) => None,
        }
    }

    /// Waits for the next configuration.
    pub async fn next(&mut self) -> Offer {
        match self {
            Self::Files { changes, .. } => Offer::Files(changes.next().await),
            Self::Xds(client) => Offer::Xds(client.next().await),
        }
    }

    /// Returns a handle that makes the source read its files again even without a change. A management server has none, because it
    /// sends all changes.
    #[must_use]
    pub fn poke(&self) -> Option<Poke> {
        match self {
            Self::Files { changes, .. } => Some(changes.poke()),
            Self::Xds(_) => None,
        }
    }

    /// Returns whether there is a stream to the management server, or `None` for files.
    #[must_use]
    pub fn connected(&self) -> Option<Arc<AtomicBool>> {
        match self {
            Self::Files { .. } => None,
            Self::Xds(client) => Some(client.connected()),
        }
    }

    /// Reports whether the latest configuration became active. A management server is sent an ACK or NACK.
    pub fn report(&mut self, outcome: Result<(), Rejection>) {
        if let Self::Xds(client) = self {
            let outcome = outcome.map_err(|rejection| rejection.to_string());
            client.report(outcome);
        }
    }
}

impl Origin {
    /// Returns the path or address, for display.
    #[must_use]
    pub fn location(&self) -> String {
        match self {
            Self::Files(location) => location.top().display().to_string(),
            Self::Xds(settings) => settings.server.clone(),
        }
    }
}

impl Offer {
    /// Returns the version: that of the management server, or the beginning of a hash of all files, which is the same on all
    /// instances with the same files. Empty if files cannot be read.
    #[must_use]
    pub fn version(&self) -> String {
        match self {
            Self::Files(Ok(files)) => digest(files),
            Self::Files(Err(_)) => String::new(),
            Self::Xds(update) => update.version(),
        }
    }

    /// Loads the rules. Large configurations take a second or more.
    ///
    /// # Errors
    /// If the files cannot be read, or the configuration has mistakes.
    pub fn load(self, options: LoadOptions) -> Result<RuleSet, Rejection> {
        match self {
            Self::Files(files) => {
                let loaded = RuleSet::load(&rule_files(files?), options);
                loaded.map_err(|mistakes| Rejection::Mistakes(summarize(mistakes.as_slice())))
            }
            Self::Xds(update) => update.load(options).map_err(Rejection::Mistakes),
        }
    }
}

/// Reads the rule files at a location once, sorted by name.
///
/// # Errors
/// If any file cannot be read. There is no partial result.
pub fn read(location: &Location) -> Result<Vec<SourceFile>, ReadError> {
    location.read().map(rule_files)
}

/// Converts files to the type of the configuration language.
fn rule_files(files: Vec<TextFile>) -> Vec<SourceFile> {
    let files = files.into_iter();
    files
        .map(|TextFile { name, text }| SourceFile { name, text })
        .collect()
}

/// Returns a hash of the contents of files. It does not depend on their names.
fn digest(files: &[TextFile]) -> String {
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(Sha256::digest(&file.text));
    }
    let mut digits = String::new();
    for byte in hasher.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits.truncate(VERSION_DIGITS);
    digits
}
