//! Asks a node of a cluster whether it decides.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::Cluster;
use super::node::Node;
use crate::key::BucketKey;
use crate::key::slot;
use crate::store::redis::Server;
use crate::store::redis::batch::Batch;
use crate::store::{Cause, Charge, Decision, FailureKind, Store, StoreError};

/// The most keys that are tried to find one in a slot of a node: many more than there are groups, so that none is
/// found only for a node that no request is for, or that has hardly a slot.
const MOST_KEYS: u32 = 2_000;

/// Names one probed bucket after the other.
type Keys = Box<dyn Fn(u32) -> BucketKey + Send + Sync>;

/// Asks one node, over a connection of its own. What it is asked to decide is decided on a bucket of that node.
pub struct NodeProbe {
    node: Arc<Node>,
    cluster: Arc<Cluster>,
    server: Server,
    keys: Keys,
    /// The one that was asked for last.
    last: Mutex<Option<BucketKey>>,
}

impl fmt::Debug for NodeProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeProbe")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl NodeProbe {
    /// A probe of a node; the keys are those of buckets that are to be probed. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(
        cluster: &Arc<Cluster>,
        node: &Arc<Node>,
        keys: impl Fn(u32) -> BucketKey + Send + Sync + 'static,
    ) -> Self {
        let (host, port) = &node.address;
        let settings = cluster.settings.at(host, *port).with_pool_size(1);
        Self {
            node: Arc::clone(node),
            cluster: Arc::clone(cluster),
            server: Server::probing(&settings, Arc::clone(&cluster.script), node.breaker())
                .in_cluster(),
            keys: Box::new(keys),
            last: Mutex::default(),
        }
    }

    /// A key in a slot of the node.
    fn key(&self) -> Option<BucketKey> {
        let map = self.cluster.map();
        let is_here = |key: &BucketKey| {
            let owner = map.owner(slot(key.as_str()));
            owner.is_some_and(|owner| Arc::ptr_eq(owner, &self.node))
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let key = last.take().filter(is_here);
        *last = key.or_else(|| (1..=MOST_KEYS).map(&self.keys).find(is_here));
        last.clone()
    }
}

impl Store for NodeProbe {
    async fn decide(
        &self,
        charges: Arc<[Charge]>,
        deadline: Instant,
    ) -> Result<Decision, StoreError> {
        let charge = self.key().zip(charges.first()).map(|(key, charge)| Charge {
            key,
            ..charge.clone()
        });
        // Where there is no such key, at least the script is called.
        let request = charge.as_ref().map(std::slice::from_ref);
        let batch = Batch::new(request.into_iter());
        match self.server.decide_batch(&batch, None, deadline, None).await {
            Ok(_) => {}
            // The slot may be another node's by now; this one answers.
            Err(error) if error.kind() == FailureKind::Refused => self.cluster.doubt(),
            Err(error) => return Err(error),
        }
        Ok(Decision {
            admitted: true,
            outcomes: Vec::new(),
            cause: Cause::Buckets,
        })
    }
}

/// Whether what a node says is that the whole cluster is down: then that is told of the cluster, and nothing of each
/// of its nodes.
#[must_use]
pub fn is_of_the_whole(error: &StoreError) -> bool {
    matches!(error, StoreError::Unfit { cause, .. } if cause.starts_with("ClusterDown"))
}
