//! How the open files that the process may have are shared: each connection is one, and so is each connection to Redis.

use crate::app::PortSettings;

/// The most connections of a port of HTTP, of which there are up to three.
pub(super) const HTTP_CONNECTIONS: usize = 512;
const HTTP_PORTS: usize = 3;

/// Of how many open files one belongs to a port of HTTP, and one to all the rest: Redis, configuration, listeners.
const PART: usize = 16;

/// The least open files for all the rest.
const LEAST_REST: usize = 64;

/// Lets the process open as many files as it may, and reduces the connections so that Redis, health checks, metrics and
/// reloads still find free ones when all connections are open.
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

/// The most connections to the gRPC port, and to each port of HTTP.
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
    // If it cannot be raised, the limit of before holds.
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
    fn connections_leave_files_for_all_the_rest() {
        assert_eq!(shares(1_048_576), (1_048_576 - 3 * 512 - 65_536, 512));
        assert_eq!(shares(1_024), (768, 64));
        assert_eq!(shares(256), (144, 16));
        assert_eq!(shares(64), (1, 8));
    }
}
