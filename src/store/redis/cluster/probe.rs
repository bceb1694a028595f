//! Probes of the nodes of a cluster.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::Cluster;
use super::node::Node;
use crate::key::{BucketKey, KeyFormat, slot};
use crate::store::redis::Server;
use crate::store::redis::batch::Batch;
use crate::store::{FailureKind, Probe, StoreError, probe_charge, probe_key};

/// Maximum number of keys that are tried to find one in a slot of the node. So many are enough unless the node owns hardly
/// any slots.
const MAX_KEYS: u32 = 2_000;

/// A probe of one node over a connection of its own. It charges a bucket in a slot of the node.
pub struct NodeProbe {
    node: Arc<Node>,
    cluster: Arc<Cluster>,
    server: Server,
    keys: KeyFormat,
    /// The key of the latest probe.
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
    /// Creates a probe of a node whose buckets are named by `keys`. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(cluster: &Arc<Cluster>, node: &Arc<Node>, keys: &KeyFormat) -> Self {
        let (host, port) = &node.address;
        let settings = cluster.settings.at(host, *port).with_pool_size(1);
        Self {
            node: Arc::clone(node),
            cluster: Arc::clone(cluster),
            server: Server::probing(&settings, Arc::clone(&cluster.script), node.breaker())
                .in_cluster(),
            keys: keys.clone(),
            last: Mutex::default(),
        }
    }

    /// Returns a key in a slot of the node.
    fn key(&self) -> Option<BucketKey> {
        let map = self.cluster.map();
        let is_here = |key: &BucketKey| {
            let owner = map.owner(slot(key.as_str()));
            owner.is_some_and(|owner| Arc::ptr_eq(owner, &self.node))
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let key = last.take().filter(is_here);
        *last = key.or_else(|| {
            (1..=MAX_KEYS)
                .map(|number| probe_key(&self.keys, number))
                .find(is_here)
        });
        last.clone()
    }
}

impl Probe for NodeProbe {
    async fn probe(&self, deadline: std::time::Instant) -> Result<(), StoreError> {
        let deadline = Instant::from_std(deadline);
        let charge = self.key().map(probe_charge);
        // Without a key, the script is called with no charge.
        let request = charge.as_ref().map(std::slice::from_ref);
        let batch = Batch::new(request.into_iter());
        match self.server.decide_batch(&batch, None, deadline, None).await {
            Ok(_) => Ok(()),
            // The node answers, but the slot may have moved to another node.
            Err(error) if error.kind() == FailureKind::Refused => {
                self.cluster.request_read();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Returns whether the error of a node is that the whole cluster is down. Such an error is logged for the cluster and not for
/// each node.
#[must_use]
pub fn is_cluster_error(error: &StoreError) -> bool {
    matches!(error, StoreError::Unfit { cause, .. } if cause.starts_with("ClusterDown"))
}
