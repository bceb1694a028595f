//! Texts of errors for logs and responses: on one line, printable, of bounded length.
//!
//! Errors of Redis can quote the command that caused them. During a login, that command contains the password, so
//! only the meaning of such an error is shown, in words of this module.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use bb8_redis::redis::{ErrorKind, RedisError};
use tokio_rustls::rustls::{self, AlertDescription};

use super::address::Endpoint;
use crate::store::ServerInfo;
use crate::tls::advice;

/// Maximum length of an error text of Redis, in characters.
const MAX_LENGTH: usize = 200;

/// Maximum length of an error text of the network or of this process, which can contain several causes, in
/// characters.
const MAX_OWN_LENGTH: usize = 1000;

/// Error codes of replies to a login. Other codes are not shown.
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

/// Returns the text of an error.
pub(super) fn describe(error: &RedisError) -> String {
    match (error.kind(), error.detail()) {
        // Text of this module.
        (ErrorKind::AuthenticationFailed, Some(detail)) => one_line(detail, MAX_OWN_LENGTH),
        (ErrorKind::Io, _) => one_line(&error.to_string(), MAX_OWN_LENGTH),
        _ => one_line(&error.to_string(), MAX_LENGTH),
    }
}

/// Returns a host name that a server reported, if it is valid.
pub(super) fn host(name: &str) -> Option<String> {
    let is_one = name.len() <= 255 && name.chars().all(|c| c.is_ascii_graphic());
    is_one.then(|| name.to_owned())
}

/// Returns at most `longest` characters of a text, without those that affect a terminal or a log.
fn one_line(text: &str, longest: usize) -> String {
    let mut line = String::new();
    let mut characters = text.trim_end().chars();
    for character in characters.by_ref().take(longest) {
        if is_harmless(character) {
            line.push(character);
        } else {
            // Writing to a string does not fail.
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

/// Returns why a login failed, without text of the server.
pub(super) fn not_logged_in(error: &RedisError, speaks_tls: bool) -> RedisError {
    let without_tls = if speaks_tls {
        ""
    } else {
        " (does the server require TLS? Set REDIS_TLS=true)"
    };
    match error.kind() {
        ErrorKind::Io => {
            let text = match tls_error(error.source()) {
                Some(error) => refused_tls(error),
                None if error.is_timeout() => return error.clone(),
                None => {
                    format!("the server closed the connection immediately{without_tls}: {error}")
                }
            };
            io::Error::other(text).into()
        }
        ErrorKind::Parse => login(format!("the reply is not in Redis's protocol{without_tls}")),
        _ => login(login_error_text(error)),
    }
}

fn login(text: String) -> RedisError {
    (ErrorKind::AuthenticationFailed, "login", text).into()
}

/// Returns the meaning of an error reply to a login.
fn login_error_text(error: &RedisError) -> String {
    let detail = error.detail().unwrap_or_default();
    let code = error.code().unwrap_or_default();
    let code = CODES.iter().find(|known| **known == code).copied();
    let text = match code {
        Some("ERR") if is_unknown(error) => "the server does not know a command of the login (ERR)",
        Some("ERR") if is_full(error) => {
            "the server has reached its maximum number of clients (maxclients)"
        }
        Some("ERR") if has_no_password(error) => {
            "the server has no password but received one (ERR); leave the password out"
        }
        Some("ERR") if detail.contains("wrong number of arguments") => {
            "the server has no users, as before Redis 6.0 (ERR); leave the user out"
        }
        Some("DENIED") => "the server accepts no remote connections without a password (DENIED)",
        Some("NOAUTH") => "the server requires a password (NOAUTH)",
        Some("LOADING") => "the server is loading its data (LOADING)",
        Some(code) => return format!("the server rejected the login ({code})"),
        None => "the server rejected the login",
    };
    text.to_owned()
}

/// Returns the error for a database that does not exist.
pub(super) fn no_database() -> RedisError {
    let text = "it refused to switch to the database of REDIS_URL: it has none of that number, knows none as some proxies, or \
                we no right to select";
    login(text.to_owned())
}

/// Returns whether a server or proxy does not know a command.
pub(super) fn is_unknown(error: &RedisError) -> bool {
    // Quoted arguments come after these characters.
    let beginning = error.detail().unwrap_or_default().chars().take(40);
    let beginning = beginning.collect::<String>().to_ascii_lowercase();
    let is_said = |words: &str| beginning.contains(words);
    error.code() == Some("ERR")
        && (is_said("unknown") || is_said("unsupported") || is_said("not supported"))
}

/// Returns what is missing if the server can never run the script.
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

/// Returns whether the server has no password but received one. Redis 5.0 words this differently.
pub(super) fn has_no_password(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default();
    detail.contains("without any password") || detail.contains("no password is set")
}

/// Returns whether the server has reached its maximum number of clients.
pub(super) fn is_full(error: &RedisError) -> bool {
    { error.detail() }.is_some_and(|detail| detail.contains("max number of clients"))
}

/// Returns whether the connection was closed, and not because of TLS.
pub(super) fn was_closed(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Io && !error.is_timeout() && tls_error(error.source()).is_none()
}

/// Logs a connection to a server other than the previous one.
pub(super) fn log_connected(endpoint: &Endpoint, server: &ServerInfo) {
    match server.protocol {
        3 => tracing::info!(addr = %endpoint, version = %server, "connected to redis"),
        _ => tracing::warn!(
            addr = %endpoint,
            "connected to redis without HELLO: the server is older than Redis 6.0, or a proxy, which must send all keys to one server"
        ),
    }
}

// --- TLS ---

/// Returns the text of a TLS error, with the option to check.
pub(super) fn refused_tls(error: &rustls::Error) -> String {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
    let hint = match error {
        InvalidCertificate(wrong) => {
            let names = "REDIS_URL must have a name of the certificate, or see REDIS_TLS_SKIP_HOSTNAME_VERIFICATION";
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
        ) => "; the server may require a different client certificate, see REDIS_TLS_CLIENT_CERT",
        InvalidMessage(_) => "; does the server use TLS? If not, leave REDIS_TLS out",
        _ => "",
    };
    format!("TLS: {error}{hint}")
}

/// Returns the TLS error that caused an error, if there is one.
fn tls_error<'e>(
    error: Option<&'e (dyn std::error::Error + 'static)>,
) -> Option<&'e rustls::Error> {
    // The driver wraps the cause.
    error?
        .downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?
        .downcast_ref::<io::Error>()?
        .get_ref()?
        .downcast_ref()
}

/// Adds the text of a TLS error to an error of the network.
pub(super) fn handshake_failed(error: &io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let text = match inner {
        Some(error) => refused_tls(error),
        None => format!("TLS: {error} (does the server use TLS?)"),
    };
    io::Error::new(error.kind(), text)
}

#[cfg(test)]
mod tests {
    use bb8_redis::redis::{ServerError, Value, parse_redis_value};

    use super::*;

    /// Returns the driver's error for an error line of Redis.
    fn error(line: &str) -> RedisError {
        let value = parse_redis_value(format!("-{line}\r\n").as_bytes());
        let Ok(Value::ServerError(error)) = value else {
            panic!("{value:?}");
        };
        let error: ServerError = error;
        error.into()
    }

    #[test]
    fn login_errors_do_not_contain_secrets() {
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
                "rejected the login (WRONGPASS)",
            ),
            ("NOAUTH SEKRET99", "(NOAUTH)"),
            ("SEKRET99 is no password", "the server rejected the login"),
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
    fn errors_are_one_printable_line() {
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
