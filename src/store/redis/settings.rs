//! How to reach Redis.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::address::{Address, AddressError, Endpoint};
use super::login::Login;
use super::sentinel::Sentinels;
use super::tls::RedisTls;
use crate::telemetry::StoreProbe;

/// How to reach Redis.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// Which server.
    pub topology: Topology,
    /// As whom to log in; `None`: not at all.
    pub login: Option<Login>,
    /// How TLS is spoken; `None`: it is not.
    pub tls: Option<RedisTls>,
    /// Which database.
    pub database: i64,
    /// The most connections held, at least 1.
    pub pool_size: u32,
    /// How long a decision may take, connecting included.
    pub timeout: Duration,
    /// What calls are told to.
    pub probe: StoreProbe,
}

/// Which servers there are.
#[derive(Debug, Clone)]
pub enum Topology {
    /// This one.
    Single(Endpoint),
    /// The one that sentinels name. All who share them share what they know.
    Sentinel(Arc<Sentinels>),
    /// All nodes of a cluster. Some are named; the others are heard of from these.
    Cluster(Vec<(String, u16)>),
}

impl RedisSettings {
    /// One server with the defaults of everything else.
    #[must_use]
    pub fn new(topology: Topology) -> Self {
        Self {
            topology,
            login: None,
            tls: None,
            database: 0,
            pool_size: 10,
            timeout: Duration::from_millis(100),
            probe: StoreProbe::default(),
        }
    }

    /// The server at an [address](Address::parse), likewise.
    ///
    /// # Errors
    /// When it is no address.
    pub fn parse(address: &str) -> Result<Self, AddressError> {
        Address::parse(address).map(Self::of)
    }

    /// The server at an address, with the defaults of everything else.
    #[must_use]
    pub fn of(address: Address) -> Self {
        Self {
            login: address.login,
            tls: address.is_tls.then(RedisTls::default),
            database: address.database,
            ..Self::new(Topology::Single(address.endpoint))
        }
    }

    /// The same, to one server that is somewhere else.
    #[must_use]
    pub fn at(&self, host: &str, port: u16) -> Self {
        let endpoint = Endpoint::Tcp {
            host: host.to_owned(),
            port,
        };
        Self {
            topology: Topology::Single(endpoint),
            ..self.clone()
        }
    }

    /// The same with so many connections at most.
    #[must_use]
    pub fn with_pool_size(self, pool_size: u32) -> Self {
        Self { pool_size, ..self }
    }

    /// The same, whose calls are told to a probe.
    #[must_use]
    pub fn observed_by(self, probe: &StoreProbe) -> Self {
        Self {
            probe: probe.clone(),
            ..self
        }
    }

    /// The settings of each of so many stores that share the connections.
    #[must_use]
    pub fn shared_by(self, stores: NonZeroUsize) -> Self {
        let stores = u32::try_from(stores.get()).unwrap_or(u32::MAX);
        Self {
            pool_size: (self.pool_size / stores).max(1),
            ..self
        }
    }

    /// Where that is, for people; without credentials.
    pub(super) fn description(&self) -> String {
        match &self.topology {
            Topology::Single(endpoint) => endpoint.to_string(),
            Topology::Sentinel(sentinels) => sentinels.description(),
            Topology::Cluster(seeds) => {
                let seeds = seeds.iter().map(|(host, port)| {
                    let (host, port) = (host.clone(), *port);
                    Endpoint::Tcp { host, port }.to_string()
                });
                seeds.collect::<Vec<_>>().join(",")
            }
        }
    }
}
