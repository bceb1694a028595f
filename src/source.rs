//! Where rules come from: files, or a management server.
//!
//! A source hands over what it has, at the start and whenever that changes, as an [`Offer`]. It never
//! decides what is in force; whoever does tells it, by [`Source::answer`].

pub mod files;
mod told;
pub mod xds;

use thiserror::Error;

use crate::rules::{LoadOptions, RuleSet, SourceFile};
use files::{Changes, Location, Poke, SourceError};
use told::told;

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
        first: Option<Result<Vec<SourceFile>, SourceError>>,
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
    Files(Result<Vec<SourceFile>, SourceError>),
    /// What a management server sent.
    Xds(xds::Update),
}

/// Why an offer cannot be put in force.
#[derive(Debug, Error)]
pub enum Refusal {
    /// There is nothing to read.
    #[error("{0}")]
    Unreadable(#[from] SourceError),
    /// It was read, and this is wrong with it: the first mistakes, a line each, and how many more.
    #[error("{0}")]
    Mistakes(String),
}

impl Source {
    /// Opens a source. Files are read at once; a management server is not waited for.
    #[must_use]
    pub fn open(origin: Origin) -> Self {
        match origin {
            Origin::Files(location) => {
                let (first, changes) = files::watch(location);
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

    /// Tells the source what became of its last offer, if it wants to know.
    pub fn answer(&mut self, outcome: Result<(), Refusal>) {
        if let Self::Xds(client) = self {
            let outcome = outcome.map_err(|refusal| refusal.to_string());
            client.answer(outcome);
        }
    }
}

impl Offer {
    /// The rules. Many take a second or more.
    ///
    /// # Errors
    /// When it cannot be read, or has mistakes: the first of them.
    pub fn load(self, options: LoadOptions) -> Result<RuleSet, Refusal> {
        match self {
            Self::Files(files) => {
                let loaded = RuleSet::load(&files?, options);
                loaded.map_err(|mistakes| {
                    let mistakes = mistakes.into_iter().map(|mistake| mistake.to_string());
                    Refusal::Mistakes(told(mistakes))
                })
            }
            Self::Xds(update) => update.load(options).map_err(Refusal::Mistakes),
        }
    }
}
