//! One Redis server, the master of sentinels, or a cluster: whatever the settings describe.

use std::sync::Arc;

use tokio::time::Instant;

use super::cluster::AnyNode;
use super::{ClusterStore, RedisSettings, RedisStore, Topology};
use crate::store::breaker::Breaker;
use crate::store::split::Places;
use crate::store::{Charge, Decision, Store, StoreError};

/// Buckets in Redis. All charges of a request must be in one [place](Places);
/// [`Split`](crate::store::split::Split) sees to that.
#[derive(Debug)]
pub enum Servers {
    /// One server is one place.
    One(RedisStore),
    /// In a cluster, each slot is a place.
    Cluster(ClusterStore),
    /// To find out whether any node of a cluster answers.
    AnyNode(AnyNode),
}

impl Servers {
    /// Buckets in the Redis that the settings describe. It is connected to when first needed. Must be called
    /// within a tokio runtime.
    ///
    /// Tells a breaker whether Redis answers, and lets no request wait while that is open.
    #[must_use]
    pub fn telling(settings: &RedisSettings, breaker: Breaker) -> Self {
        match &settings.topology {
            Topology::Single(_) | Topology::Sentinel(_) => {
                Self::One(RedisStore::telling(settings, breaker))
            }
            Topology::Cluster(seeds) => {
                Self::Cluster(ClusterStore::telling(settings, seeds, breaker))
            }
        }
    }

    /// What finds out whether requests are worth sending at all. One node of a cluster is enough for that: what
    /// becomes of the requests for the others is the [`ClusterStore`]'s matter.
    #[must_use]
    pub fn probe(settings: &RedisSettings) -> Self {
        let settings = settings.clone().with_pool_size(1);
        match &settings.topology {
            Topology::Single(_) | Topology::Sentinel(_) => Self::One(RedisStore::new(&settings)),
            Topology::Cluster(seeds) => Self::AnyNode(AnyNode::new(&settings, seeds)),
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
}
