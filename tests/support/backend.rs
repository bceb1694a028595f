//! The stores that a test runs on.

use super::{Cluster, Redis};

/// Where the server keeps its buckets in a test.
#[derive(Debug)]
pub enum Backend {
    /// In the memory of the server.
    Memory,
    /// In a Redis of the test's own.
    Redis(Redis),
    /// In a Redis Cluster that tests share, under names of the test's own.
    Cluster(&'static Cluster),
}

impl Backend {
    /// Each of them, fresh.
    pub fn all() -> [Self; 3] {
        [
            Self::Memory,
            Self::Redis(Redis::start()),
            Self::Cluster(Cluster::shared()),
        ]
    }

    /// The environment variables that choose it. A busy machine must not have requests decided without Redis.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let patient = ("REDIS_TIMEOUT", "20s".to_owned());
        match self {
            Self::Memory => vec![("BACKEND_TYPE", "memory".to_owned())],
            Self::Redis(redis) => vec![
                ("BACKEND_TYPE", "redis".to_owned()),
                ("REDIS_SOCKET_TYPE", "tcp".to_owned()),
                ("REDIS_URL", redis.url()),
                patient,
            ],
            Self::Cluster(cluster) => vec![
                ("REDIS_TYPE", "cluster".to_owned()),
                ("REDIS_URL", cluster.url()),
                patient,
                // What was taken in vain is given back by the thread that took it: who asks next comes after that
                // on this thread, and may be denied before it on another.
                ("WORKER_THREADS", "1".to_owned()),
                ("CACHE_KEY_PREFIX", Cluster::prefix()),
            ],
        }
    }
}
