//! What Redis and the network say, as it may be shown in log lines and answers: on one line, printable, not too
//! long, and without what we said ourselves.
//!
//! Redis's errors may quote the command that they are about. While logging in, that is the password: of
//! what is said then, only what it means is told, in words of our own.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use bb8_redis::redis::{ErrorKind, RedisError};
use tokio_rustls::rustls::{self, AlertDescription};

use super::address::Endpoint;
use crate::store::ServerInfo;
use crate::tls::advice;

/// The most characters of what a server says.
const MAX_LENGTH: usize = 200;

/// The same of what the network or we say, which may be several causes together.
const MAX_OWN_LENGTH: usize = 1000;

/// What an answer to a login may begin with; anything else is not repeated.
const CODES: [&str; 17] = [
    "ERR",
    "WRONGPASS",
    "NOAUTH",
    "NOPERM",
    "NOPROTO",
    "DENIED",
    "LOADING",
    "BUSY",
    "OOM",
    "READONLY",
    "MASTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "CLUSTERDOWN",
    "MOVED",
    "TRYAGAIN",
    "UNKILLABLE",
];

/// What an error says.
pub(super) fn describe(error: &RedisError) -> String {
    match (error.kind(), error.detail()) {
        // Ours, see below.
        (ErrorKind::AuthenticationFailed, Some(detail)) => one_line(detail, MAX_OWN_LENGTH),
        (ErrorKind::Io, _) => one_line(&error.to_string(), MAX_OWN_LENGTH),
        _ => one_line(&error.to_string(), MAX_LENGTH),
    }
}

/// A name that a server gives, if it can be one.
pub(super) fn host(name: &str) -> Option<String> {
    let is_one = name.len() <= 255 && name.chars().all(|c| c.is_ascii_graphic());
    is_one.then(|| name.to_owned())
}

/// So many characters of a text, none of which does anything to a terminal or a log.
fn one_line(text: &str, longest: usize) -> String {
    let mut line = String::new();
    let mut characters = text.trim_end().chars();
    for character in characters.by_ref().take(longest) {
        if is_harmless(character) {
            line.push(character);
        } else {
            // Writing to a text does not fail.
            let _ = write!(line, "{}", character.escape_default());
        }
    }
    if characters.next().is_some() {
        line.push_str("...");
    }
    line
}

fn is_harmless(character: char) -> bool {
    let is_invisible = matches!(
        character,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    !character.is_control() && !is_invisible
}

/// Why a server could not be logged in to, without what it shown.
pub(super) fn not_logged_in(error: &RedisError, speaks_tls: bool) -> RedisError {
    let without_tls = if speaks_tls {
        ""
    } else {
        " (does it want TLS, REDIS_TLS=true?)"
    };
    match error.kind() {
        ErrorKind::Io => {
            let text = match tls_error(error.source()) {
                Some(error) => refused_tls(error),
                None if error.is_timeout() => return error.clone(),
                None => format!("it closed the connection at once{without_tls}: {error}"),
            };
            io::Error::other(text).into()
        }
        ErrorKind::Parse => login(format!("what it says is not Redis's protocol{without_tls}")),
        _ => login(login_error_text(error)),
    }
}

fn login(text: String) -> RedisError {
    (ErrorKind::AuthenticationFailed, "login", text).into()
}

/// What an answer to a login means.
fn login_error_text(error: &RedisError) -> String {
    let detail = error.detail().unwrap_or_default();
    let code = error.code().unwrap_or_default();
    let code = CODES.iter().find(|known| **known == code).copied();
    let text = match code {
        Some("ERR") if is_unknown(error) => "it does not know a command that a login takes (ERR)",
        Some("ERR") if is_full(error) => "it has as many clients as it takes (maxclients)",
        Some("ERR") if is_of_a_password(error) => {
            "it has no password, but was given one (ERR); leave the password out"
        }
        Some("ERR") if detail.contains("wrong number of arguments") => {
            "it has no users, as before Redis 6.0 (ERR); leave the user out"
        }
        Some("DENIED") => {
            "it takes no connections from other machines while it has no password (DENIED)"
        }
        Some("NOAUTH") => "it wants a password (NOAUTH)",
        Some("LOADING") => "it is loading its data (LOADING)",
        Some(code) => return format!("it refused the login ({code})"),
        None => "it refused the login",
    };
    text.to_owned()
}

/// That there is no such database.
pub(super) fn no_database() -> RedisError {
    let text = "it refused to switch to the database of REDIS_URL: it has none of that number, knows none as some proxies, or \
                we no right to select";
    login(text.to_owned())
}

/// Whether a server, or a proxy, does not know a command.
pub(super) fn is_unknown(error: &RedisError) -> bool {
    // What is quoted of our arguments comes later than this.
    let beginning = error.detail().unwrap_or_default().chars().take(40);
    let beginning = beginning.collect::<String>().to_ascii_lowercase();
    let is_said = |words: &str| beginning.contains(words);
    error.code() == Some("ERR")
        && (is_said("unknown") || is_said("unsupported") || is_said("not supported"))
}

/// Why a server can never run the script, if that is what it says.
pub(super) fn cannot_run(error: &RedisError) -> Option<&'static str> {
    let detail = error.detail().unwrap_or_default();
    if detail.contains("after non deterministic commands") {
        Some("Redis 5.0 or newer is needed")
    } else if is_unknown(error) && detail.to_ascii_lowercase().contains("eval") {
        Some("a Redis, or a proxy, that runs scripts (EVALSHA) is needed")
    } else {
        None
    }
}

/// Whether a server has no password, but was given one; Redis 5.0 says that in the other words.
pub(super) fn is_of_a_password(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default();
    detail.contains("without any password") || detail.contains("no password is set")
}

/// Whether a server has as many clients as it takes.
pub(super) fn is_full(error: &RedisError) -> bool {
    { error.detail() }.is_some_and(|detail| detail.contains("max number of clients"))
}

/// Whether the connection was closed, and not by TLS.
pub(super) fn was_closed(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Io && !error.is_timeout() && tls_error(error.source()).is_none()
}

/// Logs which server a connection was made to, other than before.
pub(super) fn log_connected(endpoint: &Endpoint, server: &ServerInfo) {
    match server.protocol {
        3 => tracing::info!(address = %endpoint, version = %server, "connected to redis"),
        _ => tracing::warn!(
            address = %endpoint,
            "connected to redis without HELLO: it is older than Redis 6.0, or a proxy. A proxy must send all keys to one Redis"
        ),
    }
}

// --- TLS ---

/// Why TLS did not come about, and which option to look at.
pub(super) fn refused_tls(error: &rustls::Error) -> String {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
    let hint = match error {
        InvalidCertificate(wrong) => {
            let names = "REDIS_URL must have a name that it is for, or see REDIS_TLS_SKIP_HOSTNAME_VERIFICATION";
            let advice = advice(wrong, "REDIS_TLS_CACERT", names);
            return match advice.is_empty() {
                true => format!("TLS: {error}"),
                false => format!("TLS: {error}; {advice}"),
            };
        }
        AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::HandshakeFailure,
        ) => "; it may want another certificate of ours, see REDIS_TLS_CLIENT_CERT",
        InvalidMessage(_) => "; does it speak TLS? If not, leave REDIS_TLS out",
        _ => "",
    };
    format!("TLS: {error}{hint}")
}

/// What went wrong with TLS, if that is what went wrong.
fn tls_error<'e>(
    error: Option<&'e (dyn std::error::Error + 'static)>,
) -> Option<&'e rustls::Error> {
    // The driver shares its cause.
    error?
        .downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?
        .downcast_ref::<io::Error>()?
        .get_ref()?
        .downcast_ref()
}

/// The same of an error of the network.
pub(super) fn handshake_failed(error: &io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let text = match inner {
        Some(error) => refused_tls(error),
        None => format!("TLS: {error} (does it speak TLS?)"),
    };
    io::Error::new(error.kind(), text)
}

#[cfg(test)]
mod tests {
    use bb8_redis::redis::{ServerError, Value, parse_redis_value};

    use super::*;

    /// What the driver makes of a line of Redis.
    fn error(line: &str) -> RedisError {
        let value = parse_redis_value(format!("-{line}\r\n").as_bytes());
        let Ok(Value::ServerError(error)) = value else {
            panic!("{value:?}");
        };
        let error: ServerError = error;
        error.into()
    }

    #[test]
    fn nothing_that_was_said_when_logging_in_is_repeated() {
        for (line, expected) in [
            (
                "ERR wrong number of arguments for 'auth' command SEKRET99",
                "leave the user out",
            ),
            (
                "ERR Client sent AUTH, but no password is set SEKRET99",
                "leave the password out",
            ),
            (
                "ERR unknown command 'AUTH', with args beginning with: 'hello SEKRET99'",
                "(ERR)",
            ),
            (
                "WRONGPASS SEKRET99 is wrong",
                "refused the login (WRONGPASS)",
            ),
            ("NOAUTH SEKRET99", "(NOAUTH)"),
            ("SEKRET99 is no password", "it refused the login"),
            ("ERR SEKRET99", "(ERR)"),
            ("LOADING SEKRET99", "(LOADING)"),
        ] {
            let shown = describe(&not_logged_in(&error(line), false));
            assert!(shown.contains(expected), "{line}: {shown}");
            assert!(!shown.contains("SEKRET"), "{line}: {shown}");
        }
        let quoted = RedisError::from((
            ErrorKind::Parse,
            "unexpected",
            "SEKRET99 is no reply".to_owned(),
        ));
        let shown = describe(&not_logged_in(&quoted, false));
        assert!(
            shown.contains("REDIS_TLS=true") && !shown.contains("SEKRET"),
            "{shown}"
        );
    }

    #[test]
    fn what_is_said_is_one_line_that_can_be_printed() {
        let text = format!(
            "ERR \u{1b}[2J\u{7} a\u{202e}b\tc \u{e9} {}",
            "x".repeat(10_000)
        );
        let shown = describe(&error(&text));
        assert!(shown.contains("\\u{1b}[2J\\u{7}"), "{shown}");
        assert!(shown.contains("a\\u{202e}b\\tc \u{e9} xxx"), "{shown}");
        assert!(shown.ends_with("..."), "{shown}");
        assert!(shown.len() < MAX_LENGTH + 50, "{}", shown.len());
        let two = io::Error::other("one\r\nWARN two\n");
        assert_eq!(describe(&two.into()), "one\\r\\nWARN two");
        assert_eq!(host("redis-1.example"), Some("redis-1.example".to_owned()));
        assert_eq!(host("redis\nWARN"), None);
    }
}
