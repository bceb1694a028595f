//! The history of configurations: the active one, and why the latest one was rejected. It is shown by the admin API.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::MistakeSummary;
use crate::time::Micros;

/// The history of configurations. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct History(Arc<Mutex<Record>>);

/// The active and the rejected configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The active configuration; `None` before the first one.
    pub accepted: Option<Accepted>,
    /// The latest configuration if it was rejected.
    pub rejected: Option<Rejected>,
}

/// A configuration that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its version.
    pub version: String,
    /// When it became active.
    pub at: Micros,
}

/// A configuration that was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// When it was rejected.
    pub at: Micros,
    /// Its mistakes.
    pub summary: MistakeSummary,
}

impl History {
    /// Returns the current record.
    #[must_use]
    pub fn record(&self) -> Record {
        self.lock().clone()
    }

    /// Records that a configuration became active.
    pub fn accepted(&self, version: String, at: Micros) {
        *self.lock() = Record {
            accepted: Some(Accepted { version, at }),
            rejected: None,
        };
    }

    /// Records that a configuration was rejected.
    pub fn rejected(&self, summary: MistakeSummary, at: Micros) {
        self.lock().rejected = Some(Rejected { at, summary });
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
