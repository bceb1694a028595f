//! One Redis server, the master of sentinels, or a cluster: whatever the settings describe.

use std::sync::Arc;
use std::time::Instant;

use super::cluster::{Cluster, TopologyProbe};
use super::{ClusterStore, RedisSettings, RedisStore, Topology};
use crate::key::KeyFormat;
use crate::store::breaker::Breaker;
use crate::store::split::Places;
use crate::store::{Charge, ChargingProbe, Decision, Probe, Store, StoreError};

/// What all threads of a server share of a Redis.
#[derive(Debug, Clone)]
pub enum Common {
    /// Of one server: its breaker.
    One(Breaker),
    /// Of a cluster: what is known of it, and the breakers of its nodes.
    Cluster(Arc<Cluster>),
}

impl Common {
    /// For the Redis that the settings describe.
    #[must_use]
    pub fn new(settings: &RedisSettings) -> Self {
        match &settings.topology {
            Topology::Single(_) | Topology::Sentinel(_) => Self::One(Breaker::default()),
            Topology::Cluster(seeds) => Self::Cluster(Cluster::new(settings, seeds)),
        }
    }

    /// Whether that Redis is worth asking at all.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        match self {
            Self::One(breaker) => breaker,
            Self::Cluster(cluster) => cluster.breaker(),
        }
    }
}

/// Buckets in Redis. All charges of a request must be in one [place](Places);
/// [`Split`](crate::store::split::Split) sees to that.
#[derive(Debug)]
pub enum Servers {
    /// One server is one place.
    One(RedisStore),
    /// In a cluster, each slot is a place.
    Cluster(ClusterStore),
}

impl Servers {
    /// Buckets in the Redis that the settings describe. It is connected to when first needed. Must be called
    /// within a tokio runtime.
    ///
    /// Tells breakers whether Redis answers, and lets no request wait while that is open.
    #[must_use]
    pub fn telling(settings: &RedisSettings, common: &Common) -> Self {
        match common {
            Common::One(breaker) => Self::One(RedisStore::telling(settings, breaker.clone())),
            Common::Cluster(cluster) => Self::Cluster(ClusterStore::of(settings, cluster)),
        }
    }
}

/// A probe of one server, or of the topology of a cluster.
#[derive(Debug)]
pub enum ServerProbe {
    /// Charges a bucket of the server.
    One(ChargingProbe<RedisStore>),
    /// Checks that the owners of the slots are known.
    Cluster(TopologyProbe),
}

impl ServerProbe {
    /// Creates a probe with a connection of its own. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(settings: &RedisSettings, common: &Common, keys: &KeyFormat) -> Self {
        match common {
            Common::One(breaker) => {
                let settings = settings.clone().with_pool_size(1);
                let store = RedisStore::probing(&settings, breaker);
                Self::One(ChargingProbe::new(store, keys))
            }
            Common::Cluster(cluster) => Self::Cluster(TopologyProbe::new(cluster)),
        }
    }
}

impl Probe for ServerProbe {
    async fn probe(&self, deadline: Instant) -> Result<(), StoreError> {
        match self {
            Self::One(probe) => probe.probe(deadline).await,
            Self::Cluster(probe) => probe.probe(deadline).await,
        }
    }
}

impl Store for Servers {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: Instant,
    ) -> Result<Decision, StoreError> {
        match self {
            Self::One(store) => store.decide(charges, deadline).await,
            Self::Cluster(store) => store.decide(charges, deadline).await,
        }
    }
}

impl Places for Servers {
    fn place(&self, charge: &Charge) -> u32 {
        match self {
            Self::One(_) => 0,
            Self::Cluster(store) => store.place(charge),
        }
    }

    fn turns_away(&self, charge: &Charge) -> Option<StoreError> {
        match self {
            Self::One(store) => store.breaker_error(),
            Self::Cluster(store) => store.turns_away(charge),
        }
    }
}
