//! What became of the offers of a source: which one is in force, and why the last one was refused, for those who
//! look into a server. Kept until a good one comes. It decides nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Told;
use crate::time::Micros;

/// The history; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct History(Arc<Mutex<Record>>);

/// What is known of offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The one in force; `None` before there is any.
    pub accepted: Option<Accepted>,
    /// The last one, if it was refused.
    pub rejected: Option<Rejected>,
}

/// An offer that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// What tells it from others.
    pub version: String,
    /// Since when.
    pub at: Micros,
}

/// An offer that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// When.
    pub at: Micros,
    /// Why.
    pub told: Told,
}

impl History {
    /// What is known now.
    #[must_use]
    pub fn record(&self) -> Record {
        self.lock().clone()
    }

    /// An offer was put in force.
    pub fn accepted(&self, version: String, at: Micros) {
        *self.lock() = Record {
            accepted: Some(Accepted { version, at }),
            rejected: None,
        };
    }

    /// An offer was refused.
    pub fn rejected(&self, told: Told, at: Micros) {
        self.lock().rejected = Some(Rejected { at, told });
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
