//! A store on one Redis server, on the master that sentinels report, or on a cluster, as the settings say.
//!
//! Also shares out the connections that `REDIS_POOL_SIZE` allows among the threads of a server.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::cluster::{Cluster, TopologyProbe};
use super::{ClusterStore, RedisSettings, RedisStore, Topology};
use crate::key::KeyFormat;
use crate::store::breaker::Breaker;
use crate::store::split::PartitionedStore;
use crate::store::{Charge, ChargingProbe, Decision, Probe, Store, StoreError};

/// State of one Redis that all threads share.
#[derive(Debug, Clone)]
pub enum SharedServer {
    /// The breaker of a single server.
    One(Breaker),
    /// The topology of a cluster and the breakers of its nodes.
    Cluster(Arc<Cluster>),
}

impl SharedServer {
    /// Creates the state for the Redis that `settings` describe.
    #[must_use]
    pub fn new(settings: &RedisSettings) -> Self {
        match &settings.topology {
            Topology::Single(_) | Topology::Sentinel(_) => Self::One(Breaker::default()),
            Topology::Cluster(seeds) => Self::Cluster(Cluster::new(settings, seeds)),
        }
    }

    /// Returns the breaker that is open while this Redis as a whole is unavailable.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        match self {
            Self::One(breaker) => breaker,
            Self::Cluster(cluster) => cluster.breaker(),
        }
    }
}

/// Buckets in one Redis. All charges of a request must be in one [partition](PartitionedStore);
/// [`Split`](crate::store::split::Split) takes care of that.
///
/// Clones share the lane and the connections.
#[derive(Debug, Clone)]
pub enum ServerStore {
    /// One server is one place.
    One(Arc<RedisStore>),
    /// Each slot of a cluster is a place.
    Cluster(Arc<ClusterStore>),
}

impl ServerStore {
    /// Creates a store that connects when it is first used. It reports the result of each call to the breakers of
    /// `shared` and rejects requests while these are open. Must be called within a tokio runtime, which runs its tasks.
    fn new(settings: &RedisSettings, shared: &SharedServer) -> Self {
        match shared {
            SharedServer::One(breaker) => Self::One(Arc::new(RedisStore::with_breaker(
                settings,
                breaker.clone(),
            ))),
            SharedServer::Cluster(cluster) => {
                Self::Cluster(Arc::new(ClusterStore::new(settings, cluster)))
            }
        }
    }
}

/// Creates the stores of all threads on one Redis, which together hold at most
/// [`pool_size`](RedisSettings::pool_size) connections to each server of it.
#[derive(Debug)]
pub(super) struct ThreadStores {
    settings: RedisSettings,
    shared: SharedServer,
    /// Connections of the stores that are still to be created.
    plan: PoolPlan,
    created: AtomicU32,
    /// The store of the threads that cannot have connections of their own.
    common: Option<ServerStore>,
}

impl ThreadStores {
    /// Shares out the connections among `threads` stores. Must be called within the tokio runtime that outlives the
    /// threads: it runs the store that several of them have in common.
    pub(super) fn new(
        settings: &RedisSettings,
        shared: &SharedServer,
        threads: NonZeroUsize,
    ) -> Self {
        let plan = PoolPlan::new(settings.pool_size, threads);
        let common = plan.has_common_store.then(|| {
            let settings = settings.clone().with_pool_size(1);
            ServerStore::new(&settings, shared)
        });
        Self {
            settings: settings.clone(),
            shared: shared.clone(),
            plan,
            created: AtomicU32::new(0),
            common,
        }
    }

    /// Returns the store of the next thread. Must be called on that thread, within its tokio runtime.
    pub(super) fn next(&self) -> ServerStore {
        let number = self.created.fetch_add(1, Ordering::Relaxed);
        let size = self.plan.pool_size(number);
        match (&self.common, size) {
            (Some(common), None) => common.clone(),
            (_, size) => {
                let settings = self.settings.clone().with_pool_size(size.unwrap_or(1));
                ServerStore::new(&settings, &self.shared)
            }
        }
    }
}

/// How many connections each store of a server can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PoolPlan {
    /// Stores with connections of their own.
    stores: u32,
    /// Connections of each of these stores.
    each: u32,
    /// The first stores have one connection more, this many of them.
    larger: u32,
    /// One connection is kept for a store that the other threads have in common.
    has_common_store: bool,
}

impl PoolPlan {
    fn new(pool_size: u32, threads: NonZeroUsize) -> Self {
        let (pool_size, threads) = (
            pool_size.max(1),
            u32::try_from(threads.get()).unwrap_or(u32::MAX),
        );
        match pool_size >= threads {
            true => Self {
                stores: threads,
                each: pool_size / threads,
                larger: pool_size % threads,
                has_common_store: false,
            },
            false => Self {
                stores: pool_size - 1,
                each: 1,
                larger: 0,
                has_common_store: true,
            },
        }
    }

    /// Returns the pool size of the store that is created as number `number`, or `None` if it has no connections of
    /// its own.
    fn pool_size(&self, number: u32) -> Option<u32> {
        (number < self.stores).then_some(self.each + u32::from(number < self.larger))
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
    pub fn new(settings: &RedisSettings, common: &SharedServer, keys: &KeyFormat) -> Self {
        match common {
            SharedServer::One(breaker) => {
                let settings = settings.clone().with_pool_size(1);
                let store = RedisStore::probing(&settings, breaker);
                Self::One(ChargingProbe::new(store, keys))
            }
            SharedServer::Cluster(cluster) => Self::Cluster(TopologyProbe::new(cluster)),
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

impl Store for ServerStore {
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

impl PartitionedStore for ServerStore {
    fn partition(&self, charge: &Charge) -> u32 {
        match self {
            Self::One(_) => 0,
            Self::Cluster(store) => store.partition(charge),
        }
    }

    fn unavailable(&self, charge: &Charge) -> Option<StoreError> {
        match self {
            Self::One(store) => store.breaker_error(),
            Self::Cluster(store) => store.unavailable(charge),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_no_more_connections_than_the_pool_size() {
        for pool_size in 1..40 {
            for threads in 1..40 {
                let plan = PoolPlan::new(pool_size, NonZeroUsize::new(threads).unwrap());
                let sizes = (0..u32::try_from(threads).unwrap()).map(|n| plan.pool_size(n));
                let own: u32 = sizes.clone().flatten().sum();
                let without = sizes.filter(Option::is_none).count();
                assert_eq!(without > 0, plan.has_common_store, "{pool_size} {threads}");
                let all = own + u32::from(plan.has_common_store);
                assert_eq!(all, pool_size, "{threads} threads: {plan:?}");
            }
        }
    }
}
