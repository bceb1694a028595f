//! What is said first on a connection: the login, the protocol, the database, and what the server answers about itself.
//!
//! Redis 6.0 and newer answer `HELLO` with their name and version. Older ones, and proxies such as Envoy's `redis_proxy`,
//! do not know it; with these, the older version of the protocol is spoken. The script's replies are the same in both.

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{Cmd, ErrorKind, RedisError, RedisResult, Value, cmd, from_redis_value_ref};

use super::login::Credentials;
use super::redis_error;
use crate::store::ServerInfo;

/// The user that a password without a user is for.
const DEFAULT_USER: &str = "default";

/// The most characters of a name or a version.
const MAX_LENGTH: usize = 32;

/// How a conversation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeting {
    /// With `HELLO 3`, and as with [`Self::Ping`] where that is not known.
    Hello,
    /// In version 2 of the protocol. Without a password to send, `PING` finds out whether anything answers.
    Ping,
    /// The same without a `PING`.
    Silent,
}

/// Logs in and chooses the database.
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

/// Logs in by `HELLO`; `None` where that is not known.
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

/// Whether a server does not know `HELLO`, or not version 3 of the protocol. Proxies have many words for that.
fn is_unknown(error: &RedisError) -> bool {
    match error.code() {
        Some("NOPROTO") => true,
        Some("ERR") => !redis_error::is_of_a_password(error) && !redis_error::is_full(error),
        _ => error.kind() == ErrorKind::RESP3NotSupported,
    }
}

/// Logs in as before Redis 6.0.
async fn log_in(
    connection: &mut MultiplexedConnection,
    greeting: Greeting,
    credentials: Option<&Credentials>,
) -> RedisResult<()> {
    match credentials {
        Some(credentials) => auth(credentials).exec_async(connection).await,
        None if greeting == Greeting::Silent => Ok(()),
        None => match cmd("PING").exec_async(connection).await {
            // Whoever may not ping, or cannot, is there.
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
    // Before Redis 6.0 there are no users, and the default one is what there is.
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

/// What a server says of itself in its answer to `HELLO`.
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
