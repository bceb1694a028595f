//! All buckets in Redis: in one Redis, or with the buckets of limits of one second in a second Redis.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use super::server_store::ThreadStores;
use super::settings::RedisSettings;
use super::{ServerStore, SharedServer};
use crate::store::breaker::Breaker;
use crate::store::split::{PerSecond, Split, SplitContext};
use crate::store::{Charge, Decision, Store, StoreError};
use crate::telemetry::StoreProbe;

/// Settings of the Redis, or the two, that hold the buckets.
#[derive(Debug, Clone)]
pub struct BucketsSettings {
    /// The Redis for limits of one second. `None`: these are in `others` as well.
    pub seconds: Option<RedisSettings>,
    /// The Redis for all other limits.
    pub others: RedisSettings,
}

impl BucketsSettings {
    /// Returns the longest time that a decision can take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        let seconds = self.seconds.as_ref().map(|settings| settings.timeout);
        seconds.unwrap_or_default().max(self.others.timeout)
    }

    /// Reports the calls of each Redis to `probe`.
    #[must_use]
    pub fn observed_by(self, probe: &StoreProbe) -> Self {
        Self {
            seconds: self.seconds.map(|settings| settings.observed_by(probe)),
            others: self.others.observed_by(probe),
        }
    }
}

/// State of each Redis that all threads share.
#[derive(Debug, Clone)]
pub struct SharedServers {
    /// State of the Redis for limits of one second, if there is one.
    pub seconds: Option<SharedServer>,
    /// State of the Redis for all other limits.
    pub others: SharedServer,
}

impl SharedServers {
    /// Creates the state for each Redis that `settings` describe.
    #[must_use]
    pub fn new(settings: &BucketsSettings) -> Self {
        Self {
            seconds: settings.seconds.as_ref().map(SharedServer::new),
            others: SharedServer::new(&settings.others),
        }
    }

    /// Returns the breaker of each Redis.
    #[must_use]
    pub fn breakers(&self) -> Vec<Breaker> {
        let all = [&self.others].into_iter().chain(&self.seconds);
        all.map(|shared| shared.breaker().clone()).collect()
    }
}

/// Creates the [`Buckets`] of each thread, so that together they hold no more connections than the settings allow.
#[derive(Debug)]
pub struct ThreadBuckets {
    seconds: Option<ThreadStores>,
    others: ThreadStores,
    context: SplitContext,
}

impl ThreadBuckets {
    /// Shares out connections among `threads` threads. Must be called within the tokio runtime that outlives them.
    #[must_use]
    pub fn new(
        settings: &BucketsSettings,
        shared: &SharedServers,
        threads: NonZeroUsize,
        context: SplitContext,
    ) -> Self {
        let seconds = settings.seconds.as_ref().zip(shared.seconds.as_ref());
        Self {
            seconds: seconds.map(|(settings, shared)| ThreadStores::new(settings, shared, threads)),
            others: ThreadStores::new(&settings.others, &shared.others, threads),
            context,
        }
    }

    /// Returns the buckets of the next thread. Must be called on that thread, within its tokio runtime.
    #[must_use]
    pub fn next(&self) -> Buckets {
        let (others, context) = (self.others.next(), self.context.clone());
        match (&self.seconds, others) {
            (Some(seconds), others) => {
                let seconds = seconds.next();
                Buckets::Apart(Split::new(PerSecond { seconds, others }, context))
            }
            (None, others @ ServerStore::Cluster(_)) => {
                Buckets::InSlots(Split::new(others, context))
            }
            (None, others) => Buckets::Together(others),
        }
    }
}

/// Buckets in Redis.
#[derive(Debug)]
pub enum Buckets {
    /// All buckets are in one server.
    Together(ServerStore),
    /// The buckets of limits of one second are in a Redis of their own.
    Apart(Split<PerSecond<ServerStore>>),
    /// The buckets are spread over the slots of a cluster.
    InSlots(Split<ServerStore>),
}

impl Store for Buckets {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: Instant,
    ) -> Result<Decision, StoreError> {
        match self {
            Self::Together(store) => store.decide(charges, deadline).await,
            Self::Apart(store) => store.decide(charges, deadline).await,
            Self::InSlots(store) => store.decide(charges, deadline).await,
        }
    }
}
