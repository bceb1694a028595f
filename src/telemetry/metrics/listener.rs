//! Where Prometheus finds the metrics: an HTTP listener of its own, so that it need not be reachable for whoever
//! asks for verdicts.

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;

use super::Metrics;

/// Tells the metrics to whoever asks for `path`, until it is dropped.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    path: &str,
    metrics: Arc<Metrics>,
) -> std::io::Result<()> {
    let told = move || {
        let metrics = Arc::clone(&metrics);
        async move { ([(CONTENT_TYPE, Metrics::TEXT_FORMAT)], metrics.encode()) }
    };
    axum::serve(listener, Router::new().route(path, get(told))).await
}
