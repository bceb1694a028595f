//! Turns the options of one Redis into its settings, and rejects contradictions.

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

/// The options of one Redis; `prefix` is the prefix of its variables.
pub(super) struct RedisArgs<'a> {
    pub(super) prefix: &'static str,
    pub(super) url: Option<&'a Secret>,
    pub(super) socket_type: Option<SocketType>,
    pub(super) redis_type: RedisType,
    pub(super) auth: Option<&'a Secret>,
    pub(super) auth_file: Option<&'a PathBuf>,
    pub(super) sentinel_auth: Option<&'a Secret>,
    pub(super) pool_size: u32,
    pub(super) timeout: Duration,
    /// `None` if the option is not set.
    pub(super) tls: Option<bool>,
}

/// Settings of a Redis, with the user in its address.
struct ParsedAddress {
    settings: RedisSettings,
    /// User in the address, for a password from another option.
    user: Option<String>,
}

impl RedisArgs<'_> {
    /// The settings, or `None` if options are invalid. All errors are added to `mistakes`.
    pub(super) fn settings(
        &self,
        needed_by: &str,
        certificates: &Certificates,
        mistakes: &mut Mistakes,
    ) -> Option<RedisSettings> {
        let login = mistakes.take(self.login());
        let parsed_address = mistakes.take(self.parsed_address(needed_by, certificates));
        if parsed_address.is_none() && self.uses_tls() {
            mistakes.take(certificates.tls());
        }
        let ParsedAddress { settings, user } = parsed_address?;
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

    fn parsed_address(
        &self,
        needed_by: &str,
        certificates: &Certificates,
    ) -> anyhow::Result<ParsedAddress> {
        let prefix = self.prefix;
        let url = self.url.with_context(|| {
            format!("{needed_by} needs {prefix}URL, such as {prefix}URL=localhost:6379")
        })?;
        let mut parsed_address = match self.redis_type {
            RedisType::Single => self.single(url.reveal())?,
            RedisType::Sentinel => self.sentinel(url.reveal(), certificates)?,
            RedisType::Cluster => self.cluster(url.reveal())?,
        };
        let settings = &mut parsed_address.settings;
        anyhow::ensure!(
            settings.tls.is_none() || self.tls != Some(false),
            "{prefix}TLS=false contradicts rediss:// in {prefix}URL; leave {prefix}TLS out, or write redis://"
        );
        if settings.tls.is_some() || self.uses_tls() {
            let is_socket = matches!(&settings.topology, Topology::Single(Endpoint::Unix(_)));
            anyhow::ensure!(
                !is_socket,
                "{prefix}TLS=true, but {prefix}URL is a Unix socket, which does not support TLS; leave one of them out"
            );
            settings.tls = Some(certificates.tls()?);
        }
        Ok(parsed_address)
    }

    fn single(&self, url: &str) -> anyhow::Result<ParsedAddress> {
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
            "{prefix}SOCKET_TYPE contradicts the address in {prefix}URL; leave {prefix}SOCKET_TYPE out"
        );
        anyhow::ensure!(
            self.sentinel_auth.is_none(),
            "{prefix}SENTINEL_AUTH is for {prefix}TYPE=sentinel; leave it out, or write {prefix}AUTH"
        );
        Ok(ParsedAddress { settings, user })
    }

    /// `host:port,host:port,...`
    fn cluster(&self, url: &str) -> anyhow::Result<ParsedAddress> {
        let prefix = self.prefix;
        let form = || {
            format!(
                "{prefix}TYPE=cluster needs {prefix}URL as host:port,host:port,... with some of its nodes"
            )
        };
        let addresses = addresses(url).with_context(form)?;
        anyhow::ensure!(
            addresses.iter().all(|address| address.database == 0),
            "{prefix}TYPE=cluster: a cluster has only database 0; remove the database from {prefix}URL"
        );
        anyhow::ensure!(
            self.sentinel_auth.is_none(),
            "{prefix}SENTINEL_AUTH is for {prefix}TYPE=sentinel; leave it out, or write {prefix}AUTH"
        );
        // All nodes of a cluster have the same login.
        let (login, user) = shared_login(&addresses).with_context(|| format!("{prefix}URL"))?;
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
        Ok(ParsedAddress { settings, user })
    }

    /// `master,host:port,host:port,...`
    fn sentinel(&self, url: &str, certificates: &Certificates) -> anyhow::Result<ParsedAddress> {
        let prefix = self.prefix;
        let form = || {
            format!(
                "{prefix}TYPE=sentinel needs {prefix}URL as master,host:port,host:port,...: the name of the master, \
                 then the addresses of the sentinels"
            )
        };
        let (name, list) = url.split_once(',').with_context(form)?;
        let name = name.trim();
        anyhow::ensure!(!name.is_empty() && !name.contains([':', '/']), form());
        let addresses = addresses(list).with_context(form)?;
        let with_database = addresses.iter().position(|address| address.database != 0);
        if let Some(entry) = with_database {
            anyhow::bail!(
                "{prefix}URL: sentinel {} has a database, but {prefix}TYPE=sentinel supports only database 0; \
                 remove it",
                entry + 1
            );
        }
        let is_tls = self.uses_tls() || addresses.iter().any(|address| address.is_tls);
        let tls = if is_tls {
            Some(certificates.tls()?)
        } else {
            None
        };
        // All sentinels of a master have the same login.
        let (own, user) = shared_login(&addresses).with_context(|| format!("{prefix}URL"))?;
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
        Ok(ParsedAddress {
            settings,
            user: None,
        })
    }

    fn uses_tls(&self) -> bool {
        self.tls == Some(true)
    }

    fn login(&self) -> anyhow::Result<Option<Login>> {
        let prefix = self.prefix;
        match (self.auth, self.auth_file) {
            (Some(_), Some(_)) => anyhow::bail!(
                "{prefix}AUTH and {prefix}AUTH_FILE both set the login; leave one of them out"
            ),
            (Some(auth), None) => Ok(Some(Login::parse(auth.reveal()))),
            (None, Some(path)) => Ok(Some(Login::file(path.clone()))),
            (None, None) => Ok(None),
        }
    }
}

/// The login and the user in a list of addresses. A login in one address applies to all.
fn shared_login(addresses: &[Address]) -> anyhow::Result<(Option<Login>, Option<String>)> {
    let mut logins = addresses
        .iter()
        .filter_map(|address| address.login.as_ref());
    let mut users = addresses.iter().filter_map(|address| address.user.as_ref());
    let (login, user) = (logins.next(), users.next());
    anyhow::ensure!(
        logins.all(|other| Some(other) == login) && users.all(|other| Some(other) == user),
        "the addresses have different users or passwords, but one login is used for all; write the same one, or set it once"
    );
    Ok((login.cloned(), user.cloned()))
}

/// Parses a list of addresses. An error names the position of the entry, whose text can be a secret.
fn addresses(list: &str) -> anyhow::Result<Vec<Address>> {
    let entries = list.split(',').zip(1..);
    entries
        .map(|(text, number)| {
            Address::parse(text.trim()).with_context(|| format!("entry {number} of the list"))
        })
        .collect()
}

impl Certificates {
    /// Rejects TLS options without TLS.
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
                "{name} has no effect without TLS; set REDIS_TLS=true (or write rediss:// in REDIS_URL), or \
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
            "REDIS_TLS_CACERT_ONLY=true needs REDIS_TLS_CACERT, the file with the CA certificates to trust"
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
