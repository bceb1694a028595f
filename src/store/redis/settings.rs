//! Settings of a Redis.

use std::sync::Arc;
use std::time::Duration;

use super::address::{Address, AddressError, Endpoint};
use super::login::Login;
use super::sentinel::Sentinels;
use super::tls::RedisTls;
use crate::telemetry::StoreProbe;

/// Settings of a Redis.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// The servers and their roles.
    pub topology: Topology,
    /// Credentials. `None`: connections do not authenticate.
    pub login: Option<Login>,
    /// TLS settings. `None`: connections are not encrypted.
    pub tls: Option<RedisTls>,
    /// Number of the database.
    pub database: i64,
    /// Maximum number of connections for decisions to each server, at least 1. Probes and the reading of a cluster's
    /// topology use connections of their own.
    pub pool_size: u32,
    /// Maximum time of a decision, including the time to connect.
    pub timeout: Duration,
    /// Records calls in metrics and traces.
    pub probe: StoreProbe,
}

/// The servers and their roles.
#[derive(Debug, Clone)]
pub enum Topology {
    /// A single server.
    Single(Endpoint),
    /// The master that sentinels report. Stores that share the sentinels share the reported address.
    Sentinel(Arc<Sentinels>),
    /// A cluster, with the host and port of some of its nodes. These report the others.
    Cluster(Vec<(String, u16)>),
}

impl RedisSettings {
    /// Settings with the defaults for everything but the topology.
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

    /// Settings for the server at an [address](Address::parse), with the defaults for everything else.
    ///
    /// # Errors
    /// `address` is not a valid address.
    pub fn parse(address: &str) -> Result<Self, AddressError> {
        Address::parse(address).map(Self::of)
    }

    /// Settings for the server at `address`, with the defaults for everything else.
    #[must_use]
    pub fn of(address: Address) -> Self {
        Self {
            login: address.login,
            tls: address.is_tls.then(RedisTls::default),
            database: address.database,
            ..Self::new(Topology::Single(address.endpoint))
        }
    }

    /// Returns these settings for a single server at another host and port.
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

    /// Replaces the maximum number of connections.
    #[must_use]
    pub fn with_pool_size(self, pool_size: u32) -> Self {
        Self { pool_size, ..self }
    }

    /// Reports calls to `probe`.
    #[must_use]
    pub fn observed_by(self, probe: &StoreProbe) -> Self {
        Self {
            probe: probe.clone(),
            ..self
        }
    }

    /// Returns the address for logs and errors, without credentials.
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
