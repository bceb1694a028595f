//! Where Prometheus finds the metrics: an HTTP port of its own, so that it need not be reachable for whoever asks
//! for verdicts. How connections to it are served and bounded is up to whoever has the port.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use super::Metrics;

/// Serving a port: it goes on until it is dropped, or the port fails for good.
pub type Serving = Pin<Box<dyn Future<Output = io::Result<Infallible>> + Send>>;

/// A port that serves whatever it is given.
pub struct Port(Box<dyn FnOnce(Router) -> Serving + Send>);

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").finish_non_exhaustive()
    }
}

impl Port {
    /// A port that is served so. The serving begins, and is polled, on another runtime than that of whoever calls.
    pub fn new(serve: impl FnOnce(Router) -> Serving + Send + 'static) -> Self {
        Self(Box::new(serve))
    }

    /// Tells the metrics to whoever asks for `path`.
    pub(in crate::telemetry) fn serve(self, path: &str, metrics: Arc<Metrics>) -> Serving {
        let told = move || {
            let metrics = Arc::clone(&metrics);
            async move { ([(CONTENT_TYPE, Metrics::TEXT_FORMAT)], metrics.text()) }
        };
        (self.0)(Router::new().route(path, get(told)))
    }
}
