//! Refunds: hits that some partitions took for a request that another one denied are given back once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Context, PartitionedStore};
use crate::store::Charge;

/// Maximum time for a refund. No caller waits for it; after that time, the bucket's own refill matters more.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Counters of refunds. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct GiveBacks(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    given: AtomicU64,
    lost: AtomicU64,
}

impl GiveBacks {
    /// Returns the number of refunds that a partition confirmed.
    #[must_use]
    pub fn given(&self) -> u64 {
        self.0.given.load(Ordering::Relaxed)
    }

    /// Returns the number of refunds that a partition did not confirm. They are not retried, because they could be
    /// applied twice; their buckets have fewer tokens than they should until they are full again.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}

impl<S: PartitionedStore> Context<S> {
    /// Sends refunds, one list per partition, and updates the remembered denials from the replies.
    pub(super) async fn give_back(&self, refunds: Vec<Arc<[Charge]>>) {
        let counts = &self.shared.give_backs.0;
        let sent = Instant::now();
        let deadline = (sent + TIMEOUT).into_std();
        let calls = refunds.into_iter().map(async |charges: Arc<[Charge]>| {
            let given = self.store.decide(Arc::clone(&charges), deadline).await;
            (charges, given)
        });
        for (charges, given) in join_all(calls).await {
            let count = match given {
                Ok(decision) => {
                    self.shared.denials.learn(&charges, &decision, sent);
                    &counts.given
                }
                Err(error) => {
                    tracing::debug!(%error, "refund not confirmed");
                    &counts.lost
                }
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
