//! Software and protocol version of a Redis server.

use std::fmt;

/// The software of a server, as reported when a connection is established.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Name and version, such as `redis 7.0.15`; `None` if the server does not report them.
    pub software: Option<String>,
    /// Version of the Redis protocol (RESP) in use: 2 or 3.
    pub protocol: u8,
}

impl fmt::Display for ServerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.software.as_deref().unwrap_or("unknown"))
    }
}
