//! Replaces certificates while the server runs.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;

use super::{Loaded, ServerTls, TlsError, Validity};
use crate::clock::Clock;
use crate::watch::{Changes, Poke, watch};

/// Certificates that all threads use for new handshakes.
#[derive(Debug)]
pub struct Certificates {
    current: ArcSwap<Loaded>,
    /// How often new files were loaded.
    rotations: AtomicU64,
    /// How often new files could not be used.
    failures: AtomicU64,
}

impl Certificates {
    /// Returns the acceptor of the next handshake.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.load().config))
    }

    /// Returns the validity of the certificate in use; `None` if it cannot be parsed.
    #[must_use]
    pub fn validity(&self) -> Option<Validity> {
        self.current.load().validity
    }

    /// Returns when the certificate expires, in seconds since the Unix epoch; 0 if it cannot be parsed.
    #[must_use]
    pub fn expires(&self) -> u64 {
        self.validity().map_or(0, |validity| validity.end)
    }

    /// Returns how often new files were loaded.
    #[must_use]
    pub fn rotations(&self) -> u64 {
        self.rotations.load(Ordering::Relaxed)
    }

    /// Returns how often new files could not be used.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn replace(&self, loaded: Result<Loaded, TlsError>, clock: &Clock) {
        match loaded {
            Ok(loaded) => {
                log_validity("certificates replaced", &loaded, clock);
                self.current.store(Arc::new(loaded));
                self.rotations.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "new certificates cannot be used, keeping the previous ones");
            }
        }
    }
}

/// Reads the certificates. The future follows changes of the files and never completes.
///
/// Blocks until the files are read.
///
/// # Errors
/// The certificates cannot be used.
pub fn follow(
    tls: ServerTls,
    clock: Clock,
) -> Result<(Arc<Certificates>, Poke, impl Future<Output = Infallible>), TlsError> {
    let (files, changes) = watch(tls.location());
    let loaded = tls.parse(&files?)?;
    log_validity("certificates loaded", &loaded, &clock);
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
            .and_then(|files| tls.parse(&files));
        certificates.replace(loaded, &clock);
    }
}

/// Logs an event with the time when the certificate expires.
fn log_validity(event: &str, loaded: &Loaded, clock: &Clock) {
    let Some(validity) = loaded.validity else {
        tracing::info!("{event}");
        return;
    };
    let end = Duration::from_secs(validity.end);
    let expires = humantime::format_rfc3339_seconds(UNIX_EPOCH + end);
    if end <= Duration::from_micros(clock()) {
        tracing::error!(%expires, "{event}, but the certificate has expired and clients will reject it");
    } else {
        tracing::info!(%expires, "{event}");
    }
}
