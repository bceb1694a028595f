//! The HTTP ports: JSON and health, debug pages and admin API, and the Prometheus endpoint.

use std::convert::Infallible;
use std::io;

use axum::Router;
use tokio::net::TcpListener;

use super::listeners::HttpListeners;
use super::server_state::ServerState;
use crate::clock;
use crate::service::pb::rate_limit_service_server::RateLimitService;
use crate::service::{HttpPort, Listener, MAX_JSON, healthcheck, json, pages};
use crate::telemetry::metrics::Port;

/// The HTTP ports that the main thread serves.
#[derive(Debug)]
pub(super) struct HttpPorts {
    http: HttpPort,
    debug: HttpPort,
}

impl HttpPorts {
    /// Serves `service` as JSON, the pages of `state`, and the admin API, each port with at most `max_connections`.
    pub(super) fn new(
        listeners: HttpListeners,
        max_connections: usize,
        state: &ServerState,
        service: impl RateLimitService,
        admin: Router,
    ) -> Self {
        let HttpListeners {
            http,
            debug: pages_listener,
        } = listeners;
        let health = state.health.clone();
        let healthcheck = healthcheck(move || health.is_good());
        tracing::info!(
            protocol = %"http",
            addr = %http,
            paths = "/json, /healthcheck",
            "listening"
        );
        tracing::info!(
            protocol = %"http",
            addr = %pages_listener,
            paths = "/, /api/v1, /rlconfig, /stats, /metrics, /healthcheck",
            "listening"
        );
        let port =
            |listener, router| HttpPort::new(listener, router, max_connections, clock::system());
        Self {
            http: port(http, json(service, MAX_JSON).merge(healthcheck.clone())),
            debug: port(
                pages_listener,
                pages(state.pages()).merge(admin).merge(healthcheck),
            ),
        }
    }

    /// Serves forever. The future can be dropped, and this method called again.
    pub(super) async fn serve(&mut self) -> Infallible {
        tokio::select! {
            never = self.http.serve() => never,
            never = self.debug.serve() => never,
        }
    }

    /// Waits until the requests in flight have completed.
    pub(super) async fn end(self) {
        tokio::join!(self.http.end(), self.debug.end());
    }
}

/// Returns the Prometheus endpoint, which another thread serves within the same limits as the other HTTP ports.
pub(super) fn prometheus(listener: TcpListener, max_connections: usize) -> io::Result<Port> {
    let listener = listener.into_std()?;
    Ok(Port::new(move |router| {
        Box::pin(async move {
            let listener = Listener::Tcp(TcpListener::from_std(listener)?);
            let mut port = HttpPort::new(listener, router, max_connections, clock::system());
            Ok(port.serve().await)
        })
    }))
}
