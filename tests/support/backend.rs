//! The stores that a test runs on.

use super::Redis;

/// Where the server keeps its buckets in a test.
#[derive(Debug)]
pub enum Backend {
    /// In the memory of the server.
    Memory,
    /// In a Redis of the test's own.
    Redis(Redis),
}

impl Backend {
    /// Each of them, fresh.
    pub fn all() -> [Self; 2] {
        [Self::Memory, Self::Redis(Redis::start())]
    }

    /// The environment variables that choose it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Memory => vec![("BACKEND_TYPE", "memory".to_owned())],
            Self::Redis(redis) => vec![
                ("BACKEND_TYPE", "redis".to_owned()),
                ("REDIS_SOCKET_TYPE", "tcp".to_owned()),
                ("REDIS_URL", redis.url()),
            ],
        }
    }
}
