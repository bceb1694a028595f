//! Certificates of the gRPC port, and reading all files again on SIGHUP.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use tokio::sync::watch;

use crate::clock;
use crate::telemetry::Throttle;
use crate::time::Micros;
use crate::tls::{Certificates, ServerTls, TlsError, follow};
use crate::watch::Poke;

/// Minimum time between two log events about SIGHUP.
const LOG_EVERY: Micros = 10_000_000;

/// The certificates of the gRPC port, and what keeps them up to date.
pub(super) struct GrpcCertificates {
    /// Certificates of TLS handshakes; `None` for plaintext.
    pub(super) current: Option<Arc<Certificates>>,
    /// Makes `following` read the files again.
    pub(super) poke: Option<Poke>,
    /// Follows changes of the files. Never completes.
    pub(super) following: LocalBoxFuture<'static, Infallible>,
}

impl GrpcCertificates {
    /// Reads the certificates.
    pub(super) fn read(tls: Option<ServerTls>) -> Result<Self, TlsError> {
        let Some(tls) = tls else {
            return Ok(Self {
                current: None,
                poke: None,
                following: Box::pin(pending()),
            });
        };
        let (certificates, poke, following) = follow(tls, clock::system())?;
        Ok(Self {
            current: Some(certificates),
            poke: Some(poke),
            following: Box::pin(following),
        })
    }
}

/// Reads files again whenever `requests` changes. Never returns.
pub(super) async fn reread(mut requests: watch::Receiver<()>, pokes: Vec<Poke>) -> Infallible {
    let (throttle, clock) = (Throttle::every(LOG_EVERY), clock::system());
    let mut unlogged = 0_u64;
    while requests.changed().await.is_ok() {
        match throttle.passes(clock()) {
            true => {
                tracing::info!(
                    unlogged,
                    "SIGHUP received, reading the configuration and certificates again"
                );
                unlogged = 0;
            }
            false => unlogged += 1,
        }
        pokes.iter().for_each(Poke::poke);
    }
    pending().await
}
