//! All buckets that are in Redis: in one server, or those of limits of a second in one of their own.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use super::settings::RedisSettings;
use super::{Common, Servers};
use crate::store::breaker::Breaker;
use crate::store::split::{PerSecond, Split, SplitContext};
use crate::store::{Charge, Decision, Store, StoreError};
use crate::telemetry::StoreProbe;

/// Which Redis has which buckets.
#[derive(Debug, Clone)]
pub struct BucketsSettings {
    /// The one for limits whose unit is the second; `None`: they are with the others.
    pub seconds: Option<RedisSettings>,
    /// The one for all others.
    pub others: RedisSettings,
}

impl BucketsSettings {
    /// How long a decision may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        let seconds = self.seconds.as_ref().map(|settings| settings.timeout);
        seconds.unwrap_or_default().max(self.others.timeout)
    }

    /// The same, whose calls are told to a probe.
    #[must_use]
    pub fn observed_by(self, probe: &StoreProbe) -> Self {
        Self {
            seconds: self.seconds.map(|settings| settings.observed_by(probe)),
            others: self.others.observed_by(probe),
        }
    }

    /// The settings of each of so many stores that share the connections.
    #[must_use]
    pub fn shared_by(self, stores: NonZeroUsize) -> Self {
        Self {
            seconds: self.seconds.map(|settings| settings.shared_by(stores)),
            others: self.others.shared_by(stores),
        }
    }
}

/// What all threads of a server share of each Redis.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Of the one for limits of a second, if there is one.
    pub seconds: Option<Common>,
    /// Of the other.
    pub others: Common,
}

impl Shared {
    /// For each Redis that the settings describe.
    #[must_use]
    pub fn new(settings: &BucketsSettings) -> Self {
        Self {
            seconds: settings.seconds.as_ref().map(Common::new),
            others: Common::new(&settings.others),
        }
    }

    /// Whether each is worth asking.
    #[must_use]
    pub fn breakers(&self) -> Vec<Breaker> {
        let all = [&self.others].into_iter().chain(&self.seconds);
        all.map(|common| common.breaker().clone()).collect()
    }
}

/// Buckets in Redis, wherever they are.
#[derive(Debug)]
pub enum Buckets {
    /// In one server.
    Together(Servers),
    /// Those of limits of a second in a Redis of their own.
    Apart(Split<PerSecond<Servers>>),
    /// In the slots of a cluster.
    InSlots(Split<Servers>),
}

impl Buckets {
    /// The buckets that the settings describe, for one of the threads that share `shared` and, for requests over
    /// several places, `context`. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(settings: &BucketsSettings, shared: &Shared, context: SplitContext) -> Self {
        let others = Servers::telling(&settings.others, &shared.others);
        let seconds = settings.seconds.as_ref().zip(shared.seconds.as_ref());
        let Some((seconds, common)) = seconds else {
            return match others {
                Servers::Cluster(_) => Self::InSlots(Split::new(others, context)),
                _ => Self::Together(others),
            };
        };
        let seconds = Servers::telling(seconds, common);
        Self::Apart(Split::new(PerSecond { seconds, others }, context))
    }
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
