//! Gives back what was taken in vain: once, as well as can be, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Places, Work};
use crate::store::Charge;

/// How long a place may take to get back what it took. Nobody waits for it; but what comes later than the
/// bucket's own refill helps nobody.
const PATIENCE: Duration = Duration::from_secs(1);

/// Gives back, and counts how that went. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct GiveBacks(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    given: AtomicU64,
    lost: AtomicU64,
}

impl GiveBacks {
    /// How often a place took hits in vain and got them back.
    #[must_use]
    pub fn given(&self) -> u64 {
        self.0.given.load(Ordering::Relaxed)
    }

    /// How often a place took hits in vain and did not confirm that it got them back. It is not told twice,
    /// lest they come back twice; their buckets are emptier than they should be until they are full again.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}

impl<S: Places> Work<S> {
    /// Gives back, in each place what was taken there. What denied others meanwhile is remembered as it is then.
    pub(super) async fn give_back(&self, in_vain: Vec<Arc<[Charge]>>) {
        let counts = &self.context.give_backs.0;
        let asked = Instant::now();
        let places = in_vain.into_iter().map(async |charges: Arc<[Charge]>| {
            let given = self
                .store
                .decide(Arc::clone(&charges), (asked + PATIENCE).into_std())
                .await;
            (charges, given)
        });
        for (charges, given) in join_all(places).await {
            let count = match given {
                Ok(decision) => {
                    self.context.denials.learn(&charges, &decision, asked);
                    &counts.given
                }
                Err(error) => {
                    tracing::debug!(%error, "hits that were taken in vain may not have been given back");
                    &counts.lost
                }
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
