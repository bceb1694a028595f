//! The first commands of a connection: authentication, protocol version and database.
//!
//! Redis 6.0 and newer reply to `HELLO` with their name and version. Older servers, and proxies such as Envoy's
//! `redis_proxy`, do not know that command; version 2 of the protocol is used with them. The replies of the script
//! are the same in both.

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{Cmd, ErrorKind, RedisError, RedisResult, Value, cmd, from_redis_value_ref};

use super::login::Credentials;
use super::redis_error;
use crate::store::ServerInfo;

/// The user of a password without a user name.
const DEFAULT_USER: &str = "default";

/// Maximum length of a name or a version, in characters.
const MAX_LENGTH: usize = 32;

/// The first command of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeting {
    /// `HELLO 3`; the commands of [`Self::Ping`] if the server does not know it.
    Hello,
    /// Version 2 of the protocol. Without a password, `PING` checks that the server replies.
    Ping,
    /// As [`Self::Ping`], without the `PING`.
    Silent,
}

/// Authenticates and selects the database.
pub(super) async fn greet(
    connection: &mut MultiplexedConnection,
    greeting: Greeting,
    credentials: Option<&Credentials>,
    database: i64,
) -> RedisResult<ServerInfo> {
    let hello = match greeting {
        Greeting::Hello => hello(connection, credentials).await,
        Greeting::Ping | Greeting::Silent => Ok(None),
    };
    let info = match hello? {
        Some(info) => info,
        None => {
            log_in(connection, greeting, credentials).await?;
            ServerInfo {
                software: None,
                protocol: 2,
            }
        }
    };
    if database != 0 {
        let selected = cmd("SELECT").arg(database).exec_async(connection).await;
        selected.map_err(|error| match error.is_io_error() {
            true => error,
            false => redis_error::no_database(),
        })?;
    }
    Ok(info)
}

/// Authenticates with `HELLO`. Returns `None` if the server does not know that command.
async fn hello(
    connection: &mut MultiplexedConnection,
    credentials: Option<&Credentials>,
) -> RedisResult<Option<ServerInfo>> {
    let mut hello = cmd("HELLO");
    hello.arg(3);
    if let Some(Credentials { user, password }) = credentials {
        let user = user.as_deref().unwrap_or(DEFAULT_USER);
        hello.arg("AUTH").arg(user).arg(password);
    }
    match hello.query_async::<Value>(connection).await {
        Ok(answer) => Ok(Some(info(&answer))),
        Err(error) if is_unknown(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns whether the server does not know `HELLO` or version 3 of the protocol. Proxies report this in many
/// ways.
fn is_unknown(error: &RedisError) -> bool {
    match error.code() {
        Some("NOPROTO") => true,
        Some("ERR") => !redis_error::has_no_password(error) && !redis_error::is_full(error),
        _ => error.kind() == ErrorKind::RESP3NotSupported,
    }
}

/// Authenticates as before Redis 6.0.
async fn log_in(
    connection: &mut MultiplexedConnection,
    greeting: Greeting,
    credentials: Option<&Credentials>,
) -> RedisResult<()> {
    match credentials {
        Some(credentials) => auth(credentials).exec_async(connection).await,
        None if greeting == Greeting::Silent => Ok(()),
        None => match cmd("PING").exec_async(connection).await {
            // The server replies, but does not permit or know `PING`.
            Err(error)
                if matches!(error.code(), Some("NOPERM")) || redis_error::is_unknown(&error) =>
            {
                Ok(())
            }
            answer => answer,
        },
    }
}

fn auth(credentials: &Credentials) -> Cmd {
    let mut auth = cmd("AUTH");
    // Redis before 6.0 has no users, so the default user must not be sent.
    if let Some(user) = credentials
        .user
        .as_deref()
        .filter(|user| *user != DEFAULT_USER)
    {
        auth.arg(user);
    }
    auth.arg(&credentials.password);
    auth
}

/// Returns the name and version in a reply to `HELLO`.
fn info(answer: &Value) -> ServerInfo {
    let pairs: Vec<(String, Value)> = from_redis_value_ref(answer).unwrap_or_default();
    let named = |name: &str| {
        let (_, value) = pairs.iter().find(|(key, _)| key == name)?;
        from_redis_value_ref::<String>(value).ok()
    };
    let word = |name: &str| {
        let word = named(name)?;
        let is_one = word.len() <= MAX_LENGTH && word.chars().all(|c| c.is_ascii_graphic());
        is_one.then_some(word)
    };
    let software = word("server").zip(word("version"));
    ServerInfo {
        software: software.map(|(name, version)| format!("{name} {version}")),
        protocol: 3,
    }
}
