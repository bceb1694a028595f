//! Shuts the server down: reports NOT_SERVING, waits, and lets requests in flight complete.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::Shared;

use super::health::Health;
use super::ports::HttpPorts;
use super::settings::ShutdownSettings;
use super::workers::Workers;

/// Futures that complete when the server must stop.
pub(super) struct StopSignals<'a> {
    /// Begins the shutdown.
    shutdown: Pin<Box<dyn Future<Output = ()> + 'a>>,
    /// Ends the shutdown delay and the grace period.
    abort: Shared<Pin<Box<dyn Future<Output = ()> + 'a>>>,
}

impl<'a> StopSignals<'a> {
    pub(super) fn new(
        shutdown: impl Future<Output = ()> + 'a,
        abort: impl Future<Output = ()> + 'a,
    ) -> Self {
        let abort: Pin<Box<dyn Future<Output = ()> + 'a>> = Box::pin(abort);
        Self {
            shutdown: Box::pin(shutdown),
            abort: abort.shared(),
        }
    }

    /// Waits for the signal, reports NOT_SERVING, and returns after the shutdown delay, in which the caller must
    /// continue to serve: clients that check health connect to other servers before connections are closed.
    pub(super) async fn wait(&mut self, health: &Health, delay: Duration) {
        self.shutdown.as_mut().await;
        health.set_stopping();
        if delay.is_zero() {
            return;
        }
        tracing::info!(
            ?delay,
            "health is NOT_SERVING, serving requests until the shutdown delay ends"
        );
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.abort.clone() => {}
        }
    }

    /// Lets requests in flight complete within the grace period.
    pub(super) async fn drain(
        self,
        mut workers: Workers,
        mut ports: HttpPorts,
        settings: ShutdownSettings,
    ) -> anyhow::Result<()> {
        let grace = settings.grace;
        tracing::info!(?grace, "shutting down, waiting for requests in flight");
        let end = async {
            // Health checks must be answered until the workers have ended.
            tokio::select! {
                result = workers.end() => result?,
                never = ports.serve() => match never {},
            }
            ports.end().await;
            anyhow::Ok(())
        };
        tokio::select! {
            result = end => {
                result?;
                tracing::info!("stopped, all requests were answered");
            }
            () = tokio::time::sleep(grace) => {
                tracing::warn!("stopped at the end of the grace period, open connections were closed");
            }
            () = self.abort => {
                tracing::warn!("stopped immediately by a second signal, open connections were closed");
            }
        }
        Ok(())
    }
}
