//! Where rules come from: files, or a management server.
//!
//! A source hands over what it has, at the start and whenever that changes, as an [`Offer`]. It never
//! decides what is in force; whoever does tells it, by [`Source::answer`].

mod history;
mod told;
pub mod xds;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::rules::{LoadOptions, Mistake, RuleSet, SourceFile};
use crate::watch::{Changes, Location, Poke, ReadError, TextFile, watch};
use told::told;

pub use history::{Accepted, History, Record, Rejected};
pub use told::Told;

/// How many digits of the hash of files stand for their version.
const VERSION_DIGITS: usize = 12;

/// Where to look for rules.
#[derive(Debug, Clone)]
pub enum Origin {
    /// In files.
    Files(Location),
    /// At a management server.
    Xds(Box<xds::Settings>),
}

/// A source of rules.
#[derive(Debug)]
pub enum Source {
    /// Files.
    Files {
        /// What they said at the start, until it is offered.
        first: Option<Result<Vec<TextFile>, ReadError>>,
        /// What they say from then on.
        changes: Changes,
    },
    /// A management server.
    Xds(Box<xds::Client>),
}

/// All rules, as a source has them now.
#[derive(Debug)]
pub enum Offer {
    /// What files say.
    Files(Result<Vec<TextFile>, ReadError>),
    /// What a management server sent.
    Xds(xds::Update),
}

/// Why an offer cannot be put in force.
#[derive(Debug, Clone, Error)]
pub enum Refusal {
    /// There is nothing to read.
    #[error("{0}")]
    Unreadable(#[from] ReadError),
    /// It was read, and this is wrong with it.
    #[error("{0}")]
    Mistakes(Told),
}

impl Refusal {
    /// What is wrong.
    #[must_use]
    pub fn told(&self) -> Told {
        match self {
            Self::Unreadable(error) => told([error.to_string()]),
            Self::Mistakes(mistakes) => mistakes.clone(),
        }
    }
}

/// What is shown of mistakes or warnings: the first, each fit for a line, and how many more there are.
#[must_use]
pub fn shown_mistakes(mistakes: &[Mistake]) -> Told {
    told(mistakes.iter().map(ToString::to_string))
}

impl Source {
    /// Opens a source. Files are read at once; a management server is not waited for.
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

    /// What there is without waiting, after opening.
    pub fn at_hand(&mut self) -> Option<Offer> {
        match self {
            Self::Files { first, .. } => first.take().map(Offer::Files),
            Self::Xds(_) => None,
        }
    }

    /// Waits for the next offer.
    pub async fn next(&mut self) -> Offer {
        match self {
            Self::Files { changes, .. } => Offer::Files(changes.next().await),
            Self::Xds(client) => Offer::Xds(client.next().await),
        }
    }

    /// What has files read again although nothing seems to have happened to them. A management server
    /// sends what there is by itself.
    #[must_use]
    pub fn poke(&self) -> Option<Poke> {
        match self {
            Self::Files { changes, .. } => Some(changes.poke()),
            Self::Xds(_) => None,
        }
    }

    /// Whether there is a connection to the management server; `None` where there is none to be had.
    #[must_use]
    pub fn connected(&self) -> Option<Arc<AtomicBool>> {
        match self {
            Self::Files { .. } => None,
            Self::Xds(client) => Some(client.connected()),
        }
    }

    /// Tells the source what became of its last offer, if it wants to know.
    pub fn answer(&mut self, outcome: Result<(), Refusal>) {
        if let Self::Xds(client) = self {
            let outcome = outcome.map_err(|refusal| refusal.to_string());
            client.answer(outcome);
        }
    }
}

impl Origin {
    /// Where it is, for people.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Files(location) => location.top().display().to_string(),
            Self::Xds(settings) => settings.server.clone(),
        }
    }
}

impl Offer {
    /// What tells it from others: what the management server calls it, or the beginning of a hash of all
    /// files, which is the same at all instances that have the same files. Empty when there is nothing.
    #[must_use]
    pub fn version(&self) -> String {
        match self {
            Self::Files(Ok(files)) => digest(files),
            Self::Files(Err(_)) => String::new(),
            Self::Xds(update) => update.version(),
        }
    }

    /// The rules. Many take a second or more.
    ///
    /// # Errors
    /// When it cannot be read, or has mistakes: the first of them.
    pub fn load(self, options: LoadOptions) -> Result<RuleSet, Refusal> {
        match self {
            Self::Files(files) => {
                let loaded = RuleSet::load(&rule_files(files?), options);
                loaded.map_err(|mistakes| Refusal::Mistakes(shown_mistakes(mistakes.as_slice())))
            }
            Self::Xds(update) => update.load(options).map_err(Refusal::Mistakes),
        }
    }
}

/// Reads the rule files at a location once, sorted by name.
///
/// # Errors
/// When anything that should be read cannot be. There is no partial result.
pub fn read(location: &Location) -> Result<Vec<SourceFile>, ReadError> {
    location.read().map(rule_files)
}

/// Files as the configuration language takes them.
fn rule_files(files: Vec<TextFile>) -> Vec<SourceFile> {
    let files = files.into_iter();
    files
        .map(|TextFile { name, text }| SourceFile { name, text })
        .collect()
}

/// A hash of what files say, whatever they are called.
fn digest(files: &[TextFile]) -> String {
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(Sha256::digest(&file.text));
    }
    let mut digits = String::new();
    for byte in hasher.finalize() {
        // Writing to a string does not fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits.truncate(VERSION_DIGITS);
    digits
}
