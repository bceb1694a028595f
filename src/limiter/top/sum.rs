//! What was counted apart, added up.

use std::collections::HashMap;
use std::sync::Arc;

use super::Counted;
use super::summary::Frozen;
use crate::key::Prehashed;

/// What all threads noted in a window.
#[derive(Debug, Default)]
pub(super) struct Sum {
    pub(super) total: u64,
    /// What a bucket may have had besides its count.
    pub(super) lack: u64,
    /// No count, with that added, is too high by more, or too low at all.
    pub(super) error: u64,
    /// By the hashes of their keys.
    pub(super) buckets: HashMap<u128, (u64, Counted), Prehashed>,
}

impl Sum {
    pub(super) fn of(parts: &[Arc<Frozen<Counted>>]) -> Self {
        let mut sum = Self::default();
        for part in parts {
            sum.total += part.total;
            sum.lack += part.lack();
            sum.error += part.error();
            for (hash, count, counted) in part.counts() {
                let (all, known) = sum
                    .buckets
                    .entry(hash)
                    .or_insert_with(|| (0, counted.clone()));
                // The floor is in what it lacks already.
                *all += count - part.floor;
                if let Some(denied) = &counted.denied
                    && known
                        .denied
                        .as_ref()
                        .is_none_or(|known| known.at < denied.at)
                {
                    known.denied = Some(denied.clone());
                }
            }
        }
        sum
    }
}
