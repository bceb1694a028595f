//! What a store's server says of itself.

use std::fmt;

/// The software of a server, as it says when a connection is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Name and version, such as `redis 7.0.15`; `None` when it does not say.
    pub software: Option<String>,
    /// The version of the protocol that is spoken with it: 2 or 3.
    pub protocol: u8,
}

impl fmt::Display for ServerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.software.as_deref().unwrap_or("unknown"))
    }
}
