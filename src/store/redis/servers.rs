//! One Redis server, the master of sentinels, or a cluster: whatever the settings describe.

use std::sync::Arc;

use tokio::time::Instant;

use super::cluster::{AnyNode, Cluster};
use super::{ClusterStore, RedisSettings, RedisStore, Topology};
use crate::store::breaker::Breaker;
use crate::store::split::Places;
use crate::store::{Charge, Decision, Store, StoreError};

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
    /// To find out whether anything is known of a cluster.
    AnyNode(AnyNode),
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

    /// What finds out whether requests are worth sending at all. To know the nodes of a cluster is enough for that:
    /// whether each decides is [another question](super::NodeProbe).
    #[must_use]
    pub fn probe(settings: &RedisSettings, common: &Common) -> Self {
        match common {
            Common::One(breaker) => Self::One(RedisStore::probing(
                &settings.clone().with_pool_size(1),
                breaker,
            )),
            Common::Cluster(cluster) => Self::AnyNode(AnyNode::new(cluster)),
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
            Self::AnyNode(store) => store.decide(charges, deadline).await,
        }
    }
}

impl Places for Servers {
    fn place(&self, charge: &Charge) -> u32 {
        match self {
            Self::One(_) | Self::AnyNode(_) => 0,
            Self::Cluster(store) => store.place(charge),
        }
    }

    fn turns_away(&self, charge: &Charge) -> Option<StoreError> {
        match self {
            Self::One(store) => store.is_shut(),
            Self::Cluster(store) => store.turns_away(charge),
            Self::AnyNode(_) => None,
        }
    }
}
