//! The stores that a test runs on.

use super::{Cluster, Redis};

/// Where the server keeps its buckets in a test.
#[derive(Debug)]
pub enum Backend {
    /// In the memory of the server.
    Memory,
    /// In a Redis that only this test uses.
    Redis(Redis),
    /// In a Redis Cluster that tests share; each test has its own key prefix.
    Cluster(&'static Cluster),
}

impl Backend {
    /// One of each kind, with no buckets in it.
    pub fn all() -> [Self; 3] {
        [
            Self::Memory,
            Self::Redis(Redis::start()),
            Self::Cluster(Cluster::shared()),
        ]
    }

    /// The environment variables that make a server use it. The timeout is long, so that a slow machine does not cause fallback
    /// decisions.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let long_timeout = ("REDIS_TIMEOUT", "20s".to_owned());
        match self {
            Self::Memory => vec![("BACKEND_TYPE", "memory".to_owned())],
            Self::Redis(redis) => vec![
                ("BACKEND_TYPE", "redis".to_owned()),
                ("REDIS_SOCKET_TYPE", "tcp".to_owned()),
                ("REDIS_URL", redis.url()),
                long_timeout,
            ],
            Self::Cluster(cluster) => vec![
                ("REDIS_TYPE", "cluster".to_owned()),
                ("REDIS_URL", cluster.url()),
                long_timeout,
                // A thread gives back the hits of a request that another slot denied. The next request of the test comes after
                // that if the same thread decides it.
                ("WORKER_THREADS", "1".to_owned()),
                ("CACHE_KEY_PREFIX", Cluster::prefix()),
            ],
        }
    }
}
