//! Parses addresses of Redis servers.

use std::fmt;
use std::path::PathBuf;

use bb8_redis::redis::{ConnectionAddr, IntoConnectionInfo as _};
use thiserror::Error;

use super::login::Login;

/// An invalid address.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct AddressError(String);

/// Network address of a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A host name or IP address, and a port.
    Tcp {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A parsed address.
#[derive(Debug, Clone)]
pub struct Address {
    /// Network address of the server.
    pub endpoint: Endpoint,
    /// User and password, if the address has a password.
    pub login: Option<Login>,
    /// The user, with or without a password.
    pub user: Option<String>,
    /// Number of the database.
    pub database: i64,
    /// Whether to use TLS.
    pub is_tls: bool,
}

const NOT_ONE: &str = "not a Redis address; write host:port, redis://host:port, rediss://host:port or unix:///path, and \
                       percent-encode what is special in user and password (@ as %40, : as %3A, / as %2F, ? as %3F)";

fn refused(text: impl Into<String>) -> AddressError {
    AddressError(text.into())
}

impl Address {
    /// Parses an address: `host:port`, `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS,
    /// `unix:///path`, or the path of a socket. Database, user and password can also be parameters: `?db=1`,
    /// `?username=` and `?password=`.
    ///
    /// # Errors
    /// The address has none of these forms or an unknown part. The message never contains a password.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let url = match text {
            _ if text.contains(',') => {
                return Err(refused(
                    "several addresses need REDIS_TYPE=sentinel or REDIS_TYPE=cluster; one server is \
                     host:port",
                ));
            }
            _ if text.contains('#') => {
                return Err(refused(
                    "it contains '#', which no part of an address has; in a password, write %23",
                ));
            }
            _ if text.contains("://") => text.to_owned(),
            _ if text.starts_with('/') => format!("unix://{text}"),
            _ => format!("redis://{text}"),
        };
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let is_tls = matches!(scheme, "rediss" | "valkeys");
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let scheme = if is_tls { "redis" } else { scheme };
        if has_invalid_port(rest) {
            return Err(refused(
                "the port is no number from 1 to 65535; write host:port",
            ));
        }
        // The driver's error can contain the address with its credentials, so it is not shown.
        let info = format!("{scheme}://{rest}")
            .as_str()
            .into_connection_info()
            .map_err(|_| refused(NOT_ONE))?;
        let endpoint = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Endpoint::Tcp {
                host: host.clone(),
                port: *port,
            },
            ConnectionAddr::Unix(path) => Endpoint::Unix(path.clone()),
            _ => return Err(refused(NOT_ONE)),
        };
        if matches!(endpoint, Endpoint::Tcp { port: 0, .. }) {
            return Err(refused(
                "no server is at port 0; write host:port, with a port from 1 to 65535",
            ));
        }
        let redis = info.redis_settings();
        let database = (redis.db() != 0).then(|| redis.db().to_string());
        let mut parts = Parts {
            database,
            user: redis.username().map(str::to_owned),
            password: redis.password().map(str::to_owned),
        };
        parts.read(parameters)?;
        let login = parts.password.as_deref();
        Ok(Self {
            endpoint,
            login: login.map(|password| Login::new(parts.user.as_deref(), password)),
            database: parts.database()?,
            user: parts.user,
            is_tls,
        })
    }
}

/// Returns whether the part of an address after its scheme ends in digits that are not a port.
fn has_invalid_port(rest: &str) -> bool {
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = host.split('/').next().unwrap_or_default();
    host.rsplit_once(':').is_some_and(|(_, port)| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && port.len() > 4
            && port.parse::<u16>().is_err()
    })
}

/// Values that can occur in the path and in the parameters.
struct Parts {
    database: Option<String>,
    user: Option<String>,
    password: Option<String>,
}

impl Parts {
    /// Parses the parameters, `name=value&name=value`.
    fn read(&mut self, parameters: &str) -> Result<(), AddressError> {
        for (name, value) in form_urlencoded::parse(parameters.as_bytes()) {
            let part = match &*name {
                "db" => &mut self.database,
                "username" | "user" => &mut self.user,
                "password" | "pass" => &mut self.password,
                "protocol" => {
                    return Err(refused(
                        "parameter 'protocol': the version of the protocol is found out when connecting; leave it out",
                    ));
                }
                // The value can be a secret that is not percent-encoded; the name is safe to show.
                name if name.len() <= 32
                    && name.chars().all(|c| c.is_ascii_alphabetic() || c == '_') =>
                {
                    return Err(refused(format!(
                        "unknown parameter '{name}'; there are db, username and password"
                    )));
                }
                _ => {
                    return Err(refused(
                        "an unknown parameter; there are db, username and password",
                    ));
                }
            };
            if part.as_deref().is_some_and(|before| before != value) {
                return Err(refused(format!(
                    "it says two different things of '{name}'; leave one of them out"
                )));
            }
            *part = Some(value.into_owned());
        }
        Ok(())
    }

    fn database(&self) -> Result<i64, AddressError> {
        let Some(text) = &self.database else {
            return Ok(0);
        };
        // Redis reads the number as an `int`.
        let database = text
            .parse()
            .ok()
            .filter(|database: &i64| (0..=i64::from(i32::MAX)).contains(database));
        database.ok_or_else(|| {
            refused(
                "the database, behind the last slash or as ?db=, is a number from 0 to 2147483647",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Option<Login>, Option<String>, i64, bool) {
        let address = Address::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let Address {
            endpoint,
            login,
            user,
            database,
            is_tls,
        } = address;
        (endpoint.to_string(), login, user, database, is_tls)
    }

    #[test]
    fn each_part_of_an_address_counts() {
        let login = |user: Option<&str>| Some(Login::new(user, "p"));
        let user = |user: &str| Some(user.to_owned());
        for (text, endpoint, login, user, database) in [
            ("h:1", "h:1", None, None, 0),
            ("redis://h:1/3", "h:1", None, None, 3),
            ("redis://h:1?db=3", "h:1", None, None, 3),
            ("h:65535/2147483647", "h:65535", None, None, 2_147_483_647),
            ("redis://h:1/?db=3", "h:1", None, None, 3),
            ("redis://h:1/3?db=3", "h:1", None, None, 3),
            ("h:1?db=3", "h:1", None, None, 3),
            ("redis://u@h:1", "h:1", None, user("u"), 0),
            ("redis://u:p@h:1/2", "h:1", login(Some("u")), user("u"), 2),
            ("redis://:p@h:1", "h:1", login(None), None, 0),
            (
                "redis://h:1?username=u&password=p",
                "h:1",
                login(Some("u")),
                user("u"),
                0,
            ),
            (
                "redis://u@h:1?password=p",
                "h:1",
                login(Some("u")),
                user("u"),
                0,
            ),
            ("redis://h:1?username=u", "h:1", None, user("u"), 0),
            (
                "unix:///s?db=4&user=u&pass=p",
                "/s",
                login(Some("u")),
                user("u"),
                4,
            ),
            ("/s", "/s", None, None, 0),
        ] {
            let expected = (endpoint.to_owned(), login, user, database, false);
            assert_eq!(parsed(text), expected, "{text}");
        }
        assert!(parsed("rediss://h:1?db=1").4);
    }

    #[test]
    fn what_means_nothing_is_an_error_without_secrets() {
        for (text, expected) in [
            ("redis://h:1?database=3", "unknown parameter 'database'"),
            ("redis://h:1?db=x", "a number from 0"),
            ("redis://h:1?db=-1", "a number from 0"),
            ("redis://h:1/-1", "a number from 0"),
            ("redis://h:1/1?db=2", "two different things of 'db'"),
            ("redis://u:SECRET@h:1?password=SECRET2", "of 'password'"),
            ("redis://h:1?protocol=3", "leave it out"),
            ("rediss://h:1#insecure", "'#'"),
            ("redis://:SEC#RET@h:1", "%23"),
            ("redis://:SEC?RET@h:1", "percent-encode"),
            ("redis://h:1?SECRET!=1", "an unknown parameter"),
            ("redis://h:1/1/2", "not a Redis address"),
            ("redis://h:0", "port 0"),
            ("redis://h:99999", "from 1 to 65535"),
            ("h:65536", "from 1 to 65535"),
            ("redis://u:SEC@[::1]:123456/1", "from 1 to 65535"),
            ("redis://u:123456/SEC@h:x", "percent-encode"),
            ("redis://h:1/99999999999", "a number from 0 to 2147483647"),
            ("redis://h:1?db=2147483648", "a number from 0 to 2147483647"),
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("SEC"), "{text}: {error}");
        }
    }
}
