//! Certificates that are replaced while the server runs.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;

use super::{Loaded, ServerTls, TlsError, Validity};
use crate::clock::Clock;
use crate::watch::{Changes, Poke, watch};

/// What handshakes are made with now, for all threads.
#[derive(Debug)]
pub struct Certificates {
    current: ArcSwap<Loaded>,
    /// How often other files than before were taken over.
    rotations: AtomicU64,
    /// How often they could not be.
    failures: AtomicU64,
}

impl Certificates {
    /// What makes the next handshake.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.load().config))
    }

    /// Validity of the certificate in use; `None` if it cannot be parsed.
    #[must_use]
    pub fn validity(&self) -> Option<Validity> {
        self.current.load().validity
    }

    /// When the certificate expires, in seconds since the Unix epoch; 0 if it cannot be parsed.
    #[must_use]
    pub fn expires(&self) -> u64 {
        self.validity().map_or(0, |validity| validity.end)
    }

    /// How often files that were replaced have been taken over.
    #[must_use]
    pub fn rotations(&self) -> u64 {
        self.rotations.load(Ordering::Relaxed)
    }

    /// How often files that were replaced could not be used.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn replace(&self, loaded: Result<Loaded, TlsError>, clock: &Clock) {
        match loaded {
            Ok(loaded) => {
                tell_expiry(
                    "the certificates were replaced; handshakes use the new ones",
                    &loaded,
                    clock,
                );
                self.current.store(Arc::new(loaded));
                self.rotations.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "the certificates were replaced but cannot be used; handshakes use the old ones");
            }
        }
    }
}

/// Reads the certificates, and what follows them from then on: a future that never ends.
///
/// It blocks until they are read; meant for the start.
///
/// # Errors
/// When they cannot be used.
pub fn follow(
    tls: ServerTls,
    clock: Clock,
) -> Result<(Arc<Certificates>, Poke, impl Future<Output = Infallible>), TlsError> {
    let (files, changes) = watch(tls.location());
    let loaded = tls.understand(&files?)?;
    tell_expiry("gRPC is served with TLS", &loaded, &clock);
    let certificates = Arc::new(Certificates {
        current: ArcSwap::from_pointee(loaded),
        rotations: AtomicU64::new(0),
        failures: AtomicU64::new(0),
    });
    let poke = changes.poke();
    let following = follow_changes(tls, clock, Arc::clone(&certificates), changes);
    Ok((certificates, poke, following))
}

async fn follow_changes(
    tls: ServerTls,
    clock: Clock,
    certificates: Arc<Certificates>,
    mut changes: Changes,
) -> Infallible {
    loop {
        let files = changes.next().await;
        let loaded = files
            .map_err(TlsError::from)
            .and_then(|files| tls.understand(&files));
        certificates.replace(loaded, &clock);
    }
}

/// Says that a certificate is in use, and until when it can be.
fn tell_expiry(what: &str, loaded: &Loaded, clock: &Clock) {
    let Some(validity) = loaded.validity else {
        tracing::info!("{what}");
        return;
    };
    let end = Duration::from_secs(validity.end);
    let expires = humantime::format_rfc3339_seconds(UNIX_EPOCH + end);
    if end <= Duration::from_micros(clock()) {
        tracing::error!(%expires, "{what}, but the certificate has expired: clients will refuse it");
    } else {
        tracing::info!(%expires, "{what}");
    }
}
