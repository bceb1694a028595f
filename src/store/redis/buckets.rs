//! All buckets that are in Redis: in one server, or those of limits of a second in one of their own.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Servers;
use super::settings::RedisSettings;
use crate::store::breaker::Breaker;
use crate::store::split::{GiveBacks, PerSecond, Split};
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

/// Whether each Redis is worth asking.
#[derive(Debug, Clone)]
pub struct Breakers {
    /// Of the one for limits of a second, if there is one.
    pub seconds: Option<Breaker>,
    /// Of the other.
    pub others: Breaker,
}

impl Breakers {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Breaker> {
        let others = [&self.others].into_iter();
        others.chain(&self.seconds).cloned().collect()
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
    /// The buckets that the settings describe, which tell these breakers how calls end; `give_backs` counts what
    /// becomes of hits taken in vain. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(settings: &BucketsSettings, breakers: &Breakers, give_backs: GiveBacks) -> Self {
        let others = Servers::telling(&settings.others, breakers.others.clone());
        let seconds = settings.seconds.as_ref().zip(breakers.seconds.as_ref());
        let Some((seconds, breaker)) = seconds else {
            return match others {
                Servers::Cluster(_) => Self::InSlots(Split::new(others, give_backs)),
                _ => Self::Together(others),
            };
        };
        let seconds = Servers::telling(seconds, breaker.clone());
        Self::Apart(Split::new(PerSecond { seconds, others }, give_backs))
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
