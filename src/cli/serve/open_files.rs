//! Divides the limit of open files between the ports. Each connection uses one, including those to Redis.

use crate::app::PortSettings;

/// Maximum number of connections of an HTTP port; there are up to three such ports.
pub(super) const HTTP_CONNECTIONS: usize = 512;
const HTTP_PORTS: usize = 3;

/// One in `PART` open files is reserved for each HTTP port, and one for the rest: Redis, configuration and listeners.
const PART: usize = 16;

/// Minimum number of open files for the rest.
const LEAST_REST: usize = 64;

/// Raises the limit of open files as far as possible, and reduces the number of connections so that Redis, health checks,
/// metrics and reloads still have free files when all connections are open.
pub(super) fn share_open_files(ports: &mut PortSettings) {
    let Some(limit) = raised_limit() else {
        return;
    };
    let (grpc, http) = shares(limit);
    ports.http_connections = ports.http_connections.min(http);
    let wanted = ports.connections.connections;
    if wanted > grpc {
        ports.connections.connections = grpc;
        tracing::warn!(
            open_files = limit,
            connections = grpc,
            "GRPC_MAX_CONNECTIONS={wanted} does not fit into the limit of open files, accepting fewer connections; raise the limit (ulimit -n)"
        );
    }
}

/// Maximum number of connections of the gRPC port, and of each HTTP port.
fn shares(limit: usize) -> (usize, usize) {
    let http = (limit / PART).clamp(8, HTTP_CONNECTIONS);
    let rest = (limit / PART).max(LEAST_REST);
    let grpc = limit.saturating_sub(HTTP_PORTS * http + rest);
    (grpc.max(1), http)
}

#[cfg(target_os = "linux")]
fn raised_limit() -> Option<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // If it cannot be raised, the current limit applies.
    let _ = setrlimit(Resource::Nofile, raised);
    let limit = getrlimit(Resource::Nofile).current?;
    usize::try_from(limit).ok()
}

#[cfg(not(target_os = "linux"))]
fn raised_limit() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        assert_eq!(shares(1_048_576), (1_048_576 - 3 * 512 - 65_536, 512));
        assert_eq!(shares(1_024), (768, 64));
        assert_eq!(shares(256), (144, 16));
        assert_eq!(shares(64), (1, 8));
    }
}
