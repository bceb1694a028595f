//! From what is typed about one Redis to how it is reached; what does not go together is refused.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::super::super::mistakes::Mistakes;
use super::super::super::options::{RedisType, Secret};
use super::{Certificates, SocketType};
use crate::store::redis::{
    Address, ClientCertificate, Endpoint, Login, NameCheck, RedisSettings, RedisTls, Sentinels,
    SystemRoots, Topology,
};

/// Everything that is typed for one Redis; `prefix` begins the names of its variables.
pub(super) struct Typed<'a> {
    pub(super) prefix: &'static str,
    pub(super) url: Option<&'a Secret>,
    pub(super) socket_type: Option<SocketType>,
    pub(super) redis_type: RedisType,
    pub(super) auth: Option<&'a Secret>,
    pub(super) auth_file: Option<&'a PathBuf>,
    pub(super) sentinel_auth: Option<&'a Secret>,
    pub(super) pool_size: u32,
    pub(super) timeout: Duration,
    /// `None`: nothing is said.
    pub(super) tls: Option<bool>,
}

/// How a Redis is reached.
struct Reached {
    settings: RedisSettings,
    /// The user that its address names, for a password that is given elsewhere.
    user: Option<String>,
}

impl Typed<'_> {
    /// How it is reached; `None` when it cannot be. Everything that is wrong is noted.
    pub(super) fn settings(
        &self,
        needed_by: &str,
        certificates: &Certificates,
        mistakes: &mut Mistakes,
    ) -> Option<RedisSettings> {
        let login = mistakes.take(self.login());
        let reached = mistakes.take(self.reached(needed_by, certificates));
        if reached.is_none() && self.speaks_tls() {
            mistakes.take(certificates.tls());
        }
        let Reached { settings, user } = reached?;
        let login = login?.map(|login| login.with_default_user(user.as_deref()));
        let login = login.or_else(|| settings.login.clone());
        if login.is_none() && user.is_some() {
            let prefix = self.prefix;
            mistakes.add(format!(
                "{prefix}URL names a user but no password; write user:password, or set {prefix}AUTH or {prefix}AUTH_FILE"
            ));
        }
        Some(RedisSettings {
            login,
            pool_size: self.pool_size,
            timeout: self.timeout,
            ..settings
        })
    }

    fn reached(&self, needed_by: &str, certificates: &Certificates) -> anyhow::Result<Reached> {
        let prefix = self.prefix;
        let url = self.url.with_context(|| {
            format!("{needed_by} needs {prefix}URL, such as {prefix}URL=localhost:6379")
        })?;
        let mut reached = match self.redis_type {
            RedisType::Single => self.single(url.reveal())?,
            RedisType::Sentinel => self.sentinel(url.reveal(), certificates)?,
            RedisType::Cluster => self.cluster(url.reveal())?,
        };
        let settings = &mut reached.settings;
        anyhow::ensure!(
            settings.tls.is_none() || self.tls != Some(false),
            "{prefix}TLS=false, but {prefix}URL asks for TLS (rediss://); leave {prefix}TLS out, or write redis://"
        );
        if settings.tls.is_some() || self.speaks_tls() {
            let is_socket = matches!(&settings.topology, Topology::Single(Endpoint::Unix(_)));
            anyhow::ensure!(
                !is_socket,
                "{prefix}TLS=true, but {prefix}URL is a Unix socket, which TLS is not spoken on; leave one out"
            );
            settings.tls = Some(certificates.tls()?);
        }
        Ok(reached)
    }

    fn single(&self, url: &str) -> anyhow::Result<Reached> {
        let prefix = self.prefix;
        let url = match self.socket_type {
            Some(SocketType::Unix) if !url.contains("://") => format!("unix://{url}"),
            _ => url.to_owned(),
        };
        let address = Address::parse(&url).with_context(|| format!("{prefix}URL"))?;
        let user = address.user.clone();
        let settings = RedisSettings::of(address);
        let is_socket = matches!(&settings.topology, Topology::Single(Endpoint::Unix(_)));
        anyhow::ensure!(
            self.socket_type
                .is_none_or(|kind| (kind == SocketType::Unix) == is_socket),
            "{prefix}SOCKET_TYPE and {prefix}URL do not agree on what the address is; leave {prefix}SOCKET_TYPE out"
        );
        anyhow::ensure!(
            self.sentinel_auth.is_none(),
            "{prefix}SENTINEL_AUTH is for {prefix}TYPE=sentinel; leave it out, or write {prefix}AUTH"
        );
        Ok(Reached { settings, user })
    }

    /// `host:port,host:port,...`
    fn cluster(&self, url: &str) -> anyhow::Result<Reached> {
        let prefix = self.prefix;
        let form = || {
            format!(
                "{prefix}TYPE=cluster needs {prefix}URL as host:port,host:port,...: where some of its nodes are"
            )
        };
        let addresses = addresses(url).with_context(form)?;
        anyhow::ensure!(
            addresses.iter().all(|address| address.database == 0),
            "{prefix}TYPE=cluster: a cluster has no database but 0; leave it out of {prefix}URL"
        );
        anyhow::ensure!(
            self.sentinel_auth.is_none(),
            "{prefix}SENTINEL_AUTH is for {prefix}TYPE=sentinel; leave it out, or write {prefix}AUTH"
        );
        // All nodes of a cluster are of one make.
        let (login, user) = one_login(&addresses).with_context(|| format!("{prefix}URL"))?;
        let is_tls = addresses.iter().any(|address| address.is_tls);
        let seeds = addresses.into_iter().map(|address| match address.endpoint {
            Endpoint::Tcp { host, port } => Ok((host, port)),
            Endpoint::Unix(_) => Err(anyhow::anyhow!(form())),
        });
        let settings = RedisSettings {
            login,
            tls: is_tls.then(RedisTls::default),
            ..RedisSettings::new(Topology::Cluster(seeds.collect::<Result<_, _>>()?))
        };
        Ok(Reached { settings, user })
    }

    /// `master,host:port,host:port,...`
    fn sentinel(&self, url: &str, certificates: &Certificates) -> anyhow::Result<Reached> {
        let prefix = self.prefix;
        let form = || {
            format!(
                "{prefix}TYPE=sentinel needs {prefix}URL as master,host:port,host:port,...: what the sentinels \
                 call the master, then where they are"
            )
        };
        let (name, list) = url.split_once(',').with_context(form)?;
        let name = name.trim();
        anyhow::ensure!(!name.is_empty() && !name.contains([':', '/']), form());
        let addresses = addresses(list).with_context(form)?;
        let with_database = addresses.iter().position(|address| address.database != 0);
        if let Some(entry) = with_database {
            anyhow::bail!(
                "{prefix}URL: sentinel {} has a database, which sentinels have none of, and those of their master are \
                 not chosen with {prefix}TYPE=sentinel; leave it out",
                entry + 1
            );
        }
        let is_tls = self.speaks_tls() || addresses.iter().any(|address| address.is_tls);
        let tls = if is_tls {
            Some(certificates.tls()?)
        } else {
            None
        };
        // All sentinels of a master are of one make.
        let (own, user) = one_login(&addresses).with_context(|| format!("{prefix}URL"))?;
        let auth = self.sentinel_auth.map(|auth| Login::parse(auth.reveal()));
        let login = auth
            .map(|auth| auth.with_default_user(user.as_deref()))
            .or(own);
        anyhow::ensure!(
            login.is_some() || user.is_none(),
            "{prefix}URL names a user of the sentinels but no password; write user:password, or set {prefix}SENTINEL_AUTH"
        );
        let endpoints = addresses.into_iter().map(|address| address.endpoint);
        let sentinels = Sentinels::new(name.to_owned(), endpoints.collect(), login, tls.clone());
        let settings = RedisSettings {
            tls,
            ..RedisSettings::new(Topology::Sentinel(Arc::new(sentinels)))
        };
        Ok(Reached {
            settings,
            user: None,
        })
    }

    fn speaks_tls(&self) -> bool {
        self.tls == Some(true)
    }

    fn login(&self) -> anyhow::Result<Option<Login>> {
        let prefix = self.prefix;
        match (self.auth, self.auth_file) {
            (Some(_), Some(_)) => anyhow::bail!(
                "{prefix}AUTH and {prefix}AUTH_FILE both say as whom to log in; leave one of them out"
            ),
            (Some(auth), None) => Ok(Some(Login::parse(auth.reveal()))),
            (None, Some(path)) => Ok(Some(Login::file(path.clone()))),
            (None, None) => Ok(None),
        }
    }
}

/// The login that addresses of one kind have, and the user that they name. What only one of them says is meant for all.
fn one_login(addresses: &[Address]) -> anyhow::Result<(Option<Login>, Option<String>)> {
    let mut logins = addresses
        .iter()
        .filter_map(|address| address.login.as_ref());
    let mut users = addresses.iter().filter_map(|address| address.user.as_ref());
    let (login, user) = (logins.next(), users.next());
    anyhow::ensure!(
        logins.all(|other| Some(other) == login) && users.all(|other| Some(other) == user),
        "entries of the list have different users or passwords, but one is used for all; write the same one, or none"
    );
    Ok((login.cloned(), user.cloned()))
}

/// Reads a list of addresses. Says which one is none; what it is may be a secret.
fn addresses(list: &str) -> anyhow::Result<Vec<Address>> {
    let entries = list.split(',').zip(1..);
    entries
        .map(|(text, number)| {
            Address::parse(text.trim()).with_context(|| format!("entry {number} of the list"))
        })
        .collect()
}

impl Certificates {
    /// What is said of TLS, which no Redis speaks.
    pub(super) fn check_unused(&self) -> anyhow::Result<()> {
        let named = [
            ("REDIS_TLS_CACERT", self.redis_tls_cacert.is_some()),
            ("REDIS_TLS_CACERT_ONLY", self.redis_tls_cacert_only),
            (
                "REDIS_TLS_CLIENT_CERT",
                self.redis_tls_client_cert.is_some(),
            ),
            ("REDIS_TLS_CLIENT_KEY", self.redis_tls_client_key.is_some()),
            (
                "REDIS_TLS_SKIP_HOSTNAME_VERIFICATION",
                self.redis_tls_skip_hostname_verification,
            ),
        ];
        match named.into_iter().find(|(_, is_named)| *is_named) {
            None => Ok(()),
            Some((name, _)) => anyhow::bail!(
                "{name} is for TLS, which is not spoken: write REDIS_TLS=true (or rediss:// in REDIS_URL), or \
                 leave {name} out"
            ),
        }
    }

    fn tls(&self) -> anyhow::Result<RedisTls> {
        let client = match (&self.redis_tls_client_cert, &self.redis_tls_client_key) {
            (Some(certificate), Some(key)) => Some(ClientCertificate {
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            (None, None) => None,
            (Some(_), None) => anyhow::bail!("REDIS_TLS_CLIENT_CERT needs REDIS_TLS_CLIENT_KEY"),
            (None, Some(_)) => anyhow::bail!("REDIS_TLS_CLIENT_KEY needs REDIS_TLS_CLIENT_CERT"),
        };
        anyhow::ensure!(
            self.redis_tls_cacert.is_some() || !self.redis_tls_cacert_only,
            "REDIS_TLS_CACERT_ONLY=true needs REDIS_TLS_CACERT, the file of the certificates to trust"
        );
        Ok(RedisTls {
            authorities: self.redis_tls_cacert.clone(),
            others: match self.redis_tls_cacert_only {
                true => SystemRoots::Ignored,
                false => SystemRoots::Trusted,
            },
            client,
            names: match self.redis_tls_skip_hostname_verification {
                true => NameCheck::Skipped,
                false => NameCheck::Required,
            },
        })
    }
}
